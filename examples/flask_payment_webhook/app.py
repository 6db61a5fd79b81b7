"""A payment provider's webhook that answers 2xx only when the event is safe.

The provider sends an event until we answer 2xx. So the answer must tell the truth: not
"queued somewhere in memory", but "delivered", or "no redelivery will help". A receipt
knows which of them it is, within a deadline.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import time
from collections.abc import Callable
from decimal import Decimal

from flask import Flask, Response, request

from analytics_sdk import Client, FlushReport, Outcome, OutcomeKind, Reason, Receipt

TOLERANCE_S = 300
FLUSH_TIMEOUT_S = 3.0
MOST_BODY_BYTES = 256 * 1024

# What the destination's settings cause: the same event comes to the same end again.
CONFIGURATION = {
    Reason.CONFIGURATION,
    Reason.REDIRECTED,
    Reason.SUSPECTED_CONFIGURATION,
    Reason.TLS,
}
# What is wrong with this process, not with the event: later it will be taken.
OUR_TROUBLE = {Reason.QUEUE_FULL, Reason.CLOSED}

log = logging.getLogger(__name__)


def create_app(
    client: Client | None = None,
    secret: bytes | None = None,
    *,
    flush_timeout_s: float = FLUSH_TIMEOUT_S,
    clock: Callable[[], float] = time.time,
) -> Flask:
    """Make the application.

    Args:
        client: Where events go; from the environment by default.
        secret: What the provider signs with; `PAYMENT_WEBHOOK_SECRET` by default.
        flush_timeout_s: The longest that an answer may wait for the delivery. Keep it
            below the provider's own timeout.
        clock: Seconds since 1970, to judge the age of a signature.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MOST_BODY_BYTES
    analytics = client or Client.from_env()
    key = secret or os.environ["PAYMENT_WEBHOOK_SECRET"].encode()

    @app.post("/webhooks/payments")
    def payment() -> Response:
        body = request.get_data()
        if not is_signed(body, request.headers.get("X-Signature", ""), key, clock()):
            return Response("bad signature\n", 400)
        payload = request.get_json(force=True)
        receipt = analytics.track(
            payload["customer_id"],
            "Payment Succeeded",
            {
                "revenue": Decimal(payload["amount_cents"]) / 100,
                "currency": payload["currency"],
            },
            message_id=f"payment:{payload['id']}",
            urgent=True,
        )
        report = analytics.flush(timeout=flush_timeout_s, receipts=[receipt])
        status = answer(receipt, report)
        return Response("ok\n" if status == 200 else "try again\n", status)

    return app


def is_signed(body: bytes, header: str, secret: bytes, now: float) -> bool:
    """Check `X-Signature: t=<seconds>,v1=<hex of HMAC-SHA256 over "t.body">`.

    The time is signed too, so an old request that somebody recorded is refused.
    """
    fields = dict(
        part.strip().split("=", 1) for part in header.split(",") if "=" in part
    )
    sent_at, signature = fields.get("t", ""), fields.get("v1", "")
    if not (sent_at.isdecimal() and signature.isascii()):
        return False
    expected = hmac.new(secret, f"{sent_at}.".encode() + body, hashlib.sha256)
    matches = hmac.compare_digest(expected.hexdigest(), signature)
    return matches and abs(now - int(sent_at)) <= TOLERANCE_S


def answer(receipt: Receipt, report: FlushReport) -> int:
    """Return 200, or 503 where the provider should send the event again.

    With 503 the next delivery carries the same message id, so nothing counts twice.
    """
    if report:
        return 200
    failed = {
        destination: outcome
        for destination, outcome in receipt.by_destination.items()
        if outcome.kind not in {OutcomeKind.DELIVERED, OutcomeKind.SKIPPED}
    }
    for destination, outcome in failed.items():
        if not redelivery_can_help(outcome):
            log.error("%s: %s", receipt.message_id, describe(destination, outcome))
    return 503 if any(map(redelivery_can_help, failed.values())) else 200


def redelivery_can_help(outcome: Outcome) -> bool:
    """Tell trouble that passes from what will be the same next time."""
    if outcome.kind is OutcomeKind.REFUSED:
        return outcome.reason in OUR_TROUBLE
    if outcome.kind is OutcomeKind.HELD:
        return outcome.reason not in CONFIGURATION
    return outcome.kind in {OutcomeKind.QUEUED, OutcomeKind.LOST, OutcomeKind.EVICTED}


def describe(destination: str, outcome: Outcome) -> str:
    """Return an alert that says what happened and what mends it."""
    reason = outcome.reason
    remedy = f": {reason.remedy}" if reason else ""
    return f"{destination}: {outcome.kind} ({reason}){remedy}. {outcome.excerpt}"
