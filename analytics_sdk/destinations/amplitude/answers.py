"""What Amplitude's answers mean for the parts of a request.

Sources: the response tables of the HTTP V2 and Batch Event Upload API pages, and what
Amplitude's own libraries read besides.  The table is in ``docs/amplitude.md``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

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

TRANSIENT = frozenset({408, 410, 425, 429, 460})
CONFIGURATION = frozenset(
    {401, 402, 403, 404, 405, 406, 407, 411, 414, 415, 417, 421, 426, 428, 431, 451}
    | {501, 505, 511}
)
"""What speaks of the key, the address or the network, and never of one event."""

INVALID = (
    "events_with_invalid_fields",
    "events_with_missing_fields",
    "events_with_invalid_id_lengths",
)
"""Maps from a field to the indexes of the events that lack it or have it wrong."""

REQUEST_FIELDS = frozenset({"api_key", "events"})
"""What a whole request may lack, and no event can."""

AT_ONCE_S = 0.001
"""A wait that is none: what was refused for its neighbours' sake goes again."""

_SUCCESS_WORDS = frozenset({"", "ok", "success"})
_CANNOT_HELP = ("invalid api key", "invalid request path")
_UNCOUNTED = (b'{"event_type":"$identify"', b'{"event_type":"$groupidentify"')


class Answer(NamedTuple):
    """An answer with its body read.

    Args:
        status: The status that counts: of HTTP status and ``code`` in the body an
            error beats a success, and the body's error the other one.
        said: The body where it is a JSON object, else empty.
        words: What it says, fit for a report.
        after_s: What ``Retry-After`` asks for.
    """

    status: int
    said: Mapping[str, Any]
    words: str
    after_s: float | None


def parse(response: HttpResponse, excerpt: Callable[[str], str]) -> Answer:
    """Return what *response* says.

    Args:
        response: Its body may be anything.
        excerpt: Makes a text fit for a report.
    """
    text = response.body.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    said = body if isinstance(body, dict) else {}
    # Its other members may name users, so an object is not shown as it is.
    told = [said[name] for name in ("error", "message") if name in said]
    words = next((each for each in told if isinstance(each, str)), "")
    words = words if said else text
    status = response.status
    code = said.get("code")
    if type(code) is int and 400 <= code < 600:
        status = code
    return Answer(status, said, excerpt(words), response.retry_after_s)


def read_events(answer: Answer, parts: Sequence[Part], park_s: float) -> Reading:
    """Say what the answer to an upload of events means.

    Args:
        answer: To the request.
        parts: Of the request.
        park_s: How long a user or device waits that sends too fast.
    """
    status = answer.status
    if 200 <= status < 300:
        return _read_success(answer, parts, park_s)
    if status == 400:
        if _concerns_request(answer, parts):
            return Hold(Reason.CONFIGURATION, answer.after_s, answer.words)
        named = _results(answer, parts, park_s, Retry(AT_ONCE_S, reason=Reason.INVALID))
        return named or Bisect(answer.words)
    if status == 429:
        rest = Retry(AT_ONCE_S)
        named = _results(answer, parts, park_s, rest)
        return named or RetryBatch(Reason.RATE_LIMITED, answer.after_s, answer.words)
    return _read_failure(answer)


def read_mapping(answer: Answer) -> Reading:
    """Say what the answer of the User Mapping API means.

    Its success is not documented: nothing, a bare word and any JSON object that does
    not speak of a failure count as one, a page of HTML does not.
    """
    status, said = answer.status, answer.said
    if 200 <= status < 300:
        if said:
            failed = said.get("success") is False or bool(said.get("error"))
            return Bisect(answer.words) if failed else AllDelivered()
        if answer.words.strip().strip('"').lower() in _SUCCESS_WORDS | {"{}"}:
            return AllDelivered()
        return RetryBatch(Reason.UNREADABLE, answer.after_s, answer.words)
    if status == 400:
        if _cannot_help(answer):
            return Hold(Reason.CONFIGURATION, answer.after_s, answer.words)
        return Bisect(answer.words)
    return _read_failure(answer)


def _read_success(answer: Answer, parts: Sequence[Part], park_s: float) -> Reading:
    """Tell a success from an answer that only looks like one by its status.

    Whether ``$identify`` events are counted as ingested is not documented, so that
    only the lack of other events is one.
    """
    said = answer.said
    ingested = said.get("events_ingested")
    counted = type(ingested) is int
    if not counted and not _is_success(said.get("code")):
        return RetryBatch(Reason.UNREADABLE, answer.after_s, answer.words)
    named = _results(answer, parts, park_s, Delivered())
    if named is not None:
        return named
    least = sum(not part.body.startswith(_UNCOUNTED) for part in parts)
    if counted and ingested < least:  # type: ignore[operator]
        return Bisect(f"events_ingested: {ingested} of {len(parts)}")
    return AllDelivered()


def _is_success(code: object) -> bool:
    return type(code) is int and 200 <= code < 300


def _read_failure(answer: Answer) -> Reading:
    """Read what every endpoint may answer, whatever it was asked."""
    status, _, words, after_s = answer
    reading: Reading
    if status in CONFIGURATION:
        reading = Hold(Reason.CONFIGURATION, after_s, words)
    elif status == 413:
        reading = Split(words)
    elif status in TRANSIENT or 500 <= status < 600:
        limited = status == 429
        reason = Reason.RATE_LIMITED if limited else Reason.SERVER_ERROR
        reading = RetryBatch(reason, after_s, words)
    elif 400 <= status < 500:
        reading = Bisect(words)
    else:
        reading = RetryBatch(Reason.UNREADABLE, after_s, words)
    return reading


def _cannot_help(answer: Answer) -> bool:
    """Say whether the words of a 400 speak of the key or the address."""
    words = answer.words.lower().replace("_", " ")
    return any(phrase in words for phrase in _CANNOT_HELP)


def _concerns_request(answer: Answer, parts: Sequence[Part]) -> bool:
    """Say whether a 400 is the fault of the whole request and of no event in it.

    ``missing_field`` names a field of the request; where it names another one and the
    answer points at events too, the events are believed.
    """
    if _cannot_help(answer):
        return True
    missing = answer.said.get("missing_field")
    if not missing:
        return False
    known = isinstance(missing, str) and missing in REQUEST_FIELDS
    return known or not any(True for _ in _invalid(answer.said, len(parts)))


def _results(
    answer: Answer, parts: Sequence[Part], park_s: float, rest: PartResult
) -> Parts | None:
    """Return a result for each part, None where the answer names none of them.

    Args:
        answer: To the request.
        parts: Of the request.
        park_s: How long a user or device waits, where the answer does not say.
        rest: What becomes of parts that are not named.
    """
    said, words = answer.said, answer.words
    wait_s = park_s if answer.after_s is None else answer.after_s
    found: dict[int, PartResult] = {}
    for index in _throttled(said, parts):
        found[index] = Retry(max(wait_s, AT_ONCE_S))
    for index in _matching(said, parts, "exceeded_daily_quota"):
        found[index] = Rejected(Reason.QUOTA, words)
    for index in _silenced(said, parts):
        found[index] = Rejected(Reason.INVALID, f"{words}: silenced".lstrip(": "))
    for index, field in _invalid(said, len(parts)):
        found[index] = Rejected(Reason.INVALID, f"{words}: {field}"[:MAX_EXCERPT])
    if not found:
        return None
    return Parts([found.get(index, rest) for index in range(len(parts))])


def _throttled(said: Mapping[str, Any], parts: Sequence[Part]) -> Iterator[int]:
    yield from _indexes(said.get("throttled_events"), len(parts))
    yield from _matching(said, parts, "throttled")


def _silenced(said: Mapping[str, Any], parts: Sequence[Part]) -> Iterator[int]:
    yield from _indexes(said.get("silenced_events"), len(parts))
    yield from _matching(said, parts, "silenced")


def _invalid(said: Mapping[str, Any], count: int) -> Iterator[tuple[int, str]]:
    """Yield the index of each event that is at fault, and the field."""
    for name in INVALID:
        fields = said.get(name)
        if not isinstance(fields, dict):
            continue
        for field, indexes in fields.items():
            for index in _indexes(indexes, count):
                yield index, _printable(field)


def _printable(field: str) -> str:
    """Return a field's name as an excerpt may show it."""
    return "".join(each if " " <= each <= "~" else "?" for each in field)


def _indexes(value: object, count: int) -> Iterator[int]:
    """Yield the numbers in *value* that are places in a request of *count* parts."""
    numbers: Iterable[object] = value if isinstance(value, list) else (value,)
    for number in numbers:
        if type(number) is int and 0 <= number < count:
            yield number


def _matching(
    said: Mapping[str, Any], parts: Sequence[Part], word: str
) -> Iterator[int]:
    """Yield the parts of the users and devices that the answer names as *word*."""
    users = _names(said.get(f"{word}_users"))
    devices = _names(said.get(f"{word}_devices"))
    if not users and not devices:
        return
    for index, part in enumerate(parts):
        event = json.loads(part.body)
        if event.get("user_id") in users or event.get("device_id") in devices:
            yield index


def _names(value: object) -> frozenset[str]:
    """Return the ids of a map from ids to counts, or of a list of ids."""
    ids: Iterable[object] = value if isinstance(value, (dict, list)) else ()
    return frozenset(each for each in ids if isinstance(each, str))
