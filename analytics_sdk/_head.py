"""The front of an encoded event, read without parsing the rest.

The layout of an event is fixed (see `events`): its type and its user's ids come first.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from analytics_sdk.events import Event

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_TEXT = rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
_HEAD = re.compile(
    rb'\{"messageId":' + _STRING + rb',"timestamp":"[^"]*","type":"([a-z]+)"'
    rb'(?:,"userId":' + _TEXT + rb')?(?:,"anonymousId":' + _TEXT + rb")?"
    rb'(?:,"previousId":' + _TEXT + rb')?(?!,"(?:userId|anonymousId|previousId)":)'
)


class Head(NamedTuple):
    """The type of an event and the one or two user keys whose order it keeps."""

    type: str
    key: str
    joins: str


def read_head(event: Event) -> Head:
    """Return what the front of the encoded event says, without parsing the rest.

    The layout of an event is fixed (see `analytics_sdk.events`); one that is laid out
    otherwise is parsed.  Of three ids, which only an alias can have, the user's and
    the previous one count: those are what an alias joins.
    """
    found = _HEAD.match(event.raw)
    if found is None:
        payload = event.payload
        names = ("userId", "anonymousId", "previousId")
        ids = [str(payload.get(name) or "") for name in names]
        return _head(event.type, *ids)
    type_, user, anonymous, previous = found.groups(b"")
    if anonymous or previous:
        return _head(type_.decode(), _text(user), _text(anonymous), _text(previous))
    return Head(type_.decode(), _text(user), "")


def _head(type_: str, user: str, anonymous: str, previous: str) -> Head:
    key = user or previous or anonymous
    joins = anonymous if previous in ("", key) else previous
    return Head(type_, key, "" if joins == key else joins)


def _text(escaped: bytes) -> str:
    """Return the text that *escaped*, taken from between a JSON string's quotes, is."""
    if b"\\" in escaped:
        return str(json.loads(b'"' + escaped + b'"'))
    return escaped.decode()


def type_and_keys(raw: bytes) -> tuple[str, tuple[str, ...]]:
    """Read an encoded event's type and user keys without decoding all of it.

    The keys come as they stand in the JSON, escapes included: fit to be compared, not
    to be shown.  Their order is that of `Event.keys`.

    Args:
        raw: In the layout that the module describes.
    """
    match = _HEAD.match(raw)
    if match is None:
        message = "raw: not in the layout of an encoded event"
        raise ValueError(message)
    kind, *keys = match.groups()
    found = dict.fromkeys(key.decode() for key in keys if key)
    return kind.decode(), tuple(found)
