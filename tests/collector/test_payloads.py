from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk.collector.payloads import (
    PayloadError,
    decode_content,
    measure_items,
    parse_json,
)

GZIP = {"content-encoding": "gzip"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def decode(headers, body, max_bytes=100):
    return decode_content(headers, body, max_bytes=max_bytes, too_large_status=400)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"plain"),
        ({"content-encoding": "identity"}, b"plain"),
        (GZIP, gzip.compress(b"plain", mtime=0)),
        ({"content-encoding": "X-GZIP "}, gzip.compress(b"plain", mtime=0)),
        (GZIP, gzip.compress(b"pl", mtime=0) + gzip.compress(b"ain", mtime=0)),
    ],
)
def test_content_encoding_is_undone(headers, body):
    """Plain bodies and gzip of one or several members come out as they went in."""
    assert b"plain" == decode(headers, body)


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"content-encoding": "br"}, b"", 415, "encoding"),
        (GZIP, b"not gzip at all", 400, "invalid_gzip"),
        (GZIP, gzip.compress(b"plain", mtime=0)[:-3], 400, "invalid_gzip"),
        (GZIP, b"", 400, "invalid_gzip"),
        (GZIP, gzip.compress(bytes(101), mtime=0), 400, "request_too_large"),
        (GZIP, gzip.compress(bytes(60), mtime=0) * 2, 400, "request_too_large"),
        ({}, bytes(101), 400, "request_too_large"),
    ],
)
def test_damaged_or_large_content_is_refused(headers, body, status, code):
    """An unknown encoding, damage and a size over the bound each have their code."""
    with pytest.raises(PayloadError) as caught:
        decode(headers, body)
    assert (status, code) == (caught.value.status, caught.value.code)


def test_a_bomb_costs_no_more_than_the_bound():
    """Inflating stops at the bound: 20 MB of zeros never come to be."""
    bomb = gzip.compress(bytes(20_000_000), mtime=0)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError):
            decode(GZIP, bomb, max_bytes=100_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500_000


def test_the_bound_itself_is_allowed():
    """A body of exactly the bound passes, plain or compressed."""
    assert bytes(100) == decode({}, bytes(100))
    assert bytes(100) == decode(GZIP, gzip.compress(bytes(100), mtime=0))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"a": NaN}',
        b"[Infinity]",
        b"-Infinity",
        b"[1,]",
        b"{} {}",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b"1" * 5_000,
    ],
)
def test_what_is_not_json_is_refused(text):
    """NaN, infinities, damage, foreign encodings and abysmal nesting are 400."""
    with pytest.raises(PayloadError) as caught:
        parse_json(text)
    assert (400, "invalid_json") == (caught.value.status, caught.value.code)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        (b'{"batch": []}', []),
        (b'{"batch":[{"a":1},{"b": 22}]}', [7, 9]),
        (b' {"x": {"batch": [1]}, "batch" : [ 1 , "two" ] , "y": "]"} ', [1, 5]),
        (b'{"batch": ["\\u00e9", "\xc3\xa9"]}', [8, 4]),
        (b'{"batch": [1], "batch": [22, 333]}', [2, 3]),
        (b'{"\\u0062atch": [1]}', [1]),
        (b'{"other": 1}', []),
    ],
)
def test_items_are_measured_where_they_stand(text, sizes):
    """An item's size is that of its own text, in bytes, as it was sent."""
    assert sizes == measure_items(text, "batch")


@given(st.lists(VALUES), st.booleans(), st.sampled_from([None, 1, 2]))
def test_sizes_agree_with_the_writer(items, escaped, indent):
    """For any list, compactly written items measure as long as they are."""
    written = [json.dumps(item, ensure_ascii=escaped) for item in items]
    expected = [len(text.encode()) for text in written]
    gap = "," if indent is None else ",\n" + " " * indent
    text = '{"before": [1], "batch": [' + gap.join(written) + '], "after": {}}'
    assert expected == measure_items(text.encode(), "batch")
    assert expected == measure_items(f"[{gap.join(written)}]".encode())
