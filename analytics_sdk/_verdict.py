"""What an answer means for the parts of its request: retry, split, search, hold.

Pure: it moves items between the places of a lane and settles the ones that are done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from analytics_sdk._batching import NO_LIMIT, halve
from analytics_sdk._items import Era, Flight, Held, Item, size_of
from analytics_sdk._lanes import Lane
from analytics_sdk._retry import LONGEST_S, backoff_s, probe_s
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import (
    AllDelivered,
    Bisect,
    Delivered,
    Destination,
    Hold,
    HttpResponse,
    PartResult,
    Parts,
    Reading,
    Rejected,
    Retry,
    RetryBatch,
    Split,
    TransportError,
)
from analytics_sdk.receipts import DELIVERED, Outcome, OutcomeKind

Reply: TypeAlias = HttpResponse | TransportError

SUSPECTS = 8
"""Events refused alone, with nothing delivered, that end a search for the bad one."""

DOUBT = 3
"""As many make us doubt the configuration rather than the events."""

TRUST = 20
"""As many in a row, after a success, make us doubt it again."""

CAP_GROWTH = 1.05
"""How fast a limit learned from a 413 is tested again, by each success."""

CONFIGURATION = frozenset(
    {
        Reason.CONFIGURATION,
        Reason.REDIRECTED,
        Reason.SUSPECTED_CONFIGURATION,
        Reason.TLS,
    }
)
"""Causes that mending a setting removes: they hold, they do not consume."""


class Now(NamedTuple):
    """What a judgement may not find out for itself.

    Args:
        s: Monotonic seconds.
        jitter: In [0, 1).
    """

    s: float
    jitter: float


class Judge:
    """Judges the answers to one destination's requests.

    Args:
        destination: Reads answers.
        give_up_after_s: The longest wait that a server may ask for; None where
            nothing is given up: then it is a day.
        settle: Takes an item and its final outcome.
    """

    def __init__(
        self,
        destination: Destination,
        give_up_after_s: float | None,
        settle: Callable[[Item, Outcome], None],
    ) -> None:
        """Keep what is given; nothing has gone wrong yet."""
        self.last_error: Outcome | None = None
        self._destination = destination
        self._longest_s = LONGEST_S if give_up_after_s is None else give_up_after_s
        self._settle = settle

    def judge(self, lane: Lane, flight: Flight, reply: Reply, now: Now) -> None:
        """Settle, return or hold the items of *flight*, as *reply* demands."""
        items = flight.items
        if isinstance(reply, TransportError):
            if reply.maybe_sent:
                items = self._drop_unrepeatable(items)
            reading: Reading = RetryBatch(reply.reason, None, reply.message)
            if reply.reason in CONFIGURATION:
                reading = Hold(reply.reason, None, reply.message)
        else:
            reading = read(self._destination, lane.route, reply, items)
            if isinstance(reading, RetryBatch) and reading.reason is Reason.UNREADABLE:
                items = self._drop_unrepeatable(items)
        self._apply(lane, flight._replace(items=items), reading, now)
        if not lane.pieces:
            lane.end_search()  # its last piece may have ended without a verdict

    def _drop_unrepeatable(self, items: list[Item]) -> list[Item]:
        """Settle the items whose repeat could count twice; return the others."""
        for item in items:
            if not item.part.idempotent:
                self._settle(item, Outcome(OutcomeKind.LOST, Reason.MAYBE_SENT))
        return [item for item in items if item.part.idempotent]

    def _apply(self, lane: Lane, flight: Flight, reading: Reading, now: Now) -> None:
        items = flight.items
        if isinstance(reading, (RetryBatch, Hold)):
            self.last_error = Outcome(OutcomeKind.HELD, reading.reason, reading.excerpt)
        if isinstance(reading, AllDelivered):
            word = _delivered(reading.warning)
            for item in items:
                self._settle(item, word)
            self._succeeded(lane, flight, now)
        elif isinstance(reading, Parts):
            self._apply_results(lane, flight, reading.results, now)
        elif isinstance(reading, Split):
            self._split(lane, flight, reading)
        elif isinstance(reading, Bisect):
            self._bisect(lane, flight, reading.excerpt, now)
        elif isinstance(reading, Hold):
            self._return(lane, flight)
            self._hold(lane, flight, reading, now)
        else:
            self._return(lane, flight)
            self._back_off(lane, flight, reading, now)

    def _asked_s(self, after_s: float | None) -> float:
        """Return how long the server asks us to wait, up to the give-up time."""
        if not isinstance(after_s, (int, float)) or not after_s > 0:
            return 0.0  # nothing, the past, or no number
        return min(after_s, self._longest_s)

    def _return(self, lane: Lane, flight: Flight) -> None:
        """Put the items of a failed request back to where they came from."""
        if flight.piece and flight.items:
            lane.put_first(flight.items)
        else:
            lane.put_back(flight.items)

    def _back_off(
        self, lane: Lane, flight: Flight, reading: RetryBatch, now: Now
    ) -> None:
        if _is_news(lane, flight):
            lane.failures += 1
        wait_s = backoff_s(lane.failures, now.jitter)
        until_s = now.s + max(wait_s, self._asked_s(reading.after_s))
        lane.hold(Held(until_s, reading.reason, excerpt=reading.excerpt), now.s)

    def _hold(self, lane: Lane, flight: Flight, reading: Hold, now: Now) -> None:
        if _is_news(lane, flight):
            lane.probes += 1
        configuration = reading.reason in CONFIGURATION
        wait_s = self._asked_s(reading.after_s)
        if configuration or not wait_s:
            wait_s = max(wait_s, probe_s(lane.probes - 1, now.jitter))
        until_s = now.s + wait_s
        held = Held(until_s, reading.reason, configuration, reading.excerpt)
        lane.hold(held, now.s)

    def _succeeded(self, lane: Lane, flight: Flight, now: Now) -> None:
        """Note that the lane is open, and what that says about earlier refusals."""
        if _is_news(lane, flight):
            lane.release(now.s)
        if lane.cap_bytes < NO_LIMIT:
            lane.cap_bytes = int(lane.cap_bytes * CAP_GROWTH) + 1
        era = lane.era
        if era is None:
            return
        era.succeeded = True
        era.refused = 0
        for item, excerpt in era.suspects:
            self._reject(item, excerpt)
        era.suspects.clear()
        if not flight.piece and len(flight.items) > 1:
            lane.era = None

    def _apply_results(
        self, lane: Lane, flight: Flight, results: Sequence[PartResult], now: Now
    ) -> None:
        """Settle what is settled, and let the rest wait by its user."""
        if _is_news(lane, flight):
            lane.release(now.s)
        if any(not isinstance(result, Retry) for result in results):
            self._succeeded(lane, flight, now)
        again: list[Item] = []
        for item, result in zip(flight.items, results, strict=True):
            if isinstance(result, Delivered):
                self._settle(item, _delivered(result.warning))
            elif isinstance(result, Rejected):
                word = Outcome(OutcomeKind.REJECTED, result.reason, result.excerpt)
                self._settle(item, word)
            else:
                again.append(item)
                self._park(lane, item, result, now)
        if again:
            self._return(lane, flight._replace(items=again))

    def _park(self, lane: Lane, item: Item, result: Retry, now: Now) -> None:
        """Let an item's user wait; without one, the whole lane."""
        wait_s = self._asked_s(result.after_s) or backoff_s(item.attempts, now.jitter)
        until_s = now.s + wait_s
        for key in item.keys:
            lane.parked[key] = max(until_s, lane.parked.get(key, until_s))
        if not item.keys:
            lane.hold(Held(until_s, result.reason), now.s)

    def _split(self, lane: Lane, flight: Flight, reading: Split) -> None:
        """Learn from a 413 that requests must be smaller."""
        items = flight.items
        if len(items) == 1:
            word = Outcome(OutcomeKind.REJECTED, Reason.TOO_LARGE, reading.excerpt)
            self._settle(items[0], word)
            return
        lane.cap_bytes = min(lane.cap_bytes, size_of(items, lane.limits) // 2)
        if flight.piece:
            _cut(lane, items)
        else:
            lane.put_back(items)

    def _bisect(self, lane: Lane, flight: Flight, excerpt: str, now: Now) -> None:
        """Search a refused request for what is bad in it, in order."""
        if lane.era is None:
            lane.era = Era()
        items = flight.items
        if len(items) > 1:
            _cut(lane, items)
            return
        self._refused_alone(lane, lane.era, flight, excerpt, now)

    def _refused_alone(
        self, lane: Lane, era: Era, flight: Flight, excerpt: str, now: Now
    ) -> None:
        """Judge an event that was refused with nothing beside it to blame."""
        item = flight.items[0]
        era.refused += 1
        if era.succeeded and era.refused <= TRUST:
            self._reject(item, excerpt)
            return
        era.succeeded = False
        era.suspects.append((item, excerpt))
        if lane.pieces and len(era.suspects) < SUSPECTS:
            return
        if era.refused < DOUBT:
            suspects, era.suspects = era.suspects, []
            for suspect, words in suspects:
                self._reject(suspect, words)
            return
        lane.end_search()
        held = Hold(Reason.SUSPECTED_CONFIGURATION, None, excerpt)
        self._hold(lane, flight, held, now)

    def _reject(self, item: Item, excerpt: str) -> None:
        self._settle(item, Outcome(OutcomeKind.REJECTED, Reason.INVALID, excerpt))


def read(
    destination: Destination, route: str, response: HttpResponse, items: Sequence[Item]
) -> Reading:
    """Ask *destination* what *response* means; what makes no sense counts as none."""
    parts = [item.part for item in items]
    try:
        reading: object = destination.read(route, response, parts)
        if isinstance(reading, Parts):
            reading = Parts(tuple(reading.results))
    except Exception as error:  # noqa: BLE001 - a destination is foreign code
        return RetryBatch(Reason.UNREADABLE, None, f"read: {type(error).__name__}")
    if isinstance(reading, Parts):
        results = reading.results
        known = all(isinstance(each, (Delivered, Rejected, Retry)) for each in results)
        if known and len(results) == len(parts):
            return reading
        return RetryBatch(Reason.UNREADABLE, None, "one result per part is due")
    if isinstance(reading, (AllDelivered, RetryBatch, Split, Bisect, Hold)):
        return reading
    return RetryBatch(Reason.UNREADABLE, None, "a reading of no known type")


def _delivered(warning: str) -> Outcome:
    return Outcome(OutcomeKind.DELIVERED, None, warning) if warning else DELIVERED


def _is_news(lane: Lane, flight: Flight) -> bool:
    """Say whether *flight* left after the lane's last hold began.

    Of several requests that were in flight together, the first answer counts as a
    failure and the others only confirm it.
    """
    return flight.departed_s >= lane.failed_at_s


def _cut(lane: Lane, items: list[Item]) -> None:
    """Send *items* next, in two requests."""
    cut = halve([item.size for item in items])
    lane.put_first(items[:cut], items[cut:])
