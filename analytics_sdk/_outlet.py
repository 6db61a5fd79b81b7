"""One destination's side of delivery: events in, requests out, answers judged.

Pure: it is told the time and the jitter, and what it wants done comes out as `Send`
values.  Its outcomes go into the ledger.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from math import inf
from typing import Any, NamedTuple

from analytics_sdk._batching import largest_part_bytes
from analytics_sdk._items import Flight, Item, Tracker
from analytics_sdk._lanes import Lane
from analytics_sdk._ledger import Ledger
from analytics_sdk._order import all_before, ready, urged, with_predecessors
from analytics_sdk._patience import TICK_S, Patience, Policy
from analytics_sdk._verdict import Judge, Now, Reply
from analytics_sdk.errors import Reason
from analytics_sdk.events import Event
from analytics_sdk.interfaces import Destination, Part, TransportError
from analytics_sdk.receipts import Outcome, OutcomeKind, Receipt, worst

LOOKAHEAD_PARTS = 20_000
"""Most parts that one destination keeps encoded ahead of their requests."""


class Send(NamedTuple):
    """Something to do: make this request, and come back with its *ticket*."""

    ticket: int
    destination: int
    route: str
    parts: tuple[Part, ...]
    attempt: int


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
        *,
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
        self.barriers: dict[Item, None] = {}
        """Unsettled barrier items: an ordered set."""
        self._bit = 1 << index
        self._wanted: set[Receipt] = set()
        """Events that have become urgent and have not been marked so yet."""
        self._shut = False
        """Whether every lane was on hold when `expire` looked."""
        self._patience = Patience(self.lanes.values(), self.barriers, policy)
        self._ledger = ledger
        self._decode = decode
        self._tickets = tickets
        self._sequence = 0
        self._judge = Judge(destination, policy.give_up_after_s, self._settle)

    # -- events in ---------------------------------------------------------

    def prepare(self, most: int) -> bool:
        """Encode up to *most* events for lanes that could send more.

        While every lane is on hold nothing is encoded, so that nothing is settled
        before the first of them opens.

        Returns:
            True when there is more to encode.
        """
        while self.inbox and not self._shut and self._hungry():
            if most <= 0:
                return True
            most -= 1
            self._encode(self.inbox.popleft())
        return False

    def _hungry(self) -> bool:
        """Say whether some lane has less than it could send."""
        lanes = self.lanes.values()
        if sum(map(len, lanes)) >= LOOKAHEAD_PARTS:
            return False
        return any(map(self._patience.lacks, lanes))

    def _encode(self, receipt: Receipt, *, urgent: bool = False) -> None:
        """Turn an event into items of its lanes, or settle it here and now."""
        raw = receipt._raw
        event = Event(raw, receipt._selection, self._decode)  # type: ignore[arg-type]
        try:
            parts = tuple(self.destination.encode(event))
            lanes = [self._lane_of(part) for part in parts]
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
                self.barriers[item] = None

    def _lane_of(self, part: Part) -> Lane:
        """Return the lane of a part that a destination has made, if it makes sense."""
        for text in (part.key, part.joins):
            if not isinstance(text, str):
                raise TypeError
        if not isinstance(part.body, bytes):
            raise TypeError
        return self.lanes[part.route]

    def pull(self, receipts: Collection[Receipt]) -> None:
        """Make events urgent: they, and what order puts before them.

        It is done when something may leave: a hold makes it useless until then.
        """
        self._wanted.update(each for each in receipts if each._pending & self._bit)

    def _pull(self, now: float) -> None:
        """Mark what has become urgent, once it may leave.

        What is in flight is marked too, so that it keeps its place if it comes back.
        """
        held = self._patience.all_held(now)
        if held and (not self.inbox or self._patience.all_shut(now)):
            return
        wanted = {each for each in self._wanted if each._pending & self._bit}
        self._wanted.clear()
        for_all = getattr(self.destination, "orders", "user") == "all"
        before = all_before if for_all else with_predecessors
        called = before(reversed(self.inbox), wanted)
        if called:
            inbox, self.inbox = self.inbox, deque()
            for waiter in inbox:
                if waiter in called:
                    self._encode(waiter, urgent=True)
                else:
                    self.inbox.append(waiter)
        lanes = self.lanes.values()
        items = [item for lane in lanes for item in lane.all_items()]
        items.sort(key=lambda item: item.sequence)
        for item in urged(items, wanted | called):
            item.urgent = True
        for lane in lanes:
            lane.put_in_order()

    def rush(self, now: float) -> None:
        """Let everything accepted until *now* leave without waiting for company."""
        self._patience.rush_s = now

    # -- requests out ------------------------------------------------------

    def sends(self, now: float) -> Iterator[Send]:
        """Yield the requests that should leave now.

        Args:
            now: Monotonic seconds.
        """
        if self._wanted:
            self._pull(now)
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
        """Say whether the lane has something to send, and room for a request."""
        if not lane.pending and not lane.pieces:
            return False
        return len(lane.flights) < self._patience.slots(lane)

    def _due(self, lane: Lane, now: float) -> bool:
        return self._patience.due(lane, now, more=bool(self.inbox))

    def _take(self, lane: Lane, now: float) -> list[Item]:
        blocked = {
            key
            for flight in lane.flights.values()
            for item in flight.items
            for key in item.keys
        }
        return lane.take(now, blocked, self.barriers, self._ready_barriers(lane))

    def _gone(self, item: Item) -> bool:
        """Say whether *item*'s event has been settled while it waited."""
        if item.receipt._pending & self._bit:
            return False
        self.barriers.pop(item, None)
        return True

    def _ready_barriers(self, lane: Lane) -> set[Item]:
        """Return *lane*'s barriers before which nothing of their users is unsettled.

        What waits before them in their own lane is the lane's own business.
        """
        ours = [item for item in self.barriers if item.part.route == lane.route]
        if not ours:
            return set()
        unsettled: list[Item] = []
        for other in self.lanes.values():
            unsettled += other.in_flight() if other is lane else other.all_items()
        return ready(ours, unsettled)

    def _depart(self, lane: Lane, flight: Flight) -> Send:
        ticket = next(self._tickets)
        lane.flights[ticket] = flight
        attempt = 0
        for item in flight.items:
            item.attempts += 1
            attempt = max(attempt, item.attempts)
            item.receipt._sent += 1
        parts = tuple([item.part for item in flight.items])
        return Send(ticket, self.index, lane.route, parts, attempt)

    # -- answers in --------------------------------------------------------

    def replied(self, ticket: int, reply: Reply, now: Now) -> None:
        """Take the answer to the request that left as *ticket*."""
        for lane in self.lanes.values():
            flight = lane.flights.pop(ticket, None)
            lane.look_again()
            if flight is None:
                continue
            if isinstance(reply, TransportError) and not reply.maybe_sent:
                for item in flight.items:
                    item.receipt._sent -= 1
            self._judge.judge(lane, flight, reply, now)

    def _settle(self, item: Item, outcome: Outcome) -> None:
        """Settle one part, and the event with its last one."""
        if item.part.barrier:
            self.barriers.pop(item, None)
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
        self._shut = self._patience.all_shut(now)
        word = Outcome(OutcomeKind.LOST, Reason.EXPIRED)
        for lane in self.lanes.values():
            gone = self._patience.too_old(lane, now)
            if gone:
                lane.remove(set(gone))
            for item in gone:
                self._settle(item, word)
        while self.inbox and self._patience.unsorted_left_s(self.inbox[0], now) <= 0:
            self._ledger.settle(self.inbox.popleft(), self.index, word)

    def all_held(self, now: float) -> bool:
        """Say whether no lane with work may send before some time after *now*."""
        return self._patience.all_held(now)

    @property
    def idle(self) -> bool:
        """True when nothing waits here and nothing is in flight."""
        return not self.inbox and not any(lane.busy for lane in self.lanes.values())

    def next_due_s(self, now: float) -> float | None:
        """Return when there is something to do that no answer brings about.

        Ask after `sends` with the same *now*: what was due then and did not leave
        waits for an answer.
        """
        times = self._patience.times(now)
        if self.inbox:
            hungry = self._hungry() and not self._patience.all_shut(now)
            left_s = self._patience.unsorted_left_s(self.inbox[0], now)
            times.append(now + max(0.0 if hungry else left_s, TICK_S))
        return min((time for time in times if now < time < inf), default=None)

    def settling(
        self, chosen: Callable[[Receipt], bool], now: float
    ) -> Iterator[tuple[Receipt, float]]:
        """Yield each *chosen* event here, and when it may first be settled here.

        Args:
            chosen: Says which.
            now: Monotonic seconds; also the time where nothing is in the way.
        """
        yield from self._patience.settling(chosen, now)
        yield from self._patience.unsorted_settling(filter(chosen, self.inbox), now)

    def soonest_s(self, now: float) -> float:
        """Return a time before which nothing here can be settled, found fast."""
        first = islice(self.inbox, 1)
        times = [time for _, time in self._patience.unsorted_settling(first, now)]
        return min([self._patience.soonest_s(now), *times])

    @property
    def last_error(self) -> Outcome | None:
        """The last failure of a request, even if it is over."""
        return self._judge.last_error

    def oldest_age_s(self, now: float) -> float:
        """Return how long the oldest event here waits; any thread may ask."""
        try:
            born_s = [r._born_s for r in [*self.in_flight(), *list(self.inbox)[:1]]]
            firsts = [lane.first() for lane in self.lanes.values()]
            born_s += [item.receipt._born_s for item in firsts if item is not None]
            return now - min(born_s, default=now)
        except (IndexError, RuntimeError):
            return 0.0  # it changed while we looked

    def waiting(self) -> Iterator[Receipt]:
        """Yield the events that are not in flight, each lane's oldest first."""
        for lane in self.lanes.values():
            for item in lane.waiting():
                yield item.receipt
        yield from self.inbox

    def oldest_first(self) -> list[Receipt]:
        """Return the events of which no part is in flight, by age.

        Among equals the order of the calls decides, and what is urgent comes last.
        """
        items = [item for lane in self.lanes.values() for item in lane.waiting()]
        items.sort(key=lambda item: item.sequence)
        urgent = {item.receipt for item in items if item.urgent} | self._wanted
        waiting = dict.fromkeys([*(item.receipt for item in items), *self.inbox])
        flying = self.in_flight()
        found = (receipt for receipt in waiting if receipt not in flying)
        return sorted(found, key=lambda each: (each._born_s, each in urgent))

    def in_flight(self) -> set[Receipt]:
        """Return the events that have left and are not answered."""
        lanes = self.lanes.values()
        return {item.receipt for lane in lanes for item in lane.in_flight()}

    def forget_settled(self) -> None:
        """Drop what waits here although its event has been settled."""
        for lane in self.lanes.values():
            gone = {item for item in lane.waiting() if self._gone(item)}
            if gone:
                lane.remove(gone)
        self.inbox = deque(r for r in self.inbox if r._pending & self._bit)
        self._wanted = {r for r in self._wanted if r._pending & self._bit}

    def close(self, outcome: Outcome) -> None:
        """Settle everything that is left with *outcome*."""
        for receipt in [*self.in_flight(), *self.waiting()]:
            self._ledger.settle(receipt, self.index, outcome)
        for lane in self.lanes.values():
            lane.flights.clear()
        self.forget_settled()
        self.barriers.clear()
