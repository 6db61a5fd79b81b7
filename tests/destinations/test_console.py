from __future__ import annotations

from datetime import datetime, timezone

from analytics_sdk.destinations.console import ROUTE, Console
from analytics_sdk.errors import Reason
from analytics_sdk.events import CALL_TYPES, Event, Selection
from analytics_sdk.interfaces import (
    AllDelivered,
    Destination,
    HttpResponse,
    RetryBatch,
    WriteRequest,
)

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


def test_console_is_a_destination():
    """Console has all that the protocol asks for, and takes every call."""
    destination = Console()
    assert isinstance(destination, Destination)
    assert ("Console", "Console", (), frozenset(CALL_TYPES)) == (
        destination.kind,
        destination.name,
        destination.aliases,
        destination.takes,
    )
    assert "Other" == Console(name="Other").name


def test_events_are_lines():
    """A request prints every event as compact JSON on a line of its own, in order."""
    destination = Console()
    selection = Selection((), 0, {}, b"", {})
    parts = [
        part
        for raw in (b'{"messageId":"m-1"}', b'{"messageId":"m-2"}')
        for part in destination.encode(Event(raw, selection))
    ]
    body = b'{"messageId":"m-1"}\n{"messageId":"m-2"}\n'
    limits = destination.limits[ROUTE]
    assert WriteRequest(None, body) == destination.request(ROUTE, parts, NOON, 1)
    assert len(body) == 38 + limits.separator_bytes + limits.envelope_bytes
    assert ["Console", "Console"] == [part.key for part in parts]


def test_only_printed_is_delivered():
    """200 means printed; anything else is tried again when it is asked to."""
    printed = Console().read(ROUTE, HttpResponse(200), ())
    failed = Console().read(ROUTE, HttpResponse(500, retry_after_s=2.0), ())
    assert AllDelivered() == printed
    assert isinstance(printed, AllDelivered)
    assert RetryBatch(Reason.SERVER_ERROR, 2.0) == failed
