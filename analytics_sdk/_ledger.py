"""Who has what: every event from admission to its last outcome, counted once.

The ledger is the one place where an outcome is written into a receipt, so the law of
conservation is kept here: what is admitted is counted as unsettled until each of its
destinations has settled it, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from analytics_sdk.errors import Reason
from analytics_sdk.receipts import (
    DESELECTED,
    Outcome,
    OutcomeKind,
    Receipt,
)

EVENT_OVERHEAD_BYTES = 256
"""What one waiting event costs beside its encoded bytes: receipt and queue slots."""

Count = tuple[OutcomeKind, "Reason | None"]


def charge_of(raw: bytes) -> int:
    """Return the bytes that an encoded event takes up while it waits."""
    return len(raw) + EVENT_OVERHEAD_BYTES


class Epoch:
    """The events accepted between two flushes: how many wait, how the others ended."""

    __slots__ = ("counts", "unsettled")

    def __init__(self, destinations: int) -> None:
        """Begin with nothing."""
        self.unsettled = 0
        self.counts: list[Counter[Count]] = [Counter() for _ in range(destinations)]


class Ledger:
    """Counts and settles; owned by the coordinator, read by anyone.

    Attributes:
        counts: Outcomes since the start, for each destination.
        unsettled: Events that some destination has not settled.
        settled_events: Events that all have settled, since the start.
        released_bytes: Charges of all events settled since the start; only grows.
        sole_bytes: For each destination: charges of the events that wait for it alone.
        notices: Outcomes that `on_outcome` is to be told of.
        finals: Watched receipts that have been settled.
    """

    def __init__(
        self, names: Sequence[str], *, report_all: bool, report: bool = True
    ) -> None:
        """Open the books for destinations called *names*."""
        self.names = tuple(names)
        self.counts: list[Counter[Count]] = [Counter() for _ in self.names]
        self.unsettled = 0
        self.settled_events = 0
        self.unsettled_bytes = 0
        self.released_bytes = 0
        self.sole_bytes = [0] * len(self.names)
        self.notices: list[tuple[Receipt, int, Outcome]] = []
        self.watched: set[Receipt] = set()
        self.finals: list[Receipt] = []
        self.epochs = [Epoch(len(self.names))]
        self._report = report
        self._report_all = report_all

    def admit(self, receipt: Receipt, now: float) -> None:
        """Enter an event that has come out of the buffer.

        Args:
            receipt: Not settled anywhere; its selection chose at least one
                destination.
            now: Monotonic seconds.
        """
        charge = charge_of(receipt._raw)  # type: ignore[arg-type]
        epoch = self.epochs[-1]
        receipt._born_s = now
        receipt._epoch = epoch
        epoch.unsettled += 1
        self.unsettled += 1
        self.unsettled_bytes += charge
        mask = receipt._selection.mask
        self._note_sole(mask, charge)
        if mask.bit_count() < len(self.names):
            for index in range(len(self.names)):
                if not mask >> index & 1:
                    self._count(receipt, index, DESELECTED)

    def settle(self, receipt: Receipt, index: int, outcome: Outcome) -> None:
        """Write an outcome at destination *index*, unless there is one already."""
        bit = 1 << index
        if not receipt._pending & bit:
            return
        charge = charge_of(receipt._raw)  # type: ignore[arg-type]
        self._count(receipt, index, outcome)
        if receipt._settle(bit, self.names[index], outcome):
            self._close(receipt, index, charge)
        else:
            self._note_sole(receipt._pending, charge)
        if self._report and (self._report_all or outcome.failure):
            self.notices.append((receipt, index, outcome))

    def turn_epoch(self) -> tuple[Epoch, ...]:
        """Close the current epoch and return all that have not been dropped."""
        covered = tuple(self.epochs)
        self.epochs.append(Epoch(len(self.names)))
        return covered

    def drop_epochs(self, reported: Iterable[Epoch]) -> None:
        """Forget epochs that a finished flush has reported and that wait no more."""
        gone = {id(epoch) for epoch in reported if not epoch.unsettled}
        current = self.epochs[-1]
        self.epochs = [
            epoch for epoch in self.epochs if id(epoch) not in gone or epoch is current
        ]

    def _close(self, receipt: Receipt, index: int, charge: int) -> None:
        receipt._epoch.unsettled -= 1
        self.sole_bytes[index] -= charge
        self.unsettled -= 1
        self.settled_events += 1
        self.unsettled_bytes -= charge
        self.released_bytes += charge
        if receipt in self.watched:
            self.watched.discard(receipt)
            self.finals.append(receipt)

    def _note_sole(self, pending: int, charge: int) -> None:
        if pending & (pending - 1) == 0:
            self.sole_bytes[pending.bit_length() - 1] += charge

    def _count(self, receipt: Receipt, index: int, outcome: Outcome) -> None:
        word = (outcome.kind, outcome.reason)
        self.counts[index][word] += 1
        receipt._epoch.counts[index][word] += 1
