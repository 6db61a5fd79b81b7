"""The laws of flushes: what a report may say, and when a flush may be over."""

from __future__ import annotations

from typing import NamedTuple

from analytics_sdk._delivery import Core
from analytics_sdk._flushes import Flush, Scope, is_over, report
from analytics_sdk.receipts import FlushReport, Outcome, OutcomeKind, Receipt

GOOD = {OutcomeKind.DELIVERED, OutcomeKind.SKIPPED}


class Promise(NamedTuple):
    """What a flush that ended early has said: none of it settles by the deadline."""

    deadline_s: float
    pending: dict[Receipt, int]


class Flushes:
    """Flushes a core as the coordinator does, and checks them after every turn."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._under_way: list[tuple[Scope, list[Receipt]]] = []
        self._promises: list[Promise] = []

    def begin(
        self,
        now: float,
        timeout_s: float,
        accepted: list[Receipt],
        chosen: tuple[Receipt, ...] | None,
    ) -> None:
        """Flush everything *accepted*, or what is *chosen* of it."""
        core = self._core
        epochs = ()
        if chosen is None:
            epochs = core.ledger.turn_epoch()
            core.rush(now)
            # What earlier flushes have reported as settled is no business of this one.
            members = [each for each in accepted if each._epoch in epochs]
            unsettled = {each for each in accepted if each._pending}
            assert unsettled <= set(members)
        else:
            core.pull(chosen)
            members = list(chosen)
        ask = Flush(chosen, now + timeout_s, lambda _report: None)
        self._under_way.append((Scope(ask, epochs, now), members))

    def check(self, now: float) -> None:
        """Hold every promise, and end the flushes that are over."""
        for promise in self._promises:
            for receipt, pending in promise.pending.items():
                assert now > promise.deadline_s or receipt._pending == pending
        self._promises = [each for each in self._promises if now <= each.deadline_s]
        for scope, members in list(self._under_way):
            self._look_at(scope, members, now)

    def forget_promises(self) -> None:
        """Memory ran out or the end has come: nobody could know that."""
        self._promises.clear()

    def all_over(self) -> bool:
        """Say whether no flush is under way."""
        return not self._under_way

    def _look_at(self, scope: Scope, members: list[Receipt], now: float) -> None:
        deadline_s = scope.ask.deadline_s
        waiting = {each: each._pending for each in members if each._pending}
        times = self._core.settling(scope.covers, now)
        assert times.keys() == waiting.keys()
        late = [time_s for time_s in times.values() if time_s > deadline_s]
        stuck = len(late) == len(waiting)
        assert is_over(self._core, scope, now) == (stuck or now >= deadline_s)
        found = report(self._core, scope, now)
        self._check_report(found, members, now - scope.started_s)
        assert found.held <= len(late)
        if not stuck and now < deadline_s:
            return
        if now < deadline_s:
            assert found.held == found.pending == len(waiting)
            assert not waiting or found.holds or self._parked(now)
            self._promises.append(Promise(deadline_s, waiting))
        self._under_way.remove((scope, members))
        self._core.ledger.drop_epochs(scope.epochs)

    def _parked(self, now: float) -> bool:
        lanes = [lane for each in self._core.outlets for lane in each.lanes.values()]
        return any(until_s > now for lane in lanes for until_s in lane.parked.values())

    def _check_report(
        self, found: FlushReport, members: list[Receipt], elapsed_s: float
    ) -> None:
        """The report tells what the receipts tell, event by event."""
        names = self._core.ledger.names
        assert found.pending == sum(1 for each in members if each._pending)
        assert found.elapsed_s == elapsed_s
        assert found.stored == 0
        for index, name in enumerate(names):
            left = sum(each._pending >> index & 1 for each in members)
            counted = found.by_destination.get(name, {})
            assert sum(counted.values()) + left == len(members)
        for kind, number in found.counts.items():
            assert number == sum(
                some.get(kind, 0) for some in found.by_destination.values()
            )
        ends = [
            each._outcomes.get(name, each._outcome)
            if each._outcomes is not None
            else each._outcome
            for each in members
            for index, name in enumerate(names)
            if each._selection.mask >> index & 1
        ]
        assert bool(found) == all(map(_is_good, ends))


def _is_good(end: Outcome | None) -> bool:
    return end is not None and end.kind in GOOD
