"""Order: which parts of the same user wait for which others.

Functions of items alone.  Items are numbered in the order in which their events were
called, so whatever waits for another one waits for a smaller number, and there is no
circle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import dropwhile
from math import inf

from analytics_sdk._head import read_head
from analytics_sdk._items import Item
from analytics_sdk.receipts import Receipt

_FEW_KEYS = 4

_ANY = b""
"""A mark that is in every event."""


def ready(barriers: Collection[Item], unsettled: Iterable[Item]) -> set[Item]:
    """Return the *barriers* before which none of their users' parts is *unsettled*."""
    first: dict[str, float] = {key: inf for item in barriers for key in item.keys}
    for item in unsettled:
        for key in item.keys:
            if item.sequence < first.get(key, -inf):
                first[key] = item.sequence
    return {
        item
        for item in barriers
        if all(first[key] >= item.sequence for key in item.keys)
    }


def walls_of(barriers: Iterable[Item]) -> dict[str, int]:
    """Return, for each user key, the number of its first unsettled barrier."""
    walls: dict[str, int] = {}
    for barrier in barriers:
        for key in barrier.keys:
            walls[key] = min(barrier.sequence, walls.get(key, barrier.sequence))
    return walls


def behind(item: Item, walls: Mapping[str, int]) -> bool:
    """Say whether *item* must wait for an earlier barrier of one of its keys."""
    return any(walls.get(key, inf) < item.sequence for key in item.keys)


def urged(items: Sequence[Item], wanted: Collection[Receipt]) -> list[Item]:
    """Return the items of *wanted* events, with all that order puts before them.

    Args:
        items: In order.
        wanted: The events that somebody waits for.
    """
    keys: set[str] = set()
    found: list[Item] = []
    for item in reversed(items):
        if item.receipt in wanted or not keys.isdisjoint(item.keys):
            keys.update(item.keys)
            found.append(item)
    return found


def with_predecessors(
    waiting: Iterable[Receipt], wanted: Collection[Receipt]
) -> set[Receipt]:
    """Return the *wanted* events that wait, with all that order puts before them.

    Args:
        waiting: Events that are not encoded yet, the last one first.
        wanted: The events that somebody waits for.
    """
    found: set[Receipt] = set()
    keys: set[str] = set()
    marks: list[bytes] = []
    for receipt in waiting:
        raw = receipt._raw
        if isinstance(raw, str):
            continue  # it has been settled
        if receipt not in wanted:
            for mark in marks:  # few: a search in bytes spares most events the parsing
                if mark in raw:
                    break
            else:
                continue
        theirs = read_head(raw).keys
        if receipt in wanted or not keys.isdisjoint(theirs):
            found.add(receipt)
            keys.update(theirs)
            # With many keys all events are parsed.
            marks = list(map(_mark, keys)) if len(keys) <= _FEW_KEYS else [_ANY]
    return found


def all_before(waiting: Iterable[Receipt], wanted: Collection[Receipt]) -> set[Receipt]:
    """Return the *wanted* events that wait, with everything called before them.

    Args:
        waiting: Events that are not encoded yet, the last one first.
        wanted: The events that somebody waits for.
    """
    return set(dropwhile(lambda receipt: receipt not in wanted, waiting))


def _mark(key: str) -> bytes:
    """Return bytes that every event of *key* holds, however it is escaped."""
    plain = key.isascii() and key.isprintable() and '"' not in key and "\\" not in key
    return key.encode() if plain else _ANY
