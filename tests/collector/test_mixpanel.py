from __future__ import annotations

import base64
import gzip
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from analytics_sdk.collector import ApiRequest, Collector, MixpanelApi
from analytics_sdk.collector.mixpanel import (
    BODY_LIMIT_BYTES,
    EARLIEST_MS,
    RECORD_LIMIT_BYTES,
    RECORDS_LIMIT,
)

API = MixpanelApi()
NOW_MS = 1_795_264_200_000
FORM = "application/x-www-form-urlencoded"


def basic(user: str, password: str = "") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def event(*, name: Any = "Paid", **changes: Any) -> dict[str, Any]:
    fields = {"time": NOW_MS, "distinct_id": "u", "$insert_id": "m-1", **changes}
    kept = {key: value for key, value in fields.items() if value is not ...}
    return {"event": name, "properties": kept}


def profile(**changes: Any) -> dict[str, Any]:
    fields = {"$token": "T", "$distinct_id": "u", **changes}
    return {key: value for key, value in fields.items() if value is not ...}


def group(**changes: Any) -> dict[str, Any]:
    fields = {"$token": "T", "$group_key": "company", "$group_id": "acme", **changes}
    return {key: value for key, value in fields.items() if value is not ...}


def ask(
    path: str,
    document: Any,
    api: MixpanelApi = API,
    method: str = "POST",
    **headers: str,
) -> Any:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    given = {"content-type": "application/json", "authorization": basic("T"), **named}
    return api.receive(ApiRequest(method, path, given, body))


def said(answer: Any) -> Any:
    return json.loads(answer.body)


def test_good_events_are_imported():
    """A 200 counts the events, and each has the key that Mixpanel deduplicates by."""
    answer = ask("/import", [event(), event(**{"$insert_id": "m-2"})])
    expected = {"code": 200, "num_records_imported": 2, "status": "OK"}
    assert (200, expected) == (answer.status, said(answer))
    assert [
        '["Paid", "u", 1795264200000, "m-1"]',
        '["Paid", "u", 1795264200000, "m-2"]',
    ] == [each.key for each in answer.accepted]
    assert [len(json.dumps(event()))] * 2 == [
        each.raw_bytes for each in answer.accepted
    ]
    assert answer == ask("/import/", [event(), event(**{"$insert_id": "m-2"})])


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ("text", ""),
        ({}, "event"),
        (event(name=""), "event"),
        (event(name=7), "event"),
        ({"event": "Paid"}, "properties"),
        (event(time=...), "properties.time"),
        (event(time="now"), "properties.time"),
        (event(time=1.5), "properties.time"),
        (event(time=True), "properties.time"),
        (event(time=1), "properties.time"),
        (event(time=NOW_MS + 1), "properties.time"),
        (event(distinct_id=...), "properties.distinct_id"),
        (event(distinct_id=7), "properties.distinct_id"),
        (event(distinct_id="null"), "properties.distinct_id"),
        (event(**{"$user_id": "v"}), "properties.distinct_id"),
        (event(**{"$insert_id": ...}), "properties.$insert_id"),
        (event(**{"$insert_id": "none"}), "properties.$insert_id"),
        (event(**{"$insert_id": "a_b"}), "properties.$insert_id"),
        (event(**{"$insert_id": "x" * 37}), "properties.$insert_id"),
        (event(**{f"p{each}": 1 for each in range(252)}), "properties"),
        (event(p={str(each): 1 for each in range(255)}), "properties"),
        (event(p=list(range(255))), "properties"),
        (event(p={"a": {"b": {"c": {}}}}), "properties"),
        (event(p="x" * RECORD_LIMIT_BYTES), ""),
        (event(name="$merge", **{"$distinct_ids": ["a"]}), "properties.$distinct_ids"),
    ],
)
def test_bad_events_are_named(record, field):
    """A bad event is a failed record of a 400; the good ones beside it are stored."""
    api = MixpanelApi(latest_ms=NOW_MS)
    answer = ask("/import", [event(), record], api)
    failed = said(answer)["failed_records"]
    assert (400, 1) == (answer.status, said(answer)["num_records_imported"])
    assert [(1, field)] == [(each["index"], each["field"]) for each in failed]
    assert [event()] == [each.payload for each in answer.accepted]
    assert [1] == [each.index for each in answer.rejected]


@pytest.mark.parametrize(
    "record",
    [
        event(time=EARLIEST_MS),
        event(time=NOW_MS // 1000),
        event(distinct_id=""),
        event(**{"$user_id": "u", "$device_id": "d"}),
        event(**{f"p{each}": 1 for each in range(251)}),
        event(p={"a": {"b": [1]}}),
        event(name="$merge", time=..., **{"$distinct_ids": ["a", "b"]}),
    ],
)
def test_events_at_the_limits_are_taken(record):
    """What the limits still allow is imported."""
    assert 200 == ask("/import", [record], MixpanelApi(latest_ms=NOW_MS)).status


def test_merger_without_time_has_no_key():
    """What lacks a part of the key cannot be deduplicated."""
    merger = event(name="$merge", time=..., **{"$distinct_ids": ["a", "b"]})
    (stored,) = ask("/import", [merger]).accepted
    assert stored.key is None


@pytest.mark.parametrize("id_field", ["$insert_id", "insert_id", None])
@pytest.mark.parametrize("with_index", [True, False])
def test_failed_records_in_both_spellings(id_field, with_index):
    """A failed record names its event as one page says, or as the other does."""
    api = MixpanelApi(id_field=id_field, with_index=with_index)
    (failed, odd) = said(ask("/import", [event(time=1), 7], api))["failed_records"]
    expected = {"field", "message", *(["index"] if with_index else [])}
    assert expected == set(odd)
    assert expected | ({id_field} if id_field else set()) == set(failed)


@pytest.mark.parametrize(
    ("api", "authorization", "status"),
    [
        (MixpanelApi(), basic("any"), 200),
        (MixpanelApi(), basic(""), 401),
        (MixpanelApi(), "", 401),
        (MixpanelApi(), "Bearer T", 401),
        (MixpanelApi(), "Basic ?", 401),
        (MixpanelApi(token="T"), basic("T"), 200),
        (MixpanelApi(token="T"), basic("T", "x"), 401),
        (MixpanelApi(token="T"), basic("U"), 401),
        (MixpanelApi(service_account=("bot", "S")), basic("bot", "S"), 200),
        (MixpanelApi(service_account=("bot", "S")), basic("bot", "x"), 401),
        (MixpanelApi(token="T", service_account=("bot", "S")), basic("T"), 200),
    ],
)
def test_import_is_authorised(api, authorization, status):
    """The token, or a service account, opens /import; nothing else does."""
    answer = ask("/import", [event()], api, authorization=authorization)
    assert (status, status == 200) == (answer.status, bool(answer.accepted))


def test_keys_are_not_shown():
    """Neither key appears in the representation."""
    shown = repr(MixpanelApi(token="s3cret", service_account=("bot", "s3cret")))
    assert "s3cret" not in shown


def test_events_may_be_compressed_and_updates_may_not():
    """Gzip is for events; a compressed update is refused."""
    body = gzip.compress(json.dumps([event()]).encode())
    assert 200 == ask("/import", body, content_encoding="gzip").status
    body = gzip.compress(json.dumps([profile(**{"$set": {}})]).encode())
    for path in ("/engage", "/groups"):
        answer = ask(path, body, content_encoding="gzip")
        assert (400, ()) == (answer.status, answer.accepted)
    body = gzip.compress(json.dumps([event(token="T")]).encode())
    assert 200 == ask("/track", body, content_encoding="gzip").status


@pytest.mark.parametrize("path", ["/import", "/track", "/engage", "/groups"])
def test_requests_have_a_size(path):
    """Over 2 MiB, or over 2,000 records, is 413 and stores nothing."""
    assert 413 == ask(path, b" " * (BODY_LIMIT_BYTES + 1)).status
    assert 413 == ask(path, [event()] * (RECORDS_LIMIT + 1)).status
    assert 413 != ask(path, [event()] * RECORDS_LIMIT).status


@pytest.mark.parametrize(
    ("path", "method", "body", "kind", "status"),
    [
        ("/import", "GET", b"[]", "application/json", 405),
        ("/", "POST", b"[]", "application/json", 404),
        ("/decide", "POST", b"[]", "application/json", 404),
        ("/import", "POST", b"[", "application/json", 400),
        ("/import", "POST", b"[NaN]", "application/json", 400),
        ("/import", "POST", b"[]", "text/plain", 400),
        ("/track", "POST", b"data=%7B", FORM, 400),
        ("/track", "POST", b"data=???", FORM, 400),
        ("/import", "POST", b"[]", "application/json; charset=utf-8", 200),
    ],
)
def test_malformed_requests_are_refused(path, method, body, kind, status):
    """Only the documented addresses, methods and bodies exist."""
    answer = ask(path, body, method=method, content_type=kind)
    assert status == answer.status
    assert status == 200 or {"code", "error", "status"} == set(said(answer))


@pytest.mark.parametrize(
    ("path", "record"),
    [
        ("/engage", profile(**{"$set": {"a": 1}})),
        ("/engage", profile(**{"$set_once": {"a": 1}, "$ip": "0"})),
        ("/engage", profile(**{"$add": {"a": 1.5}})),
        ("/engage", profile(**{"$append": {"a": 1}})),
        ("/engage", profile(**{"$union": {"a": [1]}})),
        ("/engage", profile(**{"$remove": {"a": 1}})),
        ("/engage", profile(**{"$unset": ["a"]})),
        ("/engage", profile(**{"$delete": ""})),
        ("/groups", group(**{"$set": {"a": 1}})),
        ("/groups", group(**{"$union": {"a": [1]}})),
        ("/track", event(token="T")),
    ],
)
def test_good_updates_are_kept(path, record):
    """A 1 is said, and the update is kept without a key: nothing deduplicates it."""
    answer = ask(path, [record])
    assert (200, {"status": 1, "error": None}) == (answer.status, said(answer))
    assert [(record, None)] == [(each.payload, each.key) for each in answer.accepted]
    assert answer.accepted == ask(path, record).accepted


@pytest.mark.parametrize(
    ("path", "record", "error"),
    [
        ("/engage", 7, ": record must be an object"),
        ("/engage", profile(**{"$token": ..., "$set": {}}), "$token: missing or empty"),
        (
            "/engage",
            profile(**{"$distinct_id": "", "$set": {}}),
            "$distinct_id: missing or empty",
        ),
        ("/engage", profile(), ": one operation a record"),
        ("/engage", profile(**{"$set": {}, "$add": {}}), ": one operation a record"),
        ("/engage", profile(**{"$set": []}), "$set: invalid"),
        ("/engage", profile(**{"$add": {"a": "1"}}), "$add: invalid"),
        ("/engage", profile(**{"$add": {"a": True}}), "$add: invalid"),
        ("/engage", profile(**{"$union": {"a": 1}}), "$union: invalid"),
        ("/engage", profile(**{"$unset": {"a": 1}}), "$unset: invalid"),
        ("/groups", group(**{"$add": {"a": 1}}), ": one operation a record"),
        ("/groups", group(**{"$group_id": 7}), "$group_id: missing or empty"),
        ("/track", event(), "properties.token: missing"),
        ("/track", {"event": "Paid"}, "properties: must be an object"),
    ],
)
def test_bad_updates_are_answered_by_a_zero(path, record, error):
    """A bad update alone is a 0 behind a 200, with what is wrong; nothing is kept."""
    answer = ask(path, [record])
    assert (200, {"status": 0, "error": error}) == (answer.status, said(answer))
    assert ((), error) == (answer.accepted, answer.rejected[0].reason)


@pytest.mark.parametrize(("zero_means", "digit"), [("none", 1), ("some", 0)])
def test_pages_differ_on_a_mixed_request(zero_means, digit):
    """A request of good and bad is a 1 by one page and a 0 by the other."""
    api = MixpanelApi(zero_means=zero_means)
    answer = ask("/engage", [profile(**{"$set": {}}), profile()], api)
    assert digit == said(answer)["status"]
    assert (1, 1) == (len(answer.accepted), len(answer.rejected))
    good = ask("/engage", [profile(**{"$set": {}})], api)
    assert {"status": 1, "error": None} == said(good)


def test_an_unknown_token_is_not_noticed():
    """The 1 says nothing of the token: updates of an unknown one are thrown away."""
    api = MixpanelApi(token="T")
    for path, record in (
        ("/engage", profile(**{"$token": "U", "$set": {}})),
        ("/track", event(token="U")),
    ):
        answer = ask(path, [record], api)
        assert (1, ()) == (said(answer)["status"], answer.accepted)
        assert "token: unknown" == answer.rejected[0].reason
    assert ask("/engage", [profile(**{"$set": {}})], api).accepted


@pytest.mark.parametrize("encode", [lambda text: text, base64.b64encode])
@pytest.mark.parametrize("document", [event(token="T"), [event(token="T")]])
def test_forms_are_understood(encode, document):
    """A form holds JSON or base64 of it, and says which answer it wants."""
    data = encode(json.dumps(document).encode())
    short = ask("/track", urlencode({"data": data}).encode(), content_type=FORM)
    assert (b"1", [event(token="T")]) == (
        short.body,
        [each.payload for each in short.accepted],
    )
    body = urlencode({"data": data, "verbose": 1, "ip": 0}).encode()
    verbose = ask("/track", body, content_type=FORM)
    assert {"status": 1, "error": None} == said(verbose)


def test_bare_digits():
    """Without verbose the body is a digit."""
    api = MixpanelApi(verbose=False)
    assert b"1" == ask("/engage", [profile(**{"$set": {}})], api).body
    assert b"0" == ask("/engage", [profile()], api).body


def test_collector_knows_mixpanel_by_name():
    """`Collector("mixpanel")` speaks it, and counts under its name."""
    collector = Collector("mixpanel")
    assert "mixpanel" == collector.stats()["vendor"]
    assert not MixpanelApi().keeps_bodies
