"""How long to wait before the next attempt: pure arithmetic.

Time and jitter come in as arguments, a number of seconds goes out; who waits, and what
for, is decided elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache

BASE_S = 0.5
CAP_S = 60.0
PROBE_BASE_S = 5.0
PROBE_CAP_S = 300.0
LONGEST_S = 86_400.0
"""What a server may ask for at most: far beyond the give-up time in memory, and no
absurd answer holds a journal for good."""

_LONGEST_TEXT = 64
_NUMBER = frozenset("0123456789.+-eE")
_UNIX_TIME_S = 1e9
"""From here on a number of "seconds" is taken for a Unix time (9 September 2001)."""


@lru_cache(maxsize=2)
def _doubling(base_s: float, cap_s: float) -> tuple[float, ...]:
    """Return the waits from *base_s* up to and including *cap_s*."""
    import backoff  # it loads asyncio, which `import analytics_sdk` must not

    waits = backoff.expo(base=2, factor=base_s, max_value=cap_s)
    next(waits)  # primes the generator: its first value is no wait
    steps = [next(waits)]
    while steps[-1] < cap_s:
        steps.append(next(waits))
    return tuple(steps)


def backoff_s(failures: int, jitter: float) -> float:
    """Return the wait after *failures* failures in a row, with full jitter.

    Full jitter spreads the clients of a server that has just come back over the whole
    interval, so that they do not return in step.

    Args:
        failures: At least 1; the interval doubles with each, up to 60 s.
        jitter: A random number in [0, 1).
    """
    steps = _doubling(BASE_S, CAP_S)
    return jitter * steps[min(max(failures, 1), len(steps)) - 1]


def probe_s(probes: int, jitter: float = 0.0) -> float:
    """Return the wait before the next probe of a lane on hold.

    Args:
        probes: How many probes of this hold have failed: 0 waits 5 s, each further
            one doubles it, up to 5 minutes.
        jitter: A random number in [0, 1); shortens the wait by up to a quarter, so
            that many processes do not probe in step.
    """
    steps = _doubling(PROBE_BASE_S, PROBE_CAP_S)
    return steps[min(max(probes, 0), len(steps) - 1)] * (1 - jitter / 4)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that an answer asks to wait, or None where it does not.

    ``Retry-After`` may be a number of seconds or an HTTP date (RFC 9110, 10.2.3); a
    date counts from the answer's own ``Date``, so that a wrong clock on either side
    cancels out.  Without it, ``X-RateLimit-Reset`` counts: seconds at Segment (its
    HTTP API documentation, on rate limits), a Unix time elsewhere.

    The past and negative numbers are 0; more than a day is a day; what cannot be read,
    NaN and infinity are None.

    Args:
        headers: Names in lower case.
        now: When the answer came; aware.
    """
    asked = headers.get("retry-after")
    if asked is None:
        seconds = _number(headers.get("x-ratelimit-reset", ""))
        if seconds is not None and seconds >= _UNIX_TIME_S:
            seconds -= _answered_at(headers, now).timestamp()
    else:
        seconds = _number(asked)
        if seconds is None:
            date = _date(asked)
            if date is not None:
                seconds = (date - _answered_at(headers, now)).total_seconds()
    if seconds is None:
        return None
    return min(max(seconds, 0.0), LONGEST_S)


def _answered_at(headers: Mapping[str, str], now: datetime) -> datetime:
    """Return the time of an answer by its sender's clock, else *now*."""
    return _date(headers.get("date", "")) or now


def _number(text: str) -> float | None:
    """Read a plain decimal number; None where *text* is none or not finite."""
    text = text.strip() if len(text) <= _LONGEST_TEXT else ""
    if not _NUMBER.issuperset(text):
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str) -> datetime | None:
    """Read an HTTP date in any of its three forms; one without a zone is in UTC."""
    if len(text) > _LONGEST_TEXT:
        return None
    from email.utils import parsedate_to_datetime  # heavy, and only a sender needs it

    try:
        date = parsedate_to_datetime(text)
        return date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
