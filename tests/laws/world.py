"""A core with its clock, its vendors and a book of what each event may expect.

The book is kept by what goes in and comes out: events, requests, answers, outcomes.
Only where that cannot tell (which parts are still somewhere) the lanes are looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import inf, isfinite

from analytics_sdk._batching import request_bytes
from analytics_sdk._config import Delivery
from analytics_sdk._delivery import Core
from analytics_sdk._items import Item, place
from analytics_sdk._lanes import Lane
from analytics_sdk._ledger import charge_of
from analytics_sdk._outlet import Outlet, Send
from analytics_sdk._verdict import Now
from analytics_sdk.errors import Reason
from analytics_sdk.events import Event
from analytics_sdk.interfaces import (
    AllDelivered,
    Delivered,
    Hold,
    Part,
    Parts,
    Rejected,
    Retry,
    RetryBatch,
    TransportError,
)
from analytics_sdk.receipts import OutcomeKind, Receipt
from tests.laws.flushes import Flushes
from tests.toys import Toy, answer

SLICE = 3
"""Small, so that the encoding of a few events takes several goes."""

Lost = tuple[Receipt, int]


class Marked(Toy):
    """The toy, but each part's body also tells which part of its event it is."""

    def encode(self, event: Event) -> Sequence[Part]:
        return [
            part._replace(body=b"%d:" % number + part.body)
            for number, part in enumerate(super().encode(event))
        ]


class Expected:
    """What is known of one part from outside.

    Args:
        receipt: Of its event.
        index: Of its destination.
        part: As the destination makes it, each time.
        order: Its place in the order of the calls.
    """

    def __init__(
        self, receipt: Receipt, index: int, part: Part, order: tuple[int, int]
    ) -> None:
        self.receipt = receipt
        self.index = index
        self.part = part
        self.order = order
        self.keys = {key for key in (part.key, part.joins) if key}
        self.attempts = 0
        self.over = ""
        """Why it must never be sent again, once that is known."""


class World:
    """Runs a core as the coordinator does, and checks every law after every turn."""

    def __init__(
        self,
        toys: Sequence[Marked],
        settings: Delivery,
        *,
        keeps: bool,
        start_s: float = 1000.0,
    ) -> None:
        self.core = Core(toys, settings, report=True, keeps=keeps)
        self.toys = toys
        self.names = tuple(toy.name for toy in toys)
        self.settings = settings
        self.limit_s = inf if keeps else settings.give_up_after_s
        self.now = start_s
        self.flushes = Flushes(self.core)
        self.receipts: list[Receipt] = []
        self.charges: dict[Receipt, int] = {}
        self.born_s: dict[Receipt, float] = {}
        self.parts: dict[tuple[int, bytes], Expected] = {}
        self.flights: list[Send] = []
        self.departed: dict[int, int] = {}
        self.quiet: dict[tuple[int, str], tuple[float, int]] = {}
        """By lane: until when the vendor asked for peace, and in which turn."""
        self.ends: dict[Lost, OutcomeKind] = {}
        self.turns = 0
        self.closed = False

    # -- what happens ------------------------------------------------------

    def accept(self, receipts: Sequence[Receipt]) -> None:
        """Let events come out of the buffer."""
        for receipt in receipts:
            number = len(self.receipts)
            self.receipts.append(receipt)
            raw = receipt._raw
            assert isinstance(raw, bytes)
            self.charges[receipt] = charge_of(raw)
            self.born_s[receipt] = self.now
            event = Event(raw, receipt._selection)
            for index, toy in enumerate(self.toys):
                if not receipt._pending >> index & 1:
                    continue
                try:
                    parts = toy.encode(event)
                except ZeroDivisionError:
                    continue
                for at, part in enumerate(parts):
                    expected = Expected(receipt, index, part, (number, at))
                    self.parts[index, part.body] = expected
        self.core.accept(receipts, self.now)
        if self.closed:
            self.core.close(Reason.EXIT)

    def reply(self, send: Send, reading: object, jitter: float = 0.5) -> None:
        """Let a request be answered, and note what that means for its parts."""
        self.flights.remove(send)
        lane = (send.destination, send.route)
        self._note_peace(lane, send, reading)
        for at, part in enumerate(send.parts):
            expected = self.parts[send.destination, part.body]
            if isinstance(reading, AllDelivered):
                expected.over = "delivered"
            elif isinstance(reading, Parts) and len(reading.results) == len(send.parts):
                result = reading.results[at]
                if isinstance(result, (Delivered, Rejected)):
                    expected.over = "answered"
            elif _is_maybe(reading, len(send.parts)) and not part.idempotent:
                expected.over = "perhaps sent"
        self.core.replied(send, answer(reading), Now(self.now, jitter))

    def _note_peace(self, lane: tuple[int, str], send: Send, reading: object) -> None:
        until_s, since = self.quiet.get(lane, (-inf, -1))
        good = isinstance(reading, AllDelivered) or (
            isinstance(reading, Parts)
            and len(reading.results) == len(send.parts)
            and not all(isinstance(result, Retry) for result in reading.results)
        )
        if good and self.departed[send.ticket] > since:
            self.quiet.pop(lane, None)
        if isinstance(reading, (RetryBatch, Hold)):
            asked_s = reading.after_s or 0.0
            if isfinite(asked_s) and asked_s > 0:
                new_s = self.now + min(asked_s, self.limit_s, 86_400.0)
                self.quiet[lane] = (max(new_s, until_s), self.turns)

    def pull(self, receipts: Sequence[Receipt]) -> None:
        """Let somebody wait for events."""
        self.core.pull(receipts)

    def flush(self, timeout_s: float, chosen: tuple[Receipt, ...] | None) -> None:
        """Let somebody flush everything, or what is *chosen*."""
        self.flushes.begin(self.now, timeout_s, self.receipts, chosen)

    def close(self) -> None:
        """Let the time be up."""
        self.core.close(Reason.EXIT)
        self.flights.clear()
        self.flushes.forget_promises()
        self.closed = True

    def turn(self) -> list[Send]:
        """Do one round, and check what it did."""
        self.turns += 1
        self.core.tick(self.now)
        goes = 0
        while self.core.prepare(SLICE):
            goes += 1
            assert goes <= len(self.receipts) * len(self.toys)
        held = {
            (outlet.index, lane.route): lane.held
            for outlet in self.core.outlets
            for lane in outlet.lanes.values()
        }
        sends = self.core.sends(self.now)
        for send in sends:
            self.departed[send.ticket] = self.turns
            hold = held[send.destination, send.route]
            assert hold is None or hold.until_s <= self.now
            self._check_request(send)
        self.flights += sends
        self._check_flights()
        self._check_books()
        self._check_places()
        self._check_times()
        self.flushes.check(self.now)
        return sends

    # -- what must hold of a request ---------------------------------------

    def _check_request(self, send: Send) -> None:
        """Limits, identity, order, barriers and peace, for one request."""
        outlet = self.core.outlets[send.destination]
        limits = outlet.destination.limits[send.route]
        sizes = [len(part.body) for part in send.parts]
        assert 1 <= len(sizes) <= (limits.events or inf)
        assert request_bytes(sizes, limits) <= (limits.batch_bytes or inf)
        assert max(sizes) <= (limits.event_bytes or inf)
        asked_s, _ = self.quiet.get((send.destination, send.route), (-inf, 0))
        assert asked_s <= self.now, "the vendor asked for peace"
        request = [self.parts[send.destination, part.body] for part in send.parts]
        assert len(set(request)) == len(request)
        for expected, part in zip(request, send.parts, strict=True):
            assert expected.part == part
            assert send.route == part.route
            assert not expected.over, f"sent again, though {expected.over}"
            assert expected.part.refused is None
            assert expected.receipt._pending >> send.destination & 1
            expected.attempts += 1
        assert max(expected.attempts for expected in request) == send.attempt
        self._check_order(outlet, request)

    def _check_order(self, outlet: Outlet, request: list[Expected]) -> None:
        """Earlier parts of the same users are settled, or earlier in the request."""
        alive = list(self._alive(outlet))
        suspects = {
            item.part.body for lane in outlet.lanes.values() for item in lane.suspects
        }
        for at, expected in enumerate(request):
            for other in alive:
                if other.order >= expected.order or other.keys.isdisjoint(
                    expected.keys
                ):
                    continue
                assert not expected.part.barrier, "a barrier went too early"
                assert not other.part.barrier, "an earlier barrier is not settled"
                if other.part.route == expected.part.route:
                    suspected = other.part.body in suspects
                    assert suspected or other in request[:at], "a user's order is lost"

    def _alive(self, outlet: Outlet) -> Iterator[Expected]:
        """Yield the parts that an outlet has not settled."""
        for lane in outlet.lanes.values():
            for item in lane.all_items():
                yield self.parts[outlet.index, item.part.body]
        waiting = set(outlet.inbox)
        for expected in self.parts.values():
            here = expected.index == outlet.index and expected.receipt in waiting
            if here and expected.part.refused is None:
                yield expected

    # -- what must hold after every turn -----------------------------------

    def _check_flights(self) -> None:
        """Requests in flight are few, and one while something is wrong."""
        together = Counter((send.destination, send.route) for send in self.flights)
        for (index, route), number in together.items():
            assert number <= self.settings.parallel_uploads
            lane = self.core.outlets[index].lanes[route]
            assert number == len(lane.flights)
            recent = [
                send
                for send in self.flights
                if (send.destination, send.route) == (index, route)
                and lane.flights[send.ticket].departed_s >= lane.failed_at_s
            ]
            if lane.held or lane.searching or lane.failures:
                assert len(recent) <= 1

    def _check_books(self) -> None:
        """Each event has one outcome for each destination, counted once."""
        ledger = self.core.ledger
        for receipt, index, outcome in ledger.notices:
            assert outcome.terminal
            assert (receipt, index) not in self.ends
            self.ends[receipt, index] = outcome.kind
            if outcome.kind is OutcomeKind.EVICTED:
                self.flushes.forget_promises()
            if outcome.reason is Reason.EXPIRED:
                assert self.now - self.born_s[receipt] >= self.limit_s - 1e-6
        ledger.notices = []
        waiting = [receipt for receipt in self.receipts if receipt._pending]
        charges = [self.charges[receipt] for receipt in waiting]
        assert (
            len(waiting)
            == ledger.unsettled
            == sum(epoch.unsettled for epoch in ledger.epochs)
        )
        assert len(self.receipts) == ledger.unsettled + ledger.settled_events
        assert sum(charges) == ledger.unsettled_bytes
        total = sum(self.charges.values())
        assert total == ledger.unsettled_bytes + ledger.released_bytes
        for index in range(len(self.toys)):
            alone = [receipt for receipt in waiting if receipt._pending == 1 << index]
            sole = sum(self.charges[receipt] for receipt in alone)
            assert sole == ledger.sole_bytes[index]
            left = sum(receipt._pending >> index & 1 for receipt in self.receipts)
            counted = sum(ledger.counts[index].values())
            assert counted + left == len(self.receipts)
            ended = {
                receipt
                for receipt in self.receipts
                if receipt._selection.mask & ~receipt._pending & 1 << index
            }
            assert ended == {receipt for receipt, at in self.ends if at == index}

    def _check_places(self) -> None:
        """What is not settled is somewhere, once; what is somewhere is not settled."""
        for outlet in self.core.outlets:
            unsettled = {
                receipt
                for receipt in self.receipts
                if receipt._pending >> outlet.index & 1
            }
            items: list[Item] = []
            for lane in outlet.lanes.values():
                items += lane.all_items()
                assert sum(item.size for item in lane.pending) == lane.pending_bytes
                assert sorted(lane.pending, key=place) == list(lane.pending)
                assert all(lane.pieces)
                assert lane.pieces or lane.flights or not lane.suspects
            assert len(items) == len(set(items))
            places = [item.receipt for item in items] + list(outlet.inbox)
            assert unsettled == set(places)
            barriers = {item for item in items if item.part.barrier}
            assert barriers == set(outlet.barriers)

    def _check_times(self) -> None:
        """The core asks to be woken when that helps, and gives up when it should."""
        due_s = self.core.next_due_s(self.now)
        assert due_s is None or self.now < due_s < inf
        for outlet in self.core.outlets:
            flying = any(lane.flights for lane in outlet.lanes.values())
            if not outlet.idle and not flying:
                assert due_s is not None, "nothing would ever happen"
                assert outlet.next_due_s(self.now) is not None
            for lane in outlet.lanes.values():
                self._check_patience(lane)

    def _check_patience(self, lane: Lane) -> None:
        configuration = lane.held is not None and lane.held.configuration
        assert lane.clock_stands == configuration
        if lane.clock_stands:
            return
        for item in lane.waiting():
            if lane.held is not None or item.attempts:
                age_s = lane.age_s(item.receipt._born_s, self.now)
                assert age_s <= self.limit_s, "given up on too late"

    # -- how it ends -------------------------------------------------------

    def heal(self) -> None:
        """Let every vendor be well again: everything settles, in few requests."""
        requests = turns = 0
        most = 20 + 4 * len(self.parts)
        for send in list(self.flights):
            self.reply(send, AllDelivered())
        while True:
            turns += 1
            assert turns <= 10 * most, "a busy loop"
            for send in self.turn():
                requests += 1
                assert requests <= most
                self.reply(send, AllDelivered())
            if self.flights or not self.core.ledger.unsettled:
                break
            due_s = self.core.next_due_s(self.now)
            if due_s is not None:
                self.now = due_s
        self.turn()
        assert self.flushes.all_over()
        assert 0 == self.core.ledger.unsettled
        assert [0] * len(self.toys) == self.core.ledger.sole_bytes
        for receipt in self.receipts:
            assert receipt.outcome is not None


def _is_maybe(reading: object, parts: int) -> bool:
    """Say whether the vendor may have taken a request although we cannot tell."""
    if isinstance(reading, TransportError):
        return reading.maybe_sent
    if isinstance(reading, RetryBatch):
        return reading.reason is Reason.UNREADABLE
    if isinstance(reading, Parts):
        return len(reading.results) != parts
    return isinstance(reading, (Exception, str))
