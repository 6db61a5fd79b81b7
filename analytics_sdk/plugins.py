"""Plugins to use as they are: blot out, pseudonymise, sample.

A plugin is a function ``(event) -> event | None``.  It gets a private copy of the event
as plain data (dicts, lists, text, numbers, bools, None) in the layout of Segment's spec
and may change it; None drops the event::

    Client(Segment("KEY"), plugins=[redact_keys("password"), sample(0.1)])

A plugin of your own is any such function.  Where it has an attribute ``reason``, that
`Reason` is told of the events that it drops.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any, ClassVar

import attrs

from analytics_sdk.errors import ConfigError, Reason
from analytics_sdk.events import CALL_TYPES

REDACTED = "[redacted]"
SCOPES = ("properties", "traits", "context")
"""The members of an event that hold what the application says, in its own keys."""

SAMPLED_BY = ("user", "message")

Payload = dict[str, Any]
Change = Callable[[Any], Any]


def _bad(field: str, value: object, remedy: str) -> ConfigError:
    return ConfigError(f"{field}: got {type(value).__name__}; {remedy}")


def _folded(key: str) -> str:
    """Return *key* without case and separators: ``Credit-Card`` is ``creditCard``."""
    return key.casefold().replace("_", "").replace("-", "").replace(" ", "")


def _checked_keys(keys: tuple[object, ...]) -> frozenset[str]:
    if not keys:
        raise ConfigError("keys: none given; name the keys whose values to change")
    folded = set()
    for key in keys:
        if not isinstance(key, str):
            raise _bad("keys", key, "pass each key as a str")
        if not _folded(key):
            raise ConfigError("keys: one is empty; name a key")
        folded.add(_folded(key))
    return frozenset(folded)


def _scopes(event: Payload) -> Iterator[Any]:
    for name in SCOPES:
        if name in event:
            yield event[name]


@attrs.frozen(eq=False)
class _KeyChanger:
    """Changes the values of some keys, wherever they are in the scopes."""

    keys: frozenset[str]
    change: Change = attrs.field(repr=False)

    def __call__(self, event: Payload) -> Payload:
        """Change the values in *event*, and return it."""
        waiting = list(_scopes(event))
        while waiting:
            node = waiting.pop()
            if isinstance(node, dict):
                for key, value in node.items():
                    if _folded(key) in self.keys:
                        node[key] = self.change(value)
                    else:
                        waiting.append(value)
            elif isinstance(node, (list, tuple)):
                waiting.extend(node)
        return event


def redact_keys(*keys: str, replacement: str = REDACTED) -> _KeyChanger:
    """Make a plugin that replaces the values of *keys* before an event is queued.

    It looks into properties, traits and context, at any depth, also inside lists.
    Whole keys are compared, without case, underscores, hyphens and spaces, because a
    key that was missed leaks: ``credit_card`` finds ``creditCard`` and ``Credit Card``.
    The whole value goes, also where it is an object or a list.  The ids of the user and
    of the event, its name and the selector stay.

    Args:
        keys: The keys, such as ``"password"``.
        replacement: What stands in the values' place.

    Returns:
        The plugin.

    Raises:
        ConfigError: No key is given, or one is empty or no str.
    """
    if not isinstance(replacement, str):
        raise _bad("replacement", replacement, "pass a str")

    def change(value: Any) -> Any:
        del value
        return replacement

    return _KeyChanger(_checked_keys(keys), change)


def hash_keys(*keys: str, salt: str | bytes) -> _KeyChanger:
    """Make a plugin that replaces the values of *keys* by keyed hashes.

    Equal values stay equal, so that events can still be joined, and nobody without
    *salt* can try candidates.  Keys are found as `redact_keys` finds them.  A value
    becomes the hexadecimal HMAC-SHA256 of its text: white space around it is cut and
    capitals are folded, so that two spellings of an e-mail address agree; numbers and
    bools count as their JSON.  In objects and lists each value is hashed.  None stays.

    Args:
        keys: The keys, such as ``"email"``.
        salt: The secret of the hash; text counts as UTF-8.  Changing it changes every
            hash.

    Returns:
        The plugin.

    Raises:
        ConfigError: No key is given, one is empty or no str, or *salt* is empty.
    """
    import hashlib
    import hmac

    if not isinstance(salt, (str, bytes)):
        raise _bad("salt", salt, "pass a str or bytes")
    secret = salt.encode() if isinstance(salt, str) else salt
    if not secret:
        raise ConfigError("salt: empty; pass a secret")

    def change(value: Any) -> Any:
        if value is None:
            return None
        text = value if isinstance(value, str) else json.dumps(value)
        shape = text.strip().casefold().encode("utf-8", "surrogatepass")
        return hmac.new(secret, shape, hashlib.sha256).hexdigest()

    def change_leaves(value: Any) -> Any:
        if not isinstance(value, (dict, list)):
            return change(value)
        waiting: list[Any] = [value]
        while waiting:
            node = waiting.pop()
            for at, each in list(
                node.items() if isinstance(node, dict) else enumerate(node)
            ):
                if isinstance(each, (dict, list)):
                    waiting.append(each)
                else:
                    node[at] = change(each)
        return value

    return _KeyChanger(_checked_keys(keys), change_leaves)


@attrs.frozen(eq=False)
class _Sampler:
    """Keeps a share of some types of call, the same ones on every machine."""

    reason: ClassVar[Reason] = Reason.SAMPLED

    rate: float
    by: str
    types: frozenset[str]
    digest: Callable[[bytes], Any] = attrs.field(repr=False)

    def __call__(self, event: Payload) -> Payload | None:
        """Return *event* where it is in the sample."""
        if event.get("type") not in self.types or self._draw(event) < self.rate:
            return event
        return None

    def _draw(self, event: Payload) -> float:
        """Return a number from 0 to below 1 that depends on the event alone."""
        user = (event.get("userId"), event.get("anonymousId"))
        ids = (*(user if self.by == "user" else ()), event.get("messageId"))
        chosen = next((each for each in ids if each), "")
        digest = self.digest(str(chosen).encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:6], "big") / 2**48


def sample(
    rate: float, *, by: str = "user", types: Collection[str] = ("track",)
) -> _Sampler:
    """Make a plugin that keeps a share of the events and drops the rest.

    The choice depends on the id alone: every process agrees, a repeated event is
    treated like the first, and a higher *rate* keeps all that a lower one kept.

    Args:
        rate: The share to keep, from 0 (none) to 1 (all).
        by: ``user`` keeps or drops all events of a user (of the anonymous id where
            there is no user id), so that funnels stay whole; ``message`` draws for
            each event.
        types: The types of call to sample; all others are kept.

    Returns:
        The plugin; what it drops is reported as ``skipped(sampled)``.

    Raises:
        ConfigError: An argument is none of these.
    """
    import hashlib

    number = type(rate) in (int, float)
    if not number or not 0 <= rate <= 1:
        raise _bad("rate", rate, "pass a number from 0 to 1")
    if by not in SAMPLED_BY:
        raise _bad("by", by, f"use one of {', '.join(SAMPLED_BY)}")
    given: Any = types
    listed = isinstance(given, Collection) and not isinstance(given, str)
    if not listed or not all(each in CALL_TYPES for each in given):
        raise _bad("types", types, f"pass some of {', '.join(CALL_TYPES)}")
    return _Sampler(float(rate), by, frozenset(types), hashlib.sha256)
