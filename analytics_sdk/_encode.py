"""Turn one value of the caller's into JSON bytes, once and for good.

The C serialiser does the work in one pass, with `_repair.unfold` for the types that it
does not know. Only when it refuses, or a cheap look at its output says so, is the value
walked in Python and mended. `json` and orjson give bytes that parse equal.

Encoders keep no state of a call, so any number of threads may share one.
"""

from __future__ import annotations

import datetime as dt
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from itertools import accumulate
from json import encoder as _json_encoder
from typing import Any, ClassVar, Final

from analytics_sdk import _repair

quote: Final[Callable[[str], str]] = _json_encoder.encode_basestring
"""Return *text* as a JSON string, quotes included, for a template; see `to_bytes`."""

_HOPELESS: Final = (b'{"%b":"depth"}' % _repair.MARKER.encode(), 1)
_DEPTHS: Final = (_repair.MAX_DEPTH, 32, 4)
_OUTLINE: Final = bytes.maketrans(b"0123456789[", b"0000000000{")
_LONG_RUN: Final = b"0" * 19
_BEFORE_NUMBER: Final = frozenset((b"", b":", b",", b"[", b"-"))
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = dict(zip(b"[]{}", (1, -1, 1, -1), strict=True))


def to_bytes(text: str) -> tuple[bytes, int]:
    """Encode JSON *text* as UTF-8, for a template built with `quote`.

    Returns:
        The bytes, and 1 if lone surrogates had to be replaced, else 0.
    """
    try:
        return text.encode(), 0
    except UnicodeEncodeError:
        return _repair.mend(text).encode(), 1


class Encoder(ABC):
    """Turn values into compact JSON bytes; made by `make_encoder`.

    Attributes:
        name: The serialiser's name, ``"json"`` or ``"orjson"``.
        naive_datetimes: How many naive datetimes were read as UTC: a warning light,
            since threads that count at once may lose one, and a walk counts again.
    """

    __slots__ = ("naive_datetimes",)

    name: ClassVar[str]

    def __init__(self) -> None:
        self.naive_datetimes = 0

    @abstractmethod
    def fragment(self, value: object) -> tuple[bytes, int]:
        """Encode *value* for a caller that copies it into a larger document at once.

        Do not keep these bytes: orjson allocates several kilobytes for a small result
        and never gives the rest back.

        Args:
            value: Anything; it is not changed, and not looked at afterwards.

        Returns:
            Compact UTF-8 JSON, and how many values were mended or marked, at least:
            the C pass of orjson turns NaN into null without a word.
        """

    @abstractmethod
    def encode(self, value: object) -> tuple[bytes, int]:
        """Encode *value* into bytes of exact size, to be kept.

        Args:
            value: Anything; it is not changed, and not looked at afterwards.

        Returns:
            Compact UTF-8 JSON, and how many values were mended or marked, at least.
        """

    @abstractmethod
    def decode(self, raw: bytes) -> Any:
        """Return what *raw*, bytes made by any encoder, says in plain Python types.

        Raises:
            ValueError: *raw* is not JSON.
        """

    def _default(self, value: object) -> object:
        if issubclass(type(value), dt.datetime) and value.tzinfo is None:  # type: ignore[attr-defined]
            self.naive_datetimes += 1
        return _repair.unfold(value)

    def _walk(self, value: object) -> tuple[bytes, int]:
        for max_depth in _DEPTHS:
            walk = _repair.Walk(self._default, max_depth)
            try:
                plain = walk.visit(value)
                return _repair.dump_plain(plain).encode(), walk.repairs
            except Exception:  # noqa: BLE001, S112 - the caller's stack or memory is used up
                continue
        return _HOPELESS


class _JsonEncoder(Encoder):
    __slots__ = ("_iterencode",)

    name = "json"

    def __init__(self) -> None:
        super().__init__()
        self._iterencode = _c_iterencode(self._default)

    def fragment(self, value: object) -> tuple[bytes, int]:
        try:
            raw = "".join(self._iterencode(value, 0)).encode()
        except Exception:  # noqa: BLE001 - whatever it is, the walk finds and mends it
            return self._walk(value)
        outline = raw.translate(_OUTLINE)
        # Shorter by what was removed: in C that is faster than `count` and `in`.
        opened = len(raw) - len(outline.replace(b"{", b""))
        if opened > _repair.MAX_DEPTH and _is_deep(raw):
            return self._walk(value)
        if outline.find(_LONG_RUN) >= 0 and _has_huge_int(raw, outline):
            return self._walk(value)
        return raw, 0

    encode = fragment

    def decode(self, raw: bytes) -> Any:
        return json.loads(raw)


class _OrjsonEncoder(Encoder):
    __slots__ = ("_dumps", "_hook", "_loads", "_options")

    name = "orjson"

    def __init__(self) -> None:
        super().__init__()
        import orjson

        self._dumps: Callable[..., bytes] = orjson.dumps
        self._hook = self._default
        self._loads: Callable[[bytes], Any] = orjson.loads
        # What orjson would encode in a way of its own comes to `unfold` instead.
        self._options: int = (
            orjson.OPT_PASSTHROUGH_DATACLASS
            | orjson.OPT_PASSTHROUGH_DATETIME
            | orjson.OPT_PASSTHROUGH_SUBCLASS
        )

    def fragment(self, value: object) -> tuple[bytes, int]:
        try:
            return self._dumps(value, self._hook, self._options), 0
        except Exception as error:  # noqa: BLE001 - the walk finds and mends it
            return self._after_refusal(error, value)

    def encode(self, value: object) -> tuple[bytes, int]:
        try:
            raw = self._dumps(value, self._hook, self._options)
        except Exception as error:  # noqa: BLE001 - the walk finds and mends it
            return self._after_refusal(error, value)
        return b"".join((raw, b"")), 0

    def _after_refusal(self, error: Exception, value: object) -> tuple[bytes, int]:
        # orjson wraps even a KeyboardInterrupt that arrives inside `_default`.
        if error.__cause__ is not None and not isinstance(error.__cause__, Exception):
            raise error.__cause__
        return self._walk(value)

    def decode(self, raw: bytes) -> Any:
        return self._loads(raw)


def make_encoder(*, speed: bool | None = None) -> Encoder:
    """Return an encoder; orjson is imported here at the earliest, as it takes time.

    Args:
        speed: True for orjson, False for the standard library, None for orjson where
            it is installed.

    Raises:
        ImportError: *speed* is True and orjson is missing.
    """
    if speed is False:
        return _JsonEncoder()
    try:
        return _OrjsonEncoder()
    except ImportError as error:
        if speed:
            raise ImportError(
                "speed: orjson is not installed; "
                "pip install 'analytics-sdk-server[speed]', or leave speed out"
            ) from error
        return _JsonEncoder()


def _c_iterencode(
    default: Callable[[object], object],
) -> Callable[[object, int], Iterable[str]]:
    """Return the C encoder itself: `json.dumps` would build one anew at each call.

    Without its dict of markers, which threads cannot share, a cycle ends in
    RecursionError.
    """
    try:
        return _json_encoder.c_make_encoder(  # type: ignore[attr-defined, no-any-return]
            markers=None,
            default=default,
            encoder=quote,
            indent=None,
            key_separator=":",
            item_separator=",",
            sort_keys=False,
            skipkeys=False,
            allow_nan=False,
        )
    except TypeError:  # None on PyPy, and its arguments are CPython's own affair
        encoder = json.JSONEncoder(
            check_circular=False,
            allow_nan=False,
            ensure_ascii=False,
            separators=(",", ":"),
            default=default,
        )
        return lambda value, _: encoder.iterencode(value)


def _has_huge_int(raw: bytes, outline: bytes) -> bool:
    """Tell whether JSON *raw* may hold an int that orjson would have refused.

    A long run of digits in *outline* is such an int, or the middle of some text.
    """
    at = outline.find(_LONG_RUN)
    while at >= 0:
        if raw[max(at - 1, 0) : at] in _BEFORE_NUMBER:
            return True
        at = outline.find(_LONG_RUN, at + len(_LONG_RUN))
    return False


def _is_deep(raw: bytes) -> bool:
    """Tell whether JSON *raw* has more levels than orjson would have accepted."""
    outside = raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    brackets = b"".join(outside).translate(None, _NOT_BRACKETS)
    levels = accumulate(map(_STEPS.__getitem__, brackets))
    return max(levels, default=0) > _repair.MAX_DEPTH
