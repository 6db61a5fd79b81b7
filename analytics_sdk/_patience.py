"""Patience: when lanes have something to do, when they may, and when they give up.

It looks at lanes and times and changes nothing but a lane's bound on the age of its
parts; what it finds is done elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import inf
from typing import NamedTuple

from analytics_sdk._items import Item
from analytics_sdk._lanes import Lane
from analytics_sdk.receipts import Receipt

TICK_S = 0.001
"""The shortest wait: a rounding error must not make a busy loop."""


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
        limit_s = policy.give_up_after_s
        self._limit_s = inf if limit_s is None else limit_s

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

    def moves(self, now: float) -> list[float]:
        """Return times of which the first is when anything in a lane may be settled."""
        if any(lane.flights for lane in self._lanes):
            return [now]
        if self._tangled:
            return [time for _, time in self._settling(now)]
        return [
            min(opens_s(lane, now), self.gives_up_s(lane, lane.oldest_s, now))
            for lane in self._lanes
            if lane.busy
        ]

    def settles_s(self, receipt: Receipt, now: float) -> float:
        """Return the first time at which *receipt* may be settled."""
        if len(self._lanes) > 1 or self._tangled:
            times = [t for item, t in self._settling(now) if item.receipt is receipt]
            if times:
                return max(times)
        flying = (item.receipt for lane in self._lanes for item in lane.in_flight())
        return now if receipt in flying else self.unsorted_settles_s(receipt, now)

    def unsorted_settles_s(self, receipt: Receipt, now: float) -> float:
        """Return the first time at which any lane may settle *receipt*."""
        soonest_s = min(opens_s(lane, now) for lane in self._lanes)
        return min(soonest_s, now + max(self.unsorted_left_s(receipt, now), TICK_S))

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
        waiting = [(item, lane) for lane in self._lanes for item in lane.waiting()]
        waiting.sort(key=lambda pair: pair[0].sequence)
        over_s: dict[tuple[str | None, bool, str], float] = {}
        """By lane (None: any), barriers only or not, and key: when the last is over."""
        for item, lane in waiting:
            barrier = item.part.barrier
            until_s = opens_s(lane, now)
            for key in item.keys:
                follows = [(lane.route, False, key), (None, True, key)]
                if barrier:
                    follows.append((None, False, key))
                earlier_s = (over_s.get(at, now) for at in follows)
                until_s = max(until_s, lane.parked.get(key, now), *earlier_s)
            born_s = item.receipt._born_s
            until_s = min(until_s, self.gives_up_s(lane, born_s, now))
            yield item, until_s
            for key in item.keys:
                for at in (
                    (lane.route, False, key),
                    (None, False, key),
                    (None, barrier, key),
                ):
                    over_s[at] = max(until_s, over_s.get(at, now))


def opens_s(lane: Lane, now: float) -> float:
    """Return when *lane* may send; *now* where no hold keeps it from that."""
    return now if lane.held is None else max(lane.held.until_s, now)
