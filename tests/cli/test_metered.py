from __future__ import annotations

from datetime import datetime, timezone

import pytest

from analytics_sdk import Destination, JsonLines, Reason
from analytics_sdk.cli.metered import Metered
from analytics_sdk.interfaces import (
    AllDelivered,
    Bisect,
    Delivered,
    Hold,
    HttpResponse,
    Part,
    Parts,
    Rejected,
    Retry,
    RetryBatch,
    Split,
)

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)
PART = Part("lines", b"{}")


def test_wrapper_is_the_destination_to_the_client(tmp_path):
    """The client sees the wrapped destination's name, limits and selector keys."""
    inner = JsonLines(tmp_path / "events.jsonl", name="archive")
    metered = Metered(inner)
    assert isinstance(metered, Destination)
    for name in ("kind", "name", "aliases", "takes", "limits"):
        assert getattr(inner, name) == getattr(metered, name)


def test_requests_are_counted(tmp_path):
    """Requests, their bytes, and events sent again are counted as they are made."""
    metered = Metered(JsonLines(tmp_path / "events.jsonl"))
    metered.request("lines", [PART, PART], NOW, 1)
    metered.request("lines", [PART, PART], NOW, 2)
    assert (2, 12, 2) == (metered.requests, metered.bytes, metered.retried)


@pytest.mark.parametrize(
    ("reading", "meaning"),
    [
        (AllDelivered(), "delivered"),
        (RetryBatch(Reason.SERVER_ERROR), "sent again (server_error)"),
        (Hold(Reason.CONFIGURATION), "destination on hold (configuration)"),
        (Bisect(), "halved to find the bad event"),
        (
            Parts([Rejected(Reason.INVALID), Delivered(), Delivered()]),
            "each by itself: delivered, rejected",
        ),
        (
            Parts([Retry(0.001), Retry(), Retry(30.0)]),
            "each by itself: parked, sent again",
        ),
        (Split(), "split"),
    ],
)
def test_answers_are_counted_by_meaning(reading, meaning, tmp_path):
    """Every reading is passed on untouched and counted under its words."""

    class Reader(JsonLines):
        def read(self, route, response, parts):
            return reading

    metered = Metered(Reader(tmp_path / "events.jsonl"))
    assert reading is metered.read("lines", HttpResponse(418), [PART])
    assert {(418, meaning): 1} == metered.readings
    assert metered.answered_at_s > 0
