"""The threads beside the coordinator's: senders, and one for callbacks.

Each takes work from a queue of its own, and touches nothing of the coordinator's.
"""

from __future__ import annotations

import _thread
from queue import Empty
from typing import TYPE_CHECKING

from analytics_sdk._coordinator import Answered, Coordinator
from analytics_sdk._driver import OnOutcome, Plan, call_back, perform
from analytics_sdk._outlet import Send
from analytics_sdk._transport import Transport
from analytics_sdk.receipts import Settled

if TYPE_CHECKING:
    from queue import SimpleQueue

MOST_CALLBACKS = 10_000
"""Outcomes that may wait for a slow application; more are counted as dropped."""


class Sender:
    """A thread with a connection: takes requests, leaves answers."""

    def __init__(self, plan: Plan, coordinator: Coordinator, way: Transport) -> None:
        from queue import SimpleQueue

        self._way = way
        self._jobs: SimpleQueue[Send | None] = SimpleQueue()
        self._plan = plan
        self._coordinator = coordinator
        self._given = 0
        self._done = 0

    @property
    def busy(self) -> int:
        """How many requests it has not answered; each side counts its own."""
        return self._given - self._done

    def give(self, send: Send) -> None:
        """Queue a request; for the coordinator."""
        self._given += 1
        self._jobs.put(send)

    def stop(self) -> None:
        """Let the thread end after the requests that it has."""
        self._jobs.put(None)

    def run(self) -> None:
        """Work until told to stop; the thread's body."""
        self._coordinator.ours.add(_thread.get_ident())
        while True:
            send = self._jobs.get()
            if send is None:
                self._way.close()
                return
            reply = perform(send, self._plan.destinations, self._way)
            self._done += 1
            self._coordinator.post(Answered(send, reply))


class Callbacks:
    """The thread on which the application hears of outcomes."""

    def __init__(self, on_outcome: OnOutcome, ours: set[int]) -> None:
        from queue import SimpleQueue

        self._queue: SimpleQueue[Settled | None] = SimpleQueue()
        self._finished: SimpleQueue[None] = SimpleQueue()
        self._on_outcome = on_outcome
        self._ours = ours

    def offer(self, settled: Settled) -> bool:
        """Queue one outcome, unless the application is too far behind."""
        if self._queue.qsize() >= MOST_CALLBACKS:
            return False
        self._queue.put(settled)
        return True

    def finish(self, timeout_s: float) -> int:
        """Let the thread end, and wait until the application has heard everything.

        Returns:
            How many outcomes it had not heard of when *timeout_s* was over.
        """
        self._queue.put(None)
        try:
            self._finished.get(timeout=timeout_s)
        except Empty:
            return max(self._queue.qsize() - 1, 0)
        return 0

    def run(self) -> None:
        """Call back until told to stop; the thread's body."""
        self._ours.add(_thread.get_ident())
        while True:
            settled = self._queue.get()
            if settled is None:
                self._finished.put(None)
                return
            call_back(self._on_outcome, settled)
