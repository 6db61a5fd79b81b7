"""Offer scripts by name: what demonstrations and soak runs put a client through."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from analytics_sdk.collector.faults import (
    Drop,
    Healthy,
    Status,
    captive_portal,
    rate_limited,
    unavailable,
)
from analytics_sdk.collector.script import OnPath, Script, Step, WithEvent

_JSON = (("Content-Type", "application/json"),)
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
    return Script(
        (
            Step(Status(400, _JSON, _POISON_BODY), only=poison),
            Step(Healthy(), requests=calm_requests),
            Step(unavailable(), for_s=unavailable_s),
            Step(Healthy(), requests=calm_requests),
            Step(rate_limited(str(retry_after_s)), requests=rate_limits),
            *_lost(drops),
            Step(Status(401, body=b"unauthorized"), for_s=unauthorized_s),
        )
    )


def amplitude_day(
    *,
    throttled: Sequence[str] = ("user-1",),
    park_s: float = 30.0,
    retry_after_s: int | None = None,
    unavailable_s: float = 2.0,
    drops: int = 2,
    unauthorized_s: float = 10.0,
    calm_requests: int = 1,
) -> Script:
    """Return the same kind of day as Amplitude's words tell it.

    A user that sends too fast is named in a 429, and so is every request with an event
    of theirs until *park_s* later. Beside that, in order: calm, 503, calm, connections
    dropped as on a `rough_day`, a web page under status 200, 401, and calm for good.
    Bad events are refused by their index without a script: the vendor does it.

    Args:
        throttled: the ids of the users that send too fast.
        park_s: how long each of them should keep silent, from the first 429 on.
        retry_after_s: what their 429 announces; None announces nothing, as Amplitude.
        unavailable_s: how long 503 is answered, from the first request that meets it.
        drops: how many connections are dropped in each of the three ways.
        unauthorized_s: how long 401 is answered, from the first request that meets it.
        calm_requests: how many requests go well before the 503s and the drops.
    """
    wait = () if retry_after_s is None else (("Retry-After", str(retry_after_s)),)
    unauthorized = _said(401, error="Unauthorized")
    return Script(
        (
            *(
                Step(
                    Status(429, (*_JSON, *wait), _too_fast(user)),
                    for_s=park_s,
                    only=WithEvent("user_id", user),
                )
                for user in throttled
            ),
            Step(Healthy(), requests=calm_requests),
            Step(unavailable(), for_s=unavailable_s),
            Step(Healthy(), requests=calm_requests),
            *_lost(drops),
            Step(Status(401, _JSON, unauthorized), for_s=unauthorized_s),
        )
    )


def mixpanel_day(
    *,
    unavailable_s: float = 2.0,
    rate_limits: int = 2,
    drops: int = 2,
    unauthorized_s: float = 10.0,
    calm_requests: int = 1,
) -> Script:
    """Return the same kind of day as Mixpanel's words tell it.

    The first request to `/engage` is answered 200 with status 0, and nothing of it is
    kept. Beside that, in order: calm, 503, calm, 429 without Retry-After, connections
    dropped as on a `rough_day`, a web page under status 200, 401, and calm for good.
    Bad events are named in a 400 without a script: the vendor does it.

    Args:
        unavailable_s: how long 503 is answered, from the first request that meets it.
        rate_limits: how many requests get a 429.
        drops: how many connections are dropped in each of the three ways.
        unauthorized_s: how long 401 is answered, from the first request that meets it.
        calm_requests: how many requests go well before the 503s and the 429s.
    """
    zero = json.dumps({"status": 0, "error": "try again"}).encode()
    too_many = _said(429, status="Too Many Requests", error="rate limit exceeded")
    unauthorized = _said(401, status="Unauthorized", error="Unauthorized")
    return Script(
        (
            Step(Status(200, _JSON, zero), requests=1, only=OnPath("/engage")),
            Step(Healthy(), requests=calm_requests),
            Step(unavailable(), for_s=unavailable_s),
            Step(Healthy(), requests=calm_requests),
            Step(Status(429, _JSON, too_many), requests=rate_limits),
            *_lost(drops),
            Step(Status(401, _JSON, unauthorized), for_s=unauthorized_s),
        )
    )


def _lost(drops: int) -> tuple[Step, ...]:
    """Return the steps in which no answer comes from the vendor itself."""
    return (
        Step(Drop("before_body"), requests=drops),
        Step(Drop("after_body", store=True), requests=drops),
        Step(Drop("mid_body", reset=True, store=True), requests=drops),
        Step(captive_portal(), requests=1),
    )


def _too_fast(user: str) -> bytes:
    return _said(
        429,
        error="Too many requests for some devices and users",
        eps_threshold=30,
        throttled_devices={},
        throttled_users={user: 31},
    )


def _said(code: int, **members: object) -> bytes:
    return json.dumps({"code": code, **members}).encode()


def outage(*, for_s: float = 5.0, status: int = 503) -> Script:
    """Return an outage: *status* to everything for *for_s*, then health."""
    return Script((Step(unavailable(status), for_s=for_s),))


PRESETS: dict[str, Callable[..., Script]] = {
    "rough_day": rough_day,
    "amplitude_day": amplitude_day,
    "mixpanel_day": mixpanel_day,
    "outage": outage,
}
