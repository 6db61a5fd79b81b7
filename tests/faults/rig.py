"""A real client before a real collector, and the books that must agree afterwards."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from analytics_sdk import Client, Delivery, FlushReport, Receipt, Segment
from analytics_sdk.collector import (
    ApiAnswer,
    ApiRequest,
    Collector,
    SegmentApi,
)
from analytics_sdk.errors import Reason
from analytics_sdk.receipts import OutcomeKind, Settled

KEY = "canary-write-key-8841"
PERSON = "canary.person@example.com"
NAME = "Segment.io"
SLACK_S = 0.5
"""How much later than its timeout a flush or close may return."""

SWIFT_S = 0.1
"""What a flush may take that has nothing to wait for."""

SETTLING_S = 3.0
"""How long callbacks and log lines may take to come."""


class KeepingApi:
    """Segment at its strictest, which keeps the bodies that it refuses as well."""

    name = "segment"
    keeps_bodies = True

    def __init__(self) -> None:
        self._segment = SegmentApi(strict=True)

    def receive(self, request: ApiRequest) -> ApiAnswer:
        return self._segment.receive(request)


class Rig:
    """A client, its collectors, and everything that it was given and has said.

    Args:
        faults: The first collector's script.
        tls: Its TLS context.
        destinations: Makes the destinations from the rig; one Segment by default.
        settings: Of `Delivery`.
    """

    def __init__(
        self,
        *faults: Any,
        tls: Any = None,
        destinations: Callable[[Rig], Sequence[Any]] | None = None,
        **settings: Any,
    ) -> None:
        self.collector = Collector(KeepingApi(), tls=tls).start()
        self.other = Collector("generic").start()
        self.collector.play(*faults)
        self.receipts: list[Receipt] = []
        self.settled: list[Settled] = []
        made = destinations or (lambda rig: [Segment(KEY, host=rig.collector.url)])
        settings = {"request_timeout_s": 4.0, **settings}
        self.client = Client(
            *made(self),
            delivery=Delivery(report="all", **settings),
            on_outcome=self.settled.append,
        )

    def end(self) -> None:
        """Stop everything; the tests have looked before."""
        self.client.close(timeout=0)
        self.collector.close()
        self.other.close()

    # -- acting ------------------------------------------------------------

    def track(self, **given: Any) -> Receipt:
        """Offer one event."""
        number = len(self.receipts)
        given = {"user_id": PERSON, "event": "Paid", **given}
        properties = {"n": number, "email": PERSON, **given.pop("properties", {})}
        receipt = self.client.track(**given, properties=properties)
        self.receipts.append(receipt)
        return receipt

    def offer(self, count: int = 24, *, users: int = 3, **given: Any) -> list[Receipt]:
        """Offer *count* events, the *users* taking turns."""
        return [
            self.track(user_id=f"{PERSON}-{turn % users}", **given)
            for turn in range(count)
        ]

    def flush(self, timeout: float = 5.0, **scope: Any) -> FlushReport:
        """Flush; it must be back in time."""
        return self._timed(lambda: self.client.flush(timeout, **scope), timeout)

    def close(self, timeout: float = 5.0) -> FlushReport:
        """Close; it must be back in time."""
        return self._timed(lambda: self.client.close(timeout), timeout)

    def _timed(self, act: Callable[[], FlushReport], timeout: float) -> FlushReport:
        started_s = time.monotonic()
        report = act()
        took_s = time.monotonic() - started_s
        assert took_s <= timeout + SLACK_S, f"{took_s:.2f} s for {timeout} s"
        return report

    # -- looking -----------------------------------------------------------

    @property
    def hold(self) -> Any:
        """Why the destination waits, and for how long; None while it does not."""
        return self.client.stats().destinations[NAME].hold

    def outcomes(self) -> Counter[str]:
        """Count the receipts by outcome and reason."""
        words: Counter[str] = Counter()
        for receipt in self.receipts:
            outcome = receipt.outcome
            word = "pending" if outcome is None else str(outcome.kind)
            reason = "" if outcome is None or not outcome.reason else outcome.reason
            words[f"{word}({reason})" if reason else word] += 1
        return words

    def copies(self) -> dict[str, list[str]]:
        """Return every copy of each event that came with a whole body, by its id."""
        found: dict[str, list[str]] = defaultdict(list)
        for request in self.collector.requests:
            for message_id, text in events_in(request.body or b""):
                found[message_id].append(text)
        return found

    # -- judging -----------------------------------------------------------

    def check(self, log: str = "") -> None:
        """Hold everything against everything, at the end of a story.

        Args:
            log: All that was logged.
        """
        report = self.close(1.0)
        assert 0 == report.pending
        self._check_conservation()
        self._check_callbacks()
        self._check_arrivals()
        self._check_secrecy(f"{log}{report!r}{self.client!r}")
        assert [] == self.other.requests

    def _check_conservation(self) -> None:
        """Each accepted event has one outcome a destination, and they add up."""
        stats = self.client.stats()
        assert [] == [each for each in self.receipts if each.outcome is None]
        accepted = [receipt for receipt in self.receipts if receipt.accepted]
        assert len(accepted) == stats.accepted
        assert len(self.receipts) - len(accepted) == sum(stats.refused.values())
        for name, books in stats.destinations.items():
            ended = Counter(
                str(receipt.by_destination[name].kind) for receipt in accepted
            )
            assert ended == Counter(books.outcomes)
        assert (0, 0) == (stats.queued_events, stats.queued_bytes)

    def _check_callbacks(self) -> None:
        """The application heard each outcome once, and the one in the receipt."""
        known = {
            (receipt.message_id, name): outcome
            for receipt in self.receipts
            if receipt.accepted
            for name, outcome in receipt.by_destination.items()
            if outcome.reason is not Reason.SELECTOR
        }
        wait_until(lambda: len(self.settled) >= len(known))
        heard = [(each.message_id, each.destination) for each in self.settled]
        assert len(known) == len(heard)
        told = dict(zip(heard, (each.outcome for each in self.settled), strict=True))
        assert known == told

    def _check_arrivals(self) -> None:
        """What arrived was ours, unchanged, in order, and receipts say so."""
        copies = self.copies()
        arrived = {str(event["messageId"]) for event in self.collector.events}
        issued = {receipt.message_id: receipt for receipt in self.receipts}
        assert arrived <= copies.keys() <= issued.keys()
        assert [] == [texts for texts in copies.values() if len(set(texts)) > 1]
        for message_id, receipt in issued.items():
            told = receipt.by_destination.get(NAME, receipt.outcome)
            if told is not None and told.kind is OutcomeKind.DELIVERED:
                assert "yes" == receipt.sent
                assert message_id in arrived
            if message_id in copies:
                assert "no" != receipt.sent
        order: dict[str, list[int]] = defaultdict(list)
        for event in self.collector.unique_events():
            order[event["userId"]].append(event["properties"]["n"])
        assert [] == [line for line in order.values() if line != sorted(line)]

    def _check_secrecy(self, said: str) -> None:
        """Neither key nor person appears in anything that was said."""
        words = [said, repr(self.client.stats()), repr(self.settled)]
        words += [f"{each!r} {each.by_destination!r}" for each in self.receipts]
        basic = base64.b64encode(f"{KEY}:".encode()).decode()
        text = "".join(words)
        found = [secret for secret in (KEY, basic, PERSON) if secret in text]
        assert [] == found


def wait_until(holds: Callable[[], bool]) -> bool:
    """Give the client's threads time to say what they have to say."""
    until_s = time.monotonic() + SETTLING_S
    while not holds() and time.monotonic() < until_s:
        time.sleep(0.005)
    return holds()


def events_in(body: bytes) -> Iterator[tuple[str, str]]:
    """Yield the id and the exact text of each event in a batch."""
    text = body.decode()
    at = len('{"batch":[')
    while text and text[at] != "]":
        event, end = json.JSONDecoder().raw_decode(text, at)
        yield event["messageId"], text[at:end]
        at = end + (text[end] == ",")
