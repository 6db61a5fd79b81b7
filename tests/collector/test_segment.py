from __future__ import annotations

import base64
import gzip
import json

import pytest

from analytics_sdk.collector import ApiRequest, SegmentApi
from analytics_sdk.collector.segment import (
    BATCH_LIMIT_EVENTS,
    BODY_LIMIT_BYTES,
    EVENT_LIMIT_BYTES,
)

LENIENT = SegmentApi()
STRICT = SegmentApi(strict=True)
JSON = {"content-type": "application/json"}


def track(**changes):
    event = {"type": "track", "event": "Paid", "userId": "u", "messageId": "m"}
    merged = {**event, **changes}
    return {name: value for name, value in merged.items() if value is not ...}


def ask(api, document, path="/v1/batch", headers=JSON, method="POST"):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return api.receive(ApiRequest(method, path, headers, body))


def ask_batch(api, *events, **top):
    return ask(api, {"batch": list(events), **top})


def basic(user):
    return {"authorization": "Basic " + base64.b64encode(user.encode()).decode()}


def event_of(size):
    bare = len(json.dumps(track(properties={"pad": ""})))
    return track(properties={"pad": "x" * (size - bare)})


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/import", "/v1/b"])
def test_a_batch_is_accepted(path):
    """A good batch is answered as Segment answers, on the old names too."""
    answer = ask(STRICT, {"batch": [track()], "sentAt": "now"}, path)
    assert (200, {"success": True}) == (answer.status, json.loads(answer.body))
    (event,) = answer.accepted
    assert track() == event.payload
    assert ("m", "now") == (event.key, event.sent_at)
    assert len(json.dumps(track())) == event.raw_bytes


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("identify", {}),
        ("track", {"event": "Paid"}),
        ("page", {}),
        ("screen", {}),
        ("group", {"groupId": "g"}),
        ("alias", {"previousId": "p"}),
    ],
)
def test_single_calls_take_their_type_from_the_address(kind, extra):
    """Each of the six addresses makes its own kind of event, without the envelope."""
    document = {"userId": "u", "messageId": "m", **extra}
    answer = ask(STRICT, {**document, "writeKey": "k", "sentAt": "now"}, f"/v1/{kind}")
    (event,) = answer.accepted
    assert {**document, "type": kind} == event.payload
    assert "now" == event.sent_at


def test_gzip_is_understood():
    """A compressed batch is read like a plain one."""
    body = gzip.compress(json.dumps({"batch": [track()]}).encode())
    answer = ask(STRICT, body, headers={**JSON, "content-encoding": "gzip"})
    assert 1 == len(answer.accepted)
    assert gzip.decompress(body) == answer.decoded_body


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("text", "not_an_object"),
        (track(type=...), "unknown_type"),
        (track(type=["track"]), "unknown_type"),
        (track(userId=...), "no_user_anon_id"),
        (track(userId=None), "no_user_anon_id"),
        (track(userId=""), "id_is_not_text"),
        (track(userId=7), "id_is_not_text"),
        (track(anonymousId=7), "id_is_not_text"),
        (track(event=...), "no_event_name"),
        (track(event=""), "no_event_name"),
        (track(type="group"), "no_group_id"),
        (track(type="alias"), "no_previous_id"),
        (track(type="alias", userId=..., anonymousId="a"), "no_user_anon_id"),
        (track(messageId=7), "message_id_is_not_text"),
        (track(messageId="m" * 101), "message_id_too_long"),
    ],
)
def test_invalid_events_are_discarded_or_refused(event, reason):
    """The real service says 200 and discards; a strict one says 400 and the index."""
    lenient = ask_batch(LENIENT, track(), event)
    assert 200 == lenient.status
    assert [track()] == [kept.payload for kept in lenient.accepted]
    (rejected,) = lenient.rejected
    assert (event, reason, 1) == (rejected.payload, rejected.reason, rejected.index)

    strict = ask_batch(STRICT, track(), event)
    said = json.loads(strict.body)
    assert (400, reason, 1) == (strict.status, said["code"], said["index"])
    assert ((), ()) == (strict.accepted, strict.rejected)


@pytest.mark.parametrize(
    "event",
    [
        track(userId=..., anonymousId="a"),
        track(messageId="m" * 100),
        track(type="identify", event=...),
    ],
)
def test_valid_events_are_kept(event):
    """Either id will do, a message id may have 100 characters, names are for tracks."""
    assert [event] == [kept.payload for kept in ask_batch(STRICT, event).accepted]


def test_a_missing_message_id_cannot_be_deduplicated():
    """Without a message id the event is kept without a key, or refused when strict."""
    (event,) = ask_batch(LENIENT, track(messageId=...)).accepted
    assert event.key is None
    refused = ask_batch(STRICT, track(messageId=...))
    assert (400, "no_message_id") == (refused.status, json.loads(refused.body)["code"])


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/track"])
@pytest.mark.parametrize(("size", "status"), [(0, 200), (1, 400)])
def test_an_event_has_a_size(path, size, status):
    """An event may have 32,768 bytes; one more refuses the whole request."""
    event = event_of(EVENT_LIMIT_BYTES + size)
    document = {"batch": [track(), event]} if path == "/v1/batch" else event
    answer = ask(LENIENT, document, path)
    assert status == answer.status
    if status == 400:
        index = 1 if path == "/v1/batch" else 0
        said = json.loads(answer.body)
        assert ("event_too_large", index) == (said["code"], said["index"])


@pytest.mark.parametrize(("size", "status"), [(0, 200), (1, 400)])
def test_a_body_has_a_size(size, status):
    """A body may have 500,000 bytes, counted before compression."""
    body = json.dumps({"batch": [track()]}).encode()
    body = gzip.compress(body + b" " * (BODY_LIMIT_BYTES + size - len(body)))
    answer = ask(LENIENT, body, headers={"content-encoding": "gzip"})
    assert status == answer.status


def test_a_batch_has_a_number_of_events():
    """Over 2,500 events the service says 200 and discards them all."""
    events = [track(messageId=str(number)) for number in range(BATCH_LIMIT_EVENTS + 1)]
    assert BATCH_LIMIT_EVENTS == len(ask_batch(LENIENT, *events[1:]).accepted)
    answer = ask_batch(LENIENT, *events)
    assert (200, ()) == (answer.status, answer.accepted)
    assert {"too_many_events"} == {event.reason for event in answer.rejected}
    assert len(events) == len(answer.rejected)
    assert 400 == ask_batch(STRICT, *events).status


@pytest.mark.parametrize(
    ("headers", "body_key", "known"),
    [
        (basic("key:"), None, True),
        (basic("key"), None, True),
        ({}, "key", True),
        (basic("key:"), "key", True),
        ({"authorization": "Bearer token"}, "key", True),
        ({}, None, False),
        (basic("other:"), None, False),
        (basic("key:"), "other", False),
        (basic("other:"), "key", False),
        ({"authorization": "Basic ???"}, "key", False),
        ({"authorization": "Bearer token"}, None, False),
        ({}, 7, False),
    ],
)
def test_the_write_key_is_checked(headers, body_key, known):
    """The key may stand in either place; where it stands twice both must be right."""
    document = {"batch": [track()]}
    if body_key is not None:
        document["writeKey"] = body_key
    polite = ask(SegmentApi(write_key="key"), document, headers=headers)
    assert 200 == polite.status
    assert known == bool(polite.accepted)
    assert known == (not polite.rejected)

    refusing = SegmentApi(write_key="key", unknown_key="401")
    status = 200 if known else 401
    assert status == ask(refusing, document, headers=headers).status


def test_strictness_refuses_a_wrong_key_unless_told_otherwise():
    """Strict means 401 for a wrong key, and *unknown_key* overrides it."""
    strict = SegmentApi(write_key="key", strict=True)
    assert 401 == ask_batch(strict, track(), writeKey="other").status
    patient = SegmentApi(write_key="key", strict=True, unknown_key="accept")
    answer = ask_batch(patient, track(), writeKey="other")
    assert (200, ()) == (answer.status, answer.accepted)
    assert "unknown_write_key" == answer.rejected[0].reason


def test_the_write_key_is_not_shown():
    """The key does not appear in the representation."""
    assert "s3cret" not in repr(SegmentApi(write_key="s3cret"))


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"{", "invalid_json"),
        (b'{"batch": [{"x": NaN}]}', "invalid_json"),
        ([], "invalid_request"),
        ({}, "invalid_request"),
        ({"batch": {}}, "invalid_request"),
    ],
)
def test_a_malformed_request_is_refused(document, code):
    """What is not a JSON object with a list under batch is 400."""
    answer = ask(LENIENT, document)
    assert (400, code) == (answer.status, json.loads(answer.body)["code"])


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/v1/batch/", "POST", 404), ("/", "POST", 404), ("/v1/track", "GET", 405)],
)
def test_other_addresses_and_methods_are_refused(path, method, status):
    """Only the documented addresses exist, and only for POST."""
    answer = ask(LENIENT, {}, path, method=method)
    assert status == answer.status
    assert (status == 405) == (("Allow", "POST") in answer.headers)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 400),
        ("", 400),
    ],
)
def test_strictness_asks_for_the_content_type(content_type, status):
    """The documentation requires application/json; only a strict server insists."""
    document, headers = {"batch": [track()]}, {"content-type": content_type}
    assert status == ask(STRICT, document, headers=headers).status
    assert 200 == ask(LENIENT, document, headers=headers).status


def test_what_a_batch_shares_is_merged_into_its_events():
    """Context and integrations beside the batch fill in; the event's own win."""
    own = track(context={"ip": "1.2.3.4"})
    top = {"context": {"ip": "0.0.0.0", "locale": "en"}, "integrations": {"All": False}}
    first, second = ask_batch(LENIENT, own, track(), **top).accepted
    assert {"ip": "1.2.3.4", "locale": "en"} == first.payload["context"]
    assert {"All": False} == first.payload["integrations"]
    assert top["context"] == second.payload["context"]
    assert 1 == len(ask_batch(LENIENT, "text", track(), **top).accepted)
