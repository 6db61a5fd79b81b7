"""The client: six calls, and what becomes of them."""

from __future__ import annotations

import atexit
import platform
import weakref
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from analytics_sdk import _clock
from analytics_sdk._config import Delivery, Memory
from analytics_sdk._context import Ambient, ambient
from analytics_sdk._encode import make_encoder
from analytics_sdk._enrich import Encoded, Enricher, Stamp, apply_plugins
from analytics_sdk._ledger import charge_of
from analytics_sdk._routing import Router
from analytics_sdk.errors import (
    ClosedError,
    ConfigError,
    QueueFullError,
    Reason,
    RefusedError,
)
from analytics_sdk.events import (
    Alias,
    Call,
    Group,
    Id,
    Identify,
    Page,
    Screen,
    Selection,
    Track,
)
from analytics_sdk.interfaces import Destination, Plugin
from analytics_sdk.receipts import (
    FlushReport,
    Outcome,
    OutcomeKind,
    Receipt,
)

if TYPE_CHECKING:
    from analytics_sdk._driver import OnOutcome
    from analytics_sdk._inline import Inline
    from analytics_sdk._stats import Stats
    from analytics_sdk._threads import Threads
    from analytics_sdk.buffers.memory import Tally

Values = Mapping[str, Any]

_STRICT_ERRORS = {Reason.QUEUE_FULL: QueueFullError, Reason.CLOSED: ClosedError}


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
        self._plugins = tuple(plugins)
        self._on_outcome = on_outcome
        self._strict = strict
        self._enabled = enabled
        self._closed = False
        self._home: Threads | Inline | None = None
        encoder = make_encoder()
        self._decode = encoder.decode
        self._router = Router(destinations, lambda value: encoder.encode(value)[0])
        library = {"name": "analytics-sdk-server", "version": __version__}
        self._enricher = Enricher(encoder, context, library)
        self._user_agent = (
            f"analytics-sdk-server/{__version__} Python/{platform.python_version()}"
        )
        self._homes: dict[str, Threads | Inline] = {}
        self._unusable = _ended(Outcome(OutcomeKind.SKIPPED, Reason.DISABLED))

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
            urgent=urgent,
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
            urgent=urgent,
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
            urgent=urgent,
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
            urgent=urgent,
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
            urgent=urgent,
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
            urgent=urgent,
        )

    # -- how a call becomes an event in the buffer -------------------------

    def _call(
        self,
        kind: type[Call],
        given: dict[str, Any],
        integrations: object,
        *,
        urgent: bool,
    ) -> Receipt:
        """Make an event of a call, choose its destinations, queue it."""
        if not self._enabled:
            return self._unusable
        home = self._home or self._open()
        tally = home.coordinator.buffer.tally()
        if self._closed:
            error = RefusedError(Reason.CLOSED, "the client is closed")
            return self._refuse(tally, error)
        around = ambient.get()
        try:
            call = _bind(kind, given, around)
        except RefusedError as error:
            return self._refuse(tally, error)
        selection, parsed = self._router.select(integrations)
        tally.unparsable_selectors += not parsed
        encoded = self._enricher.encode(
            call, _stamp(call, tally), around.context if around else {}
        )
        if self._plugins:
            answer = self._through_plugins(encoded, selection, tally)
            if isinstance(answer, Receipt):
                return answer
            encoded, selection = answer
        tally.repaired += encoded.repaired
        return self._queue(
            encoded.head + selection.tail, selection, tally, urgent=urgent
        )

    def _through_plugins(
        self, encoded: Encoded, selection: Selection, tally: Tally
    ) -> tuple[Encoded, Selection] | Receipt:
        """Show the event to the plugins; a receipt means that it ends here."""
        payload = self._decode(encoded.head + selection.tail)
        try:
            changed = apply_plugins(self._plugins, payload)
        except Exception:  # noqa: BLE001 - a plugin is foreign code
            return self._skip(tally, Reason.PLUGIN_ERROR)
        if isinstance(changed, Reason):
            return self._skip(tally, changed)
        if changed.get("integrations") != selection.integrations:
            selection, _ = self._router.select(changed.get("integrations"))
        relayed = self._enricher.relay(changed)
        return relayed._replace(repaired=relayed.repaired + encoded.repaired), selection

    def _queue(
        self, raw: bytes, selection: Selection, tally: Tally, *, urgent: bool
    ) -> Receipt:
        """Put an encoded event into the buffer, if it may go there."""
        home = self._home or self._open()
        if not selection.mask:
            return self._skip(tally, Reason.SELECTOR)
        if len(raw) > self._most_bytes(selection):
            message = f"event: {len(raw)} bytes; send less data in one event"
            return self._refuse(tally, RefusedError(Reason.TOO_LARGE, message))
        receipt = Receipt()
        receipt._raw = raw
        receipt._selection = selection
        receipt._pending = selection.mask
        receipt._outcome = receipt._outcomes = None
        receipt._sent = False
        receipt._home = home
        if not home.coordinator.buffer.offer(receipt, tally, charge_of(raw)):
            message = "queue: the memory bound is reached; raise max_bytes"
            return self._refuse(tally, RefusedError(Reason.QUEUE_FULL, message))
        if home.coordinator.ended:
            home.coordinator.sweep(Reason.CLOSED)
        if urgent:
            home.coordinator.urge(receipt)
        return receipt

    def _most_bytes(self, selection: Selection) -> int:
        """Return the size over which none of the chosen destinations takes an event."""
        most = self._delivery.max_event_bytes
        limits = [
            limit.event_bytes if getattr(destination, "verbatim", False) else None
            for index, destination in enumerate(self._destinations)
            if selection.mask >> index & 1
            for limit in destination.limits.values()
        ]
        known = [limit for limit in limits if limit is not None]
        return min(most, max(known)) if len(known) == len(limits) else most

    def _refuse(self, tally: Tally, error: RefusedError) -> Receipt:
        tally.refused[error.reason] += 1
        if self._strict:
            raise _STRICT_ERRORS.get(error.reason, type(error))(
                error.reason, str(error)
            ) from None
        return _ended(Outcome(OutcomeKind.REFUSED, error.reason, str(error)))

    def _skip(self, tally: Tally, reason: Reason) -> Receipt:
        tally.skipped[reason] += 1
        return _ended(Outcome(OutcomeKind.SKIPPED, reason))

    def _open(self) -> Threads | Inline:
        """Make and start the driver, once, without a lock."""
        from analytics_sdk._driver import Plan
        from analytics_sdk._inline import Inline
        from analytics_sdk._threads import Threads

        plan = Plan(
            self._destinations,
            self._delivery,
            self._decode,
            self._on_outcome,
            self._user_agent,
        )
        made = Inline(plan) if self._delivery.driver == "inline" else Threads(plan)
        home = self._homes.setdefault("home", made)
        if home is made:
            home.start()
            atexit.register(_close_at_exit, weakref.ref(self))
        self._home = home
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
        home = self._home
        if home is None:
            return _NOTHING
        scope = None if receipts is None else tuple(receipts)
        return home.flush(timeout, scope, close=False)

    async def aflush(
        self, timeout: float = 5.0, *, receipts: Iterable[Receipt] | None = None
    ) -> FlushReport:
        """Do as `flush` does, without blocking the event loop."""
        home = self._home
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

    def _begin_close(
        self, timeout: float | None
    ) -> tuple[Threads | Inline | None, float]:
        closed, self._closed = self._closed, True
        timeout_s = self._delivery.exit_timeout_s if timeout is None else timeout
        home = self._home
        if closed and home is not None and home.coordinator.ended:
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

        return take_stats(self._home, self._destinations, closed=self._closed)

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


def _bind(kind: type[Call], given: dict[str, Any], around: Ambient | None) -> Call:
    """Make a checked call of what was given, and of the ids around it."""
    if (
        around is not None
        and given["user_id"] is None
        and given.get("anonymous_id") is None
        and kind is not Alias
    ):
        given["user_id"] = around.user_id
        given["anonymous_id"] = around.anonymous_id
    call = kind(**given)
    call.check()
    return call


def _stamp(call: Call, tally: Tally) -> Stamp:
    """Give a call the id and the time that it lacks."""
    message_id, timestamp = tally.stamper.stamp()
    when = call.timestamp
    if when is not None:
        tally.naive_timestamps += when.tzinfo is None
        timestamp = _clock.iso_utc(when)
    return Stamp(call.message_id or message_id, timestamp)


_NOWHERE = Selection((), 0, {}, b"", {})


def _ended(outcome: Outcome) -> Receipt:
    """Return the receipt of a call that ends as it is made."""
    receipt = Receipt()
    receipt._raw = ""
    receipt._selection = _NOWHERE
    receipt._pending = 0
    receipt._outcomes = None
    receipt._outcome = outcome
    receipt._sent = False
    receipt._home = None
    return receipt


def _close_at_exit(client: weakref.ref[Client]) -> None:
    """Close a client that is still there when the process ends."""
    found = client()
    if found is not None:
        found.close()
