"""Hypothesis strategies that several tests share."""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict, deque
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import NamedTuple

import attrs
from hypothesis import strategies as st


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    __slots__ = ()


class Point(NamedTuple):
    x: object
    y: object


@dataclasses.dataclass
class Order:
    id: object
    lines: object = None


@dataclasses.dataclass(slots=True)
class Slim:
    id: object


@attrs.define
class Customer:
    id: object


class Dumped:
    def __init__(self, content):
        self.content = content

    def model_dump(self):
        return {"content": self.content}


class Raising:
    def _raise(self, *_):
        raise ZeroDivisionError

    model_dump = __fspath__ = __str__ = __iter__ = __len__ = _raise


class Opaque:
    __slots__ = ()


any_text = st.text(st.characters(exclude_categories=()), max_size=8)
"""Text that may hold lone surrogates."""

plain_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
"""What every JSON serialiser takes as it is."""

ordinary_scalars = (
    st.datetimes()
    | st.datetimes(timezones=st.timezones())
    | st.dates()
    | st.times(timezones=st.none() | st.timezones())
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.binary(max_size=8)
    | st.binary(max_size=8).map(bytearray)
    | st.sampled_from([Colour.RED, Colour.PAIR, Level.LOW, PurePosixPath("/a/b")])
    | any_text.map(Name)
)
"""What has a rule of its own in `docs/values.md`."""

odd_scalars = (
    st.integers()
    | st.integers(2**63 - 2, 2**64 + 2)
    | st.integers(-(2**63) - 2, -(2**63) + 2)
    | st.floats()
    | any_text
    | st.complex_numbers()
    | st.builds(Opaque)
    | st.builds(Raising)
    | st.sampled_from([Opaque, len, ValueError("secret"), enum, Ellipsis])
)
"""What must be mended or marked."""

hashable = plain_scalars | odd_scalars | st.dates() | st.uuids() | st.binary(max_size=4)
keys = st.text(max_size=4) | any_text | hashable | st.tuples(hashable, hashable)


def plain_values():
    """Values that JSON has a form for."""
    return st.recursive(
        plain_scalars,
        lambda children: (
            st.lists(children, max_size=4)
            | st.dictionaries(st.text(max_size=4), children, max_size=4)
        ),
        max_leaves=12,
    )


def values():
    """Values of any kind, nested: what callers may put into properties."""
    return st.recursive(
        plain_scalars | ordinary_scalars | odd_scalars,
        lambda children: (
            st.lists(children, max_size=4)
            | st.lists(children, max_size=4).map(tuple)
            | st.lists(children, max_size=3).map(deque)
            | st.dictionaries(st.text(max_size=4), children, max_size=4)
            | st.dictionaries(keys, children, max_size=4)
            | st.dictionaries(keys, children, max_size=3).map(OrderedDict)
            | st.dictionaries(keys, children, max_size=3).map(MappingProxyType)
            | st.sets(hashable, max_size=4)
            | st.frozensets(st.integers() | st.floats(), max_size=4)
            | st.builds(Point, children, children)
            | st.builds(Order, children, children)
            | st.builds(Slim, children)
            | st.builds(Customer, children)
            | st.builds(Dumped, children)
        ),
        max_leaves=12,
    )
