"""A call becomes an encoded event: ids, time and context added, bytes laid out.

The layout is that of `events`: message id, timestamp and type first, then the user's
ids, the call's own members, the context, and the selector last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from analytics_sdk._context import merge
from analytics_sdk._encode import Encoder, quote, to_bytes
from analytics_sdk.errors import Reason
from analytics_sdk.events import Call
from analytics_sdk.interfaces import Plugin

_FIXED = ("messageId", "timestamp", "type")


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
        """Encode once what most events share."""
        self.encoder = encoder
        self._context = merge({"library": dict(library)}, context)
        self.plain_context = b',"context":' + encoder.encode(self._context)[0]

    def encode(
        self, call: Call, stamp: Stamp, surroundings: Mapping[Any, Any]
    ) -> Encoded:
        """Encode *call* with what the clock and the *surroundings* add to it."""
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
        context, mended = self._context_bytes(surroundings, call.context)
        pieces.append(context)
        return Encoded(b"".join(pieces), repaired + mended)

    def _context_bytes(
        self, surroundings: Mapping[Any, Any], own: Mapping[Any, Any] | None
    ) -> tuple[bytes, int]:
        if not surroundings and not own:
            return self.plain_context, 0
        merged = merge(merge(self._context, surroundings), own)
        piece, mended = self.encoder.fragment(merged)
        return b',"context":' + piece, mended

    def relay(self, payload: Mapping[str, Any]) -> Encoded:
        """Encode an event that a plugin has handed back as plain data."""
        names = [*_FIXED, "userId", "anonymousId", "previousId"]
        rest = [name for name in payload if name not in names and name != "context"]
        pieces: list[bytes] = []
        repaired = 0
        for name in [*names, *rest, "context"]:
            if payload.get(name) is None or name == "integrations":
                continue
            piece, mended = self.encoder.fragment(payload[name])
            key, _ = self.encoder.fragment(name)
            pieces.append(b"%b:%b" % (key, piece))
            repaired += mended
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
