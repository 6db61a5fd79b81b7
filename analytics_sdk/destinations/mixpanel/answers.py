"""What Mixpanel's answers mean.

``/import`` with ``strict=1`` stores the good events of a request and names the bad
ones; ``/track``, ``/engage`` and ``/groups`` say 200 to everything, and a 1 or a 0 for
the request as a whole. Gateways before them answer in text or HTML::

                 /import                        /track /engage /groups
    200          OK, all counted: delivered     1: delivered; 0: refused
                 fewer counted: bisect
    200          anything else: retry, unreadable
    3xx          hold, redirected
    400          failed_records: these are      refused
                 rejected, the rest delivered
                 without any: bisect
    401 402 403 404 405 and their like          hold, configuration
    408 425 429                                 retry, after Retry-After
    413          split
    502 504      retry                          retry; what may not be repeated is lost
    other 4xx    bisect                         refused
    other 5xx    retry, after Retry-After

*Refused* is searched by halves for what is bad, too.  Mixpanel's pages differ on
whether a 0 means that nothing was taken or not everything.  So what must not be sent
twice is rejected unless it was alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import (
    AllDelivered,
    Bisect,
    Delivered,
    Hold,
    HttpResponse,
    Part,
    PartResult,
    Parts,
    Reading,
    Rejected,
    Retry,
    RetryBatch,
    Split,
)

MAX_EXCERPT = 200

RATE_LIMIT_S = 2.0
"""Shortest pause after a 429 that names none (docs: import events, rate limits)."""

TRANSIENT = frozenset({408, 425, 429})
CONFIGURATION = frozenset(
    {401, 402, 403, 404, 405, 406, 407, 410, 411, 414, 415, 417, 421, 426, 428, 431}
    | {451, 501, 505, 511}
)
"""What speaks of the key, the address or the network, and never of one event."""

GATEWAY = frozenset({502, 504})
"""Said by what stands before Mixpanel, which may have the request all the same."""

Clean = Callable[[str], str]
"""Makes text fit to be shown: short, printable, and without the keys."""


def read_status(response: HttpResponse, clean: Clean) -> Reading | None:
    """Return what the status alone says; None where the body has more to say.

    That is so for 2xx and for the 4xx that may be about single records.
    """
    status, after_s = response.status, response.retry_after_s
    excerpt = clean(response.body.decode("ascii", "replace"))
    reading: Reading | None = None
    if 300 <= status < 400:
        target = response.headers.get("location", "")
        shown = clean(target.partition("#")[0].partition("?")[0])
        reading = Hold(Reason.REDIRECTED, after_s, shown)
    elif status in CONFIGURATION:
        reading = Hold(Reason.CONFIGURATION, after_s, excerpt)
    elif status == 413:
        reading = Split(excerpt)
    elif status == 429:
        pause_s = RATE_LIMIT_S if after_s is None else after_s
        reading = RetryBatch(Reason.RATE_LIMITED, pause_s, excerpt)
    elif status in TRANSIENT or 500 <= status < 600:
        reading = RetryBatch(Reason.SERVER_ERROR, after_s, excerpt)
    elif not (200 <= status < 300 or 400 <= status < 500):
        reading = RetryBatch(Reason.UNREADABLE, after_s, excerpt)
    return reading


def read_import(response: HttpResponse, parts: Sequence[Part], clean: Clean) -> Reading:
    """Say what ``/import?strict=1`` means, where the status leaves it open."""
    excerpt = clean(response.body.decode("ascii", "replace"))
    answer = _parse(response.body)
    said = answer if isinstance(answer, dict) else {}
    if response.status >= 400:
        return _read_failures(said, parts, clean) or Bisect(excerpt)
    if said.get("code") != 200 or said.get("status") != "OK":
        return RetryBatch(Reason.UNREADABLE, response.retry_after_s, excerpt)
    if said.get("failed_records"):
        return _read_failures(said, parts, clean) or Bisect(excerpt)
    count = said.get("num_records_imported", len(parts))
    return AllDelivered() if _covers(count, len(parts)) else Bisect(excerpt)


def _covers(count: object, expected: int) -> bool:
    return type(count) is int and count >= expected


def _read_failures(
    said: Mapping[str, Any], parts: Sequence[Part], clean: Clean
) -> Reading | None:
    """Return a result for each part; None where the answer does not fit the request."""
    records = said.get("failed_records")
    if not isinstance(records, list) or not records:
        return None
    results: list[PartResult] = [Delivered()] * len(parts)
    failed = set()
    for record in records:
        index = _index_of(record, parts)
        if index is None:
            return None
        failed.add(index)
        words = [record.get(name) for name in ("field", "message")]
        shown = ": ".join(word for word in words if isinstance(word, str))
        results[index] = Rejected(Reason.INVALID, clean(shown))
    good = len(parts) - len(failed)
    count = said.get("num_records_imported", good)
    return Parts(tuple(results)) if type(count) is int and count == good else None


def _index_of(record: object, parts: Sequence[Part]) -> int | None:
    """Return which part a failed record is, by its index or its ``$insert_id``.

    Mixpanel's pages name the id in two ways.  Where index and id disagree, neither is
    to be trusted.
    """
    if not isinstance(record, dict):
        return None
    named = record.get("$insert_id", record.get("insert_id"))
    index = record.get("index")
    if type(index) is int and 0 <= index < len(parts):
        fits = not named or named == _insert_id(parts[index])
        return index if fits else None
    if not named or index is not None:
        return None
    same = [at for at, part in enumerate(parts) if _insert_id(part) == named]
    return same[0] if len(same) == 1 else None


def _insert_id(part: Part) -> object:
    return json.loads(part.body)["properties"].get("$insert_id")


def read_updates(
    response: HttpResponse, parts: Sequence[Part], clean: Clean
) -> Reading:
    """Say what the endpoints mean that answer 1 or 0, where the status does not."""
    excerpt = clean(response.body.decode("ascii", "replace"))
    if response.status >= 400:
        return _refused(parts, excerpt)
    answer = _parse(response.body)
    if isinstance(answer, dict):
        if answer.get("error") and answer.get("status") == 1:
            answer = 0
        else:
            answer = answer.get("status")
    if type(answer) is int and answer in (0, 1):
        return AllDelivered() if answer else _refused(parts, excerpt)
    return RetryBatch(Reason.UNREADABLE, response.retry_after_s, excerpt)


def read_gateway(
    response: HttpResponse, parts: Sequence[Part], reading: Reading | None
) -> Reading | None:
    """Return *reading*, unless a gateway lost the answer to what must not be repeated.

    As with a broken connection nobody knows then whether the request was carried out.
    """
    repeatable = all(part.idempotent for part in parts)
    if isinstance(reading, RetryBatch) and response.status in GATEWAY:
        return reading if repeatable else reading._replace(reason=Reason.UNREADABLE)
    return reading


def _refused(parts: Sequence[Part], excerpt: str) -> Reading:
    if len(parts) == 1 or all(part.idempotent for part in parts):
        return Bisect(excerpt)
    return Parts(
        tuple(
            Retry(reason=Reason.INVALID)
            if part.idempotent
            else Rejected(Reason.MAYBE_SENT, excerpt)
            for part in parts
        )
    )


def _parse(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
