"""Time, randomness and ids: the only room where they are made.

Everything below this room takes them as arguments, so that it can be tested without
waiting and run again with the same result.
"""

from __future__ import annotations

import os
import random
import time
from datetime import datetime, timedelta, timezone
from itertools import count

monotonic = time.monotonic
"""Seconds that only ever grow; the zero is arbitrary."""

sleep = time.sleep

_NODE_BITS = 42
_COUNTER_BITS = 20
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
    if zone is None or zone is timezone.utc:
        text = when.isoformat("T", "milliseconds")
        return f"{text if zone is None else text[:-6]}Z"
    try:
        offset = when.utcoffset()
        shifted = when.replace(tzinfo=None) - (offset or timedelta())
    except Exception:  # noqa: BLE001 - a time zone is foreign code
        shifted = when.replace(tzinfo=None)
    return f"{shifted.isoformat('T', 'milliseconds')}Z"


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

    __slots__ = ("_counter", "_node", "_second")

    def __init__(self) -> None:
        """Draw a node; nothing is shared with other stampers."""
        self._second: tuple[int, str, str] = (-1, "", "")
        self._draw()

    def _draw(self) -> None:
        bits = int.from_bytes(os.urandom(8), "big")
        node = bits & ((1 << _NODE_BITS) - 1)
        digits = f"{(2 << 42) | node:011x}"
        self._node = f"{digits[:4]}-{digits[4:]}"
        self._counter = count(bits >> _NODE_BITS & 0xFFFF)

    def stamp(self) -> tuple[str, str]:
        """Return a new message id and the time as ISO 8601 with milliseconds."""
        second, ms = divmod(time.time_ns() // 1_000_000, 1000)
        cached = self._second
        if cached[0] != second:
            cached = self._second = _prefixes(second)
        number = next(self._counter)
        if number >> _COUNTER_BITS:
            self._draw()
            number = next(self._counter)
        return (
            f"{cached[1]}{_MILLISECOND_IDS[ms]}{self._node}{number:05x}",
            cached[2] + _MILLISECONDS[ms],
        )


def _prefixes(second: int) -> tuple[int, str, str]:
    """Return *second* with what all ids and timestamps of it begin with."""
    stamp = f"{second * 1000:012x}"
    when = datetime.fromtimestamp(second, timezone.utc)
    return second, f"{stamp[:8]}-{stamp[8:]}", f"{when:%Y-%m-%dT%H:%M:%S}."
