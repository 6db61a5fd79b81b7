from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk._batching import (
    NO_LIMIT,
    count_that_fit,
    halve,
    largest_part_bytes,
    request_bytes,
)
from analytics_sdk.interfaces import Limits

SIZES = st.lists(st.integers(0, 50), max_size=12)


@pytest.mark.parametrize(
    ("sizes", "limits", "expected_bytes"),
    [
        pytest.param([], Limits(envelope_bytes=7), 7, id="the envelope alone"),
        pytest.param([10], Limits(envelope_bytes=7), 17, id="one part, no separator"),
        pytest.param([10, 5], Limits(envelope_bytes=7), 23, id="one separator"),
        pytest.param([1, 1, 1], Limits(separator_bytes=2), 7, id="two of two bytes"),
        pytest.param([1, 1, 1], Limits(separator_bytes=0), 3, id="none at all"),
    ],
)
def test_request_bytes(sizes, limits, expected_bytes):
    """A body is its envelope, its parts, and what stands between them."""
    assert expected_bytes == request_bytes(sizes, limits)


@pytest.mark.parametrize(
    ("limits", "expected_bytes"),
    [
        pytest.param(Limits(), NO_LIMIT, id="no limit"),
        pytest.param(Limits(event_bytes=30), 30, id="the part's own limit"),
        pytest.param(Limits(batch_bytes=50, envelope_bytes=8), 42, id="alone in one"),
        pytest.param(
            Limits(batch_bytes=50, envelope_bytes=8, event_bytes=42), 42, id="equal"
        ),
        pytest.param(
            Limits(batch_bytes=50, envelope_bytes=8, event_bytes=41), 41, id="both"
        ),
    ],
)
def test_largest_part(limits, expected_bytes):
    """A part must keep its own limit, and fit a request by itself."""
    assert expected_bytes == min(largest_part_bytes(limits), NO_LIMIT)


@pytest.mark.parametrize(
    ("sizes", "limits", "cap_bytes", "expected"),
    [
        pytest.param([], Limits(), NO_LIMIT, 0, id="nothing"),
        pytest.param([5, 5, 5], Limits(), NO_LIMIT, 3, id="no limit"),
        pytest.param([5, 5, 5], Limits(events=3), NO_LIMIT, 3, id="count: exact"),
        pytest.param([5, 5, 5], Limits(events=2), NO_LIMIT, 2, id="count: one over"),
        pytest.param([5, 5, 5], Limits(events=1), NO_LIMIT, 1, id="count: one"),
        pytest.param([9, 9], Limits(batch_bytes=19), NO_LIMIT, 2, id="bytes: exact"),
        pytest.param([9, 9], Limits(batch_bytes=18), NO_LIMIT, 1, id="bytes: one over"),
        pytest.param(
            [9, 9],
            Limits(batch_bytes=22, envelope_bytes=3),
            NO_LIMIT,
            2,
            id="envelope: exact",
        ),
        pytest.param(
            [9, 9],
            Limits(batch_bytes=21, envelope_bytes=3),
            NO_LIMIT,
            1,
            id="envelope: one over",
        ),
        pytest.param(
            [9, 9],
            Limits(batch_bytes=18, separator_bytes=0),
            NO_LIMIT,
            2,
            id="no separator: exact",
        ),
        pytest.param(
            [99, 1], Limits(batch_bytes=20), NO_LIMIT, 1, id="first one too large"
        ),
        pytest.param(
            [1, 99, 1], Limits(batch_bytes=20), NO_LIMIT, 1, id="never past a large one"
        ),
        pytest.param([9, 9], Limits(batch_bytes=99), 19, 2, id="learned cap: exact"),
        pytest.param([9, 9], Limits(batch_bytes=99), 18, 1, id="learned cap: one over"),
        pytest.param([9, 9], Limits(batch_bytes=18), 99, 1, id="cap above the limit"),
        pytest.param([9, 9], Limits(), 1, 1, id="cap below one part"),
    ],
)
def test_count_that_fit(sizes, limits, cap_bytes, expected):
    """A request takes parts in order up to the tightest limit, and always one."""
    assert expected == count_that_fit(sizes, limits, cap_bytes)


@given(
    SIZES,
    st.builds(
        Limits,
        events=st.none() | st.integers(1, 6),
        batch_bytes=st.none() | st.integers(1, 120),
        envelope_bytes=st.integers(0, 9),
        separator_bytes=st.integers(0, 2),
    ),
)
def test_what_fits_is_as_much_as_the_limits_allow(sizes, limits):
    """What is counted keeps both limits, unless it is one part; one more does not."""

    def keeps(count):
        most_bytes = limits.batch_bytes or NO_LIMIT
        fits = request_bytes(sizes[:count], limits) <= most_bytes
        return fits and count <= (limits.events or NO_LIMIT)

    count = count_that_fit(iter(sizes), limits)
    assert (1 if sizes else 0) <= count <= len(sizes)
    assert count <= 1 or keeps(count)
    assert count == len(sizes) or not keeps(count + 1)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        pytest.param([1, 1], 1, id="two"),
        pytest.param([1, 1, 1, 1], 2, id="even"),
        pytest.param([1, 1, 1], 2, id="odd: the first side is larger"),
        pytest.param([90, 1, 1, 1], 1, id="the bytes are in front"),
        pytest.param([1, 1, 1, 90], 3, id="the bytes are at the end"),
        pytest.param([10, 10, 10, 30], 3, id="half is reached exactly"),
        pytest.param([0, 0, 0], 1, id="no bytes at all"),
    ],
)
def test_halve(sizes, expected):
    """A batch is cut where half of its bytes are reached, not of its parts."""
    assert expected == halve(sizes)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=12))
def test_both_halves_hold_something(sizes):
    """However the bytes lie, splitting goes on until one part is left."""
    assert 1 <= halve(sizes) < len(sizes)
