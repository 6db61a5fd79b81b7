"""One destination's side of delivery: events in, requests out, answers judged.

Pure: it is told the time and the jitter, and what it wants done comes out as `Send`
values.  Its outcomes go into the ledger.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from analytics_sdk._batching import largest_part_bytes
from analytics_sdk._lanes import Flight, Item, Lane, Tracker
from analytics_sdk._ledger import Ledger
from analytics_sdk._verdict import Judge, Now, Reply
from analytics_sdk.errors import Reason
from analytics_sdk.events import Event, type_and_keys
from analytics_sdk.interfaces import Destination, Part
from analytics_sdk.receipts import Outcome, OutcomeKind, Receipt, worst

LOOKAHEAD_PARTS = 20_000
"""Most parts that one destination keeps encoded ahead of their requests."""

BREAKER_FAILURES = 5
"""Failures in a row after which a lane is tried again with one event only."""

_TICK_S = 0.001
"""The shortest wait: a rounding error must not make a busy loop."""


class Send(NamedTuple):
    """Something to do: make this request, and come back with its *ticket*."""

    ticket: int
    destination: int
    route: str
    parts: tuple[Part, ...]
    attempt: int


class Policy(NamedTuple):
    """What an outlet needs to know of the settings."""

    linger_s: float
    parallel_uploads: int
    give_up_after_s: float | None


class Outlet:
    """Everything that one destination has not settled.

    Args:
        index: The destination's bit in selections.
        destination: Says what parts, requests and answers look like.
        policy: The settings that matter here.
        ledger: Where outcomes go.
        decode: Parses an encoded event.
        tickets: Yields a new number for each request, over all outlets.
    """

    def __init__(
        self,
        index: int,
        destination: Destination,
        policy: Policy,
        ledger: Ledger,
        decode: Callable[[bytes], Any],
        tickets: Iterator[int],
    ) -> None:
        """Start empty and open."""
        self.index = index
        self.destination = destination
        self.inbox: deque[Receipt] = deque()
        self.lanes = {
            route: Lane(route, limits) for route, limits in destination.limits.items()
        }
        self.barriers: list[Item] = []
        self.rush_s = float("-inf")
        self._bit = 1 << index
        self._policy = policy
        self._ledger = ledger
        self._decode = decode
        self._tickets = tickets
        self._sequence = 0
        self._judge = Judge(destination, policy.give_up_after_s, self._settle)

    # -- events in ---------------------------------------------------------

    def prepare(self, most: int) -> bool:
        """Encode up to *most* events for lanes that could send more.

        Returns:
            True when there is more to encode.
        """
        while self.inbox and self._hungry():
            if most <= 0:
                return True
            most -= 1
            self._encode(self.inbox.popleft())
        return False

    def _hungry(self) -> bool:
        lanes = self.lanes.values()
        if sum(map(len, lanes)) >= LOOKAHEAD_PARTS:
            return False
        return any(
            not lane.full if lane.held is None else not lane.busy for lane in lanes
        )

    def _encode(self, receipt: Receipt, *, urgent: bool = False) -> None:
        """Turn an event into items of its lanes, or settle it here and now."""
        if not receipt._pending & self._bit:
            return
        raw = receipt._raw
        event = Event(raw, receipt._selection, self._decode)  # type: ignore[arg-type]
        try:
            parts = tuple(self.destination.encode(event))
            lanes = [self.lanes[part.route] for part in parts]
        except Exception as error:  # noqa: BLE001 - a destination is foreign code
            word = Outcome(
                OutcomeKind.LOST, Reason.BUG, f"encode: {type(error).__name__}"
            )
            self._ledger.settle(receipt, self.index, word)
            return
        if not parts:
            word = Outcome(OutcomeKind.SKIPPED, Reason.NOT_TAKEN)
            self._ledger.settle(receipt, self.index, word)
            return
        tracker = Tracker(len(parts)) if len(parts) > 1 else None
        for part, lane in zip(parts, lanes, strict=True):
            self._sequence += 1
            item = Item(part, receipt, self._sequence, tracker)
            item.urgent = urgent
            reason = part.refused
            if reason is None and item.size > largest_part_bytes(lane.limits):
                reason = Reason.TOO_LARGE
            if reason is not None:
                self._settle(item, Outcome(OutcomeKind.REFUSED, reason))
                continue
            lane.append(item)
            if part.barrier:
                self.barriers.append(item)

    def pull(self, receipt: Receipt) -> None:
        """Make an event urgent: it, and what its user's order puts before it, go first.

        Nothing happens where the event is in flight, or settled, already.
        """
        if not receipt._pending & self._bit:
            return
        items = [item for lane in self.lanes.values() for item in lane.pending]
        waiting = [*(item.receipt for item in items), *self.inbox]
        wanted = _with_predecessors(receipt, waiting)
        if not wanted:
            return
        for item in items:
            item.urgent = item.urgent or item.receipt in wanted
        for lane in self.lanes.values():
            lane.put_back(())
        called = [waiter for waiter in self.inbox if waiter in wanted]
        if called:
            kept = (waiter for waiter in self.inbox if waiter not in wanted)
            self.inbox = deque(kept)
            for waiter in called:
                self._encode(waiter, urgent=True)

    # -- requests out ------------------------------------------------------

    def sends(self, now: float) -> Iterator[Send]:
        """Yield the requests that should leave now.

        Args:
            now: Monotonic seconds.
        """
        for lane in self.lanes.values():
            while self._may_send(lane) and self._due(lane, now):
                piece = bool(lane.pieces)
                taken = self._take(lane, now)
                if not taken:
                    break
                items = [item for item in taken if not self._gone(item)]
                if items:
                    yield self._depart(lane, Flight(items, now, piece))

    def _may_send(self, lane: Lane) -> bool:
        """Say whether the lane has room for another request."""
        if not lane.pending and not lane.pieces:
            return False
        serial = lane.held is not None or lane.pieces or lane.failures
        return len(lane.flights) < (1 if serial else self._policy.parallel_uploads)

    def _due(self, lane: Lane, now: float) -> bool:
        held = lane.held
        if held is not None:
            if now < held.until_s:
                return False
            tired = lane.failures >= BREAKER_FAILURES
            lane.probe_next = held.configuration or tired
            return True
        if lane.pieces or lane.full or self.inbox:
            return True
        return self._ripe_s(lane) <= now

    def _ripe_s(self, lane: Lane) -> float:
        """Return when the lane's first item has waited long enough for company."""
        item = lane.pending[0]
        born_s = item.receipt._born_s
        if item.urgent or item.attempts or born_s <= self.rush_s:
            return float("-inf")
        return born_s + self._policy.linger_s

    def _take(self, lane: Lane, now: float) -> list[Item]:
        blocked = {
            key
            for flight in lane.flights.values()
            for item in flight.items
            for key in item.keys
        }
        return lane.take(now, blocked, self.barriers, self._ready_barriers())

    def _gone(self, item: Item) -> bool:
        """Say whether *item*'s event has been settled while it waited."""
        if item.receipt._pending & self._bit:
            return False
        self.barriers = [other for other in self.barriers if other is not item]
        return True

    def _ready_barriers(self) -> set[Item]:
        """Return the barrier items before which nothing of their users is unsettled.

        What waits before them in their own lane is the lane's own business.
        """
        ready: set[Item] = set()
        for barrier in self.barriers:
            keys = set(barrier.keys)
            if not any(
                other.sequence < barrier.sequence and not keys.isdisjoint(other.keys)
                for lane in self.lanes.values()
                for other in (
                    *(
                        item
                        for flight in lane.flights.values()
                        for item in flight.items
                    ),
                    *(() if lane.route == barrier.part.route else lane.waiting()),
                )
            ):
                ready.add(barrier)
        return ready

    def _depart(self, lane: Lane, flight: Flight) -> Send:
        ticket = next(self._tickets)
        lane.flights[ticket] = flight
        for item in flight.items:
            item.attempts += 1
            item.receipt._sent = True
        parts = tuple(item.part for item in flight.items)
        attempt = max(item.attempts for item in flight.items)
        return Send(ticket, self.index, lane.route, parts, attempt)

    # -- answers in --------------------------------------------------------

    def replied(self, ticket: int, reply: Reply, now: Now) -> None:
        """Take the answer to the request that left as *ticket*."""
        for lane in self.lanes.values():
            flight = lane.flights.pop(ticket, None)
            if flight is not None:
                self._judge.judge(lane, flight, reply, now)

    def _settle(self, item: Item, outcome: Outcome) -> None:
        """Settle one part, and the event with its last one."""
        if item.part.barrier:
            self.barriers = [other for other in self.barriers if other is not item]
        tracker = item.tracker
        if tracker is not None:
            tracker.left -= 1
            tracker.outcomes[str(item.sequence)] = outcome
            if tracker.left:
                return
            outcome = worst(tracker.outcomes)
        self._ledger.settle(item.receipt, self.index, outcome)

    # -- waiting and giving up ---------------------------------------------

    def expire(self, now: float) -> None:
        """Give up on what has been retried for too long."""
        limit_s = self._policy.give_up_after_s
        if limit_s is None:
            return
        word = Outcome(OutcomeKind.LOST, Reason.EXPIRED)
        for lane in self.lanes.values():
            gone: set[Item] = set()
            for item in _first(lane):
                if self._left_s(lane, item.receipt, now) > 0:
                    break
                gone.update(self._too_old(lane, now))
            lane.remove(gone)
            for item in gone:
                self._settle(item, word)
        while self.inbox and self.all_held(now):
            if self._inbox_left_s(now) > 0:
                break
            self._ledger.settle(self.inbox.popleft(), self.index, word)

    def _too_old(self, lane: Lane, now: float) -> Iterator[Item]:
        for item in lane.waiting():
            if self._left_s(lane, item.receipt, now) > 0:
                break
            if lane.held is not None or item.attempts:
                yield item

    def _left_s(self, lane: Lane, receipt: Receipt, now: float) -> float:
        """Return how long an event may go on being retried."""
        limit_s = self._policy.give_up_after_s
        if limit_s is None:
            return float("inf")
        return limit_s - lane.age_s(receipt._born_s, now)

    def _inbox_left_s(self, now: float) -> float:
        lanes = self.lanes.values()
        return max(self._left_s(lane, self.inbox[0], now) for lane in lanes)

    def all_held(self, now: float) -> bool:
        """Say whether no lane may send before some time after *now*."""
        return all(
            lane.held is not None and lane.held.until_s > now
            for lane in self.lanes.values()
        )

    @property
    def idle(self) -> bool:
        """True when nothing waits here and nothing is in flight."""
        return not self.inbox and not any(lane.busy for lane in self.lanes.values())

    def next_due_s(self, now: float) -> float | None:
        """Return when there is something to do that no answer brings about.

        Ask after `sends` with the same *now*: what was due then and did not leave
        waits for an answer.
        """
        times = [
            time for lane in self.lanes.values() for time in self._times(lane, now)
        ]
        if self.inbox and self.all_held(now):
            times.append(now + max(self._inbox_left_s(now), _TICK_S))
        return min((time for time in times if time > now), default=None)

    def _times(self, lane: Lane, now: float) -> Iterator[float]:
        """Yield when the lane may have something to do; the past is past."""
        if lane.held is not None:
            yield lane.held.until_s
        elif lane.pending:
            yield self._ripe_s(lane)
        yield from lane.parked.values()
        for item in _first(lane):
            if not lane.clock_stands and (lane.held is not None or item.attempts):
                yield now + max(self._left_s(lane, item.receipt, now), _TICK_S)

    def stuck_until_s(self, now: float, receipt: Receipt | None = None) -> float:
        """Return the first time at which something here may be settled.

        Args:
            now: Monotonic seconds; also the answer where nothing is in the way.
            receipt: The event in question; None asks for any of them.
        """
        times = []
        for lane in self.lanes.values():
            opens_s = now if lane.held is None else max(lane.held.until_s, now)
            flying = [item for flight in lane.flights.values() for item in flight.items]
            for item in flying:
                if receipt is None or item.receipt is receipt:
                    return now
            for item in lane.waiting():
                if receipt is None or item.receipt is receipt:
                    parked_s = (lane.parked.get(key, now) for key in item.keys)
                    times.append(max(opens_s, *parked_s, now))
        if self.inbox and not times:
            times = [
                now if lane.held is None else max(lane.held.until_s, now)
                for lane in self.lanes.values()
            ]
        return min(times, default=now)

    @property
    def last_error(self) -> Outcome | None:
        """The last failure of a request, even if it is over."""
        return self._judge.last_error

    def oldest_age_s(self, now: float) -> float:
        """Return how long the oldest event here waits; any thread may ask."""
        try:
            firsts = [
                item.receipt for lane in self.lanes.values() for item in _first(lane)
            ]
            return max(
                (now - r._born_s for r in [*firsts, *list(self.inbox)[:1]]), default=0.0
            )
        except (IndexError, RuntimeError):
            return 0.0

    def waiting(self) -> Iterator[Receipt]:
        """Yield the events that are not in flight, each lane's oldest first."""
        for lane in self.lanes.values():
            for item in lane.waiting():
                yield item.receipt
        yield from self.inbox

    def in_flight(self) -> set[Receipt]:
        """Return the events that have left and are not answered."""
        return {
            item.receipt
            for lane in self.lanes.values()
            for flight in lane.flights.values()
            for item in flight.items
        }

    def forget_settled(self) -> None:
        """Drop what waits here although its event has been settled."""
        for lane in self.lanes.values():
            lane.remove({item for item in lane.waiting() if self._gone(item)})
        self.inbox = deque(r for r in self.inbox if r._pending & self._bit)

    def close(self, outcome: Outcome) -> None:
        """Settle everything that is left with *outcome*."""
        for receipt in [*self.in_flight(), *self.waiting()]:
            self._ledger.settle(receipt, self.index, outcome)
        for lane in self.lanes.values():
            lane.flights.clear()
        self.forget_settled()


def _first(lane: Lane) -> list[Item]:
    """Return the first item that waits in *lane*, if there is one."""
    if lane.pieces:
        return lane.pieces[0][:1]
    return [lane.pending[0]] if lane.pending else []


def _with_predecessors(receipt: Receipt, waiting: list[Receipt]) -> set[Receipt]:
    """Return *receipt* with all that its users' order puts before it.

    Args:
        receipt: The event that is wanted.
        waiting: All events that wait, in order.
    """
    try:
        at = len(waiting) - 1 - waiting[::-1].index(receipt)
    except ValueError:
        return set()
    wanted = {receipt}
    keys = set(type_and_keys(receipt._raw)[1])  # type: ignore[arg-type]
    for earlier in reversed(waiting[:at]):
        raw = earlier._raw
        if isinstance(raw, bytes) and any(key.encode() in raw for key in keys):
            theirs = type_and_keys(raw)[1]
            if not keys.isdisjoint(theirs):
                keys.update(theirs)
                wanted.add(earlier)
    return wanted
