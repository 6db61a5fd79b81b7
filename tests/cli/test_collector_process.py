from __future__ import annotations

import shutil
import socket

import pytest

from analytics_sdk import Client, Segment
from analytics_sdk.cli import collector_process
from analytics_sdk.cli.collector_process import CollectorProcess

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def collector(monkeypatch, environment):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    with CollectorProcess("segment", "some-key") as running:
        yield running


def test_events_come_back_over_all_pages(collector, monkeypatch):
    """All events are read, page by page, with fractions as they were written."""
    monkeypatch.setattr(collector_process, "_PAGE_EVENTS", 2)
    with Client(Segment("some-key", host=collector.url)) as client:
        for number in range(5):
            client.track("u", "Paid", {"revenue": 29.33}, message_id=f"m-{number}")
    events = list(collector.events())
    assert [f"m-{number}" for number in range(5)] == [e["messageId"] for e in events]
    assert {"29.33"} == {str(event["properties"]["revenue"]) for event in events}
    assert 5 == collector.stats()["events"]


def test_no_events_are_an_empty_list(collector):
    """A collector that got nothing yields nothing, and does not hang."""
    assert [] == list(collector.events())


def test_unknown_preset_is_an_error(collector):
    """A script that the collector refuses raises here: no run without its faults."""
    with pytest.raises(RuntimeError, match="answered 400 to /_faults"):
        collector.play("sunny_day")


def test_child_is_gone_after_close(monkeypatch, environment):
    """After `with`, and after a second close, nobody listens any more."""
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    with CollectorProcess("segment", "some-key") as collector:
        port = int(collector.url.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), timeout=3).close()
    collector.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=3)


def test_child_that_does_not_go_is_killed(monkeypatch, environment):
    """A child that outlasts the patience of `close` is ended by force."""
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    monkeypatch.setattr(collector_process, "_END_S", 0.0)
    with CollectorProcess("segment", "some-key") as collector:
        child = collector._process
    assert child.returncode is not None


@pytest.mark.skipif(shutil.which("false") is None, reason="there is no such program")
def test_child_that_cannot_start_is_an_error(monkeypatch):
    """A child that ends before it listens is an error, not a hang."""
    monkeypatch.setattr(collector_process.sys, "executable", shutil.which("false"))
    with pytest.raises(RuntimeError, match="ended before it listened"):
        CollectorProcess("segment", "some-key").__enter__()
