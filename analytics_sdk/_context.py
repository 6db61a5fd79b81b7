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
    """

    user_id: object = None
    anonymous_id: object = None
    context: Mapping[Any, Any] = {}


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
    that is None inside takes the outer one away.  Nothing is checked here; a call that
    cannot use what is bound says so in its receipt.

    Args:
        user_id: For calls that give neither id.
        anonymous_id: For calls that give neither id.
        context: Fields of the Segment Spec's context, such as ``ip`` or ``page``.
    """
    outer = ambient.get() or Ambient()
    inner = Ambient(
        outer.user_id if user_id is None else user_id,
        outer.anonymous_id if anonymous_id is None else anonymous_id,
        merge(outer.context, context),
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
        over: The inner ones: dicts are merged, None takes a field away, anything else
            replaces it.  What is not a mapping counts as empty.
        depth: How deep dicts are merged; below, the inner one replaces the outer.
    """
    merged = dict(under)
    if not isinstance(over, Mapping):
        return merged
    for key, value in over.items():
        below = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(below, dict) and depth > 0:
            merged[key] = merge(below, value, depth - 1)
        else:
            merged[key] = value
    return merged
