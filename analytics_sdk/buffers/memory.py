"""Events in memory, bounded in bytes, with nothing on the caller's way that locks.

Every calling thread has a tally of its own, so that counts are exact without a lock,
with or without a global interpreter lock: one writer each.  The memory bound is kept
by grants.  A thread may take a few kilobytes before it has to look at the total; a
grant shrinks as the memory fills, and a single thread never goes over the bound.

Overshoot: threads that all fill their grants at the same time can go over the bound
together, by at most `GRANT_BYTES` and one event for each of them.  With
``overflow="drop_oldest"`` callers may go over it by a quarter until the coordinator
has made room.
"""

from __future__ import annotations

import _thread
import sys
from _thread import get_ident
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from analytics_sdk import _clock
from analytics_sdk._config import Delivery
from analytics_sdk._ledger import Ledger, charge_of
from analytics_sdk.errors import Reason
from analytics_sdk.receipts import Outcome, OutcomeKind, Receipt

GRANT_BYTES = 64 * 1024
"""The most that a thread may take without looking at the total."""

CEILING = 1.25
"""How far over the bound callers may go while the oldest events are dropped."""

RING_ALWAYS_S = 0.002
"""With a shorter linger every event wakes the coordinator."""

LOST_AT_EXIT = Outcome(OutcomeKind.LOST, Reason.EXIT)

_POLL_S = 0.002


class Tally:
    """What one thread has done; written by that thread alone."""

    __slots__ = (
        "accepted",
        "blocking",
        "grant_bytes",
        "lost",
        "lost_events",
        "naive_timestamps",
        "refused",
        "repaired",
        "skipped",
        "stamper",
        "taken_bytes",
        "unparsable_selectors",
    )

    def __init__(self) -> None:
        """Start at zero, with a grant of nothing."""
        self.stamper = _clock.Stamper()
        self.grant_bytes = 0
        self.taken_bytes = 0
        self.accepted = 0
        # Not a Counter: a signal could come in the Python code of its `__missing__`.
        self.refused: dict[Reason, int] = defaultdict(int)
        self.skipped: dict[Reason, int] = defaultdict(int)
        self.repaired = 0
        self.naive_timestamps = 0
        self.unparsable_selectors = 0
        self.lost: dict[int, int] = defaultdict(int)
        self.lost_events = 0
        self.blocking = False

    def lose(self, receipt: Receipt, names: Sequence[str]) -> None:
        """Settle an event that came too late to be delivered as ``lost(exit)``.

        Args:
            receipt: Popped from the intake by this thread.
            names: The destinations, by their bits.
        """
        self.taken_bytes -= charge_of(receipt._raw)  # type: ignore[arg-type]
        self.lost_events += 1
        for index, name in enumerate(names):
            if receipt._pending >> index & 1:
                self.lost[index] += 1
                receipt._settle(1 << index, name, LOST_AT_EXIT)


class MemoryBuffer:
    """The way from calling threads to the coordinator.

    Args:
        settings: Bound and overflow policy.
        ledger: Knows how many bytes have been settled.
        ring: Wakes the coordinator; must not lock.
        ours: The identities of the client's own threads, which must never wait.
    """

    def __init__(
        self,
        settings: Delivery,
        ledger: Ledger,
        ring: Callable[[], None],
        ours: set[int],
    ) -> None:
        """Look up the queue now: gevent may have patched it since the import."""
        from queue import SimpleQueue

        self.intake: SimpleQueue[Receipt | None] = SimpleQueue()
        self.tallies: dict[int, Tally] = {}
        self._settings = settings
        self._ledger = ledger
        self._ring = ring
        self._ours = ours
        self._grant_bytes = GRANT_BYTES if settings.linger_s > RING_ALWAYS_S else 0

    def tally(self) -> Tally:
        """Return the calling thread's tally."""
        ident = get_ident()
        tally = self.tallies.get(ident)
        if tally is None:
            tally = self.tallies.setdefault(ident, Tally())
        return tally

    def offer(self, receipt: Receipt, tally: Tally, charge: int) -> bool:
        """Queue an event, unless the memory is full and the policy says no.

        Args:
            receipt: Of the event.
            tally: The calling thread's.
            charge: What the event takes up, in bytes.
        """
        left = tally.grant_bytes - charge
        if left >= 0:
            tally.grant_bytes = left
        elif not self._admit(tally, charge):
            return False
        tally.taken_bytes += charge
        tally.accepted += 1
        self.intake.put(receipt)
        if left < 0:
            self._ring()
        return True

    def nudge(self) -> None:
        """Wake an idle coordinator, so that it looks at the books."""
        if not self.intake.qsize():
            self.intake.put(None)

    def take(self, most: int) -> list[Receipt]:
        """Remove and return up to *most* events; for the coordinator alone."""
        get = self.intake.get
        items = [get() for _ in range(min(self.intake.qsize(), most))]
        return [item for item in items if item is not None]

    @property
    def unsettled_bytes(self) -> int:
        """The charges of all events that some destination has not settled."""
        taken = sum(tally.taken_bytes for tally in list(self.tallies.values()))
        return taken - self._ledger.released_bytes

    def _admit(self, tally: Tally, charge: int) -> bool:
        """Look at the total; take what fits, or do as the overflow policy says."""
        settings = self._settings
        if self._grant(tally, charge):
            return True
        if settings.overflow == "drop_oldest":
            return self.unsettled_bytes + charge <= settings.max_bytes * CEILING
        if settings.overflow == "block" and self._may_block(tally):
            return self._wait_for_room(tally, charge)
        return False

    def _grant(self, tally: Tally, charge: int) -> bool:
        free_bytes = self._settings.max_bytes - self.unsettled_bytes - charge
        tally.grant_bytes = 0
        if free_bytes < 0:
            return False
        share_bytes = free_bytes // (2 * len(self.tallies))
        tally.grant_bytes = min(self._grant_bytes, share_bytes)
        return True

    def _may_block(self, tally: Tally) -> bool:
        """Say whether waiting harms nobody: not on our threads nor on an event loop.

        A call that interrupts a waiting one, from a signal handler or a finaliser, must
        not wait either.
        """
        return not (
            tally.blocking or _thread.get_ident() in self._ours or _on_an_event_loop()
        )

    def _wait_for_room(self, tally: Tally, charge: int) -> bool:
        deadline_s = _clock.monotonic() + self._settings.block_timeout_s
        tally.blocking = True
        try:
            while _clock.monotonic() < deadline_s:
                self._ring()
                _clock.sleep(_POLL_S)
                if self._grant(tally, charge):
                    return True
        finally:
            tally.blocking = False
        return False


def _on_an_event_loop() -> bool:
    """Say whether the calling thread runs an asyncio event loop."""
    asyncio: Any = sys.modules.get("asyncio.events")
    return asyncio is not None and asyncio._get_running_loop() is not None
