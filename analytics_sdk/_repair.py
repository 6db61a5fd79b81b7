"""What a value that is not plain JSON becomes; `docs/values.md` is its table.

Two tools. `unfold` takes a value one step closer to JSON; the C serialisers call it as
their ``default`` hook. `Walk` goes through a whole value in Python, and is needed only
after the C pass has refused it: it mends what `unfold` cannot and leaves marks.

No method of an unknown object is called: its class alone decides. Not even `isinstance`
is used, for that asks the object for ``__class__``, which makes a lazy object load.
"""

from __future__ import annotations

import binascii
import datetime as dt
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from itertools import islice
from types import MemberDescriptorType
from typing import Any, Final

MARKER: Final = "$unserializable"
MAX_DEPTH: Final = 254
"""Levels of lists and dicts that orjson accepts; the same is asked of `json`."""
MAX_VALUES: Final = 524_288
"""Values a `Walk` visits: 1 MiB, the largest event, has room for no more of them."""
MAX_ELEMENTS: Final = 10_000
"""Length up to which ranges, arrays and foreign mappings are unfolded."""
_MAX_LINKS: Final = 16
_MAX_CLASS_CHARS: Final = 200
_ATTEMPTS: Final = 3
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1


class RefusalError(TypeError):
    """There is no rule for the value, or its rule has found a limit.

    Args:
        members: Those of a set that has no natural order: a `Walk` can sort them.
    """

    def __init__(self, members: list[object] | None = None) -> None:
        super().__init__()
        self.members = members


def marker(cause: str) -> dict[str, str]:
    """Return what stands in the place of a value that could not be encoded."""
    return {MARKER: cause}


def mend(text: str) -> str:
    """Return *text* as valid Unicode.

    A surrogate pair becomes the character that it stands for, a lone half U+FFFD.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def dump_plain(plain: object) -> str:
    """Return compact JSON text of a value that a `Walk` has made plain."""
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def unfold(value: object) -> object:
    """Return *value* one step closer to JSON; its children stay as they are.

    Args:
        value: Anything that is not exactly a plain JSON value.

    Returns:
        A plain scalar, a list, a dict with any keys, or something to unfold again.

    Raises:
        RefusalError: There is no rule for the class, or the rule has found a limit.
        Exception: Whatever the value's own code raised.
    """
    kind = type(value)
    convert = _RULES.get(kind) or _find_rule(kind)
    if convert is None:
        raise RefusalError
    return convert(value)


def _find_rule(kind: type) -> Callable[[Any], object] | None:
    for base in kind.__mro__[:-1]:
        rule = _RULES.get(base) or _RULES_BY_NAME.get(
            f"{base.__module__}.{base.__qualname__}"
        )
        if rule is not None:
            return rule
    for attributes, rule in _RULES_BY_SHAPE:
        if all(hasattr(kind, attribute) for attribute in attributes):
            return rule
    return _unfold_mapping if issubclass(kind, Mapping) else None


def _datetime_text(value: dt.datetime) -> str | None:
    # pandas' NaT calls itself a datetime; unlike any real one it differs from itself.
    if type(value) is not dt.datetime and value != value:  # noqa: PLR0124
        return None
    text = dt.datetime.isoformat(value, timespec="milliseconds")
    moment, offset = text[:23], text[23:]
    return f"{moment}Z" if offset in {"", "+00:00"} else text


def _decimal_number(value: Decimal) -> float | str | None:
    if not value.is_finite():
        return None
    number = float(value)
    if math.isfinite(number) and Decimal(repr(number)) == value:
        return number
    return str(value)


def _bytes_text(value: bytes | bytearray | memoryview) -> str:
    raw = bytes(value)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return binascii.b2a_base64(raw, newline=False).decode("ascii")


def _sorted_members(value: set[Any] | frozenset[Any]) -> list[Any]:
    members = list(value)
    kinds = set(map(type, members))
    alike = kinds <= {str} or (
        kinds <= {int, float} and all(member == member for member in members)  # noqa: PLR0124
    )
    if not alike:
        raise RefusalError(members)
    return sorted(members)


def _range_list(value: range) -> list[int]:
    if len(value) > MAX_ELEMENTS:
        raise RefusalError
    return list(value)


def _unfold_mapping(value: Mapping[Any, object]) -> dict[Any, object]:
    items = dict(islice(value.items(), MAX_ELEMENTS + 1))
    if len(items) > MAX_ELEMENTS:
        raise RefusalError
    return items


def _unfold_array(value: Any) -> object:
    if value.size > MAX_ELEMENTS:
        raise RefusalError
    if value.dtype.kind in {"M", "m"}:
        # Nanoseconds come out of `tolist` as a bare number, microseconds as datetimes.
        name = "datetime64" if value.dtype.kind == "M" else "timedelta64"
        value = value.astype(f"{name}[us]")
    return value.tolist()


def _unfold_dataclass(value: Any) -> dict[str, object]:
    return _stored_fields(value, type(value).__dataclass_fields__)


def _unfold_attrs(value: Any) -> dict[str, object]:
    return _stored_fields(value, [a.name for a in type(value).__attrs_attrs__])


def _stored_fields(value: object, names: Iterable[str]) -> dict[str, object]:
    # `getattr` would run descriptors: those of mapped classes query the database.
    try:
        stored = object.__getattribute__(value, "__dict__")
    except AttributeError:
        stored = {}
    fields = {}
    for name in names:
        if name in stored:
            fields[name] = stored[name]
            continue
        owners = [base for base in type(value).__mro__ if name in base.__dict__]
        member: Any = owners[0].__dict__[name] if owners else None
        if type(member) in {MemberDescriptorType, property}:
            with suppress(AttributeError):  # an empty slot
                fields[name] = member.__get__(value)
    return fields


# A subclass of a JSON type becomes what the C encoder of `json` makes of it.
_RULES: Final[dict[type, Callable[[Any], object]]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    dict: lambda value: dict(value.items()),
    list: list,
    tuple: list,
    dt.datetime: _datetime_text,
    dt.date: dt.date.isoformat,
    dt.time: lambda value: dt.time.isoformat(value, timespec="milliseconds"),
    dt.timedelta: dt.timedelta.total_seconds,
    Decimal: _decimal_number,
    Enum: lambda value: value.value,
    set: _sorted_members,
    frozenset: _sorted_members,
    deque: list,
    range: _range_list,
    type({}.keys()): list,
    type({}.values()): list,
    bytes: _bytes_text,
    bytearray: _bytes_text,
    memoryview: _bytes_text,
}
_RULES_BY_NAME: Final[dict[str, Callable[[Any], object]]] = {
    "uuid.UUID": str,
    "django.utils.functional.Promise": str,
    "flask_babel.speaklater.LazyString": str,
    "babel.support.LazyProxy": str,
}
_RULES_BY_SHAPE: Final[tuple[tuple[tuple[str, ...], Callable[[Any], object]], ...]] = (
    (("__dataclass_fields__",), _unfold_dataclass),
    (("__attrs_attrs__",), _unfold_attrs),
    (("model_dump",), lambda value: value.model_dump()),
    (("__fspath__",), lambda value: value.__fspath__()),
    (("dtype", "tolist"), _unfold_array),
)


class Walk:
    """One pass over one value that returns it as plain JSON types.

    Cycles, depth, odd keys, non-finite numbers, large ints and lone surrogates are
    mended, values without a rule become markers, and their neighbours survive.

    Args:
        unfold: `unfold`, or a function around it.
        max_depth: How many levels of lists and dicts the result may have.
    """

    __slots__ = ("_max_depth", "_path", "_unfold", "_values", "repairs")

    def __init__(
        self, unfold: Callable[[object], object] = unfold, max_depth: int = MAX_DEPTH
    ) -> None:
        self._unfold = unfold
        self._max_depth = max_depth
        self._path: set[int] = set()
        self._values = 0
        self.repairs = 0

    def visit(self, value: Any, depth: int = 0) -> Any:
        """Return *value* in plain types.

        Args:
            value: Anything.
            depth: How many containers of the result are around it.
        """
        held: list[object] = []
        try:
            for _ in range(_MAX_LINKS):
                kind = type(value)
                if value is None or kind is bool or kind is str:
                    return self._text(value) if kind is str else value
                if kind is int or kind is float:
                    return self._number(value)
                if id(value) in self._path:
                    return self._count(marker("cycle"))
                self._path.add(id(value))
                held.append(value)
                if kind is list or kind is tuple or kind is dict:
                    return self._container(value, depth)
                try:
                    value = self._attempt(value)
                except Exception as error:  # noqa: BLE001 - the value's own code
                    return self._substitute(value, error, depth)
            return self._count(marker(_class_name(type(value))))
        finally:
            self._path.difference_update(map(id, held))

    def _count(self, substitute: Any) -> Any:
        self.repairs += 1
        return substitute

    def _text(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            return self._count(mend(text))  # type: ignore[no-any-return]
        return text

    def _number(self, number: float) -> Any:
        if type(number) is float:
            return number if math.isfinite(number) else self._count(None)
        if _INT_MIN <= number <= _INT_MAX:
            return number
        try:
            return self._count(str(number))
        except ValueError:  # Python refuses to print thousands of digits.
            return self._count(marker("int"))

    def _container(self, value: Any, depth: int) -> Any:
        if depth >= self._max_depth:
            return self._count(marker("depth"))
        if type(value) is dict:
            plain: dict[str, object] = {}
            # Copied in one step of the interpreter: other threads may write meanwhile.
            for key, child in value.copy().items():
                if self._is_full():
                    plain[MARKER] = self._count("size")
                    break
                plain[self._key(key, plain)] = self.visit(child, depth + 1)
            return plain
        children: list[object] = []
        for child in tuple(value):
            if self._is_full():
                children.append(self._count(marker("size")))
                break
            children.append(self.visit(child, depth + 1))
        return children

    def _is_full(self) -> bool:
        self._values += 1
        return self._values > MAX_VALUES

    def _key(self, key: object, taken: Mapping[str, object]) -> str:
        kind = type(key)
        before = self.repairs
        if kind is int or kind is float:
            try:
                text = json.dumps(key)
            except ValueError:  # Python refuses to print thousands of digits.
                text = dump_plain(self._count(marker("int")))
        else:
            # Never cut short by depth: a key is text and makes no level.
            plain = self.visit(key, self._max_depth - _MAX_LINKS)
            text = plain if type(plain) is str else dump_plain(plain)
        # Two keys that were mended into one text must not cost a value.
        while self.repairs != before and text in taken:
            text = f"{text}#{len(taken)}"
        return text

    def _substitute(self, value: object, error: Exception, depth: int) -> Any:
        if type(error) is not RefusalError or error.members is None:
            return self._count(marker(_class_name(type(value))))
        plain = self._container(error.members, depth)
        return sorted(plain, key=dump_plain) if type(plain) is list else plain

    def _attempt(self, value: object) -> object:
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._unfold(value)
            except RecursionError:
                raise
            except RuntimeError:  # "changed size during iteration", by another thread
                continue
        return self._unfold(value)


def _class_name(kind: type) -> str:
    try:
        name = mend(f"{kind.__module__}.{kind.__qualname__}")
    except Exception:  # noqa: BLE001 - a metaclass is user code, too
        name = "unknown"
    return name[:_MAX_CLASS_CHARS]
