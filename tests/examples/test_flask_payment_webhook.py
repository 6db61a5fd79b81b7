"""The webhook's table of answers, a row a test, over real sockets.

The client, its threads and the collector are real; the provider's request reaches the
application through Flask's own test client.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import json
import logging
import time
from contextlib import ExitStack

import pytest

from analytics_sdk import Client, Delivery, FlushReport, JsonLines, Segment
from analytics_sdk.collector import Collector, Step, WithEvent, faults
from analytics_sdk.receipts import Outcome, OutcomeKind

SECRET = b"whsec_for_tests"
NOW = 1_795_000_000
FLUSH_TIMEOUT_S = 1.0

FORBIDDEN = Step(faults.Status(401, body=b"unauthorized"))
BUSY = Step(faults.Status(503, (("Retry-After", "60"),)))
INVALID = Step(faults.Status(400, body=b'{"message": "no such field"}'))


def sign(body, *, secret=SECRET, at=NOW):
    signed = hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={signed.hexdigest()}"


def payment(event_id="evt_1", **changed):
    fields = {
        "id": event_id,
        "customer_id": "cus_7",
        "amount_cents": 1990,
        "currency": "EUR",
    }
    return json.dumps({**fields, **changed}).encode()


class Shop:
    """The application, its client and what stands in for the vendor."""

    def __init__(self, example, collector, *destinations, timeout_s=FLUSH_TIMEOUT_S):
        self.collector = collector
        segment = Segment("write-key-0123456789", host=collector.url)
        self.client = Client(
            segment, *destinations, delivery=Delivery(exit_timeout_s=0.2)
        )
        app = example.create_app(
            self.client, SECRET, flush_timeout_s=timeout_s, clock=lambda: NOW
        )
        self._http = app.test_client()
        self.answered_in_s = 0.0

    def deliver(self, body, signature=None):
        """Do as the provider does; return the status."""
        headers = {"Content-Type": "application/json"}
        headers["X-Signature"] = sign(body) if signature is None else signature
        started_s = time.monotonic()
        answer = self._http.post("/webhooks/payments", data=body, headers=headers)
        self.answered_in_s = time.monotonic() - started_s
        return answer.status_code


@pytest.fixture
def example(require):
    require("flask", "pip install flask")
    return importlib.import_module("examples.flask_payment_webhook.app")


@pytest.fixture
def collector():
    with Collector() as running:
        yield running


@pytest.fixture
def open_shop(example, collector):
    with ExitStack() as stack:

        def open_one(*destinations, **settings):
            shop = Shop(example, collector, *destinations, **settings)
            stack.callback(shop.client.close)
            return shop

        yield open_one


@pytest.fixture
def shop(open_shop):
    return open_shop()


@pytest.fixture
def alerts(caplog):
    """The errors that somebody will be woken by."""

    def messages():
        return [
            record.getMessage()
            for record in caplog.records
            if record.levelno >= logging.ERROR
        ]

    return messages


# -- the table of answers -----------------------------------------------------


def test_delivered_is_200(shop, alerts):
    """A payment that the vendor has is answered 200, with nothing to report."""
    assert 200 == shop.deliver(payment())
    [event] = shop.collector.events
    assert ("payment:evt_1", "cus_7") == (event["messageId"], event["userId"])
    assert {"revenue": 19.9, "currency": "EUR"} == event["properties"]
    assert [] == alerts()


def test_stored_is_200(example, shop):
    """A payment that is stored at the configured durability is answered 200."""
    shop.collector.play(BUSY)
    receipt = shop.client.track("cus_7", "Payment Succeeded")
    stored = FlushReport(
        counts={},
        by_destination={},
        pending=1,
        held=0,
        stored=1,
        holds={},
        elapsed_s=0.0,
    )
    assert 200 == example.answer(receipt, stored)


def test_rejected_is_200_and_an_alert(shop, alerts):
    """What the vendor refuses for good would be refused again: 200, and an alert."""
    shop.collector.play(INVALID)
    assert 200 == shop.deliver(payment())
    [alert] = alerts()
    assert "payment:evt_1" in alert
    assert "rejected (invalid)" in alert
    assert "no such field" in alert


def test_refused_is_200_and_an_alert(shop, alerts):
    """What our own client cannot take would be refused again: 200, and an alert."""
    assert 200 == shop.deliver(payment(customer_id=None))
    [alert] = alerts()
    assert "refused (no_id)" in alert
    assert [] == shop.collector.events


def test_held_by_configuration_is_200_and_an_alert(shop, alerts):
    """A wrong key is ours to mend; the event is kept: 200, and an alert."""
    shop.collector.play(FORBIDDEN)
    assert 200 == shop.deliver(payment())
    [alert] = alerts()
    assert "held (configuration)" in alert
    assert "write-key" not in alert


def test_held_by_trouble_is_503(shop, alerts):
    """While the vendor has trouble, the provider shall send the event again."""
    shop.collector.play(BUSY)
    assert 503 == shop.deliver(payment())
    assert [] == alerts()


def test_pending_is_503(shop):
    """A vendor that hangs costs the deadline and no more: 503, in time."""
    shop.collector.play(Step(faults.Hang(for_s=30)))
    assert 503 == shop.deliver(payment())
    assert FLUSH_TIMEOUT_S * 0.9 <= shop.answered_in_s < FLUSH_TIMEOUT_S + 0.5


@pytest.mark.parametrize(
    ("kind", "reason", "status"),
    [
        (OutcomeKind.LOST, "EXPIRED", 503),
        (OutcomeKind.LOST, "EXIT", 503),
        (OutcomeKind.EVICTED, "OLDEST", 503),
        (OutcomeKind.REFUSED, "QUEUE_FULL", 503),
        (OutcomeKind.REFUSED, "CLOSED", 503),
        (OutcomeKind.REFUSED, "TOO_LARGE", 200),
        (OutcomeKind.HELD, "TLS", 200),
        (OutcomeKind.HELD, "REDIRECTED", 200),
        (OutcomeKind.HELD, "UNREACHABLE", 503),
        (OutcomeKind.DEAD_LETTERED, "INVALID", 200),
    ],
)
def test_redelivery_is_asked_for_where_it_can_help(example, kind, reason, status):
    """What passes with time is asked for again; what a person must mend is not."""
    outcome = Outcome(kind, getattr(example.Reason, reason))
    assert (503 == status) == example.redelivery_can_help(outcome)


def test_closed_client_is_503(shop):
    """A process that is shutting down takes no payment: another one may."""
    shop.client.close()
    assert 503 == shop.deliver(payment())


def test_worst_destination_decides(open_shop, tmp_path, alerts):
    """Delivered to one destination, pending at another: 503, for that other's sake."""
    shop = open_shop(JsonLines(tmp_path / "events.jsonl"))
    shop.collector.play(BUSY)
    assert 503 == shop.deliver(payment())
    shop.collector.play()
    assert 1 == len((tmp_path / "events.jsonl").read_text().splitlines())


# -- speed on hold --------------------------------------------------------------


@pytest.mark.parametrize(("fault", "status"), [(FORBIDDEN, 200), (BUSY, 503)])
def test_hold_costs_no_time(open_shop, fault, status):
    """While the destination is on hold, answers come at once, not at the deadline."""
    shop = open_shop(timeout_s=3.0)
    shop.collector.play(fault)
    assert status == shop.deliver(payment("evt_1"))
    assert status == shop.deliver(payment("evt_2"))
    assert shop.answered_in_s < 0.5


# -- redelivery -------------------------------------------------------------------


def test_redelivery_counts_once(shop):
    """The provider's second delivery carries the same message id: one payment."""
    assert [200, 200] == [shop.deliver(payment()), shop.deliver(payment())]
    assert {"payment:evt_1": 1} == shop.collector.duplicates
    assert 1 == len(shop.collector.unique_events())


def test_redelivery_after_503_gets_through(shop):
    """A payment answered 503 is delivered when the provider tries again."""
    shop.collector.play(Step(faults.Drop("before_body"), requests=50))
    assert 503 == shop.deliver(payment())
    shop.collector.play()
    shop.client.flush(5.0)
    assert 200 == shop.deliver(payment())
    ids = [event["messageId"] for event in shop.collector.unique_events()]
    assert ["payment:evt_1"] == ids


def test_stranger_does_not_fail_a_payment(shop):
    """Another event that the vendor refuses is not this payment's business."""
    shop.collector.play(Step(INVALID.fault, only=WithEvent("event", "Strange")))
    shop.client.track("somebody", "Strange")
    assert 200 == shop.deliver(payment())


def test_backlog_does_not_delay_a_payment(open_shop):
    """Strangers' events that wait in front are not waited for."""
    shop = open_shop(timeout_s=5.0)
    shop.collector.play(Step(faults.Healthy(delay_s=0.2)))
    for _ in range(200):
        shop.client.track("somebody", "Browsed", {"page": "x" * 20_000})
    assert 200 == shop.deliver(payment())
    assert shop.answered_in_s < 1.0
    assert shop.client.stats().queued_events > 50


# -- signatures ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "nonsense",
        "t=,v1=",
        f"t={NOW}",
        f"v1={'0' * 64}",
        f"t={NOW},v1={'0' * 64}",
        f"t={NOW},v1=\u00e9",
        sign(payment(), at="soon"),
        sign(payment(), at="\u00b2"),
        f"t=-{NOW},v1={'0' * 64}",
        sign(payment(), secret=b"another"),
        sign(payment("evt_2")),
        sign(payment()).replace(f"t={NOW}", f"t={NOW + 1}"),
        sign(payment(), at=NOW - 301),
        sign(payment(), at=NOW + 301),
    ],
)
def test_bad_signature_is_400_and_no_event(example, signature):
    """A missing, forged, altered or stale signature is refused."""
    assert not example.is_signed(payment(), signature, SECRET, NOW)


@pytest.mark.parametrize(
    "signature", ["", sign(payment(), secret=b"no"), sign(payment(), at=NOW - 301)]
)
def test_unsigned_request_makes_no_event(shop, signature):
    """A request that the provider did not sign is answered 400 and tracks nothing."""
    assert 400 == shop.deliver(payment(), signature)
    assert 0 == shop.client.stats().accepted
    assert [] == shop.collector.requests


@pytest.mark.parametrize("at", [NOW - 300, NOW, NOW + 300])
def test_signature_holds_for_five_minutes(example, at):
    """Clocks may differ, and requests take time: five minutes either way."""
    assert example.is_signed(payment(), sign(payment(), at=at), SECRET, NOW)
