"""Time, randomness and ids: the only room where they are made.

Everything below this room takes them as arguments, so that it can be tested without
waiting and run again with the same result.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from itertools import product

monotonic = time.monotonic
"""Seconds that only ever grow; the zero is arbitrary."""


def sleep(seconds: float) -> None:
    """Wait; `time.sleep` is looked up now, for gevent may have patched it."""
    time.sleep(seconds)


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_HEX = "0123456789abcdef"
_NODE_BITS = 42
_COUNTER_DIGITS = 5
_NEVER_MS = -(1 << 62)
_MILLISECONDS = tuple(f"{ms:03d}Z" for ms in range(1000))
_MILLISECOND_IDS = tuple(f"-7{ms:03x}-" for ms in range(1000))


def utc_now() -> datetime:
    """Return the wall clock's time, aware, in UTC."""
    return datetime.now(timezone.utc)


def jitter() -> float:
    """Return a number in [0, 1) that differs between processes and threads."""
    return random.random()  # noqa: S311 - spreads retries; guards nothing


def iso_utc(when: datetime) -> str:
    """Return *when* as ``2026-11-21T09:30:00.123Z``.

    A time without an offset counts as UTC, and so does one whose zone raises or leads
    out of the years 1 to 9999.
    """
    zone = when.tzinfo
    if zone is timezone.utc:
        since = when - _EPOCH
        second = _iso_second(since.days, since.seconds)
        return second + _MILLISECONDS[when.microsecond // 1000]
    if zone is None:
        return f"{when.isoformat('T', 'milliseconds')}Z"
    try:
        offset = when.utcoffset()
        shifted = when.replace(tzinfo=None) - (offset or timedelta())
    except Exception:  # noqa: BLE001 - a time zone is foreign code
        shifted = when.replace(tzinfo=None)
    return f"{shifted.isoformat('T', 'milliseconds')}Z"


@lru_cache(maxsize=256)
def _iso_second(days: int, seconds: int) -> str:
    """Return the second that is so far from the epoch, up to its decimal point."""
    when = _EPOCH + timedelta(days=days, seconds=seconds)
    return f"{when.isoformat()[:19]}."


class Stamper:
    """Mints message ids and timestamps for one thread.

    The ids are UUIDs of version 7 (RFC 9562): the first 48 bits are the second the
    id was minted in, the next 12 its millisecond, then come a random node of 42 bits
    and a counter of 20.  They sort by time, and two of them are equal only if two
    threads drew the same node and counted alike within one millisecond.

    The node belongs to the thread, and to the process: a forked child makes new
    stampers.  The counter steps in C, so a signal handler between two bytecodes
    cannot mint the same id twice.
    """

    __slots__ = ("_second", "_source")

    _source: tuple[str, Callable[[], str]]
    """The node and its counter; one value, so that no signal comes between them."""

    def __init__(self) -> None:
        """Draw a node; nothing is shared with other stampers."""
        self._second = (_NEVER_MS, "", "")
        self._draw()

    def _draw(self) -> None:
        bits = int.from_bytes(os.urandom(6), "big") & ((1 << _NODE_BITS) - 1)
        digits = f"{(2 << _NODE_BITS) | bits:011x}"
        numbers = map("".join, product(_HEX, repeat=_COUNTER_DIGITS))
        self._source = (f"{digits[:4]}-{digits[4:]}", numbers.__next__)

    def stamp(self) -> tuple[str, str]:
        """Return a new message id and the time as ISO 8601 with milliseconds."""
        now_ms = time.time_ns() // 1_000_000
        start_ms, id_prefix, iso_prefix = self._second
        ms = now_ms - start_ms
        if not 0 <= ms < 1000:
            start_ms, id_prefix, iso_prefix = self._second = _prefixes(now_ms // 1000)
            ms = now_ms - start_ms
        node, count = self._source
        try:
            number = count()
        except StopIteration:
            self._draw()
            node, count = self._source
            number = count()
        return (
            f"{id_prefix}{_MILLISECOND_IDS[ms]}{node}{number}",
            iso_prefix + _MILLISECONDS[ms],
        )


def _prefixes(second: int) -> tuple[int, str, str]:
    """Return a second's first millisecond, and how its ids and timestamps begin."""
    start_ms = second * 1000
    stamp = f"{start_ms:012x}"
    return start_ms, f"{stamp[:8]}-{stamp[8:]}", _iso_second(*divmod(second, 86_400))
