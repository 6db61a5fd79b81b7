"""Patience: when lanes have something to do, when they may, and when they give up.

It looks at lanes and times and changes nothing but a lane's bound on the age of its
parts and what its next request is; what it finds is done elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache, partial
from itertools import chain
from math import inf
from typing import NamedTuple

from analytics_sdk._items import Item
from analytics_sdk._lanes import Lane
from analytics_sdk.receipts import Receipt

TICK_S = 0.001
"""The shortest wait: a rounding error must not make a busy loop."""

BREAKER_FAILURES = 5
"""Failures in a row after which a lane is tried again with one event only."""


class Policy(NamedTuple):
    """What an outlet needs to know of the settings."""

    linger_s: float
    parallel_uploads: int
    give_up_after_s: float | None


class Patience:
    """How long one destination's events may wait: for company, and for the vendor.

    Args:
        lanes: All of the destination.
        barriers: Its barriers that are not settled; they come and go.
        policy: How long for company, and for the vendor; None waits for ever.
    """

    def __init__(
        self, lanes: Collection[Lane], barriers: Collection[Item], policy: Policy
    ) -> None:
        """Keep what is given."""
        self.rush_s = -inf
        """What was accepted until then waits for no company."""
        self._lanes = lanes
        self._barriers = barriers
        self._linger_s = policy.linger_s
        self._parallel_uploads = policy.parallel_uploads
        limit_s = policy.give_up_after_s
        self._limit_s = inf if limit_s is None else limit_s

    # -- leaving -----------------------------------------------------------

    def slots(self, lane: Lane) -> int:
        """Return how many requests of *lane* may be in flight together."""
        serial = lane.held is not None or lane.searching or lane.failures
        return 1 if serial else self._parallel_uploads

    def lacks(self, lane: Lane) -> bool:
        """Say whether *lane* could send more than waits in it.

        A lane on hold needs one event for its probe, but in a time of 400s a choice of
        them: behind the bad ones there may be a good one.
        """
        if lane.held is not None and lane.era is None:
            return not (lane.pieces or lane.flights or len(lane.pending) > lane.kept)
        return not lane.fills(max(self.slots(lane) - len(lane.flights), 1))

    def due(self, lane: Lane, now: float, *, more: bool) -> bool:
        """Say whether *lane*'s next request should leave; after a hold, as a probe.

        Args:
            lane: Has something to send.
            now: Monotonic seconds.
            more: Whether events wait outside the lanes.
        """
        held = lane.held
        if held is not None:
            if now < held.until_s:
                return False
            tired = lane.failures >= BREAKER_FAILURES
            lane.probe_next = held.configuration or tired
            return True
        if lane.pieces or lane.full or more:
            return True
        return self.ripe_s(lane, now) <= now

    # -- company -----------------------------------------------------------

    def ripe_s(self, lane: Lane, now: float) -> float:
        """Return when the first part that is not parked has waited for company."""
        parked = {key for key, until_s in lane.parked.items() if until_s > now}
        for item in lane.pending:
            if parked.isdisjoint(item.keys):
                born_s = item.receipt._born_s
                if item.urgent or item.attempts or born_s <= self.rush_s:
                    return -inf
                return born_s + self._linger_s
        return -inf

    # -- giving up ---------------------------------------------------------

    def left_s(self, lane: Lane, born_s: float, now: float) -> float:
        """Return how long an event of *born_s* may go on being retried."""
        return self._limit_s - lane.age_s(born_s, now)

    def gives_up_s(self, lane: Lane, born_s: float, now: float) -> float:
        """Return when an event of *born_s* is given up on, if nothing changes."""
        if lane.clock_stands:
            return inf
        return now + max(self.left_s(lane, born_s, now), TICK_S)

    def too_old(self, lane: Lane, now: float) -> list[Item]:
        """Return the parts that are to be given up on.

        Those are parts that have been tried, or wait in a lane on hold.  While the
        give-up clock stands still there are none.
        """
        if lane.clock_stands or self.left_s(lane, lane.oldest_s, now) > 0:
            return []
        gone: list[Item] = []
        lane.oldest_s = inf
        for item in lane.waiting():
            born_s = item.receipt._born_s
            if self.left_s(lane, born_s, now) > 0:
                lane.oldest_s = min(lane.oldest_s, born_s)
            elif lane.held is not None or item.attempts:
                gone.append(item)
        return gone

    def unsorted_left_s(self, receipt: Receipt, now: float) -> float:
        """Return how long an event that is in no lane yet may go on waiting.

        It may wait for ever while a lane is open, or the give-up clock of one stands.
        """
        if not self.all_held(now) or any(lane.clock_stands for lane in self._lanes):
            return inf
        born_s = receipt._born_s
        return max(self.left_s(lane, born_s, now) for lane in self._lanes)

    # -- when to look again ------------------------------------------------

    def all_held(self, now: float) -> bool:
        """Say whether no lane with work may send before some time after *now*."""
        opens = [opens_s(lane, now) for lane in self._lanes if lane.held or lane.busy]
        return min(opens, default=now) > now

    def times(self, now: float) -> list[float]:
        """Return when there may be something to do; the past is past."""
        times: list[float] = []
        for lane in self._lanes:
            if lane.held is not None:
                times.append(lane.held.until_s)
            elif lane.pending:
                times.append(self.ripe_s(lane, now))
            times += lane.parked.values()
            if lane.first() is not None:
                times.append(self.gives_up_s(lane, lane.oldest_s, now))
        return times

    def all_shut(self, now: float) -> bool:
        """Say whether every lane, with work or without, is on hold beyond *now*."""
        return min(opens_s(lane, now) for lane in self._lanes) > now

    # -- when something may be settled --------------------------------------

    def soonest_s(self, now: float) -> float:
        """Return a time before which nothing in a lane can be settled, found fast."""
        times = (
            min(opens_s(lane, now), self.gives_up_s(lane, lane.oldest_s, now))
            for lane in self._lanes
            if lane.busy
        )
        flying = any(lane.flights for lane in self._lanes)
        return now if flying else min(times, default=inf)

    def settling(
        self, chosen: Callable[[Receipt], bool], now: float
    ) -> Iterator[tuple[Receipt, float]]:
        """Yield each *chosen* event in the lanes, and when it may first be settled.

        One pass for all of them, in which the sure ones come early: who looks for the
        first that may be settled soon needs not go on.
        """
        several_s: dict[Receipt, float] = {}
        flying = ((item, now) for lane in self._lanes for item in lane.in_flight())
        for item, until_s in chain(flying, self._settling(now)):
            receipt = item.receipt
            if not chosen(receipt):
                continue
            if item.tracker is None:
                yield receipt, until_s
            else:  # it is settled with its last part
                several_s[receipt] = max(until_s, several_s.get(receipt, now))
        yield from several_s.items()

    def unsorted_settling(
        self, receipts: Iterable[Receipt], now: float
    ) -> Iterator[tuple[Receipt, float]]:
        """Yield events that are in no lane yet, and when any may first settle them."""
        soonest_s = min(opens_s(lane, now) for lane in self._lanes)
        given_up_s: dict[float, float] = {}
        for receipt in receipts:
            until_s = given_up_s.get(receipt._born_s)
            if until_s is None:
                left_s = self.unsorted_left_s(receipt, now)
                until_s = min(soonest_s, now + max(left_s, TICK_S))
                given_up_s[receipt._born_s] = until_s
            yield receipt, until_s

    @property
    def _tangled(self) -> bool:
        """True when parts may wait for more than their lane to open."""
        return bool(self._barriers) or any(lane.parked for lane in self._lanes)

    def _settling(self, now: float) -> Iterator[tuple[Item, float]]:
        """Yield each part that waits, and the first time at which it may be settled.

        A part is kept by its lane's hold, by its parked user, and by what has to be
        settled before it.

        Args:
            now: Monotonic seconds; the time where nothing is in the way.
        """
        if not self._tangled:
            for item, lane, end_s in self._waiting(now):
                yield item, min(opens_s(lane, now), end_s)
            return
        over_s: dict[tuple[str | None, bool, str], float] = {}
        """By lane (None: any), barriers only or not, and key: when the last is over."""
        for item, lane, end_s in sorted(
            self._waiting(now), key=lambda each: each[0].sequence
        ):
            barrier = item.part.barrier
            until_s = opens_s(lane, now)
            for key in item.keys:
                follows = [(lane.route, False, key), (None, True, key)]
                if barrier:
                    follows.append((None, False, key))
                earlier_s = (over_s.get(at, now) for at in follows)
                until_s = max(until_s, lane.parked.get(key, now), *earlier_s)
            until_s = min(until_s, end_s)
            yield item, until_s
            for key in item.keys:
                for at in (
                    (lane.route, False, key),
                    (None, False, key),
                    (None, barrier, key),
                ):
                    over_s[at] = max(until_s, over_s.get(at, now))

    def _waiting(self, now: float) -> Iterator[tuple[Item, Lane, float]]:
        """Yield each part that waits, its lane, and when that is over in any case.

        Then it is given up; a suspect's fate may come with any answer.
        """
        for lane in self._lanes:
            gives_up_s = cache(partial(self.gives_up_s, lane, now=now))
            loose = set(lane.suspects) if lane.flights else ()
            for item in lane.waiting():
                born_s = item.receipt._born_s
                yield item, lane, now if item in loose else gives_up_s(born_s)


def opens_s(lane: Lane, now: float) -> float:
    """Return when *lane* may send; *now* where no hold keeps it from that."""
    return now if lane.held is None else max(lane.held.until_s, now)
