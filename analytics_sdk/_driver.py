"""What every driver has: a plan, a coordinator, and being the home of receipts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import attrs

from analytics_sdk import _clock
from analytics_sdk._config import Delivery
from analytics_sdk._coordinator import Coordinator
from analytics_sdk._flushes import Flush, by_receipt, holds, summed
from analytics_sdk._outlet import Send
from analytics_sdk._process import is_said, make_page, residents
from analytics_sdk._transport import Transport
from analytics_sdk._verdict import Reply
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import Destination, TransportError
from analytics_sdk.receipts import (
    ELSEWHERE,
    FlushReport,
    Outcome,
    OutcomeKind,
    Receipt,
    Settled,
)

MOST_ALIKE = 8
"""Live clients of one configuration; more are mostly made and forgotten."""

OnOutcome: TypeAlias = Callable[[Settled], object]

_log = logging.getLogger(__name__)


class Plan(NamedTuple):
    """What a driver is made of; the same after a fork."""

    destinations: tuple[Destination, ...]
    settings: Delivery
    decode: Callable[[bytes], Any]
    on_outcome: OnOutcome | None
    user_agent: str


def perform(
    send: Send,
    destinations: Sequence[Destination],
    way: Transport,
    timeout_s: float | None = None,
) -> Reply:
    """Make one request and send it; whatever goes wrong comes back as a reply.

    Args:
        send: Which request.
        destinations: The client's.
        way: The calling thread's.
        timeout_s: Where that is less than the setting.
    """
    destination = destinations[send.destination]
    try:
        request = destination.request(
            send.route, send.parts, _clock.utc_now(), send.attempt
        )
    except Exception as error:  # noqa: BLE001 - a destination is foreign code
        message = f"request: {type(error).__name__}"
        return TransportError(Reason.BUG, maybe_sent=False, message=message)
    return way.send(request, timeout_s=timeout_s)


class Driver:
    """What both drivers share: the coordinator, and being the receipts' home."""

    stalled = False
    """Whether the driver's thread could not start, or has died."""

    def start_again(self) -> None:
        """Try to start what is stalled; nothing is, where there is no thread."""

    def is_alive(self) -> bool:
        """True while somebody takes events from the queue by themselves."""
        return True

    def __init__(self, plan: Plan) -> None:
        """Make the coordinator; start nothing."""
        self.plan = plan
        self.page = make_page()
        """Tells the process that made the driver from its children."""
        self.coordinator = Coordinator(
            plan.destinations,
            plan.settings,
            plan.decode,
            report=plan.on_outcome is not None,
        )
        self.ways: list[Transport] = []
        """All transports of the driver's threads; each is used by one of them."""
        self.callbacks_dropped = 0

    def start(self) -> None:
        """Start what has to be started; at the first event."""
        raise NotImplementedError

    def wait(self, receipt: Receipt, timeout_s: float | None) -> Outcome | None:
        """Block until *receipt* is settled; None when *timeout_s* passes first."""
        raise NotImplementedError

    def wait_async(self, receipt: Receipt) -> Generator[Any, None, Outcome]:
        """Suspend the running task until *receipt* is settled."""
        raise NotImplementedError

    def flush(
        self, timeout_s: float, receipts: tuple[Receipt, ...] | None, *, close: bool
    ) -> FlushReport:
        """Settle what is in scope within *timeout_s*, and report."""
        raise NotImplementedError

    async def aflush(
        self, timeout_s: float, receipts: tuple[Receipt, ...] | None, *, close: bool
    ) -> FlushReport:
        """Do as `flush` does, without blocking the event loop."""
        raise NotImplementedError

    def leave(self, timeout_s: float, *, close: bool) -> FlushReport:
        """Deliver what can be delivered in time; with *close*, lose the rest."""
        return self.flush(timeout_s, None, close=close)

    def retire(self, timeout_s: float, *, close: bool = True) -> None:
        """Let the coordinator deliver, and with *close* end, by itself; do not wait."""
        deadline_s = _clock.monotonic() + timeout_s
        self.coordinator.post(Flush(None, deadline_s, ignore, close))

    def look_round(self) -> None:
        """Warn, once in a process, where clients are made and never closed."""
        mine = list(map(_configuration, self.plan.destinations))
        alike = sum(
            mine == list(map(_configuration, other.plan.destinations))
            for other in residents()
            if isinstance(other, Driver)
        )
        if alike > MOST_ALIKE and not is_said("crowd"):
            _log.warning(
                "analytics_sdk: %d live clients of one configuration; "
                "make one per process and share it, or close each",
                alike,
            )

    def is_opening(self) -> bool:
        """True while a thread of ours holds locks that no forked child may inherit."""
        return any(way.opening for way in self.ways)

    def let_go(self) -> None:
        """In a forked child: give up inherited connections, without taking a lock."""
        for way in self.ways:
            way.let_go()

    def whereabouts(self, receipt: Receipt) -> Mapping[str, Outcome]:
        """Return where an unsettled receipt's event is, by destination."""
        found = self.coordinator.whereabouts(receipt)
        return found if self.page[0] else dict.fromkeys(found, ELSEWHERE)

    def elsewhere(
        self, now: float, receipts: tuple[Receipt, ...] | None, why: str
    ) -> FlushReport:
        """Return the report of a flush that could not wait, for the reason *why*."""
        if receipts is None:
            pending = self.coordinator.unsettled
        else:
            pending = sum(1 for receipt in receipts if receipt._pending)
        return attrs.evolve(
            summed(by_receipt(receipts or ())),
            pending=pending,
            holds=holds(self.coordinator.core, now),
            elapsed_s=_clock.monotonic() - now,
            note=why,
        )

    def closed(self, now: float, receipts: tuple[Receipt, ...] | None) -> FlushReport:
        """Return the report of a flush that comes after the end.

        It is true where there is nothing to flush and the end has lost nothing.
        """
        at_exit = (OutcomeKind.LOST, Reason.EXIT)
        lost = any(counts[at_exit] for counts in self.coordinator.core.ledger.counts)
        late = any(each.lost for each in self.coordinator.buffer.tallies.values())
        told = receipts is not None or not (lost or late)
        return self.elsewhere(now, receipts, "" if told else "the client is closed")

    def settled(self, notice: tuple[Receipt, int, Outcome]) -> Settled:
        """Return what `on_outcome` is told of one outcome."""
        receipt, index, outcome = notice
        name = self.coordinator.core.ledger.names[index]
        return Settled(receipt.message_id, name, outcome, outcome.reason)


def _configuration(destination: Destination) -> object:
    """Return what tells a destination from others that are set up differently."""
    if attrs.has(type(destination)):
        return type(destination), attrs.astuple(destination, recurse=False)  # type: ignore[arg-type]
    return destination


def call_back(on_outcome: OnOutcome, settled: Settled) -> None:
    """Tell the application of an outcome; what it raises is its own affair."""
    try:
        on_outcome(settled)
    except BaseException:  # noqa: BLE001 - an application's code, SystemExit too
        _log.exception("analytics_sdk: on_outcome raised")


def timed(report: FlushReport, started_s: float) -> FlushReport:
    """Return *report* with the time that the caller has waited since *started_s*."""
    return attrs.evolve(report, elapsed_s=_clock.monotonic() - started_s)


def ignore(report: FlushReport) -> None:
    """Take a report that nobody waits for."""
