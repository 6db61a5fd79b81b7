"""What the surroundings of a call add to it: ids and context, per task and thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

_DEEPEST = 16


class Ambient(NamedTuple):
    """What is bound around a call.

    Args:
        user_id: Used by calls that give no id of their own.
        anonymous_id: The same.
        context: Merged under the call's own context.
        unreadable: Whether some of the context that was bound could not be read.
    """

    user_id: object = None
    anonymous_id: object = None
    context: Mapping[Any, Any] = {}
    unreadable: bool = False


ambient: ContextVar[Ambient | None] = ContextVar("analytics_sdk_ambient", default=None)


@contextmanager
def context(
    *,
    user_id: object = None,
    anonymous_id: object = None,
    context: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Bind ids and context to the calls made inside, in this task or thread.

    Contexts nest: the inner one's ids and fields win, dicts are merged, and a field
    that is None inside takes the outer one away.  Nothing raises here: a call that
    cannot use a bound id says so in its receipt, and a mapping that cannot be read is
    left out and counted.

    Args:
        user_id: For calls that give neither id.
        anonymous_id: For calls that give neither id.
        context: Fields of the Segment Spec's context, such as ``ip`` or ``page``.
    """
    outer = ambient.get() or Ambient()
    unreadable = outer.unreadable
    try:
        merged: Mapping[Any, Any] = merge(outer.context, context)
    except Exception:  # noqa: BLE001 - a caller's mapping is foreign code
        merged, unreadable = outer.context, True
    inner = Ambient(
        outer.user_id if user_id is None else user_id,
        outer.anonymous_id if anonymous_id is None else anonymous_id,
        merged,
        unreadable,
    )
    token = ambient.set(inner)
    try:
        yield
    finally:
        ambient.reset(token)


def merge(
    under: Mapping[Any, Any], over: object, depth: int = _DEEPEST
) -> dict[Any, Any]:
    """Return *under* with *over* laid on it; neither is changed.

    Args:
        under: The outer fields.
        over: The inner ones: dicts are merged, anything else replaces what is below.
            What is not a mapping counts as empty.
        depth: How deep dicts are merged; below, the inner one replaces the outer.

    Returns:
        A new dict, in which None marks what was taken away; see `without_none`.
    """
    merged = dict(under)
    if over is None or not issubclass(type(over), Mapping):
        return merged
    for key, value in over.items():  # type: ignore[attr-defined]
        below = merged.get(key)
        if type(value) is _Whole or not _is_dict(value):
            merged[key] = value
        elif below is None and key in merged:
            merged[key] = _Whole(value)
        elif _is_dict(below) and depth > 0:
            merged[key] = merge(below or {}, value, depth - 1)
        else:
            merged[key] = value
    return merged


class _Whole(dict[Any, Any]):
    """A dict laid where one was taken away: it replaces what is further below."""


def without_none(fields: Mapping[Any, Any], depth: int = _DEEPEST) -> dict[Any, Any]:
    """Return *fields* without those that are None, in the dicts inside as well."""
    return {
        key: without_none(value, depth - 1) if _is_dict(value) and depth > 0 else value
        for key, value in fields.items()
        if value is not None
    }


def _is_dict(value: object) -> bool:
    """Say whether *value* is a dict, without asking a lazy object what it is."""
    return issubclass(type(value), dict)
