from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import get_args

import attrs
import pytest

from analytics_sdk.destinations.console import Console
from analytics_sdk.destinations.jsonl import JsonLines
from analytics_sdk.destinations.segment import Segment
from analytics_sdk.errors import Reason
from analytics_sdk.events import CALL_TYPES, Event, Selection
from analytics_sdk.interfaces import (
    AllDelivered,
    Bisect,
    Delivered,
    Destination,
    Hold,
    HttpRequest,
    HttpResponse,
    Limits,
    Part,
    PartResult,
    Parts,
    Reading,
    Rejected,
    Request,
    Retry,
    RetryBatch,
    Split,
    TransportError,
    WriteRequest,
)

CANARY = "canary-key-7f3a9c"
NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)
TAIL = b',"integrations":{}}'
RAW = (
    b'{"messageId":"m-1","timestamp":"2026-11-21T09:30:00.123Z","type":"identify",'
    b'"userId":"canary-key-7f3a9c","traits":{},"context":{}' + TAIL
)
METHODS = {"encode", "request", "read"}
ATTRIBUTES = {"kind", "name", "aliases", "takes", "limits"}


@pytest.fixture(
    name="destination",
    params=[
        lambda: Segment(CANARY),
        lambda: Segment(CANARY, region="eu", name="EU", gzip=True),
        lambda: JsonLines("events.jsonl"),
        Console,
    ],
    ids=["Segment", "Segment EU", "JsonLines", "Console"],
)
def _destination(request):
    return request.param()


@pytest.fixture(name="event")
def _event():
    return Event(RAW, Selection(("Segment.io",), 1, {}, TAIL, {}))


# -- the protocol -------------------------------------------------------------


def test_protocol_asks_three_methods_and_five_attributes():
    """What a destination has to have is small, and this is all of it."""
    asked = {name for name in vars(Destination) if not name.startswith("_")}
    assert METHODS | ATTRIBUTES == asked


def test_shipped_destination_is_a_destination(destination):
    """Each destination has all that the protocol asks for, in the types it asks."""
    assert isinstance(destination, Destination)
    assert all(isinstance(each, str) for each in (destination.kind, destination.name))
    assert all(isinstance(each, str) for each in (*destination.aliases, ""))
    assert destination.takes <= frozenset(CALL_TYPES)
    assert all(isinstance(each, Limits) for each in destination.limits.values())
    assert isinstance(destination.limits, Mapping)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_shipped_destination_has_the_signature_of_the_protocol(destination, name):
    """Each method takes what the driver will pass, by the names of the protocol."""
    asked = list(inspect.signature(getattr(Destination, name)).parameters)[1:]
    assert asked == list(inspect.signature(getattr(destination, name)).parameters)


@pytest.mark.parametrize("missing", sorted(METHODS | ATTRIBUTES))
def test_what_lacks_a_member_is_no_destination(missing):
    """An object without one of the members is not taken for a destination."""
    whole = {**dict.fromkeys(ATTRIBUTES), **dict.fromkeys(METHODS, print)}
    assert isinstance(type("Whole", (), whole)(), Destination)
    del whole[missing]
    assert not isinstance(type("Almost", (), whole)(), Destination)


def test_way_through_a_destination_is_plain_data(destination, event):
    """Event to parts, parts to a request, answer to a reading: data all along."""
    parts = destination.encode(event)
    assert parts
    assert all(isinstance(part, Part) for part in parts)
    assert all(part.route in destination.limits for part in parts)
    request = destination.request(parts[0].route, parts, NOW, 1)
    assert isinstance(request, get_args(Request))
    assert all(part.body in request.body for part in parts)
    reading = destination.read(parts[0].route, HttpResponse(503), parts)
    assert isinstance(reading, get_args(Reading))


def test_bounds_of_a_route_cover_its_envelope(destination, event):
    """A request is never longer than parts, separators and the envelope together."""
    parts = [*destination.encode(event)] * 3
    route = parts[0].route
    limits = destination.limits[route]
    request = destination.request(route, parts, NOW, 7)
    bodies = sum(len(part.body) for part in parts)
    separators = limits.separator_bytes * (len(parts) - 1)
    assert len(request.body) <= bodies + separators + limits.envelope_bytes


# -- what is shown ------------------------------------------------------------


def test_destination_does_not_show_its_key(destination):
    """A destination in a log line, an f-string or a list shows no key."""
    for shown in (repr(destination), str(destination), f"{[destination]}"):
        assert CANARY not in shown


def test_key_of_a_destination_is_not_pickled():
    """A destination with a key cannot be pickled, so the key travels nowhere."""
    with pytest.raises(TypeError, match="cannot be pickled") as caught:
        pickle.dumps(Segment(CANARY))
    assert CANARY not in str(caught.value)


def test_destination_is_frozen(destination):
    """A destination cannot change after the client has looked at it."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        destination.name = "other"


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (
            HttpRequest(
                f"https://h/{CANARY}", {"Authorization": CANARY}, CANARY.encode(), True
            ),
            "<HttpRequest 17 bytes>",
        ),
        (Part("batch", CANARY.encode(), CANARY, CANARY), "<Part batch 17 bytes>"),
        (WriteRequest(CANARY, CANARY.encode()), "<WriteRequest 17 bytes>"),
        (WriteRequest(None, b""), "<WriteRequest 0 bytes>"),
        (
            HttpResponse(400, {"set-cookie": CANARY}, CANARY.encode(), 5.0),
            "<HttpResponse 400>",
        ),
    ],
    ids=["http", "part", "file", "console", "answer"],
)
def test_part_request_and_answer_show_no_content(made, shown):
    """Headers, bodies, addresses, paths and user keys appear in no repr."""
    assert shown == repr(made) == str(made) == f"{made}"


def test_request_of_a_destination_shows_nothing(destination, event):
    """A real request, with key and personal data in it, shows its size alone."""
    parts = destination.encode(event)
    request = destination.request(parts[0].route, parts, NOW, 1)
    assert CANARY.encode() in request.body
    assert f"<{type(request).__name__} {len(request.body)} bytes>" == repr(request)


# -- defaults -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "values"),
    [
        (Limits(), (None, None, None, 0, 1)),
        (Part("batch", b"{}"), ("batch", b"{}", "", "", False, True, None)),
        (HttpRequest("https://h", {}, b""), ("https://h", {}, b"", False, True)),
        (HttpResponse(200), (200, {}, b"", None)),
        (Delivered(), ("",)),
        (Rejected(Reason.INVALID), (Reason.INVALID, "")),
        (Retry(), (None, Reason.RATE_LIMITED)),
        (AllDelivered(), ("",)),
        (RetryBatch(Reason.UNREADABLE), (Reason.UNREADABLE, None, "")),
        (Split(), ("",)),
        (Bisect(), ("",)),
        (Hold(Reason.CONFIGURATION), (Reason.CONFIGURATION, None, "")),
        (Parts([Delivered()]), ([Delivered()],)),
        (
            TransportError(Reason.TLS, False, "handshake failed"),
            (Reason.TLS, False, "handshake failed"),
        ),
    ],
    ids=lambda each: type(each).__name__ if hasattr(each, "_fields") else "",
)
def test_least_that_can_be_said(made, values):
    """Each kind of data has the defaults that mean: nothing special."""
    assert values == tuple(made)


def test_readings_are_told_apart_by_their_type():
    """Two readings with the same content are different things to do."""
    kinds = (*get_args(Reading), *get_args(PartResult))
    assert len(kinds) == len(set(kinds)) == 9


def test_event_is_the_line_and_the_upload(destination, event):
    """Destinations of the Spec's own form send the canonical bytes untouched."""
    (part,) = destination.encode(event)
    assert RAW == part.body
    assert json.loads(part.body) == event.payload
