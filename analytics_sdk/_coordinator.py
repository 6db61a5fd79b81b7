"""The coordinator: the one owner of what is unsettled.

It takes events from the buffer and messages from its mailbox, lets the pure core
decide, hands requests to a driver, and answers those who wait.  It has no thread of
its own; a driver calls `turn` from one thread at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty
from typing import Any, NamedTuple, TypeAlias

from analytics_sdk import _clock
from analytics_sdk._config import Delivery
from analytics_sdk._delivery import Core
from analytics_sdk._flushes import Flush, Scope, is_over, report
from analytics_sdk._flushes import holds as find_holds
from analytics_sdk._ledger import Epoch
from analytics_sdk._outlet import Send
from analytics_sdk._reporter import Reporter
from analytics_sdk._verdict import Now, Reply
from analytics_sdk.buffers.memory import RING_ALWAYS_S, MemoryBuffer
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import Destination
from analytics_sdk.receipts import (
    QUEUED,
    Outcome,
    Receipt,
)

SLICE = 128
"""Events handled in one go, before the interpreter is offered to the host again."""

NAP_S = 2e-5
MOST_WAIT_S = 1.0


class Answered(NamedTuple):
    """A request's answer, or why there is none."""

    send: Send
    reply: Reply


class Watch(NamedTuple):
    """Somebody waits for a receipt; *notify* must neither block nor raise."""

    receipt: Receipt
    notify: Callable[[], None]


class Unwatch(NamedTuple):
    """Somebody has stopped waiting."""

    receipt: Receipt
    notify: Callable[[], None]


class Urge(NamedTuple):
    """An event should go before others."""

    receipt: Receipt


Message: TypeAlias = Answered | Watch | Unwatch | Urge | Flush


class Coordinator:
    """Owns the core and everything that waits for it.

    Args:
        destinations: In the order of their bits.
        settings: The client's.
        decode: Parses encoded events.
        report: Whether outcomes go to `take_notices`.

    Fields without a remark are the driver's thread's own.
    """

    def __init__(
        self,
        destinations: Sequence[Destination],
        settings: Delivery,
        decode: Callable[[bytes], Any],
        *,
        report: bool,
    ) -> None:
        """Make queues and books; start nothing."""
        from queue import SimpleQueue

        self.ours: set[int] = set()
        """Identities of the client's threads; each adds its own."""
        self.mailbox: SimpleQueue[Message | None] = SimpleQueue()
        self.core = Core(destinations, settings, report=report, decode=decode)
        self.buffer = MemoryBuffer(settings, self.core.ledger, self.ring, self.ours)
        self.ended = False
        """Set once, after which nothing is taken from the buffer any more."""
        self.over = False
        """Set once, after which nobody waits for a report any more."""
        self.kept: list[Message] = []
        """Messages that the driver has come by while it waited."""
        self._settings = settings
        self._turned_s = float("-inf")
        self._urgent: list[Receipt] = []
        self._reporter = Reporter()
        self._flushes: list[Scope] = []
        self._watchers: dict[Receipt, list[Callable[[], None]]] = {}

    # -- from any thread ---------------------------------------------------

    def ring(self) -> None:
        """Wake the coordinator where it waits for the mailbox; never blocks."""
        self.mailbox.put(None)

    def post(self, message: Message) -> None:
        """Leave a message, and wake the coordinator wherever it waits."""
        self.mailbox.put(message)
        self.buffer.intake.put(None)
        if self.ended:
            self._answer_late()

    def urge(self, receipt: Receipt) -> None:
        """Let an event go before others."""
        self.post(Urge(receipt))

    def whereabouts(self, receipt: Receipt) -> Mapping[str, Outcome]:
        """Return where an unsettled receipt's event is, as of a moment ago."""
        now = _clock.monotonic()
        names = self.core.ledger.names
        pending = receipt._pending
        holds = find_holds(self.core, now)
        return {
            name: holds.get(name, QUEUED)
            for index, name in enumerate(names)
            if pending >> index & 1
        }

    @property
    def unsettled(self) -> int:
        """How many accepted events some destination has not settled."""
        tallies = list(self.buffer.tallies.values())
        accepted = sum(tally.accepted - tally.lost_events for tally in tallies)
        return max(accepted - self.core.ledger.settled_events, 0)

    # -- the driver's thread -----------------------------------------------

    @property
    def idle(self) -> bool:
        """True when only a new event or message can bring work."""
        return not self.core.ledger.unsettled and not self._flushes

    def wait_s(self, now: float) -> float:
        """Return how long the driver may wait for the mailbox after a `turn`.

        What came due since the turn began is due at once.
        """
        times = [scope.ask.deadline_s for scope in self._flushes]
        due_s = self.core.next_due_s(self._turned_s)
        if due_s is not None:
            times.append(due_s)
        linger_s = self._settings.linger_s
        longest_s = linger_s if RING_ALWAYS_S < linger_s < MOST_WAIT_S else MOST_WAIT_S
        return min([longest_s, *(max(time - now, 0.0) for time in times)])

    def turn(self, now: float) -> list[Send]:
        """Take in what has arrived and return the requests that should leave.

        Args:
            now: Monotonic seconds.
        """
        self._turned_s = now
        messages = deque(self._messages())
        try:
            self._take_in(now)
            while messages:
                self._handle(messages.popleft(), now)
        finally:
            self.kept.extend(messages)
        self._pull()
        self.core.tick(now)
        while self.core.prepare(SLICE):
            self._nap()
        sends = self.core.sends(now)
        self._tell_watchers()
        self._finish_flushes(now)
        self.look(now)
        return sends

    def take_notices(self) -> list[tuple[Receipt, int, Outcome]]:
        """Return the outcomes noted since the last time."""
        notices = self.core.ledger.notices
        self.core.ledger.notices = []
        return notices

    def end(self, reason: Reason) -> None:
        """Settle everything as lost, with what slips in meanwhile; say so in the log.

        Who waits for a report is answered by `answer_all`, when the application has
        been told.
        """
        now = _clock.monotonic()
        self._take_in(now)
        self.ended = True
        self.sweep()
        self.core.close(reason)
        self._tell_watchers()
        self.look(now, last=True)

    def time_left_s(self, now: float) -> float:
        """Return how long those who wait for reports go on waiting at most."""
        deadlines = [scope.ask.deadline_s for scope in self._flushes]
        return max(deadlines, default=now) - now

    def answer_all(self) -> None:
        """After the end: answer everybody who waits for a report."""
        now = _clock.monotonic()
        for scope in self._flushes:
            self._answer(scope, now)
        self._flushes.clear()
        self._answer_late()
        self.over = True

    def recover(self, reason: Reason) -> None:
        """After a bug: settle everything as lost for *reason*, and tell everybody."""
        now = _clock.monotonic()
        self.core.close(reason)
        self._tell_watchers()
        for scope in self._flushes:
            self._answer(scope, now)
        self._flushes.clear()

    def _answer_late(self) -> None:
        """After the end: answer what has come too late; any thread may do this."""
        now = _clock.monotonic()
        for message in self._messages():
            if isinstance(message, Watch):
                message.notify()
            elif isinstance(message, Flush):
                message.notify(report(self.core, Scope(message, (), now), now))

    def sweep(self) -> None:
        """After the end: settle what a call has put in after the last look.

        Any thread may do this: each event is popped by one thread, which settles it in
        its own tally.
        """
        tally = self.buffer.tally()
        try:
            while True:
                receipt = self.buffer.intake.get_nowait()
                if receipt is not None:
                    tally.lose(receipt, self.core.ledger.names)
        except Empty:
            return

    def look(self, now: float, *, last: bool = False) -> None:
        """Let the reporter look at the books."""
        tallies = list(self.buffer.tallies.values())
        holds = find_holds(self.core, now)
        self._reporter.look(now, self.core.ledger, tallies, holds, last=last)

    def _messages(self) -> list[Message]:
        found, self.kept = self.kept, []
        try:
            while True:
                message = self.mailbox.get_nowait()
                if message is not None:
                    found.append(message)
        except Empty:
            return found

    def _take_in(self, now: float) -> None:
        """Take over what is in the buffer now; what comes meanwhile waits its turn."""
        left = self.buffer.intake.qsize()
        while left > 0:
            self.core.accept(self.buffer.take(min(left, SLICE)), now)
            left -= SLICE
            if left > 0:
                self._nap()

    def _nap(self) -> None:
        """Let the host's threads run, unless somebody waits or memory runs out."""
        crowded = self.buffer.unsettled_bytes * 2 >= self._settings.max_bytes
        if not crowded and not self._flushes:
            _clock.sleep(NAP_S)

    def _handle(self, message: Message, now: float) -> None:
        if isinstance(message, Answered):
            self.core.replied(message.send, message.reply, Now(now, _clock.jitter()))
        elif isinstance(message, Urge):
            self._urgent.append(message.receipt)
        elif isinstance(message, Watch):
            self._watch(message)
        elif isinstance(message, Unwatch):
            self._unwatch(message)
        else:
            self._begin_flush(message, now)

    def _pull(self) -> None:
        """Let the events go first that have become urgent since the last turn."""
        if self._urgent:
            urgent, self._urgent = tuple(self._urgent), []
            self.core.pull(urgent)

    def _watch(self, watch: Watch) -> None:
        if not watch.receipt._pending:
            watch.notify()
            return
        self._watchers.setdefault(watch.receipt, []).append(watch.notify)
        self.core.ledger.watched.add(watch.receipt)
        self._urgent.append(watch.receipt)

    def _unwatch(self, unwatch: Unwatch) -> None:
        waiting = self._watchers.get(unwatch.receipt, [])
        if unwatch.notify in waiting:
            waiting.remove(unwatch.notify)
        if not waiting and self._watchers.pop(unwatch.receipt, None) is not None:
            self.core.ledger.watched.discard(unwatch.receipt)

    def _tell_watchers(self) -> None:
        finals = self.core.ledger.finals
        if finals:
            self.core.ledger.finals = []
            for receipt in finals:
                for notify in self._watchers.pop(receipt, ()):
                    notify()

    # -- flushing ----------------------------------------------------------

    def _begin_flush(self, ask: Flush, now: float) -> None:
        epochs: tuple[Epoch, ...] = ()
        if ask.receipts is None:
            epochs = self.core.ledger.turn_epoch()
            self.core.rush(now)
        else:
            self._urgent += [each for each in ask.receipts if each._pending]
        self._flushes.append(Scope(ask, epochs, now))

    def _finish_flushes(self, now: float) -> None:
        """Answer the flushes for which waiting longer would change nothing."""
        for scope in [
            scope for scope in self._flushes if is_over(self.core, scope, now)
        ]:
            if self.ended:
                return
            if scope.ask.closing:
                self.end(Reason.EXIT)
            else:
                self._flushes.remove(scope)
                self._answer(scope, now)

    def _answer(self, scope: Scope, now: float) -> None:
        scope.ask.notify(report(self.core, scope, now))
        self.core.ledger.drop_epochs(scope.epochs)
