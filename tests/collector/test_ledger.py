from __future__ import annotations

import io
import threading

import pytest

from analytics_sdk.collector.faults import Drop, Status
from analytics_sdk.collector.ledger import Ledger
from analytics_sdk.collector.vendor_api import AcceptedEvent, ApiAnswer, RejectedEvent
from analytics_sdk.collector.wire import Head

HEAD = Head("POST", "/v1/batch", "", {"authorization": "s3cret"}, keep_alive=True)


def event(key, **payload):
    return AcceptedEvent({"messageId": key, "type": "track", **payload}, 10, key)


def record(ledger, *accepted, rejected=(), fault=None, keep_body=False):
    answer = ApiAnswer(
        200, accepted=accepted, rejected=tuple(rejected), decoded_body=b"decoded"
    )
    ledger.record(
        answer, fault, connection=1, head=HEAD, body_bytes=4, keep_body=keep_body
    )


def test_copies_are_kept_and_counted():
    """Copies are kept as events and counted by key; the first of each is unique."""
    ledger = Ledger("acme")
    record(ledger, event("a"), event("b"))
    record(ledger, event("a"), event("a"))
    assert ["a", "b", "a", "a"] == [seen.key for seen in ledger.records]
    assert [1, 2, 3, 4] == [seen.number for seen in ledger.records]
    assert [1, 1, 2, 2] == [seen.request for seen in ledger.records]
    assert {"a": 2} == ledger.duplicates
    assert {} == ledger.changed_duplicates
    assert [1, 2] == [seen.number for seen in ledger.unique_records()]


@pytest.mark.parametrize(
    ("first", "second", "changed"),
    [
        ({"x": 1, "y": 2}, {"y": 2, "x": 1}, 0),
        ({"x": 1}, {"x": 2}, 1),
        ({"x": 1}, {"x": True}, 1),
        ({"x": 1}, {}, 1),
    ],
)
def test_changed_copies_are_told_apart(first, second, changed):
    """A copy with another payload is counted as changed, true and 1 being different."""
    ledger = Ledger("acme")
    record(ledger, event("a", **first), event("a", **second))
    assert changed == ledger.changed_duplicates.total()


def test_events_without_a_key_are_never_copies():
    """What carries no key is unique each time."""
    ledger = Ledger("acme")
    record(ledger, event(None), event(None))
    assert 2 == len(ledger.unique_records())
    assert 2 == ledger.stats()["without_key"]


@pytest.mark.parametrize(
    ("fault", "kept", "status"),
    [
        (None, 1, 200),
        (Status(503), 0, 503),
        (Status(503, store=True), 1, 503),
        (Drop("after_body"), 0, None),
        (Drop("after_body", store=True), 1, None),
    ],
)
def test_the_fault_decides_what_counts(fault, kept, status):
    """Events and rejections of a faulted request count only if it stores them."""
    ledger = Ledger("acme")
    record(ledger, event("a"), rejected=[RejectedEvent({}, "why", 1)], fault=fault)
    assert (kept, kept) == (len(ledger.records), len(ledger.rejected))
    (request,) = ledger.requests
    name = None if fault is None else type(fault).__name__
    assert (status, name) == (request.status, request.fault)
    assert kept == request.answered.events


def test_the_log_tells_what_arrived():
    """A request is logged with its address, headers, sizes and connection."""
    ledger = Ledger("acme")
    record(ledger, keep_body=True)
    (request,) = ledger.requests
    assert ("POST", "/v1/batch") == (request.method, request.path)
    assert {"authorization": "s3cret"} == request.headers
    assert (4, 7, b"decoded") == (
        request.body_bytes,
        request.decoded_bytes,
        request.body,
    )
    assert (1, 1) == (request.number, request.connection)


def test_keys_and_payloads_are_not_shown():
    """Representations carry neither headers nor payloads."""
    ledger = Ledger("acme")
    record(ledger, event("a", name="jane"), rejected=[RejectedEvent("jane", "no", 0)])
    shown = repr([ledger.requests, ledger.records, ledger.rejected])
    assert "jane" not in shown
    assert "s3cret" not in shown


def test_totals_add_up():
    """The statistics sum up requests, events, copies and rejections."""
    ledger = Ledger("acme")
    assert 1 == ledger.open_connection()
    record(ledger, event("a"), event("a", x=1))
    record(ledger, rejected=[RejectedEvent({}, "why", 0)])
    record(ledger, fault=Drop("after_body"))
    assert {
        "vendor": "acme",
        "connections": 1,
        "requests": 3,
        "by_status": {"200": 2, "none": 1},
        "faults": {"Drop": 1},
        "body_bytes": 12,
        "decoded_bytes": 21,
        "events": 2,
        "unique_events": 1,
        "duplicates": 1,
        "changed_duplicates": 1,
        "without_key": 0,
        "by_type": {"track": 2},
        "rejected": 1,
        "rejected_by_reason": {"why": 1},
    } == ledger.stats()


def test_reset_forgets_everything():
    """After a reset the ledger is as new."""
    ledger = Ledger("acme")
    ledger.open_connection()
    record(ledger, event("a"), event("a"), rejected=[RejectedEvent({}, "why", 0)])
    ledger.reset()
    assert Ledger("acme").stats() == ledger.stats()
    record(ledger, event("a"))
    assert {} == ledger.duplicates


def test_duplicates_are_announced():
    """Asked to, it writes a line for each copy, and none for an original."""
    output = io.StringIO()
    ledger = Ledger("acme", announce=output)
    record(ledger, event("a"))
    record(ledger, event("a"), event("a", x=1))
    same = "duplicate a: first in request 1, again in request 2, with the same payload"
    other = same.replace("the same", "another")
    assert f"{same}\n{other}\n" == output.getvalue()


def test_waiting_ends_with_the_event():
    """A waiter is woken by the request that makes its wish true, or told it was not."""
    ledger = Ledger("acme")
    assert not ledger.wait_until(lambda: bool(ledger.records), 0.01)
    thread = threading.Thread(target=record, args=(ledger, event("a")))
    thread.start()
    assert ledger.wait_until(lambda: bool(ledger.records), 5)
    thread.join()
