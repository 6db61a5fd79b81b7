"""A call becomes an encoded event: ids, time and context added, bytes laid out.

The layout is that of `events`: message id, timestamp and type first, then the user's
ids, the call's own members, the context, and the selector last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from analytics_sdk._context import Ambient, merge, without_none
from analytics_sdk._encode import Encoder, quote, to_bytes
from analytics_sdk.errors import Reason, RefusedError
from analytics_sdk.events import Call, checked_id
from analytics_sdk.interfaces import Plugin

_FIXED = ("messageId", "timestamp", "type")
_IDS = ("userId", "anonymousId", "previousId")
_LAST = frozenset({*_IDS, "context", "integrations"})


class Stamp(NamedTuple):
    """What a call gets from the clock: an id and the time, where it has none."""

    message_id: str
    timestamp: str


class Encoded(NamedTuple):
    """An encoded event without its last member, the selector.

    Args:
        head: The bytes up to and including the context.
        repaired: How many values were mended or marked.
    """

    head: bytes
    repaired: int


class Enricher:
    """Lays out events for one client.

    Args:
        encoder: Turns values into JSON.
        context: The client's own context, under that of every call.
        library: Name and version, for ``context.library``.
    """

    def __init__(
        self,
        encoder: Encoder,
        context: Mapping[str, Any] | None,
        library: Mapping[str, str],
    ) -> None:
        """Encode once what most events share; keep nothing of the caller's."""
        self.encoder = encoder
        merged = without_none(merge({"library": dict(library)}, context))
        encoded = encoder.encode(merged)[0]
        self._context: dict[str, Any] = encoder.decode(encoded)
        self.plain_context = b',"context":' + encoded

    def encode(self, call: Call, stamp: Stamp, around: Ambient | None) -> Encoded:
        """Encode *call* with what the clock and the surroundings add to it."""
        head = (
            f'{{"messageId":{quote(stamp.message_id)},"timestamp":"{stamp.timestamp}",'
            f'"type":"{call.type}"'
        )
        if call.user_id is not None:
            head += f',"userId":{quote(call.user_id)}'
        if call.anonymous_id is not None:
            head += f',"anonymousId":{quote(call.anonymous_id)}'
        start, repaired = to_bytes(head)
        pieces = [start]
        for name, value in call.fields():
            if isinstance(value, str):
                piece, mended = to_bytes(f',"{name}":{quote(value)}')
                pieces.append(piece)
            else:
                piece, mended = self.encoder.fragment(value)
                pieces += [b',"%b":' % name.encode(), piece]
            repaired += mended
        context, mended = self._context_bytes(around, call.context)
        pieces.append(context)
        return Encoded(b"".join(pieces), repaired + mended)

    def _context_bytes(
        self, around: Ambient | None, own: Mapping[Any, Any] | None
    ) -> tuple[bytes, int]:
        """Encode the three contexts laid on each other, the call's own on top."""
        if around is None and own is None:
            return self.plain_context, 0
        surroundings = around.context if around else {}
        try:
            merged = without_none(merge(merge(self._context, surroundings), own))
        except Exception:  # noqa: BLE001 - a caller's mapping is foreign code
            return self.plain_context, 1
        piece, mended = self.encoder.fragment(merged)
        unreadable = around is not None and around.unreadable
        return b',"context":' + piece, mended + unreadable

    def relay(self, payload: Mapping[Any, Any]) -> Encoded:
        """Encode an event that a plugin has handed back as plain data.

        Raises:
            RefusedError: The plugin has taken all ids away, or made one that is none.
        """
        front = {name: payload[name] for name in _FIXED}
        for name in _IDS:
            text = checked_id(payload.get(name), name)
            if text is not None:
                front[name] = text
        if len(front) == len(_FIXED):
            raise RefusedError(Reason.NO_ID, "plugin: it took all ids away")
        rest = {
            key: value
            for key, value in payload.items()
            if key not in front and key not in _LAST and value is not None
        }
        pieces: list[bytes] = []
        repaired = 0
        for members in (front, rest, {"context": payload.get("context") or {}}):
            piece, mended = self.encoder.fragment(members)
            repaired += mended
            if members:
                pieces.append(piece[1:-1])
        return Encoded(b"{" + b",".join(pieces), repaired)


def apply_plugins(
    plugins: Iterable[Plugin], payload: dict[str, Any]
) -> dict[str, Any] | Reason:
    """Pass plain data through *plugins*; a reason when one of them dropped the event.

    The message id, the timestamp and the type are put back should a plugin have
    changed them: an event keeps its identity.

    Raises:
        TypeError: A plugin returned something other than a dict or None.
        Exception: Whatever a plugin raises.
    """
    fixed = {name: payload[name] for name in _FIXED}
    for plugin in plugins:
        answer: Any = plugin(payload)
        if answer is None:
            reason = getattr(plugin, "reason", None)
            return reason if isinstance(reason, Reason) else Reason.PLUGIN_DROP
        if not isinstance(answer, dict):
            message = f"plugin: returned {type(answer).__name__}; return a dict or None"
            raise TypeError(message)
        payload = answer
    return {**payload, **fixed}
