from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk.destinations.amplitude import EVENTS, USERMAP, Amplitude, answers
from analytics_sdk.destinations.amplitude.answers import AT_ONCE_S
from analytics_sdk.errors import Reason
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

DOCS = Path(__file__).parent.parent.parent / "docs" / "amplitude.md"
KEY = "0123456789abcdef"
AGAIN = Retry(AT_ONCE_S, reason=Reason.INVALID)
SOON = Retry(AT_ONCE_S)
PARKED = Retry(30.0)


def part_of(user_id=None, device_id=None, event_type="Paid"):
    event = {"event_type": event_type, "user_id": user_id, "device_id": device_id}
    return Part(EVENTS, json.dumps(event, separators=(",", ":")).encode())


PARTS = (
    part_of("u-0"),
    part_of("u-1", "d-1"),
    part_of("u-1", "d-2"),
    part_of(None, "d-3"),
)


def read(
    status,
    body=b"",
    *,
    parts=PARTS,
    route=EVENTS,
    after_s=None,
    headers=None,
    **settings,
):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = HttpResponse(status, headers or {}, raw, after_s)
    return Amplitude(KEY, **settings).read(route, response, parts)


def blank(reading):
    """Return a reading without its words."""
    if isinstance(reading, Parts):
        results = [
            each._replace(excerpt="") if isinstance(each, Rejected) else each
            for each in reading.results
        ]
        return Parts(results)
    if isinstance(reading, AllDelivered):
        return reading
    return reading._replace(excerpt="")


def check(expected, found):
    """Compare readings: as tuples, two of different types may be equal."""
    assert (type(expected), expected) == (type(found), found)


INVALID = Rejected(Reason.INVALID)
QUOTA = Rejected(Reason.QUOTA)
DONE = Delivered()


def parts(*results):
    return Parts(list(results))


UNREADABLE = RetryBatch(Reason.UNREADABLE)
LIMITED = RetryBatch(Reason.RATE_LIMITED)
TROUBLE = RetryBatch(Reason.SERVER_ERROR)
CONFIGURATION = Hold(Reason.CONFIGURATION)
FIELDS = "events_with_invalid_fields"
MISSING = "events_with_missing_fields"
LENGTHS = "events_with_invalid_id_lengths"

READINGS = [
    # successes, and what only looks like one
    ("ok", 200, {"code": 200, "events_ingested": 4}, AllDelivered()),
    ("more", 200, {"code": 200, "events_ingested": 9}, AllDelivered()),
    ("no-count", 200, {"code": 200}, AllDelivered()),
    ("no-code", 200, {"events_ingested": 4}, AllDelivered()),
    ("odd-count", 200, {"code": 200, "events_ingested": "4"}, AllDelivered()),
    ("fewer", 200, {"code": 200, "events_ingested": 3}, Bisect()),
    ("none", 200, {"code": 200, "events_ingested": 0}, Bisect()),
    ("other-object", 200, {"ok": True}, UNREADABLE),
    ("odd-code", 200, {"code": "200"}, UNREADABLE),
    ("true-code", 200, {"code": True}, UNREADABLE),
    ("informal-code", 200, {"code": 100}, UNREADABLE),
    ("empty", 200, b"", UNREADABLE),
    ("no-content", 204, b"", UNREADABLE),
    ("list", 200, [], UNREADABLE),
    ("cut", 200, b'{"code":200', UNREADABLE),
    ("html", 200, b"<html>Log in</html>", UNREADABLE),
    ("bytes", 200, b"\xff\xfe", UNREADABLE),
    ("deep", 200, b"[" * 60_000, UNREADABLE),
    (
        "part-of-it",
        200,
        {"code": 200, "events_ingested": 3, FIELDS: {"time": [1]}},
        parts(DONE, INVALID, DONE, DONE),
    ),
    # the body's code against the status
    ("200-says-400", 200, {"code": 400, "error": "x"}, Bisect()),
    ("200-says-429", 200, {"code": 429}, LIMITED),
    ("200-says-500", 200, {"code": 500}, TROUBLE),
    ("200-says-413", 200, {"code": 413}, Split()),
    ("400-says-429", 400, {"code": 429}, LIMITED),
    ("500-says-200", 500, {"code": 200, "events_ingested": 4}, TROUBLE),
    ("413-says-200", 413, {"code": 200}, Split()),
    ("400-says-999", 400, {"code": 999}, Bisect()),
    # the whole request
    ("no-key", 400, {"code": 400, "missing_field": "api_key"}, CONFIGURATION),
    ("no-field", 400, {"code": 400, "missing_field": "other"}, CONFIGURATION),
    ("odd-field", 400, {"code": 400, "missing_field": ["api_key"]}, CONFIGURATION),
    (
        "no-key-and-index",
        400,
        {"missing_field": "api_key", FIELDS: {"time": [1]}},
        CONFIGURATION,
    ),
    (
        "field-and-index",
        400,
        {"missing_field": "event_type", MISSING: {"event_type": [1]}},
        parts(AGAIN, INVALID, AGAIN, AGAIN),
    ),
    ("bad-key", 400, {"error": f"Invalid API key: {KEY}"}, CONFIGURATION),
    ("bad-key-text", 400, b"invalid_api_key", CONFIGURATION),
    ("bad-path", 400, {"error": "Invalid request path"}, CONFIGURATION),
    # single events
    ("invalid", 400, {FIELDS: {"time": [0, 2]}}, parts(INVALID, AGAIN, INVALID, AGAIN)),
    ("lacking", 400, {MISSING: {"user_id": [3]}}, parts(AGAIN, AGAIN, AGAIN, INVALID)),
    ("lengths", 400, {LENGTHS: {"user_id": [1]}}, parts(AGAIN, INVALID, AGAIN, AGAIN)),
    ("bare-index", 400, {FIELDS: {"time": 1}}, parts(AGAIN, INVALID, AGAIN, AGAIN)),
    ("silenced", 400, {"silenced_events": [2]}, parts(AGAIN, AGAIN, INVALID, AGAIN)),
    (
        "silenced-id",
        400,
        {"silenced_devices": ["d-3"]},
        parts(AGAIN, AGAIN, AGAIN, INVALID),
    ),
    (
        "several",
        400,
        {FIELDS: {"a": [0], "b": [0, 1]}, "silenced_events": [1], LENGTHS: {"c": [3]}},
        parts(INVALID, INVALID, AGAIN, INVALID),
    ),
    (
        "400-throttled",
        400,
        {"throttled_devices": {"d-1": 40}, "silenced_events": [0]},
        parts(INVALID, PARKED, AGAIN, AGAIN),
    ),
    ("400-text", 400, b"Bad Request", Bisect()),
    ("400-json", 400, {"error": "Invalid JSON request body"}, Bisect()),
    ("far-index", 400, {FIELDS: {"time": [4, -1]}}, Bisect()),
    ("no-index", 400, {FIELDS: {"time": [True, "1", 1.0, None]}}, Bisect()),
    ("odd-map", 400, {FIELDS: [1], "silenced_events": {"1": 1}}, Bisect()),
    # too fast
    (
        "throttled-events",
        429,
        {"throttled_events": [1, 2]},
        parts(SOON, PARKED, PARKED, SOON),
    ),
    (
        "throttled-users",
        429,
        {"throttled_users": {"u-1": 40}},
        parts(SOON, PARKED, PARKED, SOON),
    ),
    (
        "throttled-devices",
        429,
        {"throttled_devices": {"d-3": 40}},
        parts(SOON, SOON, SOON, PARKED),
    ),
    (
        "quota",
        429,
        {"exceeded_daily_quota_users": {"u-0": 9}, "throttled_events": [0, 1]},
        parts(QUOTA, PARKED, SOON, SOON),
    ),
    (
        "quota-devices",
        429,
        {"exceeded_daily_quota_devices": ["d-2", 7]},
        parts(SOON, SOON, QUOTA, SOON),
    ),
    ("429", 429, {"code": 429, "error": "slow down"}, LIMITED),
    ("429-text", 429, b"", LIMITED),
    ("429-others", 429, {"throttled_users": {"x": 1}, "throttled_devices": 7}, LIMITED),
    # the rest
    ("413", 413, {"code": 413}, Split()),
    *((f"{each}", each, b"", TROUBLE) for each in (408, 410, 425, 460)),
    *((f"{each}", each, b"", TROUBLE) for each in (500, 502, 503, 504, 529, 599)),
    *((f"{each}", each, b"", CONFIGURATION) for each in sorted(answers.CONFIGURATION)),
    *((f"{each}", each, b"", Bisect()) for each in (409, 418, 422, 499)),
    *((f"{each}", each, b"", UNREADABLE) for each in (0, 100, 199, 600)),
    *((f"{each}", each, b"", Hold(Reason.REDIRECTED)) for each in (300, 302, 307, 399)),
]


@pytest.mark.parametrize(
    ("status", "body", "reading"),
    [each[1:] for each in READINGS],
    ids=[each[0] for each in READINGS],
)
def test_answer_is_read(status, body, reading):
    """Each answer means what the table says; only a named success is one."""
    check(reading, blank(read(status, body)))


MAPPED = (Part(USERMAP, b"%7B%7D"),) * 2
MAPPINGS = [
    ("nothing", 200, b"", AllDelivered()),
    ("empty", 200, {}, AllDelivered()),
    ("object", 200, {"code": 200}, AllDelivered()),
    ("true", 200, {"success": True, "error": None}, AllDelivered()),
    ("word", 200, b"success\n", AllDelivered()),
    ("text", 200, b'"OK"', AllDelivered()),
    ("false", 200, {"success": False}, Bisect()),
    ("error", 200, {"error": "unknown user"}, Bisect()),
    ("code", 200, {"code": 400}, Bisect()),
    ("html", 200, b"<html>", UNREADABLE),
    ("400", 400, b"", Bisect()),
    ("bad-key", 400, b"invalid_api_key", CONFIGURATION),
    ("403", 403, b"", CONFIGURATION),
    ("413", 413, b"", Split()),
    ("429", 429, b"", LIMITED),
    ("500", 500, b"", TROUBLE),
    ("302", 302, b"", Hold(Reason.REDIRECTED)),
]


@pytest.mark.parametrize(
    ("status", "body", "reading"),
    [each[1:] for each in MAPPINGS],
    ids=[each[0] for each in MAPPINGS],
)
def test_answer_to_aliases_is_read(status, body, reading):
    """The User Mapping API documents no success, so what is no failure is one."""
    check(reading, blank(read(status, body, parts=MAPPED, route=USERMAP)))


def test_identifies_need_not_be_counted():
    """Only events that Amplitude surely counts may be missed in its count."""
    identify = part_of("u-0", event_type="$identify")
    group = part_of("u-0", event_type="$groupidentify")
    mixed = (identify, group, part_of("u-0"))
    check(AllDelivered(), read(200, {"events_ingested": 1}, parts=mixed))
    check(AllDelivered(), read(200, {"events_ingested": 0}, parts=(identify,)))
    found = read(200, {"events_ingested": 0}, parts=mixed)
    check(Bisect("events_ingested: 0 of 3"), found)


def test_our_own_identifies_are_recognised():
    """What the mapping makes of identify and group calls is not counted as events."""
    from tests.destinations import test_amplitude as calls

    for kind in ("identify", "group"):
        made = calls.encode(calls.make_event(**calls.CALLS[kind]))
        check(AllDelivered(), read(200, {"events_ingested": 0}, parts=made))


@pytest.mark.parametrize(
    ("settings", "after_s", "wait_s"),
    [
        ({}, None, 30.0),
        ({"endpoint": "batch"}, None, 15.0),
        ({}, 2.0, 2.0),
        ({}, 90.0, 90.0),
        ({}, 0.0, AT_ONCE_S),
    ],
)
def test_fast_senders_are_parked(settings, after_s, wait_s):
    """A user waits as long as the endpoint asks, or as the answer itself does."""
    body = {"throttled_events": [1]}
    found = read(429, body, after_s=after_s, **settings)
    check(parts(SOON, Retry(wait_s), SOON, SOON), found)


@pytest.mark.parametrize("status", [400, 401, 413, 429, 503, 302])
def test_retry_after_is_passed_on(status):
    """Where the lane waits it waits as long as it is asked to."""
    found = read(status, {"missing_field": "api_key"}, after_s=7.0)
    assert status == 413 or found.after_s == 7.0


def test_reason_names_the_field():
    """A rejected event says what the vendor found wrong with it."""
    body = {
        "error": "Invalid field values on some events",
        FIELDS: {"time\n": [0]},
        "silenced_events": [1],
    }
    found = read(400, body)
    assert isinstance(found, Parts)
    assert "Invalid field values on some events: time?" == found.results[0].excerpt
    assert "Invalid field values on some events: silenced" == found.results[1].excerpt
    alone = read(400, {"silenced_events": [0]})
    assert "silenced" == alone.results[0].excerpt


def test_reports_name_nobody():
    """Ids that an answer lists do not get into a report."""
    found = read(429, {"code": 429, "throttled_users": {"jane@example.com": 40}})
    check(RetryBatch(Reason.RATE_LIMITED, None, ""), found)


def test_redirect_shows_where_to():
    """The target of a redirect is reported, its query and fragment are not."""
    target = "https://new.example/2/httpapi?token=t#x"
    found = read(301, {"code": 400}, headers={"location": target})
    check(Hold(Reason.REDIRECTED, None, "https://new.example/2/httpapi"), found)


def test_excerpt_shows_no_key():
    """A server that echoes the request does not get the key into a report."""
    for cut in (0, 185, 195):
        found = read(400, f"{'x' * 190} {KEY} {KEY}"[cut:].encode())
        assert isinstance(found, Bisect)
        assert KEY[:6] not in found.excerpt
        assert len(found.excerpt) <= 200


SAID = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([200, 400, 413, 429, 503]) | st.integers() | st.text(),
        "error": st.text() | st.none() | st.just("Invalid API key: x"),
        "missing_field": st.none() | st.text() | st.just("api_key"),
        "events_ingested": st.integers(-1, 6) | st.none() | st.text(),
        **{
            name: st.dictionaries(
                st.text(max_size=3), st.lists(st.integers(-1, 6)) | st.integers(-1, 6)
            )
            | st.none()
            for name in answers.INVALID
        },
        **{
            name: st.lists(st.integers(-1, 6)) | st.none() | st.text()
            for name in ("silenced_events", "throttled_events")
        },
        **{
            f"{word}_{kind}": st.dictionaries(
                st.sampled_from(["u-0", "u-1", "d-1", "d-3", "x"]), st.integers()
            )
            | st.lists(st.sampled_from(["u-1", "d-2", 7]))
            for word in ("throttled", "exceeded_daily_quota", "silenced")
            for kind in ("users", "devices")
        },
    },
)
STATUS = st.sampled_from([200, 400, 429, 413, 503]) | st.integers(-1, 1000)


@given(STATUS, SAID | st.none() | st.lists(st.integers()), st.integers(0, 4))
def test_random_answer_has_one_result_for_each_part(status, body, count):
    """Whatever is answered, each part has one result, and an error delivers nothing."""
    found = read(status, body, parts=PARTS[:count])
    assert isinstance(found, (AllDelivered, Bisect, Hold, Parts, RetryBatch, Split))
    if isinstance(found, Parts):
        assert count == len(found.results)
        assert any(result not in (AGAIN, SOON) for result in found.results)
    delivers = isinstance(found, AllDelivered) or (
        isinstance(found, Parts) and DONE in found.results
    )
    code = body.get("code") if isinstance(body, dict) else None
    says_error = type(code) is int and 400 <= code < 600
    assert not delivers or (200 <= status < 300 and not says_error)


@given(
    STATUS, st.binary() | st.text().map(str.encode), st.sampled_from([EVENTS, USERMAP])
)
def test_no_answer_raises(status, body, route):
    """Bytes of any kind are read, and their excerpt is short and printable."""
    found = read(status, body, route=route)
    excerpt = getattr(found, "excerpt", "")
    assert len(excerpt) <= 200
    assert excerpt.isascii()
    assert excerpt.isprintable()


def test_documented_answers_are_these_answers():
    """The documentation names every status that the code treats on its own."""
    named = {
        int(each) for each in re.findall(r"\b[1-5]\d\d\b", DOCS.read_text("utf-8"))
    }
    special = answers.TRANSIENT | answers.CONFIGURATION | {200, 400, 413}
    assert set() == special - named
