"""Offer scripts by name: what demonstrations and soak runs put a client through."""

from __future__ import annotations

from collections.abc import Callable

from analytics_sdk.collector.faults import (
    Drop,
    Healthy,
    Status,
    captive_portal,
    rate_limited,
    unavailable,
)
from analytics_sdk.collector.script import Script, Step, WithEvent

_POISON_BODY = b'{"success": false, "message": "invalid request"}'


def rough_day(
    *,
    unavailable_s: float = 2.0,
    rate_limits: int = 2,
    retry_after_s: int = 1,
    drops: int = 2,
    unauthorized_s: float = 10.0,
    calm_requests: int = 3,
) -> Script:
    """Return a day on which everything goes wrong once, and then all is well.

    From its first to its last minute a request with an event whose `properties.poison`
    is true is refused with 400 and no index, as Segment does. Beside that, in order:
    calm, 503, calm, 429 with Retry-After, connections dropped (before the body is read;
    after its events were stored, which makes duplicates; by reset in mid-answer), a web
    page under status 200, 401, and calm for good.

    Args:
        unavailable_s: how long 503 is answered, from the first request that meets it.
        rate_limits: how many requests get a 429.
        retry_after_s: what those are told to wait.
        drops: how many connections are dropped in each of the three ways.
        unauthorized_s: how long 401 is answered, from the first request that meets it.
        calm_requests: how many requests go well before the 503s and the 429s.
    """
    poison = WithEvent("properties.poison", value=True)
    headers = (("Content-Type", "application/json"),)
    return Script(
        (
            Step(Status(400, headers, _POISON_BODY), only=poison),
            Step(Healthy(), requests=calm_requests),
            Step(unavailable(), for_s=unavailable_s),
            Step(Healthy(), requests=calm_requests),
            Step(rate_limited(str(retry_after_s)), requests=rate_limits),
            Step(Drop("before_body"), requests=drops),
            Step(Drop("after_body", store=True), requests=drops),
            Step(Drop("mid_body", reset=True, store=True), requests=drops),
            Step(captive_portal(), requests=1),
            Step(Status(401, body=b"unauthorized"), for_s=unauthorized_s),
        )
    )


def outage(*, for_s: float = 5.0, status: int = 503) -> Script:
    """Return an outage: *status* to everything for *for_s*, then health."""
    return Script((Step(unavailable(status), for_s=for_s),))


PRESETS: dict[str, Callable[..., Script]] = {"rough_day": rough_day, "outage": outage}
