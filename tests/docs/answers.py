"""What the core does about each answer, found by asking it: rows for a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analytics_sdk import Segment, _transport
from analytics_sdk._config import Delivery
from analytics_sdk._delivery import Core
from analytics_sdk._outlet import Send
from analytics_sdk._verdict import Now, Reply
from analytics_sdk.destinations.segment import ROUTE
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import HttpResponse, Part, TransportError
from tests.toys import event, word

MOST_WAITS = 9

GOOD = b'{"success":true}'
BODIES = (
    (GOOD, '`{"success": true}`'),
    (b'{"ok":true}', '`{"ok": true}`'),
    (b"OK", "the text `OK`"),
    (b'{"success":false}', '`{"success": false}`'),
    (b'{"ok":false}', '`{"ok": false}`'),
    (b'{"ok":true,"errors":["e"]}', "anything with `errors`"),
    (b"", "nothing"),
    (b"<html>", "a web page, or anything else"),
    (b"[]", "JSON of another shape"),
)


class Fate(NamedTuple):
    """What happens to the events of a request, in words."""

    reading: str
    batch: str
    alone: str


class Trial:
    """A core that has one request out to Segment, at second 0.

    Args:
        events: How many the request holds, each of a user of its own.
    """

    def __init__(self, events: int) -> None:
        self.core = Core((Segment("KEY"),), Delivery(linger_s=0.0))
        self.receipts = [
            event(f"e{index}", f"u{index}", names=("Segment.io",))
            for index in range(events)
        ]
        self.core.accept(self.receipts, 0.0)
        self.now = 0.0
        self.sends = self._leave()

    def answer(self, reply: Reply, jitter: float) -> None:
        """Give *reply* to the first request that is out."""
        self.core.replied(self.sends[0], reply, Now(self.now, jitter))
        self.sends = []

    def wait(self) -> float:
        """Go to the next request, or to the end of the last event; return seconds."""
        began_s = self.now
        self.sends = self._leave()
        while not self.sends and self.unsettled:
            due_s = self.core.next_due_s(self.now)
            assert due_s is not None
            self.now = due_s
            self.sends = self._leave()
        return self.now - began_s

    @property
    def unsettled(self) -> int:
        """How many events have not come to an end."""
        return len(self.receipts) - len(self.fates)

    @property
    def hold(self) -> Reason | None:
        """Why the lane waits, where it does."""
        held = self.core.outlets[0].lanes[ROUTE].held
        return held.reason if held is not None else None

    @property
    def fates(self) -> list[str]:
        """What became of the events that are settled."""
        outcomes = [receipt.outcome for receipt in self.receipts]
        return [word(outcome) for outcome in outcomes if outcome is not None]

    def _leave(self) -> list[Send]:
        self.core.tick(self.now)
        while self.core.prepare(100):
            pass
        return self.core.sends(self.now)


def happens(reply: Reply, events: int) -> str:
    """Say what becomes of a request of so many *events* that is answered by *reply*."""
    quick, slow = Trial(events), Trial(events)
    quick.answer(reply, 0.0)
    slow.answer(reply, 1.0)
    assert quick.unsettled in (0, events)
    if quick.fates:
        return ", ".join(f"`{fate}`" for fate in dict.fromkeys(quick.fates))
    cause = quick.hold
    least_s, most_s = sorted((quick.wait(), slow.wait()))
    count = len(quick.sends[0].parts)
    if cause is None:
        assert most_s == 0
        return f"kept; {count} of {events} sent alone at once"
    again = "sent again" if count == events else f"{count} of {events} sent as a probe"
    return f"kept, `{cause}`; {again} after {_span(least_s, most_s)}"


def _span(least_s: float, most_s: float) -> str:
    if least_s == most_s:
        return f"{least_s:g} s"
    return f"{least_s:g} to {most_s:g} s"


def fate(reply: Reply) -> Fate:
    """Say what *reply* means, and what it does to a batch and to an event alone."""
    reading = ""
    if isinstance(reply, HttpResponse):
        parts = (Part(ROUTE, b"{}"), Part(ROUTE, b"{}"))
        reading = type(Segment("KEY").read(ROUTE, reply, parts)).__name__
    return Fate(f"`{reading}`", happens(reply, 2), happens(reply, 1))


def status_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each group of statuses, 100 to 599, that are treated alike."""
    groups: dict[Fate, list[int]] = {}
    for status in range(100, 600):
        if not 200 <= status < 300:
            groups.setdefault(fate(HttpResponse(status)), []).append(status)
    for found, statuses in groups.items():
        yield (_statuses(statuses), *found)


def _statuses(statuses: Sequence[int]) -> str:
    """Write *statuses* short: whole classes, most of a class, or one by one."""
    words: list[str] = []
    for hundred in range(1, 6):
        inside = [status for status in statuses if status // 100 == hundred]
        if len(inside) == 100:
            words.append(f"{hundred}xx")
        elif len(inside) > 50:
            words.append(f"every other {hundred}xx")
        else:
            words += map(str, inside)
    return ", ".join(words)


def success_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each kind of body behind a 2xx."""
    groups: dict[Fate, list[str]] = {}
    for body, label in BODIES:
        fates = {fate(HttpResponse(status, body=body)) for status in range(200, 300)}
        (found,) = fates
        groups.setdefault(found, []).append(label)
    for found, labels in groups.items():
        yield (", ".join(labels), *found)


_ROW = re.compile(r"^(.+?) {2,}(\w+) +(yes|no)(?: \(1\))?$", re.MULTILINE)


def transport_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each failure that the transport's own table names."""
    for what, reason, maybe in _ROW.findall(_transport.__doc__ or ""):
        error = TransportError(Reason(reason), maybe == "yes", "")
        yield (what, maybe, happens(error, 2))


def wait_rows() -> Iterator[tuple[str, ...]]:
    """Yield the waits after one failure on another, with and without Retry-After."""
    for label, reply in (
        ("503, again and again", HttpResponse(503)),
        ("503, `Retry-After: 30`", HttpResponse(503, retry_after_s=30.0)),
        ("503, `Retry-After: 86400`", HttpResponse(503, retry_after_s=86_400.0)),
        ("401, again and again", HttpResponse(401)),
        ("401, `Retry-After: 30`", HttpResponse(401, retry_after_s=30.0)),
    ):
        runs = (_waits(reply, 0.0), _waits(reply, 1.0))
        pairs = [sorted(pair) for pair in zip(*runs, strict=True)]
        end = _end(reply)
        yield (label, *(_listed(side, end) for side in zip(*pairs, strict=True)))


def _waits(reply: Reply, jitter: float) -> list[float]:
    """Return the seconds before each further attempt at one event, nine at most."""
    trial = Trial(1)
    waits_s = []
    while trial.unsettled and len(waits_s) < MOST_WAITS:
        trial.answer(reply, jitter)
        waits_s.append(trial.wait())
    return waits_s


def _end(reply: Reply) -> str:
    """Return how the event ends after the first wait, where it does."""
    trial = Trial(1)
    trial.answer(reply, 0.0)
    trial.wait()
    return "".join(trial.fates)


def _listed(waits_s: Sequence[float], end: str) -> str:
    words = [f"{wait_s:g}" for wait_s in waits_s]
    if end:
        return f"{words[0]}, then `{end}`"
    return f"{words[0]} each time" if len(set(words)) == 1 else ", ".join(words)
