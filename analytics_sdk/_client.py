"""The client: six calls, flush and close.

The module is longer than 400 lines because each of the six calls spells out its
arguments, for editors, type checkers and readers.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any

import attrs
from typing_extensions import Self

from analytics_sdk._config import Delivery, Memory
from analytics_sdk._context import ambient
from analytics_sdk._driver import Driver, OnOutcome, Plan
from analytics_sdk._encode import make_encoder
from analytics_sdk._enrich import Enricher
from analytics_sdk._flushes import by_receipt, summed
from analytics_sdk._inline import Inline
from analytics_sdk._intake import Intake
from analytics_sdk._process import install_signal_handlers
from analytics_sdk._stats import Stats, take_stats
from analytics_sdk._threads import Threads
from analytics_sdk._version import __version__
from analytics_sdk.errors import ConfigError
from analytics_sdk.events import (
    Alias,
    Call,
    Group,
    Id,
    Identify,
    Page,
    Screen,
    Track,
)
from analytics_sdk.interfaces import Destination, Plugin
from analytics_sdk.receipts import FlushReport, Receipt

Values = Mapping[str, Any]


class Client:
    """Sends events to any number of destinations, and keeps a receipt for each.

    The client starts nothing before its first event, and may be used from any number
    of threads and tasks.  It is a context manager, sync and async: leaving closes it.

    Args:
        destinations: Where events go, unless a call's *integrations* says otherwise.
        delivery: How they are held, batched, sent and given up on.
        storage: Where they wait.
        context: Fields for the context of every event.
        plugins: Functions that see every event as plain data, in order, and may
            change or drop it.
        on_outcome: Told of final outcomes, of failures alone unless
            ``Delivery(report="all")``; runs on a thread of its own.
        strict: Whether a call that is refused raises `RefusedError`; for tests.
        enabled: False makes every call do nothing.

    Raises:
        ConfigError: Two destinations share a name, or an argument is of a wrong type.
    """

    def __init__(
        self,
        *destinations: Destination,
        delivery: Delivery | None = None,
        storage: Memory | None = None,
        context: Values | None = None,
        plugins: Sequence[Plugin] = (),
        on_outcome: OnOutcome | None = None,
        strict: bool = False,
        enabled: bool = True,
    ) -> None:
        _check(
            destinations,
            delivery=delivery,
            storage=storage,
            context=context,
            plugins=plugins,
            on_outcome=on_outcome,
        )
        self._delivery = delivery or Delivery()
        self._destinations = destinations
        self._enabled = enabled
        self._encoder = make_encoder()
        self._ordinary = enabled and not plugins
        library = {"name": "analytics-sdk-server", "version": __version__}
        plan = Plan(
            destinations,
            self._delivery,
            self._encoder.decode,
            on_outcome,
            f"analytics-sdk-server/{__version__} Python/{platform.python_version()}",
        )
        self._intake = Intake(
            destinations,
            self._delivery,
            self._encoder,
            Enricher(self._encoder, context, library),
            plugins=plugins,
            strict=strict,
            make_home=partial(_make_driver, plan),
        )
        self._disabled = self._intake.disabled()

    def __repr__(self) -> str:
        """Show the destinations by name, and nothing of their keys."""
        names = ", ".join(destination.name for destination in self._destinations)
        return f"<Client {names or 'without destinations'}>"

    # -- the six calls -----------------------------------------------------

    def identify(
        self,
        user_id: Id | None = None,
        traits: Values | None = None,
        *,
        anonymous_id: Id | None = None,
        context: Values | None = None,
        timestamp: datetime | None = None,
        integrations: Values | None = None,
        message_id: str | None = None,
        urgent: bool = False,
    ) -> Receipt:
        """Say who a user is: record *traits* of them.

        Args:
            user_id: Who; a str, int or UUID.
            traits: What is known of them, such as ``email`` or ``plan``.
            anonymous_id: The id they had before they were known; with *user_id*, both
                are stitched together.
            context: Fields laid over the client's and the surrounding context.
            timestamp: When it happened; now by default, naive ones count as UTC.
            integrations: Which destinations get it: ``{"All": False, "Amplitude":
                True}``.
            message_id: An id of your own, 1 to 100 printable characters: events with
                the same id count once.
            urgent: Whether it goes before other users' events.

        Returns:
            The event's receipt.
        """
        return self._call(
            Identify,
            {
                "user_id": user_id,
                "traits": traits,
                "anonymous_id": anonymous_id,
                "context": context,
                "timestamp": timestamp,
                "message_id": message_id,
            },
            integrations,
            urgent,
        )

    def track(
        self,
        user_id: Id | None = None,
        event: str | None = None,
        properties: Values | None = None,
        *,
        anonymous_id: Id | None = None,
        context: Values | None = None,
        timestamp: datetime | None = None,
        integrations: Values | None = None,
        message_id: str | None = None,
        urgent: bool = False,
    ) -> Receipt:
        """Say what a user did: record *event* with its *properties*.

        Args:
            user_id: Who; a str, int or UUID.
            event: What they did, such as ``Order Completed``.
            properties: The circumstances, such as ``revenue``.
            anonymous_id: See `identify`, as for all that follow.
            context: Fields laid over the client's and the surrounding context.
            timestamp: When it happened.
            integrations: Which destinations get it.
            message_id: An id of your own.
            urgent: Whether it goes before other users' events.

        Returns:
            The event's receipt.
        """
        if (
            self._ordinary
            and type(user_id) is str
            and user_id
            and type(event) is str
            and event
            and type(properties) is dict
            and anonymous_id is None
            and context is None
            and message_id is None
            and (timestamp is None or type(timestamp) is datetime)
            and urgent is False
            and ambient.get() is None
            and not self._intake.closed
        ):
            return self._intake.track(
                user_id, event, properties, timestamp, integrations
            )
        return self._call(
            Track,
            {
                "user_id": user_id,
                "event": event,
                "properties": properties,
                "anonymous_id": anonymous_id,
                "context": context,
                "timestamp": timestamp,
                "message_id": message_id,
            },
            integrations,
            urgent,
        )

    def page(
        self,
        user_id: Id | None = None,
        category: str | None = None,
        name: str | None = None,
        properties: Values | None = None,
        *,
        anonymous_id: Id | None = None,
        context: Values | None = None,
        timestamp: datetime | None = None,
        integrations: Values | None = None,
        message_id: str | None = None,
        urgent: bool = False,
    ) -> Receipt:
        """Say which page a user saw.

        Args:
            user_id: Who; a str, int or UUID.
            category: The page's category.
            name: The page's name.
            properties: Such as ``path``, ``url``, ``title``, ``referrer``.
            anonymous_id: See `identify`, as for all that follow.
            context: Fields laid over the client's and the surrounding context.
            timestamp: When it happened.
            integrations: Which destinations get it.
            message_id: An id of your own.
            urgent: Whether it goes before other users' events.

        Returns:
            The event's receipt.
        """
        return self._call(
            Page,
            {
                "user_id": user_id,
                "category": category,
                "name": name,
                "properties": properties,
                "anonymous_id": anonymous_id,
                "context": context,
                "timestamp": timestamp,
                "message_id": message_id,
            },
            integrations,
            urgent,
        )

    def screen(
        self,
        user_id: Id | None = None,
        category: str | None = None,
        name: str | None = None,
        properties: Values | None = None,
        *,
        anonymous_id: Id | None = None,
        context: Values | None = None,
        timestamp: datetime | None = None,
        integrations: Values | None = None,
        message_id: str | None = None,
        urgent: bool = False,
    ) -> Receipt:
        """Say which screen of an app a user saw; the arguments are those of `page`."""
        return self._call(
            Screen,
            {
                "user_id": user_id,
                "category": category,
                "name": name,
                "properties": properties,
                "anonymous_id": anonymous_id,
                "context": context,
                "timestamp": timestamp,
                "message_id": message_id,
            },
            integrations,
            urgent,
        )

    def group(
        self,
        user_id: Id | None = None,
        group_id: Id | None = None,
        traits: Values | None = None,
        *,
        anonymous_id: Id | None = None,
        context: Values | None = None,
        timestamp: datetime | None = None,
        integrations: Values | None = None,
        message_id: str | None = None,
        urgent: bool = False,
    ) -> Receipt:
        """Say which group a user belongs to.

        Args:
            user_id: Who; a str, int or UUID.
            group_id: The group, such as an account's id.
            traits: What is known of the group.
            anonymous_id: See `identify`, as for all that follow.
            context: Fields laid over the client's and the surrounding context.
            timestamp: When it happened.
            integrations: Which destinations get it.
            message_id: An id of your own.
            urgent: Whether it goes before other users' events.

        Returns:
            The event's receipt.
        """
        return self._call(
            Group,
            {
                "user_id": user_id,
                "group_id": group_id,
                "traits": traits,
                "anonymous_id": anonymous_id,
                "context": context,
                "timestamp": timestamp,
                "message_id": message_id,
            },
            integrations,
            urgent,
        )

    def alias(
        self,
        previous_id: Id | None = None,
        user_id: Id | None = None,
        *,
        context: Values | None = None,
        timestamp: datetime | None = None,
        integrations: Values | None = None,
        message_id: str | None = None,
        urgent: bool = False,
    ) -> Receipt:
        """Say that *user_id* continues *previous_id*, for vendors that need it.

        Args:
            previous_id: The id that the user had.
            user_id: The id that the user has now.
            context: See `identify`, as for all that follow.
            timestamp: When it happened.
            integrations: Which destinations get it.
            message_id: An id of your own.
            urgent: Whether it goes before other users' events.

        Returns:
            The event's receipt.
        """
        return self._call(
            Alias,
            {
                "previous_id": previous_id,
                "user_id": user_id,
                "context": context,
                "timestamp": timestamp,
                "message_id": message_id,
            },
            integrations,
            urgent,
        )

    def _call(
        self,
        kind: type[Call],
        given: dict[str, Any],
        integrations: object,
        urgent: object,
    ) -> Receipt:
        if not self._enabled:
            return self._disabled
        return self._intake.call(kind, given, integrations, urgent=urgent is True)

    def _home(self) -> Driver | None:
        """Return the driver, if this process has one yet."""
        home = self._intake.home
        return home if home is not None and home.page[0] else None

    # -- settling ----------------------------------------------------------

    def flush(
        self, timeout: float = 5.0, *, receipts: Iterable[Receipt] | None = None
    ) -> FlushReport:
        """Deliver now what was accepted before, and say what became of it.

        It returns as soon as nothing more can be settled before the deadline: a
        vendor that is known to be away costs milliseconds.

        Args:
            timeout: Seconds to wait at most.
            receipts: Only these events are waited for, and go before all others; a
                payment webhook has no business with strangers' events.

        Returns:
            What became of each event in scope.

        Raises:
            TypeError: Something in *receipts* is no receipt.
        """
        timeout_s = _seconds(timeout)
        home = self._home()
        scope, foreign = _scope(receipts, home)
        if home is None:
            return _with_foreign(summed(by_receipt(scope or ())), foreign)
        return _with_foreign(home.flush(timeout_s, scope, close=False), foreign)

    async def aflush(
        self, timeout: float = 5.0, *, receipts: Iterable[Receipt] | None = None
    ) -> FlushReport:
        """Do as `flush` does, without blocking the event loop."""
        timeout_s = _seconds(timeout)
        home = self._home()
        scope, foreign = _scope(receipts, home)
        if home is None:
            return _with_foreign(summed(by_receipt(scope or ())), foreign)
        return _with_foreign(await home.aflush(timeout_s, scope, close=False), foreign)

    def close(self, timeout: float | None = None) -> FlushReport:
        """Deliver what can be delivered, then end; calls after it are refused.

        Args:
            timeout: Seconds to wait at most; `Delivery.exit_timeout_s` by default.
                What is left then ends as ``lost(exit)``.

        Returns:
            What became of the events that were waiting.
        """
        home, timeout_s = self._begin_close(timeout)
        if home is None:
            return summed({})
        return home.flush(timeout_s, None, close=True)

    async def aclose(self, timeout: float | None = None) -> FlushReport:
        """Do as `close` does, without blocking the event loop."""
        home, timeout_s = self._begin_close(timeout)
        if home is None:
            return summed({})
        return await home.aflush(timeout_s, None, close=True)

    def _begin_close(self, timeout: float | None) -> tuple[Driver | None, float]:
        self._intake.closed = True
        own_s = self._delivery.exit_timeout_s
        timeout_s = own_s if timeout is None else _seconds(timeout)
        home = self._home()
        if home is None or home.coordinator.ended:
            return None, timeout_s
        return home, timeout_s

    def install_signal_handlers(self, *signals: int) -> None:
        """Deliver when a signal ends a process that runs no exit hooks.

        For scripts, and servers such as waitress.  A handler that is there already is
        called after the delivery; otherwise the process ends by the signal, as it would
        have.  All clients of the process take part.

        Args:
            signals: Such as ``signal.SIGINT``; SIGTERM and SIGHUP by default.  One
                that is ignored, or handled outside Python, is left alone.

        Raises:
            ValueError: This is not the main thread, which alone may do this.
        """
        install_signal_handlers(*signals)

    def __del__(self) -> None:
        """Let what a dropped client has queued be delivered, without waiting."""
        intake: Intake | None = getattr(self, "_intake", None)
        if intake is None or intake.closed:
            return
        home = intake.home
        if home is not None and home.page[0] and not home.coordinator.ended:
            home.retire(self._delivery.exit_timeout_s)

    def __reduce__(self) -> str:
        """Refuse: keys and queues do not travel; make the client where it is used."""
        message = (
            "a Client cannot be pickled or copied: its keys and its queue belong to "
            "this process; make one in the other process, or use get_client() there"
        )
        raise TypeError(message)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the client."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the client."""
        await self.aclose()

    # -- looking -----------------------------------------------------------

    def stats(self) -> Stats:
        """Return counts and states as of now; costs microseconds, waits for nobody."""
        return take_stats(self._home(), self._destinations, closed=self._intake.closed)

    @property
    def healthy(self) -> bool:
        """True while every destination takes events and there is room for more."""
        return self.stats().healthy

    @classmethod
    def from_env(cls, **settings: Any) -> Client:
        """Make a client from ``ANALYTICS_SDK_…`` variables of the environment.

        Args:
            settings: Arguments of `Client`, which win over the environment.

        Returns:
            A client; a disabled one, with a warning, where no destination is set.

        Raises:
            ConfigError: A variable holds something that it cannot mean.
        """
        from analytics_sdk._environment import client_arguments

        destinations, found = client_arguments()
        return cls(*destinations, **{**found, **settings})


def _make_driver(plan: Plan) -> Driver:
    """Make the driver that the settings ask for."""
    return Inline(plan) if plan.settings.driver == "inline" else Threads(plan)


def _check(
    destinations: Sequence[Any],
    *,
    delivery: object,
    storage: object,
    context: object,
    plugins: Any,
    on_outcome: object,
) -> None:
    """Hold the constructor's arguments to their types.

    Raises:
        ConfigError: One of them is something else.
    """
    for destination in destinations:
        if not isinstance(destination, Destination):
            raise _bad("destinations", destination, "pass Segment(...) or alike")
    if not isinstance(delivery, (Delivery, type(None))):
        raise _bad("delivery", delivery, "pass Delivery(...)")
    if not isinstance(storage, (Memory, type(None))):
        raise _bad("storage", storage, "pass Memory()")
    if not isinstance(context, (Mapping, type(None))):
        raise _bad("context", context, "pass a dict")
    if not isinstance(plugins, (list, tuple)):
        raise _bad("plugins", plugins, "pass a list of functions")
    for plugin in plugins:
        if not callable(plugin):
            raise _bad("plugins", plugin, "pass functions")
    if on_outcome is not None and not callable(on_outcome):
        raise _bad("on_outcome", on_outcome, "pass a function")


def _bad(name: str, value: object, remedy: str) -> ConfigError:
    return ConfigError(f"{name}: got {type(value).__name__}; {remedy}")


def _seconds(timeout: object) -> float:
    """Return a time-out as seconds from 0 to `_LONGEST_S`.

    Raises:
        TypeError: It is no number.
    """
    if type(timeout) not in (int, float):
        found = type(timeout).__name__
        raise TypeError(f"timeout: got {found}; pass seconds as a number")
    if not timeout > 0:  # type: ignore[operator]
        return 0.0
    return float(min(timeout, _LONGEST_S))  # type: ignore[call-overload]


_LONGEST_S = 1e6
"""The longest time-out, eleven days: what waits takes no infinity."""


def _is_receipt(value: object) -> bool:
    return isinstance(value, Receipt)


def _scope(
    receipts: Iterable[Receipt] | None, home: Driver | None
) -> tuple[tuple[Receipt, ...] | None, int]:
    """Return the receipts that this process can settle, and how many it cannot."""
    if receipts is None:
        return None, 0
    given = tuple(receipts)
    strange = [each for each in given if not _is_receipt(each)]
    if strange:
        found = type(strange[0]).__name__
        raise TypeError(f"receipts: got {found}; pass what the calls returned")
    ours = tuple(each for each in given if not each._pending or each._home is home)
    return ours, len(given) - len(ours)


def _with_foreign(report: FlushReport, foreign: int) -> FlushReport:
    """Add to *report* the receipts that another process, or client, has to settle."""
    if not foreign:
        return report
    note = f"{foreign} receipts belong to another client or process"
    return attrs.evolve(report, pending=report.pending + foreign, note=note)
