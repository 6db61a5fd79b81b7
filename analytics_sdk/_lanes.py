"""Lanes: ordered streams of parts to one route, and what makes them wait.

A lane keeps its parts in order, chooses which of them the next request holds, and
knows whether it may send at all.  It decides nothing about answers: that is
`_verdict`'s work.
"""

from __future__ import annotations

from bisect import bisect
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from math import inf

from analytics_sdk._batching import NO_LIMIT, count_that_fit
from analytics_sdk._items import Era, Flight, Held, Item, place
from analytics_sdk._order import behind, walls_of
from analytics_sdk.interfaces import Limits

_GOLDEN = 0.618034

_MOST_STANDSTILLS = 32


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
        probe_next: Whether the next request is to hold one event only.
        failed_at_s: When the last hold began.
        era: The time of 400s that the lane goes through, if it does.
        kept: How many of *pending* were seen to wait for others at the last look.
        kept_bytes: Their sizes, summed up.
        cap_bytes: The largest body that the server takes, as 413s have taught us.
        oldest_s: No part that waits here, and may be given up on, is of an event
            accepted before this time.
    """

    def __init__(self, route: str, limits: Limits) -> None:
        """Start empty and open."""
        self.route = route
        self.limits = limits
        self.pending: deque[Item] = deque()
        self.pending_bytes = 0
        self.kept = 0
        self.kept_bytes = 0
        self.pieces: deque[list[Item]] = deque()
        self.flights: dict[int, Flight] = {}
        self.parked: dict[str, float] = {}
        self.held: Held | None = None
        self.failures = 0
        self.probes = 0
        self.probe_next = False
        self.failed_at_s = -inf
        self.era: Era | None = None
        self.cap_bytes = NO_LIMIT
        self.oldest_s = inf
        self._stood_still: list[tuple[float, float]] = []
        self._still_since_s: float | None = None

    # -- what waits --------------------------------------------------------

    def __len__(self) -> int:
        """Return how many parts wait here, those in flight left out."""
        return len(self.pending) + len(self._searched())

    @property
    def busy(self) -> bool:
        """True when something waits or is in flight."""
        return bool(self.pending or self.flights or self._searched())

    @property
    def full(self) -> bool:
        """True when what waits fills a request."""
        return self.fills(1)

    def fills(self, requests: int) -> bool:
        """Say whether what waits, and may leave, fills so many requests."""
        limits = self.limits
        count = len(self.pending) - self.kept
        if count <= 0:
            return False
        if limits.events is not None and count >= limits.events * requests:
            return True
        bodies = self.pending_bytes - self.kept_bytes
        separators = limits.separator_bytes * (count - requests)
        envelopes = limits.envelope_bytes * requests
        return envelopes + bodies + separators >= self._most_bytes * requests

    def look_again(self) -> None:
        """Forget what had to wait for others: something has happened to them."""
        self.kept = self.kept_bytes = 0

    @property
    def searching(self) -> bool:
        """True while a refused request is taken apart."""
        return bool(self.pieces or self.suspects)

    @property
    def suspects(self) -> list[Item]:
        """Parts that were refused alone and are not yet judged."""
        return [item for item, _ in self.era.suspects] if self.era else []

    def waiting(self) -> list[Item]:
        """Return everything that waits, in order."""
        return [*self._searched(), *self.pending]

    def append(self, item: Item) -> None:
        """Queue a new item: behind all others, an urgent one behind the urgent."""
        self.pending_bytes += item.size
        self._note_age(item)
        if item.urgent and self.pending:
            self.pending.insert(bisect(self.pending, place(item), key=place), item)
        else:
            self.pending.append(item)

    def put_back(self, items: Iterable[Item]) -> None:
        """Return *items* that were taken to their places."""
        returned = sorted(items, key=place)
        for item in returned:
            self.pending_bytes += item.size
            self._note_age(item)
        if self.pending and returned and place(returned[-1]) > place(self.pending[0]):
            self.pending = deque(sorted([*returned, *self.pending], key=place))
        else:
            self.pending.extendleft(reversed(returned))

    def put_first(self, *pieces: list[Item]) -> None:
        """Let *pieces* of a refused request go before everything else, in order."""
        self.pieces.extendleft(reversed(pieces))
        for piece in pieces:
            for item in piece:
                self._note_age(item)

    def all_items(self) -> list[Item]:
        """Return everything that waits or is in flight."""
        return [*self.in_flight(), *self.waiting()]

    def put_in_order(self) -> None:
        """Let parts that have become urgent go before the others."""
        self.pending = deque(sorted(self.pending, key=place))
        self.look_again()

    def in_flight(self) -> Iterator[Item]:
        """Yield what has left and is not answered."""
        for flight in self.flights.values():
            yield from flight.items

    def first(self) -> Item | None:
        """Return the part that waits first, if there is one."""
        if self.pieces:
            return self.pieces[0][0]
        return self.pending[0] if self.pending else None

    def remove(self, gone: Collection[Item]) -> None:
        """Take *gone* out of the lane, wherever they wait."""
        self.pending = deque(item for item in self.pending if item not in gone)
        self.pending_bytes = sum(item.size for item in self.pending)
        pieces = ([item for item in piece if item not in gone] for piece in self.pieces)
        self.pieces = deque(piece for piece in pieces if piece)
        if self.era is not None:
            left = [each for each in self.era.suspects if each[0] not in gone]
            self.era.suspects = left
        if not self.pieces:
            self.end_search()
        self.look_again()

    def end_search(self) -> None:
        """Give up taking a request apart: let all of it wait like the rest."""
        searched = self._searched()
        self.pieces.clear()
        if self.era is not None:
            self.era.suspects.clear()
        self.put_back(searched)

    def _searched(self) -> list[Item]:
        if not self.pieces and self.era is None:
            return []
        return [*self.suspects, *(item for piece in self.pieces for item in piece)]

    def _note_age(self, item: Item) -> None:
        born_s = item.receipt._born_s
        self.oldest_s = min(self.oldest_s, born_s)

    # -- what leaves -------------------------------------------------------

    @property
    def _most_bytes(self) -> int:
        return min(self.limits.batch_bytes or NO_LIMIT, self.cap_bytes)

    def take(
        self,
        now: float,
        blocked: Collection[str],
        barriers: Collection[Item],
        ready: Collection[Item],
    ) -> list[Item]:
        """Remove and return the items of the next request, as many as fit.

        Args:
            now: Monotonic seconds.
            blocked: User keys that must not be sent now.
            barriers: The outlet's unsettled barrier items, in order.
            ready: Those of them that wait for nothing in other lanes.
        """
        shut = {*blocked, *self._parked_keys(now)}
        if self.pieces and not self.probe_next:
            piece = self._take_piece(shut)
            if piece:
                return piece
        if self.pieces:
            self.end_search()
        walls = walls_of(barriers)
        self.look_again()
        if self.probe_next:
            taken = self._take_probe(shut, walls, ready)
        elif shut or walls:
            taken = self._take_allowed(self.limits, shut, walls, ready)
        else:
            sizes = (item.size for item in self.pending)
            count = count_that_fit(sizes, self.limits, self.cap_bytes)
            taken = [self.pending.popleft() for _ in range(count)]
        self.pending_bytes -= sum(item.size for item in taken)
        return taken

    def _take_piece(self, shut: set[str]) -> list[Item]:
        """Take the first piece, or what may leave of it; the rest keeps its place.

        Who has to wait in one piece holds back his parts in the next ones.
        """
        waiting_keys = set(shut)
        for index, piece in enumerate(self.pieces):
            taken: list[Item] = []
            kept: list[Item] = []
            for item in piece:
                if waiting_keys.isdisjoint(item.keys):
                    taken.append(item)
                else:
                    kept.append(item)
                    waiting_keys.update(item.keys)
            if taken:
                del self.pieces[index]
                if kept:
                    self.pieces.insert(index, kept)
                return taken
        return []

    def _take_probe(
        self, shut: set[str], walls: Mapping[str, int], ready: Collection[Item]
    ) -> list[Item]:
        """Take one item: the first, or in a time of 400s another one at each probe.

        Only an item that shares no key with an earlier one may go before it.
        """
        if self.era is not None and len(self.pending) > 1:
            at = int(self.probes * _GOLDEN % 1 * len(self.pending))
            chosen = self.pending[at]
            earlier = {key for item in islice(self.pending, at) for key in item.keys}
            waits = chosen.part.barrier or behind(chosen, walls)
            if not waits and (earlier | shut).isdisjoint(chosen.keys):
                del self.pending[at]
                return [chosen]
        return self._take_allowed(self.limits._replace(events=1), shut, walls, ready)

    def _take_allowed(
        self,
        limits: Limits,
        blocked: set[str],
        walls: Mapping[str, int],
        ready: Collection[Item],
    ) -> list[Item]:
        """Take what order allows; what has to wait holds back all that shares a key."""
        shut = set(blocked)
        taken: list[Item] = []
        taken_keys: set[str] = set()
        kept: list[Item] = []
        most_events = limits.events or NO_LIMIT
        most_bytes = self._most_bytes
        total_bytes = limits.envelope_bytes - limits.separator_bytes
        while self.pending and len(taken) < most_events:
            item = self.pending.popleft()
            keys = item.keys
            alone = item.part.barrier
            if (
                not shut.isdisjoint(keys)
                or (walls and behind(item, walls))
                or (alone and (item not in ready or not taken_keys.isdisjoint(keys)))
            ):
                kept.append(item)
                shut.update(keys)
                continue
            total_bytes += item.size + limits.separator_bytes
            if taken and total_bytes > most_bytes:
                self.pending.appendleft(item)
                break
            taken.append(item)
            taken_keys.update(keys)
        self.pending.extendleft(reversed(kept))
        self.kept = len(kept)
        self.kept_bytes = sum(item.size for item in kept)
        return taken

    def _parked_keys(self, now: float) -> Collection[str]:
        """Return the keys that wait on their own, and forget those that are due."""
        if self.parked:
            parked = self.parked.items()
            self.parked = {key: until_s for key, until_s in parked if until_s > now}
        return self.parked.keys()

    # -- holds, and the give-up clock --------------------------------------

    def hold(self, held: Held, now: float) -> None:
        """Wait for *held*, unless the lane already waits longer.

        What is in flight left before the hold began, so that it says nothing about
        its end.
        """
        if self.held is None:
            # Parts that were never tried may be given up on from now on.
            waiting = self.waiting()
            self.oldest_s = min((each.receipt._born_s for each in waiting), default=inf)
        if self.held is None or held.until_s >= self.held.until_s:
            self.held = held
            self._stand_still(now, stands=held.configuration)
        self.failed_at_s = now
        for ticket, flight in self.flights.items():
            self.flights[ticket] = flight._replace(departed_s=-inf)

    def release(self, now: float) -> None:
        """Forget the hold and what led to it: something has got through."""
        self.held = None
        self.failures = 0
        self.probes = 0
        self.probe_next = False
        self._stand_still(now, stands=False)

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

    def _stand_still(self, now: float, *, stands: bool) -> None:
        """Stop the clock, or let it go on."""
        if stands and self._still_since_s is None:
            self._still_since_s = now
        elif not stands and self._still_since_s is not None:
            self._stood_still.append((self._still_since_s, now))
            self._still_since_s = None
            if len(self._stood_still) > _MOST_STANDSTILLS:
                # Two become one that is longer: an event is rather kept than lost.
                first, second, *rest = self._stood_still
                self._stood_still = [(first[0], second[1]), *rest]
