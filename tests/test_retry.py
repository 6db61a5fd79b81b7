from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk._retry import LONGEST_S, backoff_s, probe_s, retry_after_s

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=timezone.utc)
JITTER = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("failures", "longest_s"),
    [(1, 0.5), (2, 1), (3, 2), (7, 32), (8, 60), (9, 60), (10_000, 60)],
)
def test_backoff_doubles_up_to_a_minute(failures, longest_s):
    """The interval starts at half a second, doubles, and stays at 60 s."""
    assert longest_s / 2 == backoff_s(failures, 0.5)
    assert 0 == backoff_s(failures, 0.0)


@given(st.integers(1, 100_000), JITTER)
def test_backoff_is_full_jitter(failures, jitter):
    """The wait is the jitter's share of the interval, for any number of failures."""
    interval_s = min(60.0, 0.5 * 2.0 ** min(failures - 1, 60))
    assert jitter * interval_s == backoff_s(failures, jitter)


@pytest.mark.parametrize(
    ("probes", "wait_s"), [(0, 5), (1, 10), (5, 160), (6, 300), (7, 300), (10_000, 300)]
)
def test_probes_double_up_to_five_minutes(probes, wait_s):
    """The first probe of a hold comes after 5 s, later ones after up to 5 minutes."""
    assert wait_s == probe_s(probes)


@given(st.integers(0, 100_000), JITTER)
def test_probe_jitter_takes_at_most_a_quarter(probes, jitter):
    """Processes that hold the same destination do not probe it in step."""
    assert 0.75 * probe_s(probes) <= probe_s(probes, jitter) <= probe_s(probes)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("0.5", 0.5),
        ("1e2", 100),
        ("-1", 0),
        ("86400", LONGEST_S),
        ("1000000000", LONGEST_S),
        ("9" * 64, LONGEST_S),
        ("9" * 65, None),
        ("1e400", None),
        ("inf", None),
        ("NaN", None),
        ("", None),
        ("soon", None),
        ("1_0", None),
        ("+-1", None),
        ("\u0667", None),
        ("5, 7", None),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30),
        ("Saturday, 21-Nov-26 12:00:30 GMT", 30),
        ("Sat Nov 21 12:00:30 2026", 30),
        ("Sat, 21 Nov 2026 12:00:30", 30),
        ("Sat, 21 Nov 2026 12:00:30 -0000", 30),
        ("Sat, 21 Nov 2026 14:00:30 +0200", 30),
        ("Sat, 21 Nov 2026 11:59:59 GMT", 0),
        ("Sat, 21 Nov 2099 12:00:30 GMT", LONGEST_S),
        ("Sat, 99 Nov 2026 12:00:30 GMT", None),
        ("Sat, 21 Nov 2026 12:00:30 +9999", None),
        ("Sat, 21 Nov 2026 12:00:30 GMT" + " " * 40, None),
    ],
)
def test_retry_after(text, seconds):
    """Seconds and dates are read, the past is now, and nonsense is no wish at all."""
    assert seconds == retry_after_s({"retry-after": text}, NOW)


def test_nothing_asked():
    """Without a header there is no wait."""
    assert retry_after_s({}, NOW) is None


@pytest.mark.parametrize(
    ("date", "seconds"),
    [("Sat, 21 Nov 2026 11:59:00 GMT", 90), ("yesterday", 30), ("", 30)],
)
def test_date_counts_by_the_clock_of_its_sender(date, seconds):
    """A server whose clock is a minute slow asks for what it meant."""
    headers = {"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT", "date": date}
    assert seconds == retry_after_s(headers, NOW)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-reset": "12"}, 12),
        ({"x-ratelimit-reset": "12", "retry-after": "3"}, 3),
        ({"x-ratelimit-reset": "12", "retry-after": "soon"}, None),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 9)}, 9),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) - 9)}, 0),
        ({"x-ratelimit-reset": "Sat, 21 Nov 2026 12:00:30 GMT"}, None),
    ],
)
def test_rate_limit_reset_counts_where_retry_after_is_absent(headers, seconds):
    """Segment's own header means seconds, or a Unix time where it must be one."""
    assert seconds == retry_after_s(headers, NOW)


@given(st.text(), st.text(), st.text())
def test_no_header_raises_or_leaves_the_bounds(asked, reset, date):
    """Whatever a server writes, the wait is None or between nothing and a day."""
    for headers in (
        {"retry-after": asked, "date": date},
        {"x-ratelimit-reset": reset, "date": date},
    ):
        wait_s = retry_after_s(headers, NOW)
        assert wait_s is None or 0 <= wait_s <= LONGEST_S


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001
    st.integers(0, int(LONGEST_S)),
)
def test_clocks_cancel_out(server, wait):
    """Whatever the server's clock says, a date of its own means the same wait."""
    server = server.replace(microsecond=0, tzinfo=timezone.utc)
    headers = {
        "date": format_datetime(server, usegmt=True),
        "retry-after": format_datetime(server + timedelta(seconds=wait), usegmt=True),
    }
    assert wait == retry_after_s(headers, NOW)


def test_backoff_is_imported_when_it_is_needed():
    """Importing the module loads neither backoff nor the asyncio that it brings."""
    script = (
        "import sys, analytics_sdk._retry as retry;"
        "loaded = {'backoff', 'asyncio', 'email.utils'} & set(sys.modules);"
        "retry.backoff_s(1, 0.5);"
        "sys.exit(' '.join(loaded) or 'backoff' not in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert (0, "") == (ran.returncode, ran.stderr)
