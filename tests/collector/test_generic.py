from __future__ import annotations

import gzip

import pytest

from analytics_sdk.collector import ApiRequest, GenericApi


def ask(body, headers=None, method="POST"):
    return GenericApi().receive(ApiRequest(method, "/any", headers or {}, body))


@pytest.mark.parametrize(
    ("body", "keys", "sizes"),
    [
        (b'{"messageId": "m"}', ["m"], [18]),
        (b'[{"messageId": "m"}, {"id": 1}, 7]', ["m", None], [18, 9]),
        (b'{"messageId": 7}', [None], [16]),
        (b"not json", [], []),
        (b'"text"', [], []),
        (b"", [], []),
    ],
)
def test_objects_are_events_and_all_is_kept(body, keys, sizes):
    """Every body is answered 200 and kept; the objects in it count as events."""
    answer = ask(body)
    assert (200, body) == (answer.status, answer.decoded_body)
    assert keys == [event.key for event in answer.accepted]
    assert sizes == [event.raw_bytes for event in answer.accepted]


def test_compressed_bodies_are_kept_decoded():
    """A gzip body is recorded as what it holds."""
    assert b"{}" == ask(gzip.compress(b"{}"), {"content-encoding": "gzip"}).decoded_body


def test_a_damaged_encoding_is_refused():
    """A body that cannot be decoded cannot be recorded: 400."""
    assert 400 == ask(b"oops", {"content-encoding": "gzip"}).status
