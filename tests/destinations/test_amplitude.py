from __future__ import annotations

import ast
import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk._batching import count_that_fit, request_bytes
from analytics_sdk.collector import ApiRequest
from analytics_sdk.collector.amplitude import AmplitudeApi
from analytics_sdk.destinations.amplitude import (
    EVENTS,
    MAX_BATCH_BYTES,
    MAX_EVENTS,
    MAX_USERMAP_BYTES,
    PARK_S,
    USERMAP,
    Amplitude,
    mapping,
)
from analytics_sdk.destinations.amplitude.tables import (
    CAMPAIGN,
    CONTEXT,
    INGESTION,
    NAMELESS,
    OPERATIONS,
    OPTIONS,
    PLAN,
    REFUSED_IDS,
    REVENUE,
)
from analytics_sdk.errors import ConfigError, Reason
from analytics_sdk.events import CALL_TYPES, Event, Selection
from analytics_sdk.interfaces import Destination, Part
from tests.strategies import plain_values

DOCS = Path(__file__).parents[2] / "docs" / "amplitude.md"
SNAPSHOTS = Path(__file__).parent / "snapshots" / "amplitude"
NOON = datetime(2026, 11, 21, 12, 0, 0, 5_000, tzinfo=timezone.utc)
NOON_MS = 1_795_255_200_000


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def make_event(
    *,
    type_: str = "track",
    integrations: dict[str, Any] | None = None,
    message_id: str = "m-1",
    **members: object,
) -> Event:
    chosen = integrations or {}
    fields = {
        "messageId": message_id,
        "timestamp": "2026-11-21T10:00:00.000Z",
        "type": type_,
        **({"userId": "user-1"} if "userId" not in members else {}),
        **({"event": "Paid"} if type_ == "track" and "event" not in members else {}),
        **{name: value for name, value in members.items() if value is not ...},
        "integrations": chosen,
    }
    return Event(compact(fields), Selection(("Amplitude",), 1, chosen, b"", {}))


def encode(event: Event, **settings: Any) -> list[Part]:
    return list(Amplitude("KEY", **settings).encode(event))


def mapped(event: Event, **settings: Any) -> dict[str, Any]:
    (part,) = encode(event, **settings)
    assert part.refused is None
    return dict(json.loads(part.body))


def with_options(type_: str = "track", /, **options: object) -> dict[str, Any]:
    return mapped(make_event(type_=type_, integrations={"Amplitude": options}))


def test_amplitude_is_a_destination():
    """Amplitude has all that the protocol asks for, under Segment's names for it."""
    destination = Amplitude("KEY")
    assert isinstance(destination, Destination)
    assert ("Amplitude", "Amplitude", frozenset(CALL_TYPES)) == (
        destination.kind,
        destination.name,
        destination.takes,
    )
    assert ("Actions Amplitude", "Amplitude (Actions)") == destination.aliases


CONTEXT_SAMPLE = {
    "app": {"version": "2.1"},
    "campaign": {"name": "Autumn", "source": "mail", "medium": "email"},
    "device": {
        "type": "ios",
        "id": "D-1",
        "advertisingId": "AD-1",
        "brand": "Apple",
        "manufacturer": "Apple",
        "model": "iPhone17,1",
    },
    "ip": "203.0.113.7",
    "library": {"name": "analytics-sdk-server", "version": "0.1.0"},
    "locale": "en-GB",
    "location": {
        "city": "Leeds",
        "country": "United Kingdom",
        "region": "England",
        "latitude": 53.8,
        "longitude": -1.5,
    },
    "network": {"carrier": "EE"},
    "os": {"name": "iOS", "version": "19.1"},
    "userAgent": "Mozilla/5.0 (iPhone)",
}
OPTIONS_SAMPLE = {
    "session_id": 1_795_250_000_000,
    "event_id": 7,
    "groups": {"company": "acme", "team": ["red", "blue"]},
    "skip_user_properties_sync": True,
    "plan": {"branch": "main", "source": "web", "version": "3", "versionId": "v3"},
    "ingestion_metadata": {"source_name": "billing", "source_version": "1.0"},
}
CALLS: dict[str, dict[str, Any]] = {
    "identify": {
        "type_": "identify",
        "traits": {"email": "jane@example.com", "plan": "pro", "visits": 9},
        "integrations": {
            "Amplitude": {
                "$setOnce": {"first_plan": "free"},
                "$add": {"visits": 1},
                "$unset": ["trial_ends"],
            }
        },
    },
    "track": {
        "event": "Order Completed",
        "anonymousId": "anon-1",
        "properties": {
            "revenue": 39.8,
            "price": 19.9,
            "quantity": 2,
            "currency": "eur",
            "product_id": "p-1",
            "products": [{"product_id": "p-1", "price": 19.9, "quantity": 2}],
        },
        "context": CONTEXT_SAMPLE,
        "integrations": {"Amplitude": OPTIONS_SAMPLE},
    },
    "page": {
        "type_": "page",
        "category": "Docs",
        "name": "Pricing",
        "properties": {"path": "/pricing"},
    },
    "screen": {"type_": "screen", "name": "Home", "properties": {}},
    "group": {
        "type_": "group",
        "groupId": "acme",
        "traits": {"employees": 12},
        "integrations": {"Amplitude": {"group_type": "company"}},
    },
    "alias": {"type_": "alias", "previousId": "old user", "userId": "user-1"},
}


@pytest.mark.parametrize("kind", CALL_TYPES)
def test_request_on_the_wire(kind):
    """Each call's request is the one in the snapshot, and Amplitude would take it."""
    destination = Amplitude("KEY")
    parts = destination.encode(make_event(**CALLS[kind]))
    request = destination.request(parts[0].route, parts, NOON, 1)
    if kind == "alias":
        form = parse_qs(request.body.decode())
        body: object = {
            "api_key": form["api_key"][0],
            "mapping": json.loads(form["mapping"][0]),
        }
    else:
        body = json.loads(request.body)
    seen = {"url": request.url, "headers": dict(request.headers), "body": body}
    snapshot = json.loads((SNAPSHOTS / f"{kind}.json").read_text("utf-8"))
    assert snapshot == seen

    path = request.url.removeprefix("https://").partition("/")[2]
    headers = {name.lower(): value for name, value in request.headers.items()}
    asked = ApiRequest("POST", f"/{path}", headers, request.body)
    answer = AmplitudeApi(strict=True).receive(asked)
    assert 200 == answer.status, answer.body
    assert len(parts) == len(answer.accepted)


def test_retries_carry_their_own_time():
    """A repeated request differs in its upload time alone."""
    destination = Amplitude("KEY")
    parts = destination.encode(make_event())
    later = NOON.astimezone(timezone(timedelta(hours=9))) + timedelta(minutes=1)
    first = json.loads(destination.request(EVENTS, parts, NOON, 1).body)
    second = json.loads(destination.request(EVENTS, parts, later, 2).body)
    assert "2026-11-21T12:00:00.005Z" == first.pop("client_upload_time")
    assert "2026-11-21T12:01:00.005Z" == second.pop("client_upload_time")
    assert first == second


US, EU = "https://api2.amplitude.com", "https://api.eu.amplitude.com"


@pytest.mark.parametrize(
    ("settings", "url", "usermap", "gzip"),
    [
        ({}, f"{US}/2/httpapi", "https://api.amplitude.com/usermap", True),
        ({"region": "eu"}, f"{EU}/2/httpapi", f"{EU}/usermap", True),
        (
            {"endpoint": "batch"},
            f"{US}/batch",
            "https://api.amplitude.com/usermap",
            True,
        ),
        ({"region": "eu", "endpoint": "batch"}, f"{EU}/batch", f"{EU}/usermap", True),
        ({"host": "https://p.example/"}, *["https://p.example"] * 2, False),
        ({"host": "https://p.example/2/httpapi"}, *["https://p.example"] * 2, False),
        ({"host": "https://p.example/a/batch"}, *["https://p.example/a"] * 2, False),
        ({"host": US}, *[US] * 2, True),
        ({"host": "https://p.example", "gzip": True}, *["https://p.example"] * 2, True),
        ({"gzip": False}, f"{US}/2/httpapi", "https://api.amplitude.com/usermap", 0),
        ({"host": "http://localhost:9"}, *["http://localhost:9"] * 2, False),
    ],
)
def test_address(settings, url, usermap, gzip):
    """Region, endpoint and host make the addresses; gzip is for Amplitude's hosts."""
    destination = Amplitude("KEY", **settings)
    events, aliases = (
        destination.request(each, (), NOON, 1) for each in (EVENTS, USERMAP)
    )
    if "host" in settings:
        url, usermap = f"{url}/2/httpapi", f"{usermap}/usermap"
    assert (url, usermap) == (events.url, aliases.url)
    assert (gzip, False) == (events.gzip, aliases.gzip)


@pytest.mark.parametrize(
    ("key", "settings", "field"),
    [
        ("", {}, "api_key"),
        (None, {}, "api_key"),
        ("KEY", {"region": "asia"}, "region"),
        ("KEY", {"region": ["us"]}, "region"),
        ("KEY", {"endpoint": "httpapi"}, "endpoint"),
        ("KEY", {"host": "http://p.example"}, "host"),
        ("KEY", {"min_id_length": 0}, "min_id_length"),
        ("KEY", {"min_id_length": True}, "min_id_length"),
        ("KEY", {"group_type": " "}, "group_type"),
        ("KEY", {"group_type": None}, "group_type"),
        ("KEY", {"page_template": ""}, "page_template"),
        ("KEY", {"page_template": "{url}"}, "page_template"),
        ("KEY", {"page_template": "{"}, "page_template"),
        ("KEY", {"page_template": "{}"}, "page_template"),
        ("KEY", {"page_template": "{name.x}"}, "page_template"),
        ("KEY", {"page_template": "{name[x]}"}, "page_template"),
        ("KEY", {"screen_template": 7}, "screen_template"),
    ],
)
def test_bad_settings_are_refused(key, settings, field):
    """What cannot be right is a configuration error that names the setting."""
    with pytest.raises(ConfigError, match=rf"^{field}: "):
        Amplitude(key, **settings)


def test_key_is_shown_nowhere():
    """Neither the destination nor its requests show the key."""
    key = "0123456789abcdefSECRET"
    destination = Amplitude(key)
    for route in (EVENTS, USERMAP):
        request = destination.request(route, (), NOON, 1)
        for shown in (repr(destination), str(destination), repr(request)):
            assert key[-4:] not in shown


KEYS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40
)


@given(
    KEYS,
    st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20)), max_size=6),
    st.datetimes(timezones=st.just(timezone.utc)),
    st.sampled_from([1, 5, 100]),
)
def test_request_is_as_long_as_the_limits_say(key, payloads, sent_at, shortest):
    """Envelope, parts and commas add up to the body, and the order is kept."""
    destination = Amplitude(key, min_id_length=shortest)
    parts = [Part(EVENTS, compact(each)) for each in payloads]
    request = destination.request(EVENTS, parts, sent_at, 1)
    sizes = [len(part.body) for part in parts]
    assert request_bytes(sizes, destination.limits[EVENTS]) == len(request.body)
    body = json.loads(request.body)
    assert (key, payloads) == (body["api_key"], body["events"])
    assert {"min_id_length": shortest} == body["options"]


@given(KEYS, st.lists(st.tuples(st.text(min_size=2), st.text(min_size=2)), max_size=5))
def test_form_is_as_long_as_the_limits_say(key, pairs):
    """A form's escapes are counted exactly, and read back as the mappings."""
    destination = Amplitude(key)
    events = [
        make_event(type_="alias", previousId=f"p{old}", userId=f"u{new}")
        for old, new in pairs
    ]
    parts = [part for event in events for part in destination.encode(event)]
    request = destination.request(USERMAP, parts, NOON, 1)
    sizes = [len(part.body) for part in parts]
    assert request_bytes(sizes, destination.limits[USERMAP]) == len(request.body)
    form = parse_qs(request.body.decode("ascii"), strict_parsing=True)
    assert [key] == form["api_key"]
    expected = [{"user_id": f"p{a}", "global_user_id": f"u{b}"} for a, b in pairs]
    assert expected == json.loads(form["mapping"][0])


@given(st.lists(st.integers(1, 400_000), min_size=1, max_size=12))
def test_batches_stay_inside_the_limit(sizes):
    """What the core lets into one request has at most 1,000,000 bytes."""
    destination = Amplitude("KEY")
    limits = destination.limits[EVENTS]
    count = count_that_fit(sizes, limits)
    parts = [Part(EVENTS, b"x" * size) for size in sizes]
    assert len(destination.request(EVENTS, parts[:count], NOON, 1).body) <= 1_000_000
    if count < len(sizes):
        more = destination.request(EVENTS, parts[: count + 1], NOON, 1)
        assert len(more.body) > 1_000_000


def test_limits_are_amplitudes():
    """The limits are those of the HTTP V2, Batch and User Mapping APIs."""
    plain, batch = Amplitude("KEY").limits, Amplitude("KEY", endpoint="batch").limits
    assert (2_000, 1_000_000) == plain[EVENTS][:2]
    assert (2_000, 20_000_000) == batch[EVENTS][:2]
    assert (2_000, 1_000_000) == plain[USERMAP][:2] == batch[USERMAP][:2]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ({"userId": "u"}, {"user_id": "u"}),
        ({"userId": 42}, {"user_id": "42"}),
        ({"anonymousId": "a"}, {"user_id": "user-1", "device_id": "a"}),
        ({"userId": ..., "anonymousId": "a"}, {"device_id": "a"}),
        (
            {"anonymousId": "a", "context": {"device": {"id": "d"}}},
            {"user_id": "user-1", "device_id": "d"},
        ),
        (
            {"anonymousId": "a", "context": {"device": {"id": "unknown"}}},
            {"user_id": "user-1", "device_id": "a"},
        ),
        ({"userId": "null", "anonymousId": "a"}, {"device_id": "a"}),
        ({"anonymousId": "0"}, {"user_id": "user-1"}),
        ({"context": {"device": "text"}}, {"user_id": "user-1"}),
    ],
)
def test_ids(ids, expected):
    """Ids that Amplitude takes go along; the device's own id beats the anonymous."""
    event = mapped(make_event(**ids))
    assert expected == {k: v for k, v in event.items() if k in ("user_id", "device_id")}


@pytest.mark.parametrize("type_", CALL_TYPES)
@pytest.mark.parametrize("bad", sorted(REFUSED_IDS))
def test_unusable_ids_are_refused(type_, bad):
    """A call of which no id is usable is refused here, not by a whole request's 400."""
    event = make_event(type_=type_, userId=bad, previousId=bad, groupId="g", event="E")
    (part,) = encode(event)
    assert Reason.NO_ID is part.refused


def test_short_ids_count_as_none():
    """Ids below the shortest length count as none, as at Amplitude."""
    event = make_event(userId="user", anonymousId="anonymous-1")
    assert "user_id" in mapped(event)
    assert "user_id" not in mapped(event, min_id_length=5)
    assert Reason.NO_ID is encode(make_event(), min_id_length=7)[0].refused


def test_order_is_kept_by_user():
    """A part keeps the order of its user, and ties the anonymous id to it."""
    (part,) = encode(make_event(anonymousId="a"))
    assert ("user-1", "a", False) == (part.key, part.joins, part.barrier)
    (alone,) = encode(make_event(userId=..., anonymousId="a"))
    assert ("a", "") == (alone.key, alone.joins)


@pytest.mark.parametrize(
    ("ids", "key", "joins"),
    [
        ({"previousId": "old"}, "user-1", "old"),
        ({"previousId": "old", "anonymousId": "a"}, "user-1", "old"),
        ({"previousId": "user-1"}, "user-1", ""),
        ({"previousId": "null"}, "user-1", "null"),
    ],
)
def test_alias_is_a_barrier(ids, key, joins):
    """An alias waits for what went before it on all routes, and ties its two ids."""
    (part,) = encode(make_event(type_="alias", **ids))
    assert (USERMAP, key, joins) == (part.route, part.key, part.joins)
    assert (part.refused is None) == part.barrier


def test_unmap():
    """The selector's option turns an alias into its undoing."""
    event = make_event(
        type_="alias", previousId="old", integrations={"Amplitude": {"unmap": True}}
    )
    destination = Amplitude("KEY")
    request = destination.request(USERMAP, destination.encode(event), NOON, 1)
    form = parse_qs(request.body.decode())
    assert [{"user_id": "old", "unmap": True}] == json.loads(form["mapping"][0])


@pytest.mark.parametrize(
    ("timestamp", "time"),
    [
        ("2026-11-21T10:00:00.000Z", NOON_MS),
        ("2026-11-21T10:00:00.001Z", NOON_MS + 1),
        ("2026-11-21T12:00:00.000+02:00", NOON_MS),
        ("2026-11-21T10:00:00", NOON_MS),
        ("1970-01-01T00:00:00.000Z", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("yesterday", None),
        (7, None),
        (..., None),
    ],
)
def test_time_is_in_milliseconds(timestamp, time):
    """The time is exact to the millisecond; one that is none is left to the server."""
    event = make_event(timestamp=timestamp)
    if timestamp is ...:
        payload = {k: v for k, v in event.payload.items() if k != "timestamp"}
        event = Event(compact(payload), event.selection)
    assert time == mapped(event).get("time")


@pytest.mark.parametrize(
    ("kind", "members", "settings", "title"),
    [
        ("page", {"name": "A", "category": "C"}, {}, "Viewed A Page"),
        ("page", {"category": "C"}, {}, "Viewed C Page"),
        ("page", {}, {}, "Loaded a Page"),
        ("page", {"properties": {"name": "P"}}, {}, "Viewed P Page"),
        ("page", {"name": "A"}, {"page_template": "Page: {name}"}, "Page: A"),
        (
            "page",
            {"name": "A", "category": "C"},
            {"page_template": "{category} {name}"},
            "C A",
        ),
        ("page", {"name": "A"}, {"page_template": "Saw {category} {name}"}, "Saw A"),
        (
            "page",
            {"category": "C"},
            {"page_template": "Saw {category} {name}"},
            "Saw C",
        ),
        ("page", {"name": "{x}"}, {}, "Viewed {x} Page"),
        ("screen", {"name": "A"}, {}, "Viewed A Screen"),
        ("screen", {}, {}, "Loaded a Screen"),
        ("screen", {"name": "A"}, {"screen_template": "S"}, "S"),
    ],
)
def test_pages_and_screens_have_titles(kind, members, settings, title):
    """Name and category make the event's name, by the templates."""
    assert title == mapped(make_event(type_=kind, **members), **settings)["event_type"]


def test_page_keeps_name_and_category():
    """Name and category are properties too, unless the properties say otherwise."""
    event = make_event(
        type_="page", name="N", category="C", properties={"name": "own", "x": 1}
    )
    expected = {"name": "own", "category": "C", "x": 1}
    assert expected == mapped(event)["event_properties"]
    assert "event_properties" not in mapped(make_event(type_="page"))


REVENUE_KEYS = {"revenue", "price", "quantity", "productId", "revenueType", "currency"}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"revenue": 9.5}, {"revenue": 9.5}),
        ({"revenue": "19.90"}, {"revenue": 19.9}),
        ({"revenue": -9}, {"revenue": -9}),
        ({"revenue": "abc"}, {}),
        ({"revenue": True}, {}),
        ({"revenue": "1" * 310}, {}),
        ({"price": 9.5, "quantity": 2}, {}),
        (
            {"revenue": 19, "price": 9.5, "quantity": 2},
            {"revenue": 19, "price": 9.5, "quantity": 2},
        ),
        (
            {"revenue": 19, "price": "9.5", "quantity": 2.0},
            {"revenue": 19, "price": 9.5, "quantity": 2},
        ),
        ({"revenue": 15, "price": 9.5, "quantity": 2}, {"revenue": 15}),
        ({"revenue": 15, "price": 10, "quantity": 1.5}, {"revenue": 15}),
        ({"revenue": 15, "quantity": 2}, {"revenue": 15}),
        ({"revenue": 15, "price": 15}, {"revenue": 15}),
        (
            {"revenue": 1, "product_id": "p", "revenue_type": "t", "currency": "eur"},
            {"revenue": 1, "productId": "p", "revenueType": "t", "currency": "EUR"},
        ),
        (
            {"revenue": 1, "productId": 7, "revenueType": "t", "currency": None},
            {"revenue": 1, "productId": "7", "revenueType": "t"},
        ),
    ],
)
def test_revenue(properties, expected):
    """Revenue is counted as called, and never by a price that belongs to no sale."""
    event = mapped(make_event(properties=properties))
    assert expected == {key: event[key] for key in REVENUE_KEYS & event.keys()}
    assert properties == event["event_properties"]


@pytest.mark.parametrize(("path", "key"), CONTEXT.items())
@pytest.mark.parametrize("value", ["text", 7, 1.5, True, None, "", {}, [], "$remote"])
def test_context_has_the_right_types(path, key, value):
    """Each field of the context goes where the table says, in its type or not."""
    member, _, inner = path.partition(".")
    event = mapped(make_event(context={member: {inner: value} if inner else value}))
    number = key in ("location_lat", "location_lng")
    known = type(value) in (int, float) if number else type(value) in (str, int, float)
    if value in ("", "$remote") or not known:
        assert key not in event
    else:
        assert (value if number else str(value)) == event[key]


@pytest.mark.parametrize("context", [{}, {"app": "x", "device": [], "library": 1}])
def test_other_context_is_left_out(context):
    """A context that holds nothing readable adds nothing, least of all an address."""
    expected = {"event_type", "user_id", "time", "insert_id"}
    assert expected == set(mapped(make_event(context=context)))


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (
            {"type": "ios", "id": "D", "advertisingId": "A"},
            {"platform": "iOS", "idfa": "A", "idfv": "D"},
        ),
        (
            {"type": "Android", "advertisingId": "A"},
            {"platform": "Android", "adid": "A"},
        ),
        ({"type": "web", "advertisingId": "A"}, {"platform": "Web"}),
        ({"type": "tv"}, {"platform": "tv"}),
        ({"advertisingId": "A"}, {}),
    ],
)
def test_device(device, expected):
    """The device's type decides its platform and what its ids are called."""
    event = mapped(make_event(context={"device": device}))
    keys = ("platform", "idfa", "adid", "idfv")
    assert expected == {key: event[key] for key in keys if key in event}


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        ({"name": "n", "version": "1"}, "n/1"),
        ({"name": "n"}, "n"),
        ({"version": "1"}, None),
    ],
)
def test_library(library, expected):
    """The library that made the call is named with its version."""
    assert expected == mapped(make_event(context={"library": library})).get("library")


@pytest.mark.parametrize("type_", ["identify", "track", "page", "screen"])
def test_campaign(type_):
    """A campaign sets utm properties, and their first values once."""
    context = {"campaign": {"name": "n", "source": "s", "other": "x", "term": None}}
    assert {
        "$set": {"utm_source": "s", "utm_campaign": "n"},
        "$setOnce": {"initial_utm_source": "s", "initial_utm_campaign": "n"},
    } == mapped(make_event(type_=type_, context=context))["user_properties"]


@pytest.mark.parametrize("type_", ["identify", "track", "page", "screen"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations(type_, operation):
    """The vendor's operations on user properties come through the selector."""
    expected = {operation: {"a": "-" if operation == "$unset" else 1}}
    assert expected == with_options(type_, **{operation: {"a": 1}})["user_properties"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", {"$unset": {"a": "-"}}),
        (["a", 7, "b"], {"$unset": {"a": "-", "b": "-"}}),
        ({"a": True}, {"$unset": {"a": "-"}}),
        (7, None),
    ],
)
def test_unset_takes_names(value, expected):
    """Properties to unset may be a name, a list of names or a dict."""
    assert expected == with_options(**{"$unset": value}).get("user_properties")


def test_operations_beat_traits():
    """A trait that an operation names is not set as well."""
    event = make_event(
        type_="identify",
        traits={"visits": 9, "plan": "pro"},
        integrations={"Amplitude": {"$add": {"visits": 1}, "$set": {"plan": "free"}}},
    )
    expected = {"$set": {"plan": "free"}, "$add": {"visits": 1}}
    assert expected == mapped(event)["user_properties"]


@given(
    st.dictionaries(
        st.sampled_from([*OPERATIONS, "$other"]),
        st.dictionaries(st.sampled_from("abc"), st.integers()) | st.integers(),
    ),
    st.dictionaries(st.sampled_from("abcd"), st.integers()),
)
def test_each_property_is_in_one_operation(operations, traits):
    """No property is in two operations, no name is lost, and none stands plain."""
    found = mapping.operate(traits, operations, {})
    names = [name for values in found.values() for name in values]
    given_names = {
        name
        for operation, values in operations.items()
        if operation in OPERATIONS and isinstance(values, dict)
        for name in values
    }
    assert len(names) == len(set(names))
    assert given_names | set(traits) == set(names)
    assert set(found) <= set(OPERATIONS)


def test_identify_without_traits():
    """An identify call that sets nothing still says who the user is."""
    event = mapped(make_event(type_="identify"))
    assert ("$identify", False) == (event["event_type"], "user_properties" in event)


def test_group_without_traits_is_one_event():
    """A group that has no properties to set needs no second event."""
    event = mapped(make_event(type_="group", groupId="acme"), group_type="company")
    assert ("$identify", {"company": "acme"}) == (event["event_type"], event["groups"])
    assert {"$set": {"company": "acme"}} == event["user_properties"]


def test_group_operations_are_the_groups():
    """Operations of a group call act on the group; its other groups stay the user's."""
    event = make_event(
        type_="group",
        groupId="acme",
        anonymousId="a",
        integrations={"Amplitude": {"$add": {"seats": 1}, "groups": {"team": "red"}}},
    )
    member, group = (json.loads(part.body) for part in encode(event))
    assert {"team": "red", "group": "acme"} == member["groups"]
    assert {"$add": {"seats": 1}} == group["group_properties"]
    assert {"group": "acme"} == group["groups"]
    assert ("m-1", "m-1-1") == (member["insert_id"], group["insert_id"])
    assert [("user-1", "a")] * 2 == [(part.key, part.joins) for part in encode(event)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_795_250_000_000, 1_795_250_000_000),
        ("1795250000000", 1_795_250_000_000),
        (1_396_381_378, 1_396_381_378_000),
        (-1, -1),
        ("2026-11-21T10:00:00.000Z", NOON_MS),
        (True, None),
        (1.5, None),
        ("later", None),
        (None, None),
    ],
    ids=repr,
)
@pytest.mark.parametrize("name", ["session_id", "sessionId"])
def test_session_id(name, value, expected):
    """A session's start may be milliseconds, seconds, digits or an ISO time."""
    assert expected == with_options(**{name: value}).get("session_id")


@pytest.mark.parametrize(
    ("options", "key", "expected"),
    [
        ({"event_id": 7}, "event_id", 7),
        ({"event_id": "7"}, "event_id", 7),
        ({"event_id": True}, "event_id", None),
        ({"groups": {"a": "x", "b": ["y", 7, None], "c": 8}}, "groups", "…"),
        ({"groups": {"a": [], "b": None}}, "groups", None),
        ({"groups": "acme"}, "groups", None),
        ({"skip_user_properties_sync": True}, "$skip_user_properties_sync", True),
        ({"skipUserPropertiesSync": True}, "$skip_user_properties_sync", True),
        ({"skip_user_properties_sync": 1}, "$skip_user_properties_sync", None),
        ({"plan": {"version": 3, "x": 1}}, "plan", {"version": "3"}),
        ({"plan": {"x": 1}}, "plan", None),
        ({"ingestion_metadata": {"source_name": "s"}}, "ingestion_metadata", "…"),
        ({"other": 1}, "other", None),
    ],
)
def test_options(options, key, expected):
    """The selector's options become event keys where they can be what they must."""
    if expected == "…":
        full = {"groups": {"a": "x", "b": ["y", "7"], "c": "8"}}
        expected = full.get(key, {"source_name": "s"})
    assert expected == with_options(**options).get(key)


@pytest.mark.parametrize(
    ("integrations", "expected"),
    [
        ({"Actions Amplitude": {"event_id": 1}}, 1),
        ({"Amplitude (Actions)": {"event_id": 1}}, 1),
        ({"Amplitude": True, "Actions Amplitude": {"event_id": 1}}, 1),
        ({"Amplitude EU": {"event_id": 2}, "Amplitude": {"event_id": 1}}, 2),
        ({"Amplitude": True}, None),
        ({"Segment.io": {"event_id": 1}}, None),
    ],
)
def test_options_are_found_by_every_name(integrations, expected):
    """Options may stand under the name, the kind or a catalogue name."""
    event = make_event(integrations=integrations)
    assert expected == mapped(event, name="Amplitude EU").get("event_id")


FIELDS = st.dictionaries(
    st.sampled_from(
        ["device", "campaign", "location", "os", "app", "ip", "locale", "library"]
    ),
    plain_values()
    | st.dictionaries(
        st.sampled_from(["id", "type", "name", "version", "city", "latitude"]),
        plain_values(),
    ),
)
ID = st.text(min_size=2, max_size=8).map("id-{}".format)


@given(
    st.sampled_from([each for each in CALL_TYPES if each != "alias"]),
    ID,
    FIELDS,
    st.dictionaries(st.text(max_size=8), plain_values(), max_size=4),
    st.dictionaries(
        st.sampled_from(
            [*OPERATIONS, "session_id", "event_id", "groups", "plan", "group_type"]
        ),
        plain_values(),
    ),
)
def test_whatever_is_called_amplitude_takes(kind, user_id, context, values, options):
    """No call becomes a request that a strict Amplitude would refuse."""
    event = make_event(
        type_=kind,
        userId=user_id,
        groupId="acme",
        event="E",
        traits=values,
        properties=values,
        context=context,
        integrations={"Amplitude": options},
    )
    destination = Amplitude("KEY")
    parts = destination.encode(event)
    assert all(part.refused is None for part in parts)
    request = destination.request(EVENTS, parts, NOON, 1)
    headers = {"content-type": "application/json"}
    asked = ApiRequest("POST", "/2/httpapi", headers, request.body)
    answer = AmplitudeApi(strict=True).receive(asked)
    assert 200 == answer.status, answer.body


@given(
    st.sampled_from(CALL_TYPES),
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("userId", "anonymousId", "previousId"), st.text()),
            **dict.fromkeys(("name", "category", "timestamp"), plain_values()),
            **dict.fromkeys(("traits", "properties", "context"), plain_values()),
        },
    ),
)
def test_no_event_breaks_the_mapping(kind, members):
    """Events from elsewhere, with anything anywhere, are mapped or refused."""
    event = make_event(type_=kind, groupId="g", event="E", **members)
    for part in encode(event):
        assert part.refused or part.body


def documented(heading: str) -> dict[str, str]:
    """Return the first two columns of the documentation's table below *heading*."""
    text = DOCS.read_text("utf-8").partition(f"| {heading} |")[2].partition("\n\n")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| `?(.+?)`? \|$", text, re.MULTILINE))


def test_documented_mapping_is_this_mapping():
    """The tables of context, campaign and options are the code's."""
    assert dict(CONTEXT) == documented("of the context")
    assert dict(CAMPAIGN) == documented("of the campaign")
    extra = {"group_type", "unmap"}
    assert {names[0] for names in OPTIONS.values()} | extra == set(documented("option"))


def test_documented_settings_are_these_settings():
    """Every setting has its row and its default in the documentation, and no more."""
    text = DOCS.read_text("utf-8").partition("\n\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE))
    fields = {each.alias: each for each in attrs.fields(Amplitude) if each.init}
    assert list(fields) == list(rows)
    for name, default in rows.items():
        if default.startswith("`"):
            assert fields[name].default == ast.literal_eval(default.strip("`"))


def test_documented_words_are_these_words():
    """Operations, money and limits stand in the documentation as in the code."""
    text = DOCS.read_text("utf-8")
    for word in (*OPERATIONS, *PLAN, *INGESTION, *REVENUE, *NAMELESS.values()):
        assert word in text
    for limits in (MAX_BATCH_BYTES.values(), [MAX_EVENTS, MAX_USERMAP_BYTES]):
        assert all(f"{number:,}" in text for number in limits)
    assert all(f"{wait_s:.0f} s" in text for wait_s in PARK_S.values())
