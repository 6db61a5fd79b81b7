"""Flushes on their way: what each covers, when it is over, what it reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import attrs

from analytics_sdk._delivery import Core
from analytics_sdk._ledger import Count, Epoch
from analytics_sdk.receipts import FlushReport, Outcome, OutcomeKind, Receipt


class Flush(NamedTuple):
    """Settle what is in scope, and report.

    Args:
        receipts: The scope; None means everything accepted so far.
        deadline_s: Monotonic seconds.
        notify: Takes the report; must neither block nor raise.
        closing: Whether what is left is lost, and nothing follows.
    """

    receipts: tuple[Receipt, ...] | None
    deadline_s: float
    notify: Callable[[FlushReport], None]
    closing: bool = False


class Scope:
    """A flush on its way: what it covers and since when."""

    __slots__ = ("ask", "covers", "epochs", "started_s")

    def __init__(self, ask: Flush, epochs: tuple[Epoch, ...], started_s: float) -> None:
        self.ask = ask
        self.epochs = epochs
        self.started_s = started_s
        self.covers = self._covers()
        """Says whether an event that has come out of the buffer is in scope."""

    def _covers(self) -> Callable[[Receipt], bool]:
        if self.ask.receipts is not None:
            return frozenset(self.ask.receipts).__contains__
        epochs = frozenset(self.epochs)
        return lambda receipt: receipt._epoch in epochs

    @property
    def pending(self) -> int:
        """How many events of the scope are not settled."""
        if self.ask.receipts is None:
            return sum(epoch.unsettled for epoch in self.epochs)
        return sum(1 for receipt in self.ask.receipts if receipt._pending)


def is_over(core: Core, scope: Scope, now: float) -> bool:
    """Say whether waiting longer would change nothing before the deadline."""
    deadline_s = scope.ask.deadline_s
    if not scope.pending or now >= deadline_s:
        return True
    return not core.may_settle(scope.covers, deadline_s, now)


def report(core: Core, scope: Scope, now: float) -> FlushReport:
    """Say what has become of the events in *scope*."""
    if scope.ask.receipts is None:
        by_destination: dict[str, Counter[str]] = {}
        for index, name in enumerate(core.ledger.names):
            ended = [by_kind(epoch.counts[index]) for epoch in scope.epochs]
            by_destination[name] = sum(ended, Counter())
    else:
        by_destination = by_receipt(scope.ask.receipts)
    return attrs.evolve(
        summed(by_destination),
        pending=scope.pending,
        held=_count_held(core, scope, now),
        holds=holds(core, now),
        elapsed_s=now - scope.started_s,
    )


def by_receipt(receipts: Iterable[Receipt]) -> dict[str, Counter[str]]:
    """Count the final outcomes of *receipts*, for each destination."""
    by_destination: dict[str, Counter[str]] = {}
    for receipt in receipts:
        for name, outcome in receipt.by_destination.items():
            if outcome.terminal:
                by_destination.setdefault(name, Counter())[str(outcome.kind)] += 1
    return by_destination


def summed(by_destination: Mapping[str, Counter[str]]) -> FlushReport:
    """Return the report of events that have all been settled, with these counts."""
    return FlushReport(
        counts=dict(sum(by_destination.values(), Counter())),
        by_destination={name: dict(some) for name, some in by_destination.items()},
        pending=0,
        held=0,
        stored=0,
        holds={},
        elapsed_s=0.0,
    )


def _count_held(core: Core, scope: Scope, now: float) -> int:
    """Count the scope's events that can be settled nowhere before the deadline."""
    if not scope.pending:
        return 0
    after_s = max(scope.ask.deadline_s, now)
    times = core.settling(scope.covers, now).values()
    return sum(time_s > after_s for time_s in times)


def by_kind(counts: Mapping[Count, int]) -> Counter[str]:
    """Add up counts that differ in their reasons only."""
    words: Counter[str] = Counter()
    for (kind, _), number in counts.items():
        words[str(kind)] += number
    return words


def holds(core: Core, now: float) -> dict[str, Outcome]:
    """Return, for each destination on hold, why and for how long still."""
    found: dict[str, Outcome] = {}
    for outlet in core.outlets:
        # Another thread may ask: each hold is looked at once, for it may end meanwhile.
        lasting = [held for lane in outlet.lanes.values() if (held := lane.held)]
        if lasting:
            longest = max(lasting, key=lambda some: some.until_s)
            left_s = max(longest.until_s - now, 0.0)
            found[core.ledger.names[outlet.index]] = Outcome(
                OutcomeKind.HELD, longest.reason, longest.excerpt, left_s
            )
    return found
