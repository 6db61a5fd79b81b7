from __future__ import annotations

import gzip
import json
from urllib.parse import quote_plus

import pytest

from analytics_sdk.collector import AmplitudeApi, ApiRequest, Collector
from analytics_sdk.collector.amplitude import (
    BATCH_LIMIT_EVENTS,
    BODY_LIMIT_BYTES,
    NESTING_LIMIT,
    REFUSED_IDS,
    RESERVED_EVENTS,
)

API = AmplitudeApi()
STRICT = AmplitudeApi(strict=True)
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def event(**changes):
    whole = {"event_type": "Paid", "user_id": "user-1", "insert_id": "m-1"}
    merged = {**whole, **changes}
    return {name: value for name, value in merged.items() if value is not ...}


def ask(api, document, path="/2/httpapi", headers=JSON, method="POST"):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return api.receive(ApiRequest(method, path, headers, body))


def upload(api, *events, **top):
    return ask(api, {"api_key": "KEY", "events": list(events), **top})


def said(answer):
    return json.loads(answer.body)


def map_users(mapping, key="KEY", headers=FORM, api=API):
    body = f"api_key={key}&mapping={quote_plus(json.dumps(mapping))}".encode()
    return ask(api, body, "/usermap", headers)


def nested(levels):
    value = {}
    for _ in range(levels - 1):
        value = {"x": value}
    return value


@pytest.mark.parametrize("path", ["/2/httpapi", "/batch"])
def test_events_are_ingested(path):
    """Good events are counted in the answer and kept with their size and key."""
    document = {"api_key": "KEY", "events": [event()], "client_upload_time": "now"}
    answer = ask(STRICT, document, path)
    size = len(json.dumps(document))
    assert 200 == answer.status
    assert {
        "code": 200,
        "events_ingested": 1,
        "payload_size_bytes": size,
    } == said(answer)
    (kept,) = answer.accepted
    assert (event(), "user-1/m-1", "now") == (kept.payload, kept.key, kept.sent_at)
    assert len(json.dumps(event())) == kept.raw_bytes


def test_copies_are_told_by_device_and_insert_id():
    """The same insert id on another device is another event; without one none is."""
    ids = [{}, {"device_id": "device-1"}, {"device_id": "device-2"}, {"insert_id": ...}]
    keys = [each.key for each in upload(API, *(event(**each) for each in ids)).accepted]
    assert ["user-1/m-1", "device-1/m-1", "device-2/m-1", None] == keys


def test_compressed_bodies_are_understood():
    """A gzip body is read like a plain one, and measured when it is undone."""
    body = gzip.compress(json.dumps({"api_key": "KEY", "events": [event()]}).encode())
    assert 1 == len(
        ask(API, body, headers={**JSON, "content-encoding": "gzip"}).accepted
    )


INVALID, MISSING = "events_with_invalid_fields", "events_with_missing_fields"
LENGTHS = "events_with_invalid_id_lengths"


@pytest.mark.parametrize(
    ("changes", "kind", "name"),
    [
        ({"event_type": ...}, MISSING, "event_type"),
        ({"event_type": ""}, MISSING, "event_type"),
        ({"event_type": ["x"]}, INVALID, "event_type"),
        *(({"event_type": name}, INVALID, "event_type") for name in RESERVED_EVENTS),
        ({"user_id": ...}, MISSING, "user_id"),
        ({"user_id": 12345}, INVALID, "user_id"),
        *(({"user_id": each}, INVALID, "user_id") for each in REFUSED_IDS),
        ({"device_id": "unknown"}, INVALID, "device_id"),
        ({"user_id": "four"}, LENGTHS, "user_id"),
        ({"user_id": ..., "device_id": "four"}, LENGTHS, "device_id"),
        ({"time": "2026-11-21T10:00:00Z"}, INVALID, "time"),
        ({"time": 1.5}, INVALID, "time"),
        ({"session_id": True}, INVALID, "session_id"),
        ({"quantity": 1.5}, INVALID, "quantity"),
        ({"revenue": "1.5"}, INVALID, "revenue"),
        ({"currency": "usd"}, INVALID, "currency"),
        ({"event_properties": []}, INVALID, "event_properties"),
        ({"event_properties": nested(41)}, INVALID, "event_properties"),
        ({"groups": "company"}, INVALID, "groups"),
        ({"$skip_user_properties_sync": 1}, INVALID, "$skip_user_properties_sync"),
        ({"user_properties": {"$set": {}, "a": 1}}, INVALID, "user_properties"),
    ],
)
def test_bad_event_is_named(changes, kind, name):
    """One bad event refuses the request, and the answer says which and why."""
    answer = upload(API, event(), event(**changes))
    assert (400, ()) == (answer.status, answer.accepted)
    assert [1] == said(answer)[kind][name]


@pytest.mark.parametrize(
    "changes",
    [
        {"device_id": "abc"},
        {"user_id": "four", "device_id": "device-1"},
        {"user_id": None, "device_id": "device-1"},
        {"event_type": "$groupidentify", "user_id": ...},
        {"time": 0, "session_id": -1, "quantity": 2, "price": 1, "revenue": -1.5},
        {"user_properties": {"$set": {}, "$add": {"n": 1}}},
        {"event_properties": nested(NESTING_LIMIT - 1)},
        {"event_properties": {"products": [{"price": 1}], "n": [1, "a"]}},
        {"$skip_user_properties_sync": True, "currency": "EUR"},
    ],
)
def test_good_event_is_kept(changes):
    """What the documentation allows is taken."""
    assert 200 == upload(STRICT, event(**changes)).status


def test_strictness_asks_for_more():
    """Only when strict is an unknown key, or an event without insert id, refused."""
    assert 200 == upload(API, event(x=1), event(insert_id=...)).status
    assert {"x": [0]} == said(upload(STRICT, event(x=1)))[INVALID]
    assert {"insert_id": [0]} == said(upload(STRICT, event(insert_id=...)))[MISSING]
    assert {"event": [0]} == said(upload(STRICT, "text"))[INVALID]


def test_shortest_id_can_be_set():
    """The request says how short an id may be; without a word it is five."""
    short = event(user_id="u")
    assert 200 == upload(API, short, options={"min_id_length": 1}).status
    assert 400 == upload(API, short).status
    assert 400 == upload(API, short, options={"min_id_length": "1"}).status


def test_all_or_the_first_are_named():
    """Of several bad events all are named, or the first of each field."""
    events = [event(time="x"), event(), event(time="x", price="y")]
    assert {"time": [0, 2], "price": [2]} == said(upload(API, *events))[INVALID]
    first = upload(AmplitudeApi(names_all=False), *events)
    assert {"time": [0], "price": [2]} == said(first)[INVALID]


def test_rest_may_be_kept_in_secret():
    """With *keeps_rest* the good events of a refused request count as received."""
    answer = upload(AmplitudeApi(keeps_rest=True), event(), event(time="x"))
    assert 400 == answer.status
    assert [event()] == [kept.payload for kept in answer.accepted]


def test_senders_are_throttled():
    """Users and devices that send too fast are named with their events."""
    api = AmplitudeApi(throttled={"speedy", "phone"}, over_quota={"spent"})
    events = [
        event(),
        event(user_id="speedy"),
        event(user_id="speedy", device_id="phone"),
        event(user_id="spent"),
    ]
    answer = upload(api, *events)
    assert 429 == answer.status
    words = said(answer)
    assert {
        "code": 429,
        "error": words["error"],
        "eps_threshold": 30,
        "throttled_users": {"speedy": 2},
        "throttled_devices": {"phone": 1},
        "exceeded_daily_quota_users": {"spent": 1},
        "exceeded_daily_quota_devices": {},
        "throttled_events": [1, 2],
    } == words
    assert 200 == upload(api, event()).status


def test_retry_after_can_be_announced():
    """Amplitude announces no wait; a test may have one all the same."""
    plain = upload(AmplitudeApi(throttled={"user-1"}), event())
    asked = upload(AmplitudeApi(throttled={"user-1"}, retry_after_s=2), event())
    assert ("Retry-After", "2") not in plain.headers
    assert ("Retry-After", "2") in asked.headers


def test_devices_are_silenced():
    """Events of a silenced device are refused for good, by their place."""
    answer = upload(AmplitudeApi(silenced={"spam"}), event(), event(device_id="spam"))
    assert 400 == answer.status
    assert (["spam"], [1]) == (
        said(answer)["silenced_devices"],
        said(answer)["silenced_events"],
    )


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"events": []}, "api_key"),
        ({"api_key": "", "events": []}, "api_key"),
        ({"api_key": 7, "events": []}, "api_key"),
        ({"api_key": "KEY"}, "events"),
        ({"api_key": "KEY", "events": {}}, "events"),
    ],
)
def test_missing_field_of_the_request_is_named(document, field):
    """A request without key or events is refused, and told what it lacks."""
    answer = ask(API, document)
    assert (400, field) == (answer.status, said(answer)["missing_field"])


def test_the_key_is_checked_and_not_shown():
    """A wrong key is refused on each endpoint, and no representation shows the key."""
    api = AmplitudeApi(api_key="s3cret")
    assert "Invalid API key: KEY" == said(upload(api, event()))["error"]
    mapping = {"user_id": "a", "global_user_id": "b"}
    assert 400 == map_users(mapping, api=api).status
    assert 200 == map_users(mapping, key="s3cret", api=api).status
    assert 200 == upload(api, event(), api_key="s3cret").status
    assert "s3cret" not in repr(api)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"api_key": NaN}'])
def test_malformed_body_is_refused(body):
    """What is no JSON object is 400."""
    assert 400 == ask(API, body).status


@pytest.mark.parametrize("path", ["/2/httpapi", "/batch"])
@pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 413)])
def test_body_has_a_size(path, extra, status):
    """A body may have 1 MB, a batch 20 MB; one byte more is 413."""
    body = json.dumps({"api_key": "KEY", "events": [event()]}).encode()
    body += b" " * (BODY_LIMIT_BYTES[path] + extra - len(body))
    packed = gzip.compress(body, 1)
    headers = {**JSON, "content-encoding": "gzip"}
    assert status == ask(API, packed, path, headers).status


def test_request_has_a_number_of_events():
    """2,000 events are taken, one more is 413."""
    events = [event(insert_id=str(number)) for number in range(BATCH_LIMIT_EVENTS)]
    assert 200 == upload(API, *events).status
    assert 413 == upload(API, *events, event()).status


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/2/httpapi/", "POST", JSON, 404),
        ("/2/httpapi", "GET", JSON, 405),
        ("/2/httpapi", "POST", {}, 400),
        ("/batch", "POST", {"content-type": "text/plain"}, 400),
    ],
)
def test_other_requests_are_refused(path, method, headers, status):
    """Only the documented addresses exist, for POST and JSON."""
    answer = ask(API, {}, path, headers, method)
    assert (status, status) == (answer.status, said(answer)["code"])


def test_users_are_mapped():
    """A mapping, or a list of them, is kept with a key that tells copies."""
    one = {"user_id": "ü&=", "global_user_id": "b"}
    gone = {"user_id": "c", "unmap": True}
    answer = map_users([one, gone])
    assert 200 == answer.status
    assert [one, gone] == [kept.payload for kept in answer.accepted]
    assert ["usermap/ü&=/b", "usermap/c/None"] == [kept.key for kept in answer.accepted]
    assert [one] == [kept.payload for kept in map_users(one).accepted]


@pytest.mark.parametrize(
    ("mapping", "key", "headers", "status"),
    [
        ([{"user_id": "a"}], "KEY", FORM, 400),
        ([{"global_user_id": "a"}], "KEY", FORM, 400),
        (["text"], "KEY", FORM, 400),
        ({"user_id": "a", "unmap": False}, "KEY", FORM, 400),
        ({"user_id": "a", "global_user_id": "b"}, "", FORM, 400),
        ({"user_id": "a", "global_user_id": "b"}, "KEY", JSON, 400),
        ([{"user_id": "a", "unmap": True}] * 2001, "KEY", FORM, 413),
    ],
)
def test_bad_mapping_is_refused(mapping, key, headers, status):
    """A mapping needs both ids, a key, a form, and fewer than 2,001 companions."""
    assert status == map_users(mapping, key, headers).status


def test_form_without_mapping_is_refused():
    """A form that maps nobody is 400."""
    assert 400 == ask(API, b"api_key=KEY", "/usermap", FORM).status


def test_plugs_into_the_collector(connect):
    """The collector serves Amplitude's endpoints and sums up under its name."""
    with Collector("amplitude") as collector:
        document = {"api_key": "KEY", "events": [event(), event()]}
        reply = connect(collector).request(
            "POST", "/2/httpapi", document, content_type="application/json"
        )
        assert (200, 2) == (reply.status, json.loads(reply.body)["events_ingested"])
        assert [event(), event()] == collector.events
        assert {"user-1/m-1": 1} == dict(collector.duplicates)
        assert "amplitude" == collector.stats()["vendor"]
