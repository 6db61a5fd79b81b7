from __future__ import annotations

import base64
import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk import _head
from analytics_sdk._head import Head, read_head
from analytics_sdk.destinations import segment
from analytics_sdk.destinations.segment import ROUTE, Segment
from analytics_sdk.errors import ConfigError, Reason
from analytics_sdk.events import CALL_TYPES, Event, Selection
from analytics_sdk.interfaces import (
    AllDelivered,
    Bisect,
    Destination,
    Hold,
    HttpResponse,
    Part,
    RetryBatch,
    Split,
)

DOCS = Path(__file__).parent.parent.parent / "docs" / "segment.md"
NOON = datetime(2026, 11, 21, 12, 0, 0, 5_000, tzinfo=timezone.utc)
NAMES = ("Amplitude", "Actions Amplitude")


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def make_event(
    *,
    type_: str = "track",
    integrations: dict[str, Any] | None = None,
    muted: dict[str, tuple[str, ...]] | None = None,
    message_id: str = "m-1",
    **members: object,
) -> Event:
    chosen = integrations or {}
    tail = b',"integrations":' + compact(chosen) + b"}"
    fields = {
        "messageId": message_id,
        "timestamp": "2026-11-21T10:00:00.000Z",
        "type": type_,
        **members,
        "context": {},
    }
    selection = Selection(("Segment.io",), 1, chosen, tail, muted or {})
    return Event(compact(fields)[:-1] + tail, selection)


def encode(event: Event, **settings: Any) -> Part:
    (part,) = Segment("KEY", **settings).encode(event)
    return part


def test_segment_is_a_destination():
    """Segment has all that the protocol asks for, under its selector key."""
    destination = Segment("KEY")
    assert isinstance(destination, Destination)
    assert ("Segment.io", "Segment.io", ("Segment",), frozenset(CALL_TYPES)) == (
        destination.kind,
        destination.name,
        destination.aliases,
        destination.takes,
    )


def test_request_on_the_wire():
    """A request is the events as they are, in Segment's envelope, with the key."""
    destination = Segment("KEY")
    events = [
        make_event(userId="u-1", event="Order Completed", properties={"revenue": 1.5}),
        make_event(type_="identify", message_id="m-2", userId="ü", traits={}),
    ]
    parts = [part for event in events for part in destination.encode(event)]
    request = destination.request(ROUTE, parts, NOON, 1)

    assert "https://api.segment.io/v1/batch" == request.url
    assert {
        "Content-Type": "application/json",
        "Authorization": "Basic S0VZOg==",
    } == request.headers
    assert request.gzip
    assert (
        '{"batch":['
        '{"messageId":"m-1","timestamp":"2026-11-21T10:00:00.000Z","type":"track",'
        '"userId":"u-1","event":"Order Completed","properties":{"revenue":1.5},'
        '"context":{},"integrations":{}},'
        '{"messageId":"m-2","timestamp":"2026-11-21T10:00:00.000Z","type":"identify",'
        '"userId":"ü","traits":{},"context":{},"integrations":{}}'
        '],"sentAt":"2026-11-21T12:00:00.005Z","writeKey":"KEY"}'
    ) == request.body.decode()


def test_retries_say_so():
    """A repeated request counts itself and carries its own time."""
    destination = Segment("KEY")
    parts = destination.encode(make_event(userId="u-1"))
    later = NOON.astimezone(timezone(timedelta(hours=9))) + timedelta(minutes=1)
    first = destination.request(ROUTE, parts, NOON, 1)
    second = destination.request(ROUTE, parts, NOON, 2)
    third = destination.request(ROUTE, parts, later, 3)

    assert "X-Retry-Count" not in first.headers
    assert "1" == second.headers["X-Retry-Count"]
    assert "2" == third.headers["X-Retry-Count"]
    assert "2026-11-21T12:01:00.005Z" == json.loads(third.body)["sentAt"]
    assert json.loads(first.body)["batch"] == json.loads(third.body)["batch"]


@pytest.mark.parametrize(
    ("settings", "url", "gzip"),
    [
        ({}, "https://api.segment.io/v1/batch", True),
        ({"region": "us"}, "https://api.segment.io/v1/batch", True),
        ({"region": "eu"}, "https://events.eu1.segmentapis.com/v1/batch", True),
        ({"gzip": False}, "https://api.segment.io/v1/batch", False),
        ({"host": "api.segment.io"}, "https://api.segment.io/v1/batch", True),
        ({"host": "https://p.example/"}, "https://p.example/v1/batch", False),
        ({"host": "https://p.example/v1"}, "https://p.example/v1/batch", False),
        ({"host": "https://p.example/v1/batch"}, "https://p.example/v1/batch", False),
        ({"host": "https://p.example/a/v1/"}, "https://p.example/a/v1/batch", False),
        ({"host": "https://p.example", "gzip": True}, "https://p.example/v1/batch", 1),
        ({"host": "http://localhost:9"}, "http://localhost:9/v1/batch", False),
        (
            {"host": "http://p.example", "allow_http": True},
            "http://p.example/v1/batch",
            False,
        ),
    ],
)
def test_address(settings, url, gzip):
    """Region and host make the address; only Segment's own hosts get gzip unasked."""
    request = Segment("KEY", **settings).request(ROUTE, (), NOON, 1)
    assert (url, gzip) == (request.url, request.gzip)


@pytest.mark.parametrize(
    ("key", "settings", "field"),
    [
        ("", {}, "write_key"),
        (None, {}, "write_key"),
        ("two words", {}, "write_key"),
        ("KEY", {"region": "asia"}, "region"),
        ("KEY", {"region": None}, "region"),
        ("KEY", {"region": ["us"]}, "region"),
        ("KEY", {"host": "http://p.example"}, "host"),
        ("KEY", {"host": 80}, "host"),
    ],
)
def test_bad_settings_are_refused(key, settings, field):
    """What cannot be right is a configuration error that names the setting."""
    with pytest.raises(ConfigError, match=rf"^{field}: "):
        Segment(key, **settings)


def test_key_is_shown_nowhere():
    """Neither the destination nor its requests show the key."""
    key = "0123456789abcdefSECRET"
    destination = Segment(key)
    request = destination.request(ROUTE, (), NOON, 1)
    credentials = base64.b64encode(f"{key}:".encode()).decode()
    for shown in (repr(destination), str(destination), repr(request)):
        assert key not in shown
        assert credentials not in shown
        assert key[-4:] not in shown


def test_odd_key_is_still_json():
    """A key that JSON must escape makes a valid body."""
    request = Segment('a"b\\c').request(ROUTE, (), NOON, 1)
    assert 'a"b\\c' == json.loads(request.body)["writeKey"]


BODIES = st.lists(
    st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=4), max_size=6
)
WRITE_KEYS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40
)


@given(WRITE_KEYS, BODIES, st.datetimes(timezones=st.just(timezone.utc)))
def test_request_is_as_long_as_the_limits_say(key, payloads, sent_at):
    """Envelope, parts and commas add up to the body, and the order is kept."""
    destination = Segment(key)
    limits = destination.limits[ROUTE]
    parts = [Part(ROUTE, compact(each)) for each in payloads]
    request = destination.request(ROUTE, parts, sent_at, 1)

    commas = limits.separator_bytes * max(0, len(parts) - 1)
    expected = limits.envelope_bytes + sum(len(each.body) for each in parts) + commas
    assert expected == len(request.body)
    assert payloads == json.loads(request.body)["batch"]


def test_limits_are_segments():
    """The limits are those of Segment's HTTP API."""
    limits = Segment("KEY").limits[ROUTE]
    assert (2_500, 500_000, 32_768) == limits[:3]


def test_event_goes_as_it_is():
    """Without a direct destination beside it the body is the very event, uncopied."""
    event = make_event(userId="u-1")
    assert event.raw is encode(event).body


@pytest.mark.parametrize(
    ("integrations", "told"),
    [
        ({}, {"Amplitude": False, "Actions Amplitude": False}),
        ({"All": True}, {"All": True, "Amplitude": False, "Actions Amplitude": False}),
        ({"Amplitude": True}, {"Amplitude": False, "Actions Amplitude": False}),
        (
            {"Amplitude": {"session_id": 1}, "Mixpanel": {"ключ": 1}},
            {"Amplitude": False, "Mixpanel": {"ключ": 1}, "Actions Amplitude": False},
        ),
        (
            {"M" * 600: True},
            {"M" * 600: True, "Amplitude": False, "Actions Amplitude": False},
        ),
    ],
)
def test_direct_copies_are_muted(integrations, told):
    """What a direct destination serves is off in the request, the rest stays."""
    event = make_event(userId="u-1", integrations=integrations, muted={"track": NAMES})
    before = event.raw
    body = json.loads(encode(event).body)
    assert told == body["integrations"]
    assert {**event.payload, "integrations": told} == body
    assert before is event.raw


def test_other_calls_are_not_muted():
    """A call that the direct destination has no use for goes as it is."""
    event = make_event(type_="page", userId="u-1", muted={"track": NAMES})
    assert event.raw is encode(event).body


def test_suppress_direct_can_be_turned_off():
    """With suppress_direct=False the selector travels as the caller wrote it."""
    event = make_event(userId="u-1", muted={"track": NAMES})
    assert event.raw is encode(event, suppress_direct=False).body


def test_event_with_another_end_is_not_cut():
    """An event that does not end in its selection's tail is sent whole."""
    event = make_event(userId="u-1", muted={"track": NAMES})
    other = Event(event.raw[:-1] + b',"more":1}', event.selection)
    assert other.raw is encode(other).body


@given(
    st.dictionaries(st.text(max_size=8), st.booleans() | st.just({"a": 1.5})),
    st.lists(st.text(min_size=1, max_size=8), min_size=1, unique=True),
)
def test_muting_turns_off_and_keeps(integrations, names):
    """Muting sets every name to False and leaves all else in the event as it was."""
    event = make_event(
        userId="u-1", integrations=integrations, muted={"track": tuple(names)}
    )
    expected = {**integrations, **dict.fromkeys(names, False)}
    body = json.loads(encode(event).body)
    assert {**event.payload, "integrations": expected} == body


def test_event_size_is_exact():
    """32,768 bytes are taken, one more is refused."""
    spare = 32_768 - len(make_event(userId="u-1", properties="").raw)
    fits = make_event(userId="u-1", properties="x" * spare)
    over = make_event(userId="u-1", properties="x" * (spare + 1))
    assert (32_768, None) == (len(fits.raw), encode(fits).refused)
    assert Reason.TOO_LARGE is encode(over).refused


def test_size_is_that_of_what_is_sent():
    """Options that only the direct destination gets do not count for Segment."""
    event = make_event(
        userId="u-1",
        integrations={"Amplitude": {"groups": "x" * 40_000}},
        muted={"track": NAMES},
    )
    assert encode(event).refused is None
    assert Reason.TOO_LARGE is encode(event, suppress_direct=False).refused


def test_alias_is_a_barrier():
    """An alias waits for what went before it, and ties its two ids."""
    event = make_event(type_="alias", userId="new", previousId="old")
    part = encode(event)
    assert (True, "new", "old") == (part.barrier, part.key, part.joins)
    assert not encode(make_event(userId="u-1")).barrier


IDS = st.one_of(
    st.none(),
    st.sampled_from(['","type":"page', "\\", '"', '\\","userId":"x', "same"]),
    st.text(min_size=1),
)


@given(IDS, IDS, st.text(min_size=1), st.booleans())
def test_head_is_what_parsing_says(user, anonymous, message_id, ascii_only):
    """The scanned type and keys are those of the parsed event, for any text."""
    ids = {"userId": user, "anonymousId": anonymous}
    given_ids = {name: each for name, each in ids.items() if each is not None}
    fields = {"messageId": message_id, "timestamp": "t", "type": "track", **given_ids}
    text = json.dumps(
        {**fields, "event": '","type":"group', "integrations": {}},
        separators=(",", ":"),
        ensure_ascii=ascii_only,
    )
    event = Event(text.encode(errors="replace"), make_event().selection)
    found = _head._HEAD.match(event.raw)
    assert found is not None
    assert Head("track", event.keys) == read_head(event.raw)


@given(IDS, st.sampled_from(["u-1", "same"]), st.sampled_from(["old", "same"]))
def test_alias_ties_user_and_previous_id(anonymous, user, previous):
    """Of an alias's ids those are tied that the call is about."""
    ids = {"userId": user, "anonymousId": anonymous, "previousId": previous}
    given_ids = {name: each for name, each in ids.items() if each is not None}
    event = make_event(type_="alias", **given_ids)
    part = encode(event)
    rest = [each for each in (previous, anonymous) if each not in (None, user)]
    assert (user, next(iter(rest), "")) == (part.key, part.joins)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"track","messageId":"m","userId":"u-1","anonymousId":"a-1"}',
        (
            b'{"messageId":"m","timestamp":"t","type":"track",'
            b'"anonymousId":"a-1","userId":"u-1"}'
        ),
        (
            b'{"messageId": "m", "timestamp": "t", "type": "track", '
            b'"userId": "u-1", "anonymousId": "a-1", "previousId": null}'
        ),
    ],
    ids=["other-order", "ids-swapped", "spaces"],
)
def test_other_layouts_are_parsed(raw):
    """An event laid out otherwise, such as one from elsewhere, is read all the same."""
    event = Event(raw, make_event().selection)
    assert Head("track", ("u-1", "a-1")) == read_head(event.raw)


def test_event_without_ids_has_no_key():
    """An event without any id has no order to keep."""
    assert ("", "") == encode(make_event())[2:4]


SUCCESS = b'{"success": true}'
RETRY = RetryBatch(Reason.UNREADABLE, 7.0)
READINGS = [
    (200, SUCCESS, AllDelivered()),
    (202, SUCCESS, AllDelivered()),
    (299, b' {"success":true,"message":"x"}\n', AllDelivered()),
    (200, b"OK", AllDelivered()),
    (200, b" ok\r\n", AllDelivered()),
    (
        200,
        b'{"ok":true,"receivedEvents":2,"okEvents":2,"errors":[]}',
        AllDelivered(),
    ),
    (200, b'{"ok":true,"receivedEvents":2,"okEvents":1,"errors":["e"]}', Bisect()),
    (200, b'{"ok":false,"error":"e"}', Bisect()),
    (200, b'{"success":false}', Bisect()),
    (200, b'{"success":true,"ok":false}', Bisect()),
    (200, b"", RETRY),
    (204, b"", RETRY),
    (200, b"{}", RETRY),
    (200, b"true", RETRY),
    (200, b'["success"]', RETRY),
    (200, b'{"success":"true"}', RETRY),
    (200, b'{"success":true', RETRY),
    (200, b"<html>Log in</html>", RETRY),
    (200, b"\xff\xfe", RETRY),
    (200, b"[" * 60_000, RETRY),
    *((status, SUCCESS, RETRY) for status in (0, 100, 199, 600, 999)),
    *(
        (status, SUCCESS, Hold(Reason.REDIRECTED, 7.0))
        for status in (300, 301, 302, 304, 307, 308, 399)
    ),
    *((status, SUCCESS, Bisect()) for status in (400, 409, 418, 422, 499)),
    *(
        (status, SUCCESS, Hold(Reason.CONFIGURATION, 7.0))
        for status in (401, 402, 403, 404, 405, 406, 407, 411, 414, 415, 417, 421)
    ),
    *(
        (status, SUCCESS, Hold(Reason.CONFIGURATION, 7.0))
        for status in (426, 428, 431, 451, 501, 505, 511)
    ),
    *(
        (status, SUCCESS, RetryBatch(Reason.SERVER_ERROR, 7.0))
        for status in (408, 410, 425, 460)
    ),
    (429, SUCCESS, RetryBatch(Reason.RATE_LIMITED, 7.0)),
    (413, SUCCESS, Split()),
    *(
        (status, SUCCESS, RetryBatch(Reason.SERVER_ERROR, 7.0))
        for status in (500, 502, 503, 504, 508, 529, 599)
    ),
]


@pytest.mark.parametrize(
    ("status", "body", "reading"),
    READINGS,
    ids=[f"{status}-{body[:60].decode('latin-1')}" for status, body, _ in READINGS],
)
def test_answer_is_read(status, body, reading):
    """Each answer means what the table says; only a named success is one."""
    response = HttpResponse(status, {}, body, retry_after_s=7.0)
    found = Segment("KEY").read(ROUTE, response, (Part(ROUTE, b"{}"),) * 2)
    blank = found if found == AllDelivered() else found._replace(excerpt="")
    assert (type(reading), reading) == (type(blank), blank)


def test_single_event_is_read_alike():
    """Whether a lone bad event is given up on is the core's decision, not Segment's."""
    answer = HttpResponse(400, {}, b"bad event")
    alone = Segment("KEY").read(ROUTE, answer, (Part(ROUTE, b"{}"),))
    assert Bisect("bad event") == alone


def test_documented_answers_are_these_answers():
    """The documentation names every status that the code treats on its own."""
    text = DOCS.read_text(encoding="utf-8")
    named = {int(each) for each in re.findall(r"\b[1-5]\d\d\b", text)}
    special = segment.TRANSIENT | segment.CONFIGURATION | {400, 413, 422}
    assert set() == special - named


def test_redirect_shows_where_to():
    """The target of a redirect is reported, its query and fragment are not."""
    headers = {"location": "https://new.example/v1/batch?token=t#x"}
    reading = Segment("KEY").read(ROUTE, HttpResponse(301, headers), ())
    assert Hold(Reason.REDIRECTED, None, "https://new.example/v1/batch") == reading


@given(st.integers(-1, 1000), st.binary() | st.text().map(str.encode))
def test_no_answer_raises(status, body):
    """Whatever answers, there is a reading, and only a 2xx is a delivery."""
    response = HttpResponse(status, {}, body)
    reading = Segment("KEY").read(ROUTE, response, (Part(ROUTE, b"{}"),))
    assert isinstance(reading, (AllDelivered, Bisect, Hold, RetryBatch, Split))
    assert 200 <= status < 300 or not isinstance(reading, AllDelivered)


@given(st.binary(max_size=600) | st.text(max_size=600).map(str.encode))
def test_excerpt_is_short_and_printable(body):
    """An excerpt is at most 200 printable ASCII characters."""
    answer = HttpResponse(400, {}, body + b"\0" + b"x" * 200)
    reading = Segment("KEY").read(ROUTE, answer, ())
    assert isinstance(reading, Bisect)
    assert len(reading.excerpt) <= 200
    assert reading.excerpt.isascii()
    assert reading.excerpt.isprintable()


def test_excerpt_shows_no_key():
    """A server that echoes the request does not get the key into a report."""
    key = "0123456789abcdef"
    pair = base64.b64encode(f"{key}:".encode()).decode()
    body = f"{'x' * 190} {key} {pair} writeKey={key}".encode()
    for cut in (0, 185, 195):
        answer = HttpResponse(400, {}, body[cut:])
        reading = Segment(key).read(ROUTE, answer, ())
        assert isinstance(reading, Bisect)
        assert key[:6] not in reading.excerpt
        assert pair[:6] not in reading.excerpt


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 207, 226, 299])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"true",
        b"1",
        b"<html>OK</html>",
        b"okay",
        b'"OK"',
        b'{"success":1}',
        b'{"success":"true"}',
        b'{"ok":null}',
        b'{"status":"ok"}',
    ],
)
def test_only_a_named_success_is_delivered(status, body):
    """A 2xx whose body does not say ``success``, ``ok`` or OK delivers nothing."""
    part = encode(make_event())
    reading = Segment("key").read(ROUTE, HttpResponse(status, {}, body), [part])
    assert type(reading) is not AllDelivered
