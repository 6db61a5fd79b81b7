"""The default driver: a coordinator's thread, senders, and one for callbacks.

They exchange messages on `SimpleQueue` only, and start at the first event: one
coordinator, up to `MOST_SENDERS` senders that own a connection each, one for
callbacks where the application wants any.
"""

from __future__ import annotations

import _thread
import logging
import queue
from collections.abc import Callable, Generator
from queue import Empty
from typing import TYPE_CHECKING, Any

from analytics_sdk import _clock
from analytics_sdk._coordinator import Answered, Unwatch, Watch
from analytics_sdk._driver import Plan, call_back, perform, timed
from analytics_sdk._flushes import Flush
from analytics_sdk._inline import LEAST_S, Inline
from analytics_sdk._outlet import Send
from analytics_sdk._process import forks_later, is_said, move_out
from analytics_sdk._transport import Transport
from analytics_sdk._workers import Callbacks, Sender
from analytics_sdk.errors import Reason
from analytics_sdk.receipts import ELSEWHERE, FlushReport, Outcome, Receipt

if TYPE_CHECKING:
    from queue import SimpleQueue

MOST_SENDERS = 14
"""With the coordinator's thread and the one for callbacks, no more than 16."""

_GRACE_S = 1.0
_LOOK_S = 1.0
_LAST_LOOK_S = 0.05

_LAST_WORDS_S = 0.25
"""How long the end waits for the application to have heard of all outcomes."""

_NO_ANSWER = "the coordinator did not answer in time"
_ON_OUR_OWN = "called on one of the client's own threads"

_log = logging.getLogger(__name__)


class Threads(Inline):
    """Runs the coordinator on a thread of its own, and requests on senders.

    Where the thread cannot start, or has died, whoever flushes, closes or waits takes
    over, as in the inline driver.
    """

    def __init__(self, plan: Plan) -> None:
        """Prepare; `start` starts."""
        from threading import Thread

        super().__init__(plan)
        self._Thread = Thread
        self._queue: Any = type(self.coordinator.mailbox)
        """The coordinator's kind: gevent may have put another in its place since."""
        self._started: dict[str, Any] = {}
        self._senders: dict[int, Sender] = {}
        self._callbacks: Callbacks | None = None

    # -- from any thread ---------------------------------------------------

    def start(self) -> None:
        """Start the coordinator's thread, once, without a lock."""
        thread = self._make(self._run, "analytics_sdk")
        if self._started.setdefault("thread", thread) is thread:
            self.stalled = not _starts(thread)

    def start_again(self) -> None:
        """Try once more, once a second, where the thread is not there."""
        attempt, mine = f"attempt {int(_clock.monotonic())}", object()
        if self._started.setdefault(attempt, mine) is mine:
            thread = self._make(self._run, "analytics_sdk")
            self._started = {"thread": thread, attempt: mine}
            self.stalled = not _starts(thread)

    def is_alive(self) -> bool:
        """True unless the coordinator's thread could not start, or has died."""
        thread = self._started.get("thread")
        if thread is None or self.stalled:
            return False
        return thread.ident is None or thread.is_alive()

    def wait(self, receipt: Receipt, timeout_s: float | None) -> Outcome | None:
        """Block until *receipt* is settled; None when *timeout_s* passes first."""
        if not self.page[0]:
            return receipt.outcome or ELSEWHERE
        if _thread.get_ident() in self.coordinator.ours:
            return receipt.outcome
        if not self.is_alive():
            return super().wait(receipt, timeout_s)
        done: SimpleQueue[None] = self._queue()

        def notify() -> None:
            done.put(None)

        self.coordinator.post(Watch(receipt, notify))
        end_s = None if timeout_s is None else _clock.monotonic() + timeout_s
        while receipt._pending and self.is_alive():
            left_s = _LOOK_S
            if end_s is not None:
                left_s = min(left_s, end_s - _clock.monotonic())
                if left_s <= 0:
                    self.coordinator.post(Unwatch(receipt, notify))
                    break
            try:
                done.get(timeout=left_s)
            except Empty:
                continue
        return receipt.outcome

    def wait_async(self, receipt: Receipt) -> Generator[Any, None, Outcome]:
        """Suspend the running task until *receipt* is settled."""
        if not self.page[0]:
            return receipt.outcome or ELSEWHERE
        if not self.is_alive():
            return (yield from super().wait_async(receipt))
        future, set_result = _future_on_this_loop()

        def notify() -> None:
            set_result(None)

        self.coordinator.post(Watch(receipt, notify))
        try:
            while receipt._outcome is None:
                yield from future.__await__()
        finally:
            if receipt._outcome is None:
                self.coordinator.post(Unwatch(receipt, notify))
        return receipt._outcome

    def flush(
        self, timeout_s: float, receipts: tuple[Receipt, ...] | None, *, close: bool
    ) -> FlushReport:
        """Settle what is in scope within *timeout_s*, and report."""
        now = _clock.monotonic()
        if _thread.get_ident() in self.coordinator.ours:
            return self.elsewhere(now, receipts, _ON_OUR_OWN)
        if not self.is_alive():
            return super().flush(timeout_s, receipts, close=close)
        answer: SimpleQueue[FlushReport] = self._queue()
        deadline_s = now + timeout_s
        self.coordinator.post(Flush(receipts, deadline_s, answer.put, close))
        while self.is_alive() and not self.coordinator.over:
            left_s = deadline_s + _GRACE_S - _clock.monotonic()
            if left_s <= 0:
                return self.elsewhere(
                    now, receipts, "the coordinator did not answer in time"
                )
            try:
                return timed(answer.get(timeout=min(left_s, _LOOK_S)), now)
            except Empty:
                continue
        try:
            return timed(answer.get(timeout=_LAST_LOOK_S), now)
        except Empty:
            return self.closed(now, receipts)

    async def aflush(
        self, timeout_s: float, receipts: tuple[Receipt, ...] | None, *, close: bool
    ) -> FlushReport:
        """Do as `flush` does, without blocking the event loop."""
        import asyncio

        now = _clock.monotonic()
        if _thread.get_ident() in self.coordinator.ours:
            return self.elsewhere(now, receipts, _ON_OUR_OWN)
        if not self.is_alive():
            return await super().aflush(timeout_s, receipts, close=close)
        future, notify = _future_on_this_loop()
        self.coordinator.post(Flush(receipts, now + timeout_s, notify, close))
        limit_s = _LAST_LOOK_S if self.coordinator.over else timeout_s + _GRACE_S
        try:
            report: FlushReport = await asyncio.wait_for(
                asyncio.shield(future), limit_s
            )
        except asyncio.TimeoutError:
            return self.elsewhere(
                now, receipts, "the coordinator did not answer in time"
            )
        return timed(report, now)

    # -- the coordinator's thread ------------------------------------------

    def _run(self) -> None:
        with self._turnstile:
            try:
                self._drive()
            finally:
                self.stalled = not self.coordinator.over

    def _drive(self) -> None:
        """Turn the coordinator until it has ended; the thread's body."""
        coordinator = self.coordinator
        coordinator.ours.add(_thread.get_ident())
        looked = False
        while not coordinator.ended:
            try:
                self._pause()
                for send in coordinator.turn(_clock.monotonic()):
                    self._dispatch(send)
                self._pass_on()
                if not looked:
                    looked = True
                    self.look_round()
                self._look_for_late_patches()
            except Exception:  # noqa: BLE001 - the thread must outlive any bug
                _log.exception("analytics_sdk: a bug in delivery; events are lost")
                coordinator.recover(Reason.BUG)
        self._pass_on()
        if self._callbacks is not None:
            left_s = coordinator.time_left_s(_clock.monotonic())
            untold = self._callbacks.finish(max(left_s, _LAST_WORDS_S))
            if untold:
                self.callbacks_dropped += untold
                _log.warning(
                    "analytics_sdk: on_outcome was too slow to hear %d outcomes", untold
                )
        coordinator.answer_all()
        move_out(self)
        for sender in self._senders.values():
            sender.stop()

    def _look_for_late_patches(self) -> None:
        """Warn, once, where the application was patched after it began to work."""
        if queue.SimpleQueue is not self._queue and not is_said("patched"):
            _log.warning(
                "analytics_sdk: gevent has patched after the first event; flush and "
                "wait block all greenlets: call patch_all() first"
            )

    def _pause(self) -> None:
        """Wait until there may be something to do."""
        coordinator = self.coordinator
        if coordinator.idle and not coordinator.kept:
            receipt = coordinator.buffer.intake.get()
            if receipt is not None:
                coordinator.core.accept([receipt], _clock.monotonic())
            return
        wait_s = coordinator.wait_s(_clock.monotonic())
        try:
            message = coordinator.mailbox.get(timeout=wait_s)
        except Empty:
            return
        if message is not None:
            coordinator.kept.append(message)

    def _dispatch(self, send: Send) -> None:
        sender = self._sender(send)
        if sender is None:
            now = _clock.monotonic()
            waiting_s = [
                each.ask.deadline_s - now for each in self.coordinator._flushes
            ]
            left_s = max(min(waiting_s), LEAST_S) if waiting_s else None
            reply = perform(send, self.plan.destinations, self._way, left_s)
            self.coordinator.kept.append(Answered(send, reply))
        else:
            sender.give(send)

    def _sender(self, send: Send) -> Sender | None:
        """Return the least busy sender of the request's destination.

        None where no thread can be started, as at the end of an interpreter.
        """
        share = MOST_SENDERS // len(self.plan.destinations)
        width = max(1, min(self.plan.settings.parallel_uploads, share))
        first = send.destination * width
        slots = {slot % MOST_SENDERS for slot in range(first, first + width)}
        known = [self._senders[slot] for slot in slots if slot in self._senders]
        if not any(not sender.busy for sender in known):
            for slot in slots - set(self._senders):
                way = Transport(self.plan.settings, user_agent=self.plan.user_agent)
                sender = Sender(self.plan, self.coordinator, way)
                name = f"analytics_sdk-sender-{slot}"
                if self._spawn(sender.run, name):
                    self.ways.append(way)
                    self._senders[slot] = sender
                    return sender
        return min(known, key=lambda sender: sender.busy, default=None)

    def _spawn(self, run: Callable[[], None], name: str) -> bool:
        return _starts(self._make(run, name))

    def _make(self, run: Callable[[], None], name: str) -> Any:
        """Return a thread; None where there must or can be none, as yet."""
        if forks_later():
            return None
        try:
            return self._Thread(target=run, name=name, daemon=True)
        except RuntimeError:
            return None

    def _pass_on(self) -> None:
        """Hand noted outcomes to the callback thread."""
        notices = self.coordinator.take_notices()
        if not notices or self.plan.on_outcome is None:
            return
        if self._callbacks is None:
            callbacks = Callbacks(self.plan.on_outcome, self.coordinator.ours)
            if not self._spawn(callbacks.run, "analytics_sdk-callbacks"):
                for notice in notices:
                    call_back(self.plan.on_outcome, self.settled(notice))
                return
            self._callbacks = callbacks
        for notice in notices:
            if not self._callbacks.offer(self.settled(notice)):
                self.callbacks_dropped += 1


def _starts(thread: Any) -> bool:
    """Start *thread*; False where the interpreter or the system cannot."""
    if thread is None:
        return False
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


def _future_on_this_loop() -> tuple[Any, Callable[[Any], None]]:
    """Return a future of the running loop, and what sets it from any thread."""
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def set_result(result: object) -> None:
        if not future.done():
            future.set_result(result)

    def notify(result: object) -> None:
        try:
            loop.call_soon_threadsafe(set_result, result)
        except RuntimeError:
            return

    return future, notify
