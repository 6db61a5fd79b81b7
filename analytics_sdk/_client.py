"""The client: six calls, flush and close.

The module is longer than 400 lines because each of the six calls spells out its
arguments, for editors, type checkers and readers.
"""

from __future__ import annotations

import atexit
import platform
import weakref
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from analytics_sdk._config import Delivery, Memory
from analytics_sdk._context import ambient
from analytics_sdk._encode import make_encoder
from analytics_sdk._enrich import Enricher
from analytics_sdk._intake import Intake, ended
from analytics_sdk.errors import ConfigError, Reason
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
from analytics_sdk.receipts import FlushReport, Outcome, OutcomeKind, Receipt

if TYPE_CHECKING:
    from analytics_sdk._driver import Driver, OnOutcome
    from analytics_sdk._stats import Stats

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
        from analytics_sdk import __version__

        _check(destinations, delivery, storage, plugins)
        self._delivery = delivery or Delivery()
        self._destinations = destinations
        self._on_outcome = on_outcome
        self._enabled = enabled
        self._encoder = make_encoder()
        self._user_agent = (
            f"analytics-sdk-server/{__version__} Python/{platform.python_version()}"
        )
        self._ordinary = enabled and not plugins
        self._homes: dict[str, Driver] = {}
        self._disabled = ended(Outcome(OutcomeKind.SKIPPED, Reason.DISABLED))
        library = {"name": "analytics-sdk-server", "version": __version__}
        self._intake = Intake(
            destinations,
            self._delivery,
            self._encoder,
            Enricher(self._encoder, context, library),
            plugins=plugins,
            strict=strict,
            open_home=self._open,
        )

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
            and not urgent
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
        return self._intake.call(kind, given, integrations, urgent=bool(urgent))

    def _open(self) -> Driver:
        """Make and start the driver, once, without a lock."""
        from analytics_sdk._driver import Plan
        from analytics_sdk._inline import Inline
        from analytics_sdk._threads import Threads

        plan = Plan(
            self._destinations,
            self._delivery,
            self._encoder.decode,
            self._on_outcome,
            self._user_agent,
        )
        made = Inline(plan) if self._delivery.driver == "inline" else Threads(plan)
        home = self._homes.setdefault("home", made)
        if home is made:
            home.start()
            atexit.register(_close_at_exit, weakref.ref(self))
        return home

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
        """
        home = self._intake.home
        if home is None:
            return _NOTHING
        scope = None if receipts is None else tuple(receipts)
        return home.flush(timeout, scope, close=False)

    async def aflush(
        self, timeout: float = 5.0, *, receipts: Iterable[Receipt] | None = None
    ) -> FlushReport:
        """Do as `flush` does, without blocking the event loop."""
        home = self._intake.home
        if home is None:
            return _NOTHING
        scope = None if receipts is None else tuple(receipts)
        return await home.aflush(timeout, scope, close=False)

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
            return _NOTHING
        return home.flush(timeout_s, None, close=True)

    async def aclose(self, timeout: float | None = None) -> FlushReport:
        """Do as `close` does, without blocking the event loop."""
        home, timeout_s = self._begin_close(timeout)
        if home is None:
            return _NOTHING
        return await home.aflush(timeout_s, None, close=True)

    def _begin_close(self, timeout: float | None) -> tuple[Driver | None, float]:
        self._intake.closed = True
        timeout_s = self._delivery.exit_timeout_s if timeout is None else timeout
        home = self._intake.home
        if home is None or home.coordinator.ended:
            return None, timeout_s
        return home, timeout_s

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
        from analytics_sdk._stats import take_stats

        return take_stats(
            self._intake.home, self._destinations, closed=self._intake.closed
        )

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


_NOTHING = FlushReport(
    counts={}, by_destination={}, pending=0, held=0, stored=0, holds={}, elapsed_s=0.0
)


def _check(
    destinations: Sequence[Any],
    delivery: object,
    storage: object,
    plugins: Sequence[Any],
) -> None:
    names = [getattr(destination, "name", None) for destination in destinations]
    for destination, name in zip(destinations, names, strict=True):
        if not isinstance(destination, Destination):
            found = type(destination).__name__
            raise ConfigError(f"destinations: got {found}; pass Segment(...) or alike")
        if names.count(name) > 1:
            raise ConfigError("name: two destinations share one; give each its name=")
    if not isinstance(delivery, (Delivery, type(None))):
        found = type(delivery).__name__
        raise ConfigError(f"delivery: got {found}; pass Delivery(...)")
    if not isinstance(storage, (Memory, type(None))):
        found = type(storage).__name__
        raise ConfigError(f"storage: got {found}; pass Memory()")
    for plugin in plugins:
        if not callable(plugin):
            found = type(plugin).__name__
            raise ConfigError(f"plugins: got {found}; pass functions")


def _close_at_exit(client: weakref.ref[Client]) -> None:
    """Close a client that is still there when the process ends."""
    found = client()
    if found is not None:
        found.close()
