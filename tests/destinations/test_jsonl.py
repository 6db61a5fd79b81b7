from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk.destinations.jsonl import ROUTE, JsonLines
from analytics_sdk.errors import ConfigError, Reason
from analytics_sdk.events import CALL_TYPES, Event, Selection
from analytics_sdk.interfaces import (
    AllDelivered,
    Destination,
    HttpResponse,
    Part,
    RetryBatch,
    WriteRequest,
)

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


def make_event(raw: bytes) -> Event:
    return Event(raw, Selection((), 0, {}, b"", {}))


def test_json_lines_is_a_destination():
    """JsonLines has all that the protocol asks for, and takes every call."""
    destination = JsonLines("events.jsonl")
    assert isinstance(destination, Destination)
    assert ("JsonLines", "JsonLines", (), frozenset(CALL_TYPES)) == (
        destination.kind,
        destination.name,
        destination.aliases,
        destination.takes,
    )
    assert "Other" == JsonLines("x", name="Other").name


def test_events_are_lines():
    """A request appends every event as it is, each on a line of its own."""
    destination = JsonLines(Path("logs") / "events.jsonl")
    parts = [
        part
        for raw in (b'{"messageId":"m-1"}', b'{"messageId":"m-2"}')
        for part in destination.encode(make_event(raw))
    ]
    expected = WriteRequest(
        str(Path("logs", "events.jsonl")),
        b'{"messageId":"m-1"}\n{"messageId":"m-2"}\n',
    )
    assert expected == destination.request(ROUTE, parts, NOON, 1)


def test_lines_keep_the_order_of_the_calls():
    """All parts share a key, so that no two requests of the file overtake."""
    destination = JsonLines("events.jsonl")
    (first,) = destination.encode(make_event(b'{"userId":"a"}'))
    (second,) = destination.encode(make_event(b'{"userId":"b"}'))
    assert first.key == second.key != ""


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text()), min_size=1))
def test_request_is_as_long_as_the_limits_say(payloads):
    """Parts and line feeds add up to the body, and every line is its event."""
    destination = JsonLines("events.jsonl")
    limits = destination.limits[ROUTE]
    parts = [Part(ROUTE, json.dumps(each).encode()) for each in payloads]
    body = destination.request(ROUTE, parts, NOON, 1).body

    feeds = limits.separator_bytes * (len(parts) - 1)
    expected = limits.envelope_bytes + sum(len(each.body) for each in parts) + feeds
    assert expected == len(body)
    assert payloads == [json.loads(line) for line in body.splitlines()]


def test_only_written_is_delivered():
    """200 means written; anything else is tried again when it is asked to."""
    destination = JsonLines("events.jsonl")
    written = destination.read(ROUTE, HttpResponse(200), ())
    failed = destination.read(ROUTE, HttpResponse(500, retry_after_s=2.0), ())
    assert AllDelivered() == written
    assert isinstance(written, AllDelivered)
    assert RetryBatch(Reason.SERVER_ERROR, 2.0) == failed


@pytest.mark.parametrize("path", ["", "a\0b", None, 5, b"bytes"])
def test_bad_path_is_refused(path):
    """What names no file is a configuration error."""
    with pytest.raises(ConfigError, match=r"^path: "):
        JsonLines(path)
