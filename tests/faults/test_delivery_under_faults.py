"""Faults that pass: everything is delivered, once in the books, whatever it took."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from analytics_sdk import Client, Segment
from analytics_sdk.collector import Collector, Reused, Step, faults
from tests.faults.rig import KeepingApi

MIB = 1024 * 1024

PASSING = {
    **{
        f"status {status}": faults.Status(status, body=b"busy")
        for status in (408, 425, 429, 460, 500, 502, 503, 504, 520, 599)
    },
    "429, come back at once": faults.rate_limited("0"),
    "dropped at accept": faults.Drop("accept"),
    "reset at accept": faults.Drop("accept", reset=True),
    "dropped before the body": faults.Drop("before_body"),
    "reset before the body": faults.Drop("before_body", reset=True),
    "dropped before the answer": faults.Drop("after_body"),
    "reset before the answer": faults.Drop("after_body", reset=True),
    "stored, then dropped": faults.Drop("after_body", store=True),
    "stored, then reset": faults.Drop("after_body", reset=True, store=True),
    "dropped within the head": faults.Drop("mid_head", store=True),
    "truncated": faults.Drop("mid_body", store=True),
    "reset within the body": faults.Drop("mid_body", reset=True),
    "half-closed": faults.HalfClose(for_s=0.2),
    "not HTTP": faults.Garbage(),
    "stored, then not HTTP": faults.Garbage(store=True),
    "captive portal": faults.captive_portal(),
    "empty 200": faults.empty_success(),
    "200 with a list": faults.Status(200, body=b"[]"),
    "200 with null": faults.Status(200, body=b"null"),
    "200 nested deeply": faults.Status(200, body=b"[" * 60_000),
    "200 that is no UTF-8": faults.Status(200, body=b"\xff\xfe\x00"),
    "204": faults.Status(204),
    "chunk of no size": faults.BrokenChunks("size"),
    "chunks cut off": faults.BrokenChunks("cut", store=True),
    "endless body": faults.Endless(),
    "gzip bomb": faults.GzipBomb(),
    "huge header": faults.HugeHeader(),
    "many headers": faults.HugeHeader(line_bytes=1024, lines=2000),
    "early 503": faults.EarlyAnswer(503, reset=False),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_passing_fault_loses_nothing(make_rig, caplog, fault):
    """After one such answer everything is delivered, and all books agree."""
    rig = make_rig(fault)
    rig.offer()
    report = rig.flush()
    assert report, report
    assert {"delivered": 24} == rig.outcomes()
    rig.check(caplog.text)


@pytest.mark.parametrize(
    "fault",
    [
        faults.Hang(),
        faults.Hang(store=True),
        faults.Hang("before_body"),
        faults.Hang("accept"),
        faults.HalfClose(store=True),
        faults.Slow(0.05, "head"),
        faults.Slow(0.05, "body"),
        faults.Healthy(delay_s=5.0),
    ],
    ids=repr,
)
def test_silence_ends_with_the_request_timeout(make_rig, caplog, fault):
    """Whoever says nothing, or a byte at a time, is given up on by the wall clock."""
    rig = make_rig(fault, request_timeout_s=0.4)
    rig.offer()
    started_s = time.monotonic()
    assert rig.flush()
    assert time.monotonic() - started_s < 1.5
    rig.check(caplog.text)


@pytest.mark.parametrize("fault", [faults.unavailable(), faults.Drop("after_body")])
def test_several_failures_in_a_row_are_outlived(make_rig, caplog, fault):
    """Four failures in a row, then success: one outcome each, the same bytes."""
    rig = make_rig(Step(fault, requests=4))
    rig.offer(60, users=7)
    assert rig.flush()
    assert 5 <= len(rig.collector.requests)
    rig.check(caplog.text)


def test_every_kind_of_drop_in_one_day(make_rig, caplog):
    """Nine requests end in nine ways, and still nothing is lost or changed."""
    places = ("before_body", "after_body", "mid_head", "mid_body")
    drops = [faults.Drop(at, reset=reset) for at in places for reset in (False, True)]
    day = [part for drop in drops for part in (drop, Step(faults.Healthy(), 1))]
    rig = make_rig(*day, faults.captive_portal())
    for _ in range(12):
        rig.offer(5)
        rig.flush(0.3)
    assert rig.flush()
    assert rig.collector.script_is_over()
    rig.check(caplog.text)


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_stale_connection_costs_no_failure(make_rig, caplog, reset):
    """A kept connection that the server has closed is replaced without a wait."""
    rig = make_rig(faults.IdleClose(reset=reset))
    rig.offer(3)
    assert rig.flush()
    time.sleep(0.05)
    rig.offer(3)
    started_s = time.monotonic()
    assert rig.flush()
    assert time.monotonic() - started_s < 0.5
    assert rig.client.stats().destinations["Segment.io"].last_error is None
    assert 2 == rig.collector.stats()["connections"]
    rig.check(caplog.text)


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_connection_lost_on_reuse_is_tried_once_more(make_rig, caplog, reset):
    """A reused connection that dies under a request is replaced within the request."""
    dying = faults.Drop("after_body", reset=reset)
    rig = make_rig(Step(dying, requests=1, only=Reused()))
    rig.offer(3)
    assert rig.flush()
    rig.offer(3)
    assert rig.flush()
    assert rig.client.stats().destinations["Segment.io"].last_error is None
    rig.check(caplog.text)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "GzipBomb"},
        {"kind": "Endless"},
        {"kind": "HugeHeader", "line_bytes": 16 * MIB},
        {"kind": "HugeHeader", "line_bytes": 1024, "lines": 16 * 1024},
    ],
    ids=["gzip bomb", "endless body", "huge header", "many headers"],
)
def test_flood_of_an_answer_takes_little_memory(distant, fault):
    """An answer of 16 or 64 MiB, or one that would unpack to it, costs under 2 MiB."""
    with Client(Segment("k", host=distant.url)) as client:
        assert client.track("u", "Warm up").wait(5)
        distant.ask("_faults", {"steps": [{"fault": fault, "requests": 2}]})
        tracemalloc.start()
        try:
            receipt = client.track("u", "Paid")
            assert client.flush(8)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert "delivered" == receipt.outcome.kind
    assert 2 == distant.ask("_stats")["faults"][fault["kind"]]
    assert peak_bytes < 2 * MIB


def test_server_that_is_away_and_returns(make_rig, caplog):
    """Refused connections hold the events until somebody listens again."""
    rig = make_rig()
    port = rig.collector.port
    rig.collector.close()
    rig.offer()
    report = rig.flush(0.3)
    assert (24, 24) == (report.pending, sum(not r.outcome for r in rig.receipts))
    assert "unreachable" == report.holds["Segment.io"].reason
    rig.collector = Collector(KeepingApi(), port=port).start()
    assert rig.flush(8)
    rig.check(caplog.text)


def test_nothing_sent_is_said_of_refused_connections(make_rig):
    """Events for which no connection was ever made are receipted as not sent."""
    rig = make_rig()
    rig.collector.close()
    rig.offer(3)
    rig.flush(0.1)
    rig.client.close(0.1)
    assert {"lost(exit)": 3} == rig.outcomes()
    assert ["no"] * 3 == [receipt.sent for receipt in rig.receipts]
