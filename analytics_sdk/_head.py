"""The front of an encoded event, read without parsing the rest.

The layout of an event is fixed (see `events`): its type and its user's ids come first.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_TEXT = rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
_HEAD = re.compile(
    rb'\{"messageId":' + _STRING + rb',"timestamp":"[^"]*","type":"([a-z]+)"'
    rb'(?:,"userId":' + _TEXT + rb')?(?:,"anonymousId":' + _TEXT + rb")?"
    rb'(?:,"previousId":' + _TEXT + rb')?(?!,"(?:userId|anonymousId|previousId)":)'
)


class Head(NamedTuple):
    """The type of an event, and the user keys whose order it keeps.

    Args:
        type: One of `CALL_TYPES`.
        keys: Of three ids, which only an alias can have, the first two are those that
            the alias joins: the user's and the previous one.
    """

    type: str
    keys: tuple[str, ...]


def read_head(raw: bytes) -> Head:
    """Return what the front of an encoded event says, without parsing the rest.

    An event that is laid out otherwise, such as one from elsewhere, is parsed.
    """
    found = _HEAD.match(raw)
    if found is None:
        payload = json.loads(raw)
        names = ("userId", "previousId", "anonymousId")
        ids = [str(payload.get(name) or "") for name in names]
        return Head(str(payload.get("type", "")), _distinct(*ids))
    type_, user, anonymous, previous = found.groups(b"")
    if anonymous or previous:
        keys = _distinct(_text(user), _text(previous), _text(anonymous))
        return Head(type_.decode(), keys)
    return Head(type_.decode(), (_text(user),) if user else ())


def _distinct(*ids: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for each in ids if each))


def _text(escaped: bytes) -> str:
    """Return the text that *escaped*, taken from between a JSON string's quotes, is."""
    if b"\\" in escaped:
        return str(json.loads(b'"' + escaped + b'"'))
    return escaped.decode()
