"""The example payloads of Amplitude's and Mixpanel's documentation, made by our calls.

Each example stands here field by field as its page shows it.  Our public calls make
the same thing, and every field of the example must have arrived with the same value.
A field may stand elsewhere (`moved`) or differ on purpose (`differs`): with a reason,
and with what is sent in its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl

import pytest

from analytics_sdk import Amplitude, Client, Delivery, Mixpanel
from analytics_sdk.collector import ApiAnswer, ApiRequest, Collector

ABSENT = "(absent)"
AMPLITUDE = "https://amplitude.com/docs/apis/analytics"
MIXPANEL = "https://docs.mixpanel.com/reference"
MIXPANEL_HTTP = "https://mixpanel.com/help/reference/http"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
TOKEN = "YOUR_PROJECT_TOKEN"


@dataclass(frozen=True)
class Example:
    """One example of a page, and how it is made here.

    Args:
        id: What it is.
        source: The page that shows it.
        path: Where our request goes.
        shown: The documented body.
        call: Makes it with our public calls.
        settings: Of the destination, beside key and host.
        moved: The beginning of a documented path, and what it is in our body, and why.
        differs: A documented path, and our value there, and why.
    """

    id: str
    source: str
    path: str
    shown: Any
    call: Callable[[Client], object]
    settings: Mapping[str, Any] = field(default_factory=dict)
    moved: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    differs: Mapping[str, tuple[Any, str]] = field(default_factory=dict)


def at(milliseconds: int) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


def selected(vendor: str, **options: Any) -> dict[str, Any]:
    return {vendor: options}


DEVICE = "C8F9E604-F01A-4BD9-95C6-8E5357DF265D"
ADVERTISING = "AEBE52E7-03EE-455A-B3C4-E57283966239"
VENDOR = "BCCE52E7-03EE-321A-B3D4-E57123966239"
INSERT_ID = "5f0adeff-6668-4427-8d02-57d803a2b841"
WATCHED = 1_396_381_378_123
USER_PROPERTIES = {
    "age": 25,
    "gender": "female",
    "interests": ["chess", "football", "music"],
}
PROPERTIES = {
    "load_time": 0.8371,
    "source": "notification",
    "dates": ["monday", "tuesday"],
}
MONEY = {
    "price": 4.99,
    "quantity": 3,
    "revenue": -1.99,
    "productId": "Google Pay Store Product Id",
    "revenueType": "Refund",
}
GROUPS = {"team_id": "1", "company_name": ["Amplitude", "DataMonster"]}
MANY_FIELDS = {
    "user_id": "datamonster@gmail.com",
    "device_id": DEVICE,
    "event_type": "watch_tutorial",
    "time": WATCHED,
    "event_properties": PROPERTIES,
    "user_properties": USER_PROPERTIES,
    "groups": GROUPS,
    "app_version": "2.1.3",
    "platform": "iOS",
    "os_name": "Android",
    "os_version": "4.2.2",
    "device_brand": "Verizon",
    "device_manufacturer": "Apple",
    "device_model": "iPhone 9,1",
    "carrier": "Verizon",
    "country": "United States",
    "region": "California",
    "city": "San Francisco",
    "dma": "San Francisco-Oakland-San Jose, CA",
    "language": "English",
    **MONEY,
    "location_lat": 37.77,
    "location_lng": -122.39,
    "ip": "127.0.0.1",
    "idfa": ADVERTISING,
    "idfv": VENDOR,
    "adid": ADVERTISING,
    "android_id": VENDOR,
    "event_id": 23,
    "session_id": WATCHED,
    "insert_id": INSERT_ID,
}
MANY_DIFFER = {
    "events.0.dma": (ABSENT, "the spec's context has no such place"),
    "events.0.price": (ABSENT, "price times quantity would stand in for the revenue"),
    "events.0.quantity": (ABSENT, "price times quantity would stand in for it"),
    "events.0.idfv": (DEVICE, "context.device.id is both the device's and this id"),
    "events.0.adid": (ABSENT, "a device has one advertising id: idfa on iOS"),
    "events.0.android_id": (ABSENT, "no Android id belongs to a device on iOS"),
}
SET_ON_EVENT = {
    "events.0.user_properties": (
        "events.0.user_properties.$set",
        "operations only, so that nothing is mixed with plain properties",
    )
}
AS_EVENTS = "an event of the HTTP V2 API, in order with the rest"


def watched(client: Client, user_id: str, device_id: str) -> None:
    """Make the event with every field that the spec has a place for."""
    client.track(
        user_id,
        "watch_tutorial",
        {**PROPERTIES, **MONEY},
        timestamp=at(WATCHED),
        message_id=INSERT_ID,
        context={
            "app": {"version": "2.1.3"},
            "device": {
                "id": device_id,
                "type": "ios",
                "advertisingId": ADVERTISING,
                "brand": "Verizon",
                "manufacturer": "Apple",
                "model": "iPhone 9,1",
            },
            "os": {"name": "Android", "version": "4.2.2"},
            "network": {"carrier": "Verizon"},
            "location": {
                "country": "United States",
                "region": "California",
                "city": "San Francisco",
                "latitude": 37.77,
                "longitude": -122.39,
            },
            "locale": "English",
            "ip": "127.0.0.1",
        },
        integrations={
            "Amplitude": {
                "$set": USER_PROPERTIES,
                "groups": GROUPS,
                "event_id": 23,
                "session_id": WATCHED,
            }
        },
    )


def map_users(client: Client, **options: Any) -> None:
    for user_id in ("63629@hmail.com", "12345@hmail.com"):
        client.alias(
            user_id, "hank@globex.net", integrations=selected("Amplitude", **options)
        )


OPERATIONS: dict[str, Any] = {
    "$set": {"cohort": "Test A"},
    "$setOnce": {"startDate": "2015-10-01"},
    "$add": {"friendCount": 3},
    "$append": {"interests": "Music"},
    "$prepend": {"sports": "Tennis"},
    "$unset": {"oldProperty": "-"},
}

AMPLITUDE_EXAMPLES = [
    Example(
        "amplitude, quickstart",
        f"{AMPLITUDE}/http-api-quickstart",
        "/2/httpapi",
        {
            "api_key": "YOUR_API_KEY",
            "events": [
                {
                    "user_id": "203201202",
                    "device_id": DEVICE,
                    "event_type": "watch_tutorial",
                }
            ],
        },
        lambda client: client.track("203201202", "watch_tutorial", anonymous_id=DEVICE),
    ),
    Example(
        "amplitude, simple request",
        f"{AMPLITUDE}/http-v2",
        "/2/httpapi",
        {
            "api_key": "YOUR_API_KEY",
            "events": [
                {
                    "user_id": "12345",
                    "event_type": "watch_tutorial",
                    "user_properties": {"Cohort": "Test A"},
                    "country": "United States",
                    "ip": "127.0.0.1",
                    "time": WATCHED,
                }
            ],
        },
        lambda client: client.track(
            "12345",
            "watch_tutorial",
            timestamp=at(WATCHED),
            context={"location": {"country": "United States"}, "ip": "127.0.0.1"},
            integrations={"Amplitude": {"$set": {"Cohort": "Test A"}}},
        ),
        moved=SET_ON_EVENT,
    ),
    Example(
        "amplitude, many fields and a refund",
        f"{AMPLITUDE}/http-v2",
        "/2/httpapi",
        {"api_key": "YOUR_API_KEY", "events": [MANY_FIELDS]},
        lambda client: watched(client, "datamonster@gmail.com", DEVICE),
        moved=SET_ON_EVENT,
        differs=MANY_DIFFER,
    ),
    Example(
        "amplitude, min_id_length",
        f"{AMPLITUDE}/http-v2",
        "/2/httpapi",
        {
            "api_key": "YOUR_API_KEY",
            "options": {"min_id_length": 3},
            "events": [{**MANY_FIELDS, "user_id": "12345", "device_id": "123"}],
        },
        lambda client: watched(client, "12345", "123"),
        settings={"min_id_length": 3},
        moved=SET_ON_EVENT,
        differs={**MANY_DIFFER, "events.0.idfv": ("123", "the device's id, as above")},
    ),
    Example(
        "amplitude, batch upload",
        f"{AMPLITUDE}/batch-event-upload",
        "/batch",
        {"api_key": "YOUR_API_KEY", "events": [MANY_FIELDS]},
        lambda client: watched(client, "datamonster@gmail.com", DEVICE),
        settings={"endpoint": "batch"},
        moved=SET_ON_EVENT,
        differs=MANY_DIFFER,
    ),
    Example(
        "amplitude, identify",
        f"{AMPLITUDE}/identify",
        "/2/httpapi",
        {
            "api_key": "YOUR_API_KEY",
            "identification": [
                {
                    "user_id": "value",
                    "user_properties": {"propertyNameToUpdate": "newValue"},
                }
            ],
        },
        lambda client: client.identify("value", {"propertyNameToUpdate": "newValue"}),
        moved={
            "identification": ("events", AS_EVENTS),
            "identification.0.user_properties": (
                "events.0.user_properties.$set",
                "traits are $set, as beside the other operations",
            ),
        },
    ),
    Example(
        "amplitude, identify with operations",
        f"{AMPLITUDE}/identify",
        "/2/httpapi",
        {"identification": [{"user_properties": OPERATIONS}]},
        lambda client: client.identify("value", integrations={"Amplitude": OPERATIONS}),
        moved={"identification": ("events", AS_EVENTS)},
    ),
    Example(
        "amplitude, group identify",
        f"{AMPLITUDE}/group-identify",
        "/2/httpapi",
        {
            "api_key": "YOUR_API_KEY",
            "identification": [
                {
                    "group_properties": {
                        "org csm": "Lucas",
                        "org plan": "Enterprise",
                        "org owner": "Luis",
                    },
                    "group_type": "Seller",
                    "group_value": "12345678",
                }
            ],
        },
        lambda client: client.group(
            "12345",
            "12345678",
            {"org csm": "Lucas", "org plan": "Enterprise", "org owner": "Luis"},
            integrations=selected("Amplitude", group_type="Seller"),
        ),
        moved={
            "identification.0.group_properties": (
                "events.1.group_properties.$set",
                "the second event: the first puts the user into the group",
            ),
            "identification.0.group_value": ("events.1.groups.Seller", AS_EVENTS),
        },
        differs={
            "identification.0.group_type": (ABSENT, "the key of `groups`, in an event")
        },
    ),
    Example(
        "amplitude, map users",
        f"{AMPLITUDE}/user-mapping",
        "/usermap",
        {
            "api_key": "YOUR_API_KEY",
            "mapping": [
                {"user_id": "63629@hmail.com", "global_user_id": "hank@globex.net"},
                {"user_id": "12345@hmail.com", "global_user_id": "hank@globex.net"},
            ],
        },
        map_users,
    ),
    Example(
        "amplitude, unmap users",
        f"{AMPLITUDE}/user-mapping",
        "/usermap",
        {
            "api_key": "YOUR_API_KEY",
            "mapping": [
                {"user_id": "63629@hmail.com", "unmap": True},
                {"user_id": "12345@hmail.com", "unmap": True},
            ],
        },
        lambda client: map_users(client, unmap=True),
    ),
]


def update(**operation: Any) -> list[dict[str, Any]]:
    return [{"$token": TOKEN, "$distinct_id": "13793", **operation}]


def operate(operation: str, value: Any) -> Example:
    """Return an operation on a profile as the HTTP reference shows it."""
    return Example(
        f"mixpanel, {operation}",
        MIXPANEL_HTTP,
        "/engage",
        update(**{operation: value}),
        lambda client: client.identify(
            "13793", integrations={"Mixpanel": {operation: value}}
        ),
    )


def bought_coffee(client: Client) -> None:
    """Make the two events of the import page."""
    user_id = "91304156-cafc-4673-a237-623d1129c801"
    client.track(
        user_id,
        "Signup",
        {"Referred by": "Friend", "URL": "mixpanel.com/signup"},
        timestamp=at(1_618_716_477_000),
        message_id="29fc2962-6d9c-455d-95ad-95b84f09b9e4",
    )
    client.track(
        user_id,
        "Purchase",
        {"Item": "Coffee", "Amount": 5.0},
        timestamp=at(1_618_716_477_000),
        message_id="935d87b1-00cd-41b7-be34-b9d98dd08b42",
    )


def update_profiles(client: Client) -> None:
    chosen = selected("Mixpanel", **{"$add": {"Coins Gathered": 13}})
    client.identify("13793", {"$email": "user1@mail.com"})
    client.identify("13794", integrations=chosen)
    client.identify("13795", integrations={"Mixpanel": {"$unset": ["$email"]}})


def update_groups(client: Client) -> None:
    once = {"$set_once": {"Address": "Wayne Tower, Gotham City"}}
    client.group("13793", "Mixpanel", {"Address": "1313 Mockingbird Lane"})
    client.group("13793", "Wayne Enterprises", integrations={"Mixpanel": once})


SIGNUP = {
    "time": 1_618_716_477_000,
    "distinct_id": "91304156-cafc-4673-a237-623d1129c801",
    "$insert_id": "29fc2962-6d9c-455d-95ad-95b84f09b9e4",
    "Referred by": "Friend",
    "URL": "mixpanel.com/signup",
}
PURCHASE = {
    "time": 1_618_716_477_000,
    "distinct_id": "91304156-cafc-4673-a237-623d1129c801",
    "$insert_id": "935d87b1-00cd-41b7-be34-b9d98dd08b42",
    "Item": "Coffee",
    "Amount": 5.0,
}
ANONYMOUS = "2f1ae0a6-2b3c-4d5e-8f60-718293a4b5c6"

MIXPANEL_EXAMPLES = [
    Example(
        "mixpanel, import events",
        f"{MIXPANEL}/import-events",
        "/import",
        [
            {"event": "Signup", "properties": SIGNUP},
            {"event": "Purchase", "properties": PURCHASE},
        ],
        bought_coffee,
    ),
    Example(
        "mixpanel, import an event with an address",
        f"{MIXPANEL}/import-events",
        "/import",
        [{"event": "Signed up", "properties": {**SIGNUP, "ip": "136.24.0.114"}}],
        lambda client: client.track(
            SIGNUP["distinct_id"],
            "Signed up",
            {"Referred by": "Friend", "URL": "mixpanel.com/signup"},
            timestamp=at(1_618_716_477_000),
            message_id=SIGNUP["$insert_id"],
            context={"ip": "136.24.0.114"},
        ),
    ),
    Example(
        "mixpanel, $set",
        MIXPANEL_HTTP,
        "/engage",
        update(
            **{
                "$ip": "123.123.123.123",
                "$set": {"Address": "1313 Mockingbird Lane", "Birthday": "1948-01-01"},
            }
        ),
        lambda client: client.identify(
            "13793",
            {"Address": "1313 Mockingbird Lane", "Birthday": "1948-01-01"},
            context={"ip": "123.123.123.123"},
        ),
    ),
    operate("$set_once", {"First login date": "2013-04-01T13:20:00"}),
    operate("$add", {"Coins Gathered": 12}),
    operate("$append", {"Power Ups": "Bubble Lead"}),
    operate("$union", {"Items purchased": ["socks", "shirts"]}),
    operate("$remove", {"Items purchased": "socks"}),
    operate("$unset", ["Days Overdue"]),
    Example(
        "mixpanel, $delete",
        f"{MIXPANEL}/delete-profile",
        "/engage",
        update(**{"$delete": "null", "$ignore_alias": False}),
        lambda client: client.identify(
            "13793",
            integrations={"Mixpanel": {"$delete": True, "$ignore_alias": False}},
        ),
        differs={"0.$delete": ("", "the page says that the value is ignored")},
    ),
    Example(
        "mixpanel, several profiles",
        f"{MIXPANEL}/profile-batch-update",
        "/engage",
        [
            *update(**{"$set": {"$email": "user1@mail.com"}}),
            {
                "$token": TOKEN,
                "$distinct_id": "13794",
                "$add": {"Coins Gathered": 13},
            },
            {"$token": TOKEN, "$distinct_id": "13795", "$unset": ["$email"]},
        ],
        update_profiles,
    ),
    Example(
        "mixpanel, groups",
        f"{MIXPANEL}/group-batch-update",
        "/groups",
        [
            {
                "$token": TOKEN,
                "$group_key": "Company",
                "$group_id": "Mixpanel",
                "$set": {"Address": "1313 Mockingbird Lane"},
            },
            {
                "$token": TOKEN,
                "$group_key": "Company",
                "$group_id": "Wayne Enterprises",
                "$set_once": {"Address": "Wayne Tower, Gotham City"},
            },
        ],
        update_groups,
        settings={"group_key": "Company"},
    ),
    Example(
        "mixpanel, $identify",
        f"{MIXPANEL}/create-identity",
        "/import",
        [
            {
                "event": "$identify",
                "properties": {
                    "$identified_id": "YOUR_CHOSEN_USER_ID",
                    "$anon_id": "ORIGINAL_ANON_ID",
                    "token": TOKEN,
                },
            }
        ],
        lambda client: client.identify("YOUR_CHOSEN_USER_ID", anonymous_id=ANONYMOUS),
        settings={"id_merge": "original"},
        differs={
            "0.properties.$anon_id": (ANONYMOUS, "must be a UUID, the page says"),
        },
    ),
    Example(
        "mixpanel, $create_alias",
        f"{MIXPANEL}/identity-create-alias",
        "/track",
        [
            {
                "event": "$create_alias",
                "properties": {
                    "distinct_id": "other_distinct_id",
                    "alias": "your_id",
                    "token": TOKEN,
                },
            }
        ],
        lambda client: client.alias("other_distinct_id", "your_id"),
        settings={"id_merge": "original"},
    ),
    Example(
        # The page shows the types of the two ids only.
        "mixpanel, $merge",
        f"{MIXPANEL}/identity-merge",
        "/import",
        [{"event": "$merge", "properties": {"$distinct_ids": ["user-1", "browser-7"]}}],
        lambda client: client.identify("user-1", anonymous_id="browser-7"),
        settings={"id_merge": "original"},
    ),
]

EXAMPLES = AMPLITUDE_EXAMPLES + MIXPANEL_EXAMPLES


class Recorder:
    """Keep every body, and say yes to it as its vendor does."""

    name = "recorder"
    keeps_bodies = True

    def receive(self, request: ApiRequest) -> ApiAnswer:
        answer: dict[str, Any] = {"code": 200}
        if request.path == "/import":
            count = len(json.loads(request.body))
            answer |= {"status": "OK", "num_records_imported": count}
        elif request.path in {"/engage", "/groups", "/track"}:
            answer = {"status": 1}
        return ApiAnswer(200, json.dumps(answer).encode(), decoded_body=request.body)


def read(request: Any) -> Any:
    """Return a body: JSON, or a form whose `mapping` is JSON."""
    text = request.body.decode()
    if request.headers["content-type"].startswith("application/json"):
        return json.loads(text)
    form: dict[str, Any] = dict(parse_qsl(text))
    return {**form, "mapping": json.loads(form["mapping"])}


def joined(bodies: list[Any]) -> Any:
    """Return the bodies of an endpoint as one; how they were batched is no matter."""
    first, *others = bodies
    for other in others:
        if isinstance(first, list):
            first = first + other
        else:
            lists = {key: each for key, each in other.items() if isinstance(each, list)}
            first |= {key: first[key] + each for key, each in lists.items()}
    return first


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each field and its path; a list of plain values is one field."""
    inner: Any = None
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        inner = enumerate(value)
    if inner is None:
        yield path, value
        return
    for key, each in inner:
        yield from leaves(each, f"{path}.{key}".lstrip("."))


def ours_for(example: Example, path: str) -> str:
    """Return where the field of a documented *path* stands in our body."""
    fitting = [each for each in example.moved if f"{path}.".startswith(f"{each}.")]
    if not fitting:
        return path
    start = max(fitting, key=len)
    return example.moved[start][0] + path[len(start) :]


def as_sent(example: Example) -> dict[str, str]:
    """Return what our body must have: the example, but for what is listed."""
    expected = {}
    for path, value in leaves(example.shown):
        ours = example.differs.get(path, (value, ""))[0]
        expected[ours_for(example, path)] = json.dumps(ours)
    return expected


def send(example: Example, collector: Collector) -> Any:
    """Make the example with our calls; return what arrived at its endpoint."""
    settings = {"host": collector.url, **example.settings}
    destination: Any = Mixpanel(TOKEN, **settings) if "mixpanel" in example.id else None
    if destination is None:
        destination = Amplitude("YOUR_API_KEY", **settings)
    with Client(destination, delivery=Delivery(driver="inline")) as client:
        example.call(client)
        assert client.flush(3)
    requests = [each for each in collector.requests if each.path == example.path]
    return joined([read(each) for each in requests])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.id)
def test_our_calls_make_the_documented_example(example):
    """Every field of a vendor's example is in our request with the same value."""
    with Collector(Recorder()) as collector:
        found = dict(leaves(send(example, collector)))
    expected = as_sent(example)
    assert expected == {path: json.dumps(found.get(path, ABSENT)) for path in expected}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.id)
def test_listed_differences_are_of_the_example(example):
    """What an example lists is a field that it has, another value, and a reason."""
    shown = dict(leaves(example.shown))
    for path, (ours, why) in example.differs.items():
        assert shown[path] != ours
        assert len(why) > 10
    for start, (ours, why) in example.moved.items():
        assert start != ours
        assert any(f"{path}.".startswith(f"{start}.") for path in shown)
        assert len(why) > 10


def test_examples_name_their_page():
    """Each example has its own name and the address of a vendor's page."""
    assert len(EXAMPLES) == len({example.id for example in EXAMPLES})
    pages = (AMPLITUDE, MIXPANEL, MIXPANEL_HTTP)
    assert all(example.source.startswith(pages) for example in EXAMPLES)
