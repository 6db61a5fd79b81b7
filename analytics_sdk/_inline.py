"""For runtimes without threads: whoever flushes, closes or waits, delivers."""

from __future__ import annotations

import _thread
from collections.abc import Generator
from queue import Empty
from typing import Any

from analytics_sdk import _clock
from analytics_sdk._coordinator import Answered, Message
from analytics_sdk._driver import Driver, Plan, call_back, ignore, perform, timed
from analytics_sdk._flushes import Flush
from analytics_sdk._process import move_out
from analytics_sdk._transport import Transport
from analytics_sdk.receipts import ELSEWHERE, FlushReport, Outcome, Receipt

_LOOK_S = 1.0

LEAST_S = 0.05
"""What a request gets even when the deadline is past: a chance on a near network."""


class Inline(Driver):
    """Runs the coordinator on the thread that flushes, closes or waits."""

    def __init__(self, plan: Plan) -> None:
        """Prepare a transport and a turnstile; there is nothing to start."""
        super().__init__(plan)
        self._way = Transport(plan.settings, user_agent=plan.user_agent)
        self.ways.append(self._way)
        self._turnstile = _thread.allocate_lock()
        self._inside = 0

    def start(self) -> None:
        """Do nothing: events wait for the next flush, close or wait."""

    def wait(self, receipt: Receipt, timeout_s: float | None) -> Outcome | None:
        """Deliver until *receipt* is settled; None when *timeout_s* passes first."""
        if not self.page[0]:
            return receipt.outcome or ELSEWHERE
        end_s = float("inf") if timeout_s is None else _clock.monotonic() + timeout_s
        while receipt._pending and _clock.monotonic() < end_s:
            if self.coordinator.ended or self._inside == _thread.get_ident():
                break
            left_s = min(end_s - _clock.monotonic(), _LOOK_S)
            report = self.flush(max(left_s, 0.0), (receipt,), close=False)
            if receipt._pending and (report.held or report.note):
                _clock.sleep(max(min(left_s, end_s - _clock.monotonic()), 0.0))
        return receipt.outcome

    def wait_async(self, receipt: Receipt) -> Generator[Any, None, Outcome]:
        """Deliver until *receipt* is settled, a second at a time."""
        import asyncio

        while receipt._outcome is None:
            if not self.page[0]:
                return ELSEWHERE
            self.wait(receipt, _LOOK_S)
            yield from asyncio.sleep(0).__await__()
        return receipt._outcome

    def flush(
        self, timeout_s: float, receipts: tuple[Receipt, ...] | None, *, close: bool
    ) -> FlushReport:
        """Deliver what is in scope within *timeout_s*, on this thread, and report."""
        now = _clock.monotonic()
        if self._inside == _thread.get_ident():
            return self.elsewhere(now, receipts, "called from inside a delivery")
        if not self._turnstile.acquire(timeout=max(timeout_s, 0.0)):
            return self.elsewhere(now, receipts, "another thread is delivering")
        try:
            self._inside = _thread.get_ident()
            if self.coordinator.ended:
                return self.closed(now, receipts)
            report = self._deliver(Flush(receipts, now + timeout_s, ignore, close))
            if close:
                move_out(self)
            return timed(report, now)
        finally:
            self._inside = 0
            self._turnstile.release()

    async def aflush(
        self, timeout_s: float, receipts: tuple[Receipt, ...] | None, *, close: bool
    ) -> FlushReport:
        """Do as `flush` does: without threads there is nobody to wait for."""
        return self.flush(timeout_s, receipts, close=close)

    def _deliver(self, ask: Flush) -> FlushReport:
        reports: list[FlushReport] = []
        message: Message | None = ask._replace(notify=reports.append)
        coordinator = self.coordinator
        while not reports:
            if message is not None:
                coordinator.kept.append(message)
            sends = coordinator.turn(_clock.monotonic())
            for send in sends:
                left_s = max(ask.deadline_s - _clock.monotonic(), LEAST_S)
                reply = perform(send, self.plan.destinations, self._way, left_s)
                coordinator.kept.append(Answered(send, reply))
            for notice in coordinator.take_notices():
                if self.plan.on_outcome is not None:
                    call_back(self.plan.on_outcome, self.settled(notice))
            if coordinator.ended:
                coordinator.answer_all()
            message = None
            if not reports and not sends:
                try:
                    wait_s = coordinator.wait_s(_clock.monotonic())
                    message = coordinator.mailbox.get(timeout=wait_s)
                except Empty:
                    continue
        return reports[0]
