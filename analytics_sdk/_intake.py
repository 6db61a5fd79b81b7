"""The way of a call into the buffer: check, route, encode, queue.

It runs on the caller's thread and belongs to no thread: nothing here waits, locks,
logs or warns, and nothing raises for what a caller passed, unless the client is
strict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from os import getpid
from typing import Any

from analytics_sdk import _clock
from analytics_sdk._config import Delivery
from analytics_sdk._context import Ambient, ambient
from analytics_sdk._driver import Driver
from analytics_sdk._encode import Encoder, quote, to_bytes
from analytics_sdk._enrich import Encoded, Enricher, Stamp, apply_plugins
from analytics_sdk._ledger import charge_of
from analytics_sdk._process import bury, move_in, watch_process
from analytics_sdk._routing import Router
from analytics_sdk.buffers.memory import Tally
from analytics_sdk.errors import ClosedError, QueueFullError, Reason, RefusedError
from analytics_sdk.events import Alias, Call, Selection
from analytics_sdk.interfaces import Destination, Plugin
from analytics_sdk.receipts import Outcome, OutcomeKind, Receipt

_STRICT_ERRORS = {Reason.QUEUE_FULL: QueueFullError, Reason.CLOSED: ClosedError}


class Intake:
    """Turns calls into queued events, for one client.

    Args:
        destinations: The client's, in the order of their bits.
        delivery: The client's settings.
        encoder: Turns values into JSON.
        enricher: Lays out events.
        plugins: The client's.
        strict: Whether a refused call raises.
        make_home: Makes the driver, at the first event and again after a fork.
    """

    def __init__(
        self,
        destinations: Sequence[Destination],
        delivery: Delivery,
        encoder: Encoder,
        enricher: Enricher,
        *,
        plugins: Sequence[Plugin],
        strict: bool,
        make_home: Callable[[], Driver],
    ) -> None:
        """Prepare; the driver is made by the first call."""
        watch_process()
        self.home: Driver | None = None
        self.closed = False
        self._destinations = destinations
        self._max_event_bytes = delivery.max_event_bytes
        self._exit_timeout_s = delivery.exit_timeout_s
        self._encoder = encoder
        self._enricher = enricher
        self._plugins = tuple(plugins)
        self._strict = strict
        self._make_home = make_home
        self._homes: dict[int, Driver] = {}
        self._router = Router(destinations, lambda value: encoder.encode(value)[0])
        self._most_bytes: dict[int, int] = {}

    def call(
        self,
        kind: type[Call],
        given: dict[str, Any],
        integrations: object,
        *,
        urgent: bool,
    ) -> Receipt:
        """Make an event of a call, choose its destinations, queue it.

        Args:
            kind: Which of the six calls.
            given: Its arguments, as they came.
            integrations: The selector, as it came.
            urgent: Whether the event goes before others.

        Raises:
            RefusedError: Only where the client is strict.
        """
        home = self.home
        if home is None or not home.page[0]:
            home = self._open()
        tally = home.coordinator.buffer.tally()
        message_id = given.get("message_id")
        try:
            if self.closed:
                raise RefusedError(Reason.CLOSED, "client: it is closed")  # noqa: TRY301
            around = ambient.get()
            call = _bind(kind, given, around)
            selection, parsed = self._router.select(integrations)
            tally.unparsable_selectors += not parsed
            stamp = _stamp(call, tally)
            encoded = self._enricher.encode(call, stamp, around)
        except RefusedError as error:
            return self._refuse(tally, _with_usage(error, kind), message_id)
        except Exception as error:  # noqa: BLE001 - arguments are foreign code
            message = f"{kind.type}: {type(error).__name__} while an argument was read"
            refusal = RefusedError(Reason.BAD_ARGUMENT, f"{message}; pass plain data")
            return self._refuse(tally, refusal, message_id)
        if self._plugins:
            answer = self._through_plugins(encoded, selection, stamp.message_id, tally)
            if isinstance(answer, Receipt):
                return answer
            encoded, selection = answer
        tally.repaired += encoded.repaired
        raw = encoded.head + selection.tail
        receipt = self._queue(home, tally, raw, selection, stamp.message_id)
        if urgent and receipt._pending:
            home.coordinator.urge(receipt)
        return receipt

    def track(
        self,
        user_id: str,
        event: str,
        properties: dict[str, Any],
        timestamp: datetime | None,
        integrations: object,
    ) -> Receipt:
        """Do as `call` does for a track call of the ordinary kind, in fewer steps.

        The bytes are the same; a test holds that.

        Args:
            user_id: Not empty.
            event: Not empty.
            properties: A plain dict.
            timestamp: As the caller gave it.
            integrations: As the caller gave it.
        """
        home = self.home
        if home is None or not home.page[0]:
            home = self._open()
        tally = home.coordinator.buffer.tally()
        selection, parsed = self._router.select(integrations)
        if not parsed:
            tally.unparsable_selectors += 1
        message_id, iso = tally.stamper.stamp()
        if timestamp is not None:
            tally.naive_timestamps += timestamp.tzinfo is None
            iso = _clock.iso_utc(timestamp)
        head, mended = to_bytes(
            f'{{"messageId":"{message_id}","timestamp":"{iso}","type":"track",'
            f'"userId":{quote(user_id)},"event":{quote(event)},"properties":'
        )
        body, repaired = self._encoder.fragment(properties)
        if mended or repaired:
            tally.repaired += mended + repaired
        tail = self._enricher.plain_context
        raw = b"".join((head, body, tail, selection.tail))
        return self._queue(home, tally, raw, selection, message_id)

    def _through_plugins(
        self, encoded: Encoded, selection: Selection, message_id: str, tally: Tally
    ) -> tuple[Encoded, Selection] | Receipt:
        """Show the event to the plugins; a receipt means that it ends here."""
        payload = self._encoder.decode(encoded.head + selection.tail)
        try:
            changed = apply_plugins(self._plugins, payload)
            if isinstance(changed, Reason):
                return self._skip(tally, changed, selection, message_id)
            relayed = self._enricher.relay(changed)
        except Exception:  # noqa: BLE001 - a plugin is foreign code
            return self._skip(tally, Reason.PLUGIN_ERROR, selection, message_id)
        if changed.get("integrations") != selection.integrations:
            selection, _ = self._router.select(changed.get("integrations"))
        return relayed._replace(repaired=relayed.repaired + encoded.repaired), selection

    def _queue(
        self,
        home: Driver,
        tally: Tally,
        raw: bytes,
        selection: Selection,
        message_id: str,
    ) -> Receipt:
        """Put an encoded event into the buffer, if it may go there."""
        mask = selection.mask
        if not mask:
            return self._skip(tally, Reason.SELECTOR, selection, message_id)
        if len(raw) > (self._most_bytes.get(mask) or self._find_most_bytes(mask)):
            message = f"event: {len(raw)} bytes; send less data in one event"
            refusal = RefusedError(Reason.TOO_LARGE, message)
            return self._refuse(tally, refusal, message_id)
        receipt = Receipt()
        receipt._raw = raw
        receipt._selection = selection
        receipt._pending = mask
        receipt._outcome = receipt._outcomes = None
        receipt._sent = 0
        receipt._home = home
        if not home.coordinator.buffer.offer(receipt, tally, charge_of(raw)):
            message = "queue: the memory bound is reached; raise max_bytes"
            refusal = RefusedError(Reason.QUEUE_FULL, message)
            return self._refuse(tally, refusal, message_id)
        if home.coordinator.ended:
            home.coordinator.sweep()
        elif home.stalled:
            home.start_again()
        return receipt

    def _find_most_bytes(self, mask: int) -> int:
        """Return the size over which none of the chosen destinations takes an event.

        Only destinations that send an event as it is can be judged here; the others
        judge by what they make of it.
        """
        limits = [
            limit.event_bytes if getattr(destination, "verbatim", False) else None
            for index, destination in enumerate(self._destinations)
            if mask >> index & 1
            for limit in destination.limits.values()
        ]
        known = [limit for limit in limits if limit is not None]
        most = self._max_event_bytes
        if len(known) == len(limits):
            most = min(most, max(known))
        self._most_bytes[mask] = most
        return most

    def _refuse(self, tally: Tally, error: RefusedError, message_id: object) -> Receipt:
        tally.refused[error.reason] += 1
        if self.home is not None:
            self.home.coordinator.buffer.nudge()
        if self._strict:
            kind = _STRICT_ERRORS.get(error.reason, RefusedError)
            raise kind(error.reason, str(error))
        outcome = Outcome(OutcomeKind.REFUSED, error.reason, str(error))
        given = message_id if type(message_id) is str else ""
        return ended(outcome, self._router.default, given)

    def _skip(
        self, tally: Tally, reason: Reason, selection: Selection, message_id: str
    ) -> Receipt:
        tally.skipped[reason] += 1
        return ended(Outcome(OutcomeKind.SKIPPED, reason), selection, message_id)

    def disabled(self) -> Receipt:
        """Return the receipt that all calls of a disabled client share."""
        outcome = Outcome(OutcomeKind.SKIPPED, Reason.DISABLED)
        return ended(outcome, self._router.default, "")

    def _open(self) -> Driver:
        """Make and start this process's driver, once, without a lock."""
        if self.home is not None:
            bury(self.home)
        made = self._make_home()
        home = self._homes.setdefault(getpid(), made)
        if not home.page[0]:  # of an ancestor that had the same process id
            home = self._homes[getpid()] = made
        if home is made and not self.closed:
            home.start()
            move_in(home, self._exit_timeout_s)
        self.home = home
        return home


def ended(outcome: Outcome, selection: Selection, message_id: str) -> Receipt:
    """Return the receipt of a call that ends as it is made."""
    receipt = Receipt()
    receipt._raw = message_id
    receipt._selection = selection
    receipt._pending = 0
    receipt._outcomes = None
    receipt._outcome = outcome
    receipt._sent = 0
    receipt._home = None
    return receipt


def _with_usage(error: RefusedError, kind: type[Call]) -> RefusedError:
    """Add to a message the call as it should be made."""
    if error.reason is Reason.CLOSED:
        return error
    return RefusedError(error.reason, f"{error}; call {kind.usage}")


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
