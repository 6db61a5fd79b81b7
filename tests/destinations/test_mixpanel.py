from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analytics_sdk.destinations.mixpanel import Mixpanel, profiles, records, tables
from analytics_sdk.destinations.mixpanel.profiles import (
    ENGAGE,
    GROUPS,
    IMPORT,
    TRACK,
    user_profile,
)
from analytics_sdk.errors import ConfigError, Reason
from analytics_sdk.events import CALL_TYPES, Event, Selection
from analytics_sdk.interfaces import Destination, Part
from tests.strategies import plain_values

SNAPSHOTS = Path(__file__).parent / "snapshots" / "mixpanel"
NOON = datetime(2026, 11, 21, 12, 30, 0, 5_000, tzinfo=timezone.utc)
NOON_MS = 1_795_264_200_005
MINUTE_MS = 60_000
DEVICE = "8d1a9c3e-2b4f-4c6d-9e8f-0a1b2c3d4e5f"


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def make_event(
    *, options: dict[str, Any] | None = None, key: str = "Mixpanel", **members: Any
) -> Event:
    chosen = {key: options} if options else {}
    tail = b',"integrations":' + compact(chosen) + b"}"
    fields = {
        "messageId": "m-1",
        "timestamp": "2026-11-21T10:00:00.000Z",
        "type": "track",
        **members,
    }
    if fields["type"] == "track":
        fields.setdefault("event", "Paid")
    fields.setdefault("context", {})
    return Event(compact(fields)[:-1] + tail, Selection((key,), 1, chosen, tail, {}))


def encode(event: Event, **settings: Any) -> list[Part]:
    return list(Mixpanel("TOKEN", **settings).encode(event))


def told(event: Event, **settings: Any) -> list[Any]:
    """Return the contents of the parts that *event* becomes."""
    return [json.loads(part.body) for part in encode(event, **settings)]


def properties_of(event: Event, **settings: Any) -> dict[str, Any]:
    (content,) = told(event, **settings)
    return content["properties"]


def without_ids(properties: dict[str, Any]) -> dict[str, Any]:
    own = ("time", "distinct_id", "$insert_id", "$user_id", "$device_id", "ip")
    return {name: each for name, each in properties.items() if name not in own}


def user(**members: Any) -> dict[str, Any]:
    return {"userId": "u-1", **members}


def wire(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the requests that the call of a snapshot becomes, in readable form."""
    settings = dict(case["settings"])
    if "service_account" in settings:
        settings["service_account"] = tuple(settings["service_account"])
    destination = Mixpanel("TOKEN", **settings)
    parts = destination.encode(make_event(options=case["options"], **case["call"]))
    found = []
    for route in dict.fromkeys(part.route for part in parts):
        mine = [part for part in parts if part.route == route]
        request = destination.request(route, mine, NOON, 1)
        found.append(
            {
                "url": request.url,
                "headers": dict(request.headers),
                "gzip": request.gzip,
                "idempotent": request.idempotent,
                "barrier": any(part.barrier for part in mine),
                "body": json.loads(request.body),
            }
        )
    return found


@pytest.mark.parametrize("path", sorted(SNAPSHOTS.glob("*.json")), ids=lambda p: p.stem)
def test_calls_on_the_wire(path):
    """Each kind of call makes exactly the requests of its snapshot."""
    case = json.loads(path.read_text(encoding="utf-8"))
    assert case["requests"] == wire(case)


def test_every_call_has_a_snapshot():
    """No kind of call goes without a snapshot, in either mode."""
    cases = [json.loads(path.read_text("utf-8")) for path in SNAPSHOTS.glob("*.json")]
    assert set(CALL_TYPES) == {case["call"]["type"] for case in cases}
    modes = {case["settings"].get("id_merge", "simplified") for case in cases}
    assert {"simplified", "original"} == modes


# -- settings ------------------------------------------------------------------


def test_mixpanel_is_a_destination():
    """Mixpanel has all that the protocol asks for, under the catalogue's names."""
    destination = Mixpanel("TOKEN")
    assert isinstance(destination, Destination)
    assert ("Mixpanel", "Mixpanel") == (destination.kind, destination.name)
    assert ("Mixpanel (Actions)", "Mixpanel (Legacy)") == destination.aliases
    assert "Other" == Mixpanel("TOKEN", name="Other").name


def test_alias_is_taken_in_original_mode_only():
    """What has no effect in a project is not taken from Segment either."""
    calls = frozenset(CALL_TYPES)
    assert calls - {"alias"} == Mixpanel("TOKEN").takes
    assert calls == Mixpanel("TOKEN", id_merge="original").takes
    assert TRACK not in Mixpanel("TOKEN").limits
    assert TRACK in Mixpanel("TOKEN", id_merge="original").limits


@pytest.mark.parametrize(
    ("settings", "url", "gzip"),
    [
        ({}, "https://api.mixpanel.com/import?strict=1", True),
        ({"region": "eu"}, "https://api-eu.mixpanel.com/import?strict=1", True),
        ({"region": "in"}, "https://api-in.mixpanel.com/import?strict=1", True),
        ({"gzip": False}, "https://api.mixpanel.com/import?strict=1", False),
        (
            {"host": "api.mixpanel.com"},
            "https://api.mixpanel.com/import?strict=1",
            True,
        ),
        ({"host": "https://p.example/"}, "https://p.example/import?strict=1", False),
        ({"host": "p.example/a/import"}, "https://p.example/a/import?strict=1", False),
        (
            {"host": "p.example", "gzip": True},
            "https://p.example/import?strict=1",
            True,
        ),
        ({"host": "http://[::1]:9"}, "http://[::1]:9/import?strict=1", False),
        (
            {"host": "http://p.example", "allow_http": True},
            "http://p.example/import?strict=1",
            False,
        ),
        (
            {"service_account": ("bot", "SECRET"), "project_id": 7},
            "https://api.mixpanel.com/import?strict=1&project_id=7",
            True,
        ),
    ],
)
def test_address(settings, url, gzip):
    """Region and host make the address; only Mixpanel's own hosts get gzip unasked."""
    request = Mixpanel("TOKEN", **settings).request(IMPORT, (), NOON, 1)
    assert (url, gzip) == (request.url, request.gzip)


@pytest.mark.parametrize("route", [ENGAGE, GROUPS, TRACK])
def test_updates_are_never_compressed(route):
    """Mixpanel takes no gzip for profiles, so none is sent even when asked for."""
    request = Mixpanel("TOKEN", gzip=True).request(route, (), NOON, 1)
    assert not request.gzip
    assert f"https://api.mixpanel.com/{route}?verbose=1&ip=0" == request.url
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(
    ("token", "settings", "field"),
    [
        ("", {}, "token"),
        (None, {}, "token"),
        ("two words", {}, "token"),
        ("T", {"region": "asia"}, "region"),
        ("T", {"region": None}, "region"),
        ("T", {"region": ["us"]}, "region"),
        ("T", {"id_merge": "legacy"}, "id_merge"),
        ("T", {"service_account": "bot:SECRET", "project_id": "1"}, "service_account"),
        ("T", {"service_account": ("bot",), "project_id": "1"}, "service_account"),
        ("T", {"service_account": ("bot", ""), "project_id": "1"}, "service_account"),
        ("T", {"service_account": ("bot", "SECRET")}, "project_id"),
        ("T", {"project_id": "1"}, "project_id"),
        ("T", {"project_id": "one"}, "project_id"),
        ("T", {"project_id": "1&strict=0"}, "project_id"),
        ("T", {"project_id": True}, "project_id"),
        ("T", {"group_key": ""}, "group_key"),
        ("T", {"page_event": None}, "page_event"),
        ("T", {"screen_event": " "}, "screen_event"),
        ("T", {"host": "http://p.example"}, "host"),
        ("T", {"host": 80}, "host"),
    ],
)
def test_bad_settings_are_refused(token, settings, field):
    """What cannot be right is a configuration error that names the setting."""
    with pytest.raises(ConfigError, match=rf"^{field}: ") as caught:
        Mixpanel(token, **settings)
    assert "SECRET" not in str(caught.value)


def test_keys_are_shown_nowhere():
    """Neither the destination nor its requests and parts show a key."""
    keys = ("0123456789abcdefTOKEN", "machine.account.ACCT", "0123456789SECRET")
    account = {"service_account": keys[1:], "project_id": "1"}
    destination = Mixpanel(keys[0], **account)
    (part,) = destination.encode(make_event(type="identify", **user(traits={"a": 1})))
    request = destination.request(IMPORT, (), NOON, 1)
    for shown in (repr(destination), str(destination), repr(request), repr(part)):
        for key in keys:
            assert key not in shown
            assert key[-4:] not in shown


# -- limits --------------------------------------------------------------------


def test_limits_are_mixpanels():
    """2,000 records and 2 MB a request, less than 1 MB a record, on every endpoint."""
    limits = Mixpanel("TOKEN", id_merge="original").limits
    assert {IMPORT, ENGAGE, GROUPS, TRACK} == set(limits)
    for bounds in limits.values():
        assert (2_000, 2_000_000, 1_048_575) == bounds[:3]


TIMES = st.integers(tables.FIRST_TIME_MS, 253_402_300_799_999)


@given(
    st.sampled_from([IMPORT, ENGAGE, GROUPS, TRACK]),
    st.lists(st.tuples(TIMES, plain_values()), max_size=5),
    st.datetimes(timezones=st.just(timezone.utc)),
)
def test_request_is_as_long_as_the_limits_say(route, contents, sent_at):
    """Brackets, parts and commas bound the body, whatever the time, in their order."""
    destination = Mixpanel("TOKEN", id_merge="original")
    limits = destination.limits[route]
    bodies = [
        compact({"properties": {"time": time, "p": each}}) for time, each in contents
    ]
    parts = [Part(route, body) for body in bodies]
    request = destination.request(route, parts, sent_at, 1)

    commas = limits.separator_bytes * max(0, len(parts) - 1)
    most = limits.envelope_bytes + sum(map(len, bodies)) + commas
    found = [each["properties"] for each in json.loads(request.body)]
    assert [each for _, each in contents] == [each["p"] for each in found]
    if all(
        each["time"] == time for each, (time, _) in zip(found, contents, strict=True)
    ):
        assert most == len(request.body)
    else:
        assert IMPORT == route
        assert len(request.body) <= most


@given(
    st.dictionaries(st.text(max_size=8), plain_values(), max_size=6),
    st.dictionaries(st.text(max_size=8), plain_values(), max_size=6),
    st.sampled_from(CALL_TYPES),
    st.text(min_size=1, max_size=50),
    st.sampled_from(["simplified", "original"]),
)
@example({}, {"address": {}}, "identify", "m", "simplified")
def test_any_call_becomes_json(properties, context, type_, message_id, mode):
    """Whatever a call holds, its parts are JSON objects of the form of their route."""
    event = make_event(
        type=type_,
        messageId=message_id,
        userId="u-1",
        anonymousId="a-1",
        previousId="p-1",
        groupId="g-1",
        event="Paid",
        properties=properties,
        traits=properties,
        context=context,
    )
    for part in encode(event, id_merge=mode):
        content = json.loads(part.body)
        if part.route in (ENGAGE, GROUPS):
            operations = set(tables.USER_OPERATIONS) & content.keys()
            assert (1, "TOKEN") == (len(operations), content["$token"])
        elif part.route == IMPORT:
            assert re.fullmatch(
                "[A-Za-z0-9-]{1,36}", content["properties"]["$insert_id"]
            )
            assert part.body.startswith(b'{"properties":{"time":1')


# -- events --------------------------------------------------------------------


def test_a_call_cannot_say_what_only_mixpanel_may():
    """Reserved names are moved aside or dropped, so that the event stays itself."""
    reserved = tables.RENAMED_PROPERTIES | tables.DROPPED_PROPERTIES
    own = dict.fromkeys(sorted(reserved), "mine")
    properties = properties_of(make_event(**user(properties={**own, "kept": 1})))
    assert "mine" not in [properties.get(name) for name in reserved]
    moved = {f"property_{name}": "mine" for name in tables.RENAMED_PROPERTIES}
    assert {**moved, "kept": 1} == without_ids(properties)


@pytest.mark.parametrize("name", sorted(tables.IDENTITY_EVENTS))
@pytest.mark.parametrize("mode", ["simplified", "original"])
def test_users_are_not_merged_by_track(name, mode):
    """An event under the name of a merger, which nothing undoes, is refused."""
    (part,) = encode(make_event(**user(event=name)), id_merge=mode)
    assert Reason.BAD_ARGUMENT is part.refused


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        *(
            ({section: {member: "x"}}, {target: "x"})
            for section, members in tables.CONTEXT.items()
            for member, target in members.items()
        ),
        *(
            ({name: "x"}, {target: "x"})
            for name, target in tables.CONTEXT_SCALARS.items()
            if name != "ip"
        ),
        ({"groupId": "g"}, {"$group_id": "g"}),
        ({"app": "no object"}, {}),
        ({"device": {"id": "d", "token": "t"}}, {}),
        ({"traits": {"email": "x"}, "active": True, "library": None}, {}),
    ],
)
def test_context(context, expected):
    """What the context says is a property under the name that Mixpanel shows."""
    found = properties_of(make_event(**user(context=context)))
    assert expected == without_ids(found)


@pytest.mark.parametrize(
    ("context", "properties", "ip"),
    [
        ({}, {}, 0),
        ({"ip": "203.0.113.7"}, {}, "203.0.113.7"),
        ({"ip": "203.0.113.7"}, {"ip": "198.51.100.1"}, "198.51.100.1"),
    ],
)
def test_address_of_an_event(context, properties, ip):
    """The address is the event's, or 0: a server's own is never taken for a user's."""
    event = make_event(**user(context=context, properties=properties))
    assert ip == properties_of(event)["ip"]


def test_own_properties_beat_the_context():
    """What the call says of an event is truer than what surrounds it."""
    event = make_event(
        **user(
            context={"os": {"name": "iOS"}, "groupId": "a"},
            properties={"$os": "Own", "$group_id": "b"},
        )
    )
    assert {"$os": "Own", "$group_id": "b"} == without_ids(properties_of(event))


@pytest.mark.parametrize(
    ("type_", "members", "settings", "name"),
    [
        ("page", {"name": "Home"}, {}, "Viewed Home Page"),
        ("page", {}, {}, "Viewed Page"),
        ("page", {"category": "Docs"}, {}, "Viewed Page"),
        ("page", {"properties": {"name": "Home"}}, {}, "Viewed Home Page"),
        ("screen", {"name": "Basket"}, {}, "Viewed Basket Screen"),
        ("page", {"name": "Home"}, {"page_event": "Page Viewed"}, "Page Viewed"),
        (
            "screen",
            {"name": "{category}", "category": "C"},
            {"screen_event": "{category}: {name} {x}"},
            "C: {category} {x}",
        ),
    ],
)
def test_names_of_views(type_, members, settings, name):
    """A view's event has the name of the template, without gaps, filled in once."""
    (content,) = told(make_event(type=type_, **user(**members)), **settings)
    assert name == content["event"]


def test_view_knows_its_address():
    """A page's address is a property of its own; the context's is the better one."""
    properties = {"url": "https://a.example/", "referrer": "https://b.example/"}
    event = make_event(
        type="page",
        **user(properties=properties, context={"page": {"url": "https://c.example/"}}),
    )
    found = properties_of(event)
    assert ("https://c.example/", "https://b.example/") == (
        found["$current_url"],
        found["$referrer"],
    )


# -- identity ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "ids", "expected"),
    [
        ("simplified", ("u", None), {"distinct_id": "u", "$user_id": "u"}),
        (
            "simplified",
            (None, "a"),
            {"distinct_id": "$device:a", "$device_id": "a"},
        ),
        (
            "simplified",
            ("u", "a"),
            {"distinct_id": "u", "$user_id": "u", "$device_id": "a"},
        ),
        ("simplified", ("u", "null"), {"distinct_id": "u", "$user_id": "u"}),
        ("original", ("u", None), {"distinct_id": "u"}),
        ("original", (None, "a"), {"distinct_id": "a"}),
        ("original", ("u", "a"), {"distinct_id": "u"}),
        ("original", ("$device:a", None), {"distinct_id": "$device:a"}),
    ],
)
def test_ids(mode, ids, expected):
    """An event carries the ids that its project's way of merging asks for."""
    given_ids = dict(zip(("userId", "anonymousId"), ids, strict=True))
    members = {name: value for name, value in given_ids.items() if value is not None}
    found = properties_of(make_event(**members), id_merge=mode)
    names = ("distinct_id", "$user_id", "$device_id")
    assert expected == {name: found[name] for name in names if name in found}


@pytest.mark.parametrize("type_", ["track", "page", "screen", "identify", "group"])
@pytest.mark.parametrize(
    "ids",
    [
        *({"userId": each} for each in sorted(tables.FORBIDDEN_IDS - {""})),
        {"anonymousId": "undefined"},
        {"userId": "0", "anonymousId": "a-1"},
        {"userId": "$device:a-1"},
        {},
    ],
)
def test_forbidden_ids_are_refused(type_, ids):
    """What names nobody in particular is refused, and never sent as somebody."""
    event = make_event(type=type_, groupId="g", traits={"a": 1}, **ids)
    assert [Reason.NO_ID] == [part.refused for part in encode(event)]


@pytest.mark.parametrize(
    ("ids", "settings"),
    [
        ({"userId": "u", "previousId": "null"}, {"id_merge": "original"}),
        ({"userId": "0", "previousId": "p"}, {"id_merge": "original"}),
    ],
)
def test_alias_of_nobody_is_refused(ids, settings):
    """An alias with a forbidden id would merge strangers."""
    (part,) = encode(make_event(type="alias", **ids), **settings)
    assert (Reason.NO_ID, True) == (part.refused, part.barrier)


def test_simplified_mode_has_no_alias():
    """Where an alias has no effect nothing is sent."""
    assert [] == encode(make_event(type="alias", userId="u", previousId="p"))


@pytest.mark.parametrize(
    ("anonymous", "event"),
    [
        (DEVICE, "$identify"),
        (DEVICE.upper(), "$identify"),
        ("session-7", "$merge"),
        ("8d1a9c3e-2b4f-7c6d-9e8f-0a1b2c3d4e5f", "$merge"),
    ],
)
def test_original_mode_links_ids(anonymous, event):
    """identify() links by $identify what is a UUID of version 4, by $merge the rest."""
    call = make_event(type="identify", userId="u", anonymousId=anonymous)
    (part,) = encode(call, id_merge="original")
    assert (IMPORT, "u", anonymous, True) == part[:1] + part[2:5]
    assert event == json.loads(part.body)["event"]


def test_simplified_mode_links_by_events_alone():
    """An identify with both ids sends the profile, and nothing to /import."""
    call = make_event(type="identify", userId="u", anonymousId="a", traits={"a": 1})
    assert [ENGAGE] == [part.route for part in encode(call)]


@pytest.mark.parametrize(
    "ids", [{"userId": "u"}, {"anonymousId": "a"}, {"userId": "x", "anonymousId": "x"}]
)
def test_one_id_needs_no_link(ids):
    """Where there are no two ids there is nothing to link, nor to wait for."""
    call = make_event(type="identify", traits={"a": 1}, **ids)
    (part,) = encode(call, id_merge="original")
    assert (ENGAGE, False, "") == (part.route, part.barrier, part.joins)


@pytest.mark.parametrize(
    ("members", "keys"),
    [
        ({"userId": "u"}, ("u", "")),
        ({"anonymousId": "a"}, ("a", "")),
        ({"userId": "u", "anonymousId": "a"}, ("u", "a")),
        ({"userId": "u", "anonymousId": "u"}, ("u", "")),
    ],
)
def test_order_is_kept_by_user(members, keys):
    """A part is ordered by the ids of its call, both of them where it has both."""
    (part,) = encode(make_event(**members))
    assert keys == part[2:4]
    alias = make_event(type="alias", **user(previousId="old", anonymousId="a"))
    (part,) = encode(alias, id_merge="original")
    assert ("u-1", "old", True) == part[2:5]


# -- identity of events --------------------------------------------------------


@pytest.mark.parametrize(
    ("message_id", "fits"),
    [
        ("0199f3a0-1c2d-7e3f-8a4b-5c6d7e8f9a0b", True),
        ("a", True),
        ("x" * 36, True),
        ("x" * 37, False),
        ("stripe:evt_1", False),
        ("ключ", False),
        ("0", False),
        ("null", False),
        ("a\n", False),
    ],
)
def test_insert_id(message_id, fits):
    """A message id that Mixpanel takes is kept, another becomes 36 characters."""
    found = records.insert_id(message_id)
    assert fits == (message_id == found)
    assert fits or re.fullmatch("[0-9a-f]{36}", found)


@given(st.text(min_size=1, max_size=100), st.text(min_size=1, max_size=100))
def test_insert_ids_differ_as_message_ids_do(one, other):
    """Two message ids make two insert ids, one makes the same at every time."""
    assert (one == other) == (records.insert_id(one) == records.insert_id(other))


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2026-11-21T12:30:00.005Z", NOON_MS),
        ("2026-11-21T12:30:00.005000+00:00", NOON_MS),
        ("2026-11-21T14:30:00.005+02:00", NOON_MS),
        ("2026-11-21T12:30:00.005", NOON_MS),
        ("1971-01-01T00:00:00.000Z", 31_536_000_000),
        ("1970-12-31T23:59:59.999Z", 31_536_000_000),
        ("0001-01-01T00:00:00.000Z", 31_536_000_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ],
)
def test_time(timestamp, expected):
    """The time is in milliseconds, and never before Mixpanel's first year."""
    assert expected == properties_of(make_event(**user(timestamp=timestamp)))["time"]


@pytest.mark.parametrize(
    ("ahead_ms", "expected"),
    [
        (-MINUTE_MS, NOON_MS - MINUTE_MS),
        (0, NOON_MS),
        (60 * MINUTE_MS, NOON_MS + 60 * MINUTE_MS),
        (60 * MINUTE_MS + 1, NOON_MS - 30 * MINUTE_MS - 5),
        (10**13, NOON_MS - 30 * MINUTE_MS - 5),
    ],
)
def test_future_is_clamped(ahead_ms, expected):
    """More than an hour ahead is not taken, and becomes the start of this hour."""
    moment = NOON + timedelta(milliseconds=min(ahead_ms, 200_000_000_000_000))
    parts = encode(make_event(**user(timestamp=moment.isoformat())))
    before = parts[0].body
    body = Mixpanel("TOKEN").request(IMPORT, parts, NOON, 1).body
    (content,) = json.loads(body)
    assert expected == content["properties"]["time"]
    assert {**json.loads(before)["properties"], "time": expected} == content[
        "properties"
    ]


def test_repeats_are_the_same():
    """A retry in the same hour repeats the time and all else, even a clamped time."""
    destination = Mixpanel("TOKEN")
    event = make_event(**user(timestamp="2030-01-01T00:00:00.000Z"))
    parts = destination.encode(event)
    first = destination.request(IMPORT, parts, NOON, 1)
    later = destination.request(IMPORT, parts, NOON + timedelta(minutes=20), 2)
    assert first == later


# -- profiles ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("traits", "expected"),
    [
        *(({name: "x"}, {target: "x"}) for name, target in tables.TRAITS.items()),
        ({"plan": "pro", "age": None}, {"plan": "pro", "age": None}),
        ({"name": "N", "$name": "own"}, {"$name": "own"}),
        ({"createdAt": 1, "created_at": 2}, {"$created": 1}),
        (
            {"firstName": "Jane", "lastName": "Doe"},
            {"$first_name": "Jane", "$last_name": "Doe", "$name": "Jane Doe"},
        ),
        (
            {"firstName": "Jane", "lastName": "Doe", "name": "JD"},
            {"$first_name": "Jane", "$last_name": "Doe", "$name": "JD"},
        ),
        ({"firstName": "J", "lastName": 1}, {"$first_name": "J", "$last_name": 1}),
        ({"country": "DE"}, {"$country_code": "DE"}),
        ({"country": "Germany"}, {"country": "Germany"}),
        ({"country": 49}, {"country": 49}),
        (
            {"address": {"city": "Köln", "state": "NW", "country": "DE", "zip": "5"}},
            {
                "$city": "Köln",
                "$region": "NW",
                "$country_code": "DE",
                "address": {"zip": "5"},
            },
        ),
        ({"address": {"city": "Köln"}, "city": "Bonn"}, {"$city": "Bonn"}),
        ({"address": "Ring 1"}, {"address": "Ring 1"}),
        ({"token": 1, "distinct_id": 2}, {"trait_token": 1, "trait_distinct_id": 2}),
        ({"$token": 1, "$distinct_id": 2, "$last_seen": 3, "a": 4}, {"a": 4}),
        ({"latitude": 1.5}, {"latitude": 1.5}),
        ({"latitude": "1", "longitude": 2}, {"latitude": "1", "longitude": 2}),
        ({"latitude": True, "longitude": 2}, {"latitude": True, "longitude": 2}),
    ],
)
def test_traits(traits, expected):
    """Traits become profile properties by the table, and nothing is lost."""
    assert (expected, {}) == user_profile(traits)


def test_nested_traits_are_left_alone():
    """Not even an address is changed while it is taken apart."""
    traits = {
        "address": {"city": "Köln", "country": "DE", "zip": "5"},
        "country": "DE",
        "latitude": 1,
        "longitude": 2,
    }
    before = json.dumps(traits)
    user_profile(traits)
    assert before == json.dumps(traits)


def test_place_stands_beside_the_properties():
    """Coordinates belong to the update, not to the properties that it sets."""
    traits = {"latitude": 50.9, "longitude": 6, "plan": "pro"}
    expected = ({"plan": "pro"}, {"$latitude": 50.9, "$longitude": 6})
    assert expected == user_profile(traits)


@given(st.dictionaries(st.sampled_from([*tables.TRAITS, "address"]), plain_values()))
def test_traits_are_left_alone(traits):
    """The caller's traits are never changed, whatever they are."""
    before = json.dumps(traits)
    user_profile(traits)
    assert before == json.dumps(traits)


def test_nothing_to_say_is_not_said():
    """An identify without traits, or a group of no user, has no use for Mixpanel."""
    assert [] == encode(make_event(type="identify", **user(traits={})))
    assert [] == encode(make_event(type="group", anonymousId="a", groupId="g"))


def test_group_of_no_user_has_traits():
    """Without a user a group's own properties are all there is to say."""
    event = make_event(type="group", anonymousId="a", groupId="g", traits={"a": 1})
    assert [GROUPS] == [part.route for part in encode(event)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"$set": {"email": "e"}}, [{"$set": {"$email": "e", "plan": "pro"}}]),
        ({"$set_once": {"a": 1}}, [{"$set": {"plan": "pro"}}, {"$set_once": {"a": 1}}]),
        ({"$add": {"a": -1.5}}, [{"$set": {"plan": "pro"}}, {"$add": {"a": -1.5}}]),
        ({"$append": {"a": 1}}, [{"$set": {"plan": "pro"}}, {"$append": {"a": 1}}]),
        ({"$union": {"a": [1]}}, [{"$set": {"plan": "pro"}}, {"$union": {"a": [1]}}]),
        ({"$union": {"a": 1}}, [{"$set": {"plan": "pro"}}, {"$union": {"a": [1]}}]),
        ({"$remove": {"a": 1}}, [{"$set": {"plan": "pro"}}, {"$remove": {"a": 1}}]),
        ({"$unset": "email"}, [{"$set": {"plan": "pro"}}, {"$unset": ["$email"]}]),
        ({"$unset": []}, [{"$set": {"plan": "pro"}}]),
        ({"$delete": True}, [{"$delete": ""}]),
        ({"$delete": False}, [{"$set": {"plan": "pro"}}]),
        ({"session": 1}, [{"$set": {"plan": "pro"}}]),
    ],
)
def test_operations(options, expected):
    """The selector's options are operations, each in an update of its own."""
    event = make_event(type="identify", options=options, **user(traits={"plan": "pro"}))
    found = told(event)
    frame = {"$token": "TOKEN", "$distinct_id": "u-1", "$ip": "0"}
    assert [{**frame, **each} for each in expected] == found


@pytest.mark.parametrize(
    "options",
    [
        {"$add": {"a": "1"}},
        {"$add": {"a": True}},
        {"$add": 1},
        {"$set": 1},
        {"$set_once": ["a"]},
        {"$unset": {"a": 1}},
        {"$unset": [1]},
        {"$increment": {"a": 1}},
    ],
)
def test_what_cannot_be_meant_is_refused(options):
    """An operation with the wrong kind of value is refused, not left out."""
    event = make_event(type="identify", options=options, **user(traits={}))
    assert [Reason.BAD_ARGUMENT] == [part.refused for part in encode(event)]


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"$add": {"a": 1}}, True),
        ({"$append": {"a": 1}}, True),
        ({"$unset": ["name"]}, False),
        ({"$union": {"a": 1}}, False),
    ],
)
def test_groups_have_fewer_operations(options, refused):
    """What /groups does not know is refused; the user joins the group all the same."""
    event = make_event(type="group", options=options, **user(groupId="g"))
    own, member = encode(event)
    assert refused == (own.refused is Reason.BAD_ARGUMENT)
    assert {"$union": {"$group_id": ["g"]}}.items() <= json.loads(member.body).items()


def test_deleted_group_gets_no_members():
    """Deleting a group is all that the call does."""
    event = make_event(type="group", options={"$delete": 1}, **user(groupId="g"))
    (part,) = encode(event)
    assert (GROUPS, "") == (part.route, json.loads(part.body)["$delete"])


@pytest.mark.parametrize(
    ("operation", "idempotent"),
    [
        (name, name not in ("$add", "$append"))
        for name in tables.USER_OPERATIONS
        if name not in ("$unset", "$delete", "$set")
    ],
)
def test_sums_are_not_repeated(operation, idempotent):
    """What counts twice when it arrives twice says so, and so does its request."""
    event = make_event(type="identify", options={operation: {"a": 1}}, **user())
    (part,) = encode(event)
    other = Part(ENGAGE, b"{}")
    request = Mixpanel("TOKEN").request(ENGAGE, [other, part], NOON, 1)
    assert (idempotent, idempotent) == (part.idempotent, request.idempotent)


@pytest.mark.parametrize(
    ("key", "settings", "heard"),
    [
        ("Mixpanel", {}, True),
        ("Mixpanel (Actions)", {}, True),
        ("Mixpanel (Legacy)", {}, True),
        ("Second", {"name": "Second"}, True),
        ("Mixpanel", {"name": "Second"}, True),
        ("Second", {}, False),
    ],
)
def test_options_by_selector_key(key, settings, heard):
    """Options are heard under every key that means this destination."""
    event = make_event(type="identify", key=key, options={"$delete": 1}, **user())
    assert heard == bool(encode(event, **settings))


def test_routes_are_endpoints():
    """The names of the routes are the paths of the endpoints."""
    assert ("import", "track", "engage", "groups") == (IMPORT, TRACK, ENGAGE, GROUPS)
    assert profiles.IMPORT is IMPORT
