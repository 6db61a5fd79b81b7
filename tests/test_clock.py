from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone, tzinfo
from uuid import RFC_4122, UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analytics_sdk import _clock
from analytics_sdk._clock import Stamper, iso_utc, jitter, utc_now

UTC = timezone.utc
THREADS, IDS_EACH = 8, 20_000


class Raising(tzinfo):
    def utcoffset(self, when):
        raise ZeroDivisionError


class Without(tzinfo):
    """A zone without an offset: Python counts times in it as naive."""

    def utcoffset(self, when):
        return None


class Named(tzinfo):
    """UTC under another name, as zone databases have it."""

    def utcoffset(self, when):
        return timedelta(0)


def hours(number: float) -> timezone:
    return timezone(timedelta(hours=number))


# -- timestamps ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (datetime(2026, 11, 21, 9, 30, tzinfo=UTC), "2026-11-21T09:30:00.000Z"),
        (datetime(2026, 11, 21, 9, 30), "2026-11-21T09:30:00.000Z"),  # noqa: DTZ001
        (datetime(2026, 1, 1, tzinfo=hours(2)), "2025-12-31T22:00:00.000Z"),
        (datetime(2026, 1, 1, tzinfo=hours(-5.5)), "2026-01-01T05:30:00.000Z"),
        (datetime(2026, 1, 1, tzinfo=Named()), "2026-01-01T00:00:00.000Z"),
        (datetime(2026, 1, 1, 0, 0, 0, 999, tzinfo=UTC), "2026-01-01T00:00:00.000Z"),
        (datetime(2026, 1, 1, 0, 0, 0, 1999, tzinfo=UTC), "2026-01-01T00:00:00.001Z"),
        (
            datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            "2026-12-31T23:59:59.999Z",
        ),
        (datetime(2026, 1, 1, 0, 0, 0, 1999, hours(1)), "2025-12-31T23:00:00.001Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
        (datetime(1, 1, 1), "0001-01-01T00:00:00.000Z"),  # noqa: DTZ001
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999Z"),
        (datetime.max, "9999-12-31T23:59:59.999Z"),  # noqa: DTZ901
        (datetime(1, 1, 1, tzinfo=hours(14)), "0001-01-01T00:00:00.000Z"),
        (datetime(9999, 12, 31, 23, tzinfo=hours(-12)), "9999-12-31T23:00:00.000Z"),
        (datetime(2026, 1, 1, tzinfo=Without()), "2026-01-01T00:00:00.000Z"),
        (datetime(2026, 1, 1, tzinfo=Raising()), "2026-01-01T00:00:00.000Z"),
        (datetime(2026, 10, 25, 1, fold=1, tzinfo=UTC), "2026-10-25T01:00:00.000Z"),
    ],
)
def test_time_is_written_in_utc_with_milliseconds(when, text):
    """Offsets are taken off, no offset means UTC, microseconds are cut, not rounded."""
    assert text == iso_utc(when)


def test_zone_of_the_machine_does_not_matter(monkeypatch):
    """A time without an offset is the same on a machine in any zone."""
    if not hasattr(time, "tzset"):
        pytest.skip("the zone of the machine cannot be set here")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        for zone in (None, Without()):
            when = datetime(2026, 1, 1, tzinfo=zone)
            assert "2026-01-01T00:00:00.000Z" == iso_utc(when)
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.datetimes(timezones=st.none() | st.timezones() | st.just(UTC)))
def test_written_time_is_the_same_instant(when):
    """Read back, a written time is the instant that it was, less its microseconds."""
    text = iso_utc(when)
    assert 24 == len(text)
    read = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    offset = when.utcoffset() or timedelta()
    try:
        exact = when.replace(tzinfo=None) - offset
    except OverflowError:
        exact = when.replace(tzinfo=None)
    cut = timedelta(microseconds=exact.microsecond % 1000)
    assert exact - cut == read.replace(tzinfo=None)


def test_now_is_aware():
    """The wall clock is read in UTC, and says so."""
    before = datetime.now(UTC)
    now = utc_now()
    assert UTC is now.tzinfo
    assert before <= now <= datetime.now(UTC)


def test_jitter_is_a_share():
    """Jitter is drawn from 0 to below 1, and differs."""
    drawn = [jitter() for _ in range(100)]
    assert all(0 <= each < 1 for each in drawn)
    assert len(set(drawn)) > 1


def test_monotonic_clock_never_runs_back():
    """Deadlines are read from a clock that nobody can set."""
    assert time.monotonic is _clock.monotonic


def test_sleep_is_looked_up_late(monkeypatch):
    """A `time.sleep` that gevent patches after the import is the one that is used."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    wait = _clock.sleep
    wait(0.5)
    assert [0.5] == slept


# -- ids ----------------------------------------------------------------------


def freeze(monkeypatch, now_ns: int) -> None:
    monkeypatch.setattr(_clock.time, "time_ns", lambda: now_ns)


def minted_ms(message_id: str) -> int:
    """Return the time in an id: its second, and the millisecond in its third part."""
    number = UUID(message_id).int
    return (number >> 80) + (number >> 64 & 0xFFF)


def written_ms(timestamp: str) -> int:
    when = datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return round(when.timestamp() * 1000)


def test_id_is_a_uuid_of_version_7():
    """An id is a canonical UUID whose version and variant bits are those of v7."""
    for message_id, _ in (Stamper().stamp() for _ in range(200)):
        read = UUID(message_id)
        assert message_id == str(read)
        assert (7, RFC_4122) == (read.version, read.variant)


@given(st.integers(0, 253_402_300_799_999), st.integers(0, 999_999))
@example(0, 0)
@example(999, 999_999)
@example(1000, 0)
def test_id_and_timestamp_tell_the_same_millisecond(now_ms, nanoseconds):
    """At any time from 1970 to 9999, id and timestamp hold the clock's millisecond."""
    with pytest.MonkeyPatch.context() as patch:
        freeze(patch, now_ms * 1_000_000 + nanoseconds)
        message_id, timestamp = Stamper().stamp()
    assert now_ms == minted_ms(message_id) == written_ms(timestamp)
    assert 24 == len(timestamp)


def test_timestamp_follows_the_clock(monkeypatch):
    """The second that is kept between stamps goes when the clock leaves it, or back."""
    stamper = Stamper()
    stamps = []
    for now_ns in (1_999_999_999, 2_000_000_000, 2_001_000_000, 1_500_000_000):
        freeze(monkeypatch, now_ns)
        stamps.append(stamper.stamp())
    assert ["01.999", "02.000", "02.001", "01.500"] == [
        timestamp[17:23] for _, timestamp in stamps
    ]
    assert [1999, 2000, 2001, 1500] == [minted_ms(each) for each, _ in stamps]


def test_ids_of_one_thread_sort_as_they_were_minted():
    """As text, ids sort by time, and within a millisecond by the counter."""
    stamper = Stamper()
    minted = [stamper.stamp()[0] for _ in range(5_000)]
    assert sorted(minted) == minted


def test_ids_sort_by_time_over_stampers(monkeypatch):
    """Ids of different threads sort by the millisecond that they were minted in."""
    minted = []
    for ms in range(995, 1005):
        freeze(monkeypatch, ms * 1_000_000)
        minted.append(Stamper().stamp()[0])
    assert sorted(minted) == minted


@pytest.mark.timeout(60)
def test_ids_are_unique_over_threads(monkeypatch):
    """Eight threads in one and the same millisecond mint no id twice."""
    freeze(monkeypatch, 1_800_000_000_123_000_000)
    minted: list[list[str]] = []

    def mint() -> None:
        stamper = Stamper()
        minted.append([stamper.stamp()[0] for _ in range(IDS_EACH)])

    threads = [threading.Thread(target=mint) for _ in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert THREADS * IDS_EACH == len({each for ids in minted for each in ids})


def test_counter_that_is_used_up_draws_a_new_node(monkeypatch):
    """After the last number of a counter comes another node, and ids stay unique."""
    freeze(monkeypatch, 1_800_000_000_123_000_000)
    stamper = Stamper()
    node = stamper._source[0]
    stamper._source = (node, iter(["ffffe", "fffff"]).__next__)
    minted = [stamper.stamp()[0] for _ in range(4)]
    assert [f"{node}ffffe", f"{node}fffff"] == [each[19:] for each in minted[:2]]
    assert node != stamper._source[0]
    assert all(each[19:].startswith(stamper._source[0]) for each in minted[2:])
    assert 4 == len(set(minted))
    assert all((7, RFC_4122) == (UUID(x).version, UUID(x).variant) for x in minted)


def test_counter_counts_a_million(monkeypatch):
    """Before a node is given up, each of its 2 ** 20 numbers has been used."""
    freeze(monkeypatch, 1_800_000_000_123_000_000)
    stamper = Stamper()
    node = stamper._source[0]
    for _ in range((1 << 20) - 1):
        stamper._source[1]()
    assert f"{node}fffff" == stamper.stamp()[0][19:]
    assert node == stamper._source[0]
    stamper.stamp()
    assert node != stamper._source[0]


def test_stampers_draw_their_own_nodes():
    """Two threads, or a parent and its child, do not count in the same place."""
    assert 100 == len({Stamper()._source[0] for _ in range(100)})


@pytest.mark.parametrize("drawn", [b"\0" * 8, b"\xff" * 8], ids=["zeros", "ones"])
def test_any_draw_makes_a_proper_id(monkeypatch, drawn):
    """The extremes of what is drawn leave version, variant and length alone."""
    monkeypatch.setattr(_clock.os, "urandom", lambda size: drawn[:size])
    message_id, _ = Stamper().stamp()
    read = UUID(message_id)
    assert message_id == str(read)
    assert (7, RFC_4122) == (read.version, read.variant)
