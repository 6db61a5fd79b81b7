"""Lanes: ordered streams of parts to one route, and what makes them wait.

A lane keeps its parts in order, chooses which of them the next request holds, and
knows whether it may send at all.  It decides nothing about answers: that is
`_outlet`'s work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from analytics_sdk._batching import NO_LIMIT, count_that_fit, request_bytes
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import Limits, Part
from analytics_sdk.receipts import Outcome, Receipt

_GOLDEN = 0.618034


class Tracker:
    """Gathers the outcomes of an event's several parts at one destination."""

    __slots__ = ("left", "outcomes")

    def __init__(self, left: int) -> None:
        """Expect *left* outcomes."""
        self.left = left
        self.outcomes: dict[str, Outcome] = {}


class Item:
    """A part on its way, with what delivery knows of it."""

    __slots__ = ("attempts", "keys", "part", "receipt", "sequence", "tracker", "urgent")

    def __init__(
        self, part: Part, receipt: Receipt, sequence: int, tracker: Tracker | None
    ) -> None:
        """Start without an attempt; *sequence* is its place in the outlet."""
        self.part = part
        self.receipt = receipt
        self.sequence = sequence
        self.tracker = tracker
        self.attempts = 0
        self.urgent = False
        self.keys = tuple(key for key in (part.key, part.joins) if key)

    @property
    def size(self) -> int:
        """The bytes of the part's body."""
        return len(self.part.body)


def place(item: Item) -> tuple[bool, int]:
    """Return the sort key of the order in which a lane sends."""
    return (not item.urgent, item.sequence)


class Held(NamedTuple):
    """The only waiting state: until when, and for which cause.

    Args:
        until_s: Monotonic seconds.
        reason: The cause, as reports name it.
        configuration: Whether the cause is a setting, so that the give-up clock
            stands still.
        excerpt: What the vendor said.
    """

    until_s: float
    reason: Reason
    configuration: bool = False
    excerpt: str = ""


class Flight(NamedTuple):
    """A request that has left and has not been answered."""

    items: list[Item]
    departed_s: float
    piece: bool
    """Whether it is a cut-off piece of a request that was refused as a whole."""


class Era:
    """A time of 400s: it tells poisoned events from a wrong configuration.

    Attributes:
        succeeded: Whether anything has been delivered since the 400s began.
        suspects: Parts refused alone, not yet judged.
        refused: How many have been refused alone since the last success.
    """

    __slots__ = ("refused", "succeeded", "suspects")

    def __init__(self) -> None:
        """Begin: nothing is known yet."""
        self.succeeded = False
        self.suspects: list[tuple[Item, str]] = []
        self.refused = 0


class Lane:
    """One ordered stream of parts.

    Attributes:
        pending: Parts that wait, in the order in which they will be sent.
        pieces: Parts of refused requests, to be sent piece by piece before the rest.
        flights: Requests that have not been answered, by ticket.
        parked: For each user key that waits on its own: until when.
        held: Why the lane as a whole waits, if it does.
        failures: Requests in a row that failed for a transient cause.
        probes: Probes in a row that found the lane still shut.
        era: The time of 400s that the lane goes through, if it does.
        cap_bytes: The largest body that the server takes, as 413s have taught us.
    """

    def __init__(self, route: str, limits: Limits) -> None:
        """Start empty and open."""
        self.route = route
        self.limits = limits
        self.pending: deque[Item] = deque()
        self.pending_bytes = 0
        self.pieces: deque[list[Item]] = deque()
        self.flights: dict[int, Flight] = {}
        self.parked: dict[str, float] = {}
        self.held: Held | None = None
        self.failures = 0
        self.probes = 0
        self.probe_next = False
        self.failed_at_s = float("-inf")
        self.era: Era | None = None
        self.cap_bytes = NO_LIMIT
        self._stood_still: list[tuple[float, float]] = []
        self._still_since_s: float | None = None

    def __len__(self) -> int:
        """Return how many parts wait here, those in flight left out."""
        return len(self.pending) + sum(map(len, self.pieces))

    @property
    def busy(self) -> bool:
        """True when something waits or is in flight."""
        return bool(self.pending or self.pieces or self.flights)

    @property
    def full(self) -> bool:
        """True when what waits fills a request."""
        limits = self.limits
        count = len(self.pending)
        if limits.events is not None and count >= limits.events:
            return True
        most_bytes = min(limits.batch_bytes or NO_LIMIT, self.cap_bytes)
        joined = self.pending_bytes + limits.separator_bytes * (count - 1)
        return limits.envelope_bytes + joined >= most_bytes

    def append(self, item: Item) -> None:
        """Queue a new item: behind all others, an urgent one behind the urgent."""
        self.pending_bytes += item.size
        if item.urgent and self.pending and not self.pending[-1].urgent:
            self.pending = deque(sorted([*self.pending, item], key=place))
        else:
            self.pending.append(item)

    def put_back(self, items: Iterable[Item]) -> None:
        """Return *items* that were taken to their places."""
        self.pending = deque(sorted([*items, *self.pending], key=place))
        self._recount()

    def remove(self, gone: set[Item]) -> None:
        """Take *gone* out of the lane, wherever they wait."""
        self.pending = deque(item for item in self.pending if item not in gone)
        pieces = ([item for item in piece if item not in gone] for piece in self.pieces)
        self.pieces = deque(piece for piece in pieces if piece)
        self._recount()

    def waiting(self) -> list[Item]:
        """Return everything that waits, in order."""
        items = [item for piece in self.pieces for item in piece]
        return [*items, *self.pending]

    def take(
        self, now: float, blocked: set[str], barriers: Sequence[Item], ready: set[Item]
    ) -> list[Item]:
        """Remove and return the items of the next request, as many as fit.

        Args:
            now: Monotonic seconds.
            blocked: User keys that must not be sent now.
            barriers: The outlet's unsettled barrier items, in order.
            ready: Those of them that wait for nothing in other lanes.
        """
        shut = blocked | self._parked_keys(now)
        if self.pieces:
            return self._take_piece(shut)
        if self.probe_next:
            taken = self._take_probe(shut, barriers, ready)
        elif shut or barriers:
            taken = self._take_allowed(self.limits, shut, barriers, ready)
        else:
            sizes = (item.size for item in self.pending)
            count = count_that_fit(sizes, self.limits, self.cap_bytes)
            taken = [self.pending.popleft() for _ in range(count)]
        self.pending_bytes -= sum(item.size for item in taken)
        return taken

    def _take_piece(self, shut: set[str]) -> list[Item]:
        """Take the next piece; items whose key must wait go back into the queue."""
        piece = self.pieces.popleft()
        waiting = [item for item in piece if not shut.isdisjoint(item.keys)]
        if waiting:
            self.put_back(waiting)
            piece = [item for item in piece if shut.isdisjoint(item.keys)]
        return piece

    def _take_probe(
        self, shut: set[str], barriers: Sequence[Item], ready: set[Item]
    ) -> list[Item]:
        """Take one item: the first, or in a time of 400s another one at each probe.

        Only an item that shares no key with an earlier one may go before it.
        """
        if self.era is not None and len(self.pending) > 1:
            at = int(self.probes * _GOLDEN % 1 * len(self.pending))
            self.pending.rotate(-at)
            chosen = self.pending.popleft()
            self.pending.rotate(at)
            earlier = {key for item in list(self.pending)[:at] for key in item.keys}
            if not chosen.part.barrier and earlier.union(shut).isdisjoint(chosen.keys):
                if not _behind(chosen, barriers):
                    return [chosen]
            self.pending.insert(at, chosen)
        return self._take_allowed(self.limits._replace(events=1), shut, barriers, ready)

    def _take_allowed(
        self,
        limits: Limits,
        blocked: set[str],
        barriers: Sequence[Item],
        ready: set[Item],
    ) -> list[Item]:
        """Take what order allows; what has to wait holds back all that shares a key."""
        shut = set(blocked)
        taken: list[Item] = []
        taken_keys: set[str] = set()
        kept: list[Item] = []
        total_bytes = limits.envelope_bytes - limits.separator_bytes
        most_bytes = min(limits.batch_bytes or NO_LIMIT, self.cap_bytes)
        while self.pending:
            item = self.pending.popleft()
            grown_bytes = total_bytes + item.size + limits.separator_bytes
            alone = item.part.barrier
            if (
                not shut.isdisjoint(item.keys)
                or _behind(item, barriers)
                or (alone and not taken_keys.isdisjoint(item.keys))
                or (alone and item not in ready)
            ):
                kept.append(item)
                shut.update(item.keys)
            elif taken and (
                len(taken) >= (limits.events or NO_LIMIT) or grown_bytes > most_bytes
            ):
                kept.append(item)
                break
            else:
                taken.append(item)
                taken_keys.update(item.keys)
                total_bytes = grown_bytes
                if alone:
                    shut.update(item.keys)
        self.pending.extendleft(reversed(kept))
        return taken

    def hold(self, held: Held, now: float) -> None:
        """Wait for *held*, unless the lane already waits longer."""
        if self.held is None or held.until_s >= self.held.until_s:
            self.held = held
        if held.configuration and self._still_since_s is None:
            self._still_since_s = now

    def release(self, now: float) -> None:
        """Forget the hold and what led to it: something has got through."""
        self.held = None
        self.failures = 0
        self.probes = 0
        self.probe_next = False
        if self._still_since_s is not None:
            self._stood_still.append((self._still_since_s, now))
            self._still_since_s = None

    def age_s(self, born_s: float, now: float) -> float:
        """Return how long ago *born_s* is on the lane's give-up clock.

        The clock stands still while the lane waits for a setting to be mended.
        """
        still = self._stood_still
        if self._still_since_s is not None:
            still = [*still, (self._still_since_s, now)]
        lost = sum(max(0.0, end - max(start, born_s)) for start, end in still)
        return now - born_s - lost

    @property
    def clock_stands(self) -> bool:
        """True while the give-up clock stands still."""
        return self._still_since_s is not None

    def next_unparked_s(self) -> float | None:
        """Return when the next parked key may be sent."""
        return min(self.parked.values(), default=None)

    def _parked_keys(self, now: float) -> set[str]:
        if self.parked:
            due = [key for key, until_s in self.parked.items() if until_s <= now]
            for key in due:
                del self.parked[key]
        return set(self.parked)

    def _recount(self) -> None:
        self.pending_bytes = sum(item.size for item in self.pending)


def _behind(item: Item, barriers: Sequence[Item]) -> bool:
    """Say whether *item* must wait for an earlier barrier of one of its keys."""
    return any(
        barrier.sequence < item.sequence and not set(barrier.keys).isdisjoint(item.keys)
        for barrier in barriers
    )


def size_of(items: Sequence[Item], limits: Limits) -> int:
    """Return the length of the request's body that holds *items*."""
    return request_bytes([item.size for item in items], limits)
