"""The vendor's own library and ours make the same calls; their bodies are compared.

Both send to one recorder, whose raw bodies are read with plain `json`.  What differs
is listed below, and with its reason in ``docs/amplitude.md``: the lists must agree,
and so must the bodies but for what is listed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from analytics_sdk import Client
from analytics_sdk.collector import ApiAnswer, ApiRequest, Collector
from analytics_sdk.destinations.amplitude import Amplitude

DOCS = Path(__file__).parents[2] / "docs" / "amplitude.md"
WHEN = datetime(2026, 11, 21, 10, tzinfo=timezone.utc)
TIME = 1_795_255_200_000
ABSENT = "absent"


class Recorder:
    """Answer as Amplitude does, and keep every body."""

    name = "recorder"
    keeps_bodies = True

    def receive(self, request: ApiRequest) -> ApiAnswer:
        return ApiAnswer(200, b'{"code": 200}', decoded_body=request.body)


CONTEXT = {
    "app": {"version": "2.1"},
    "device": {
        "id": "device-1",
        "type": "android",
        "brand": "Google",
        "manufacturer": "Google",
        "model": "Pixel 9",
        "advertisingId": "AD-1",
    },
    "ip": "203.0.113.7",
    "locale": "en-GB",
    "location": {
        "city": "Leeds",
        "country": "United Kingdom",
        "region": "England",
        "latitude": 53.8,
        "longitude": -1.5,
    },
    "network": {"carrier": "EE"},
    "os": {"name": "Android", "version": "16"},
    "userAgent": "Mozilla/5.0",
}
THEIR_CONTEXT = {
    "device_id": "device-1",
    "app_version": "2.1",
    "platform": "Android",
    "device_brand": "Google",
    "device_manufacturer": "Google",
    "device_model": "Pixel 9",
    "adid": "AD-1",
    "ip": "203.0.113.7",
    "language": "en-GB",
    "city": "Leeds",
    "country": "United Kingdom",
    "region": "England",
    "location_lat": 53.8,
    "location_lng": -1.5,
    "carrier": "EE",
    "os_name": "Android",
    "os_version": "16",
    "user_agent": "Mozilla/5.0",
}
OPTIONS = {
    "session_id": 1_795_250_000_000,
    "event_id": 7,
    "groups": {"company": "acme", "team": ["red", "blue"]},
    "plan": {"branch": "main", "source": "web", "version": "3", "versionId": "v3"},
    "ingestion_metadata": {"source_name": "billing", "source_version": "1.0"},
}
ORDER = {"currency": "EUR", "items": [{"sku": "a", "n": 1}], "gift": False}
SALE = {
    "revenue": 39.8,
    "price": 19.9,
    "quantity": 2,
    "product_id": "p-1",
    "revenue_type": "sale",
    "currency": "eur",
}
OPERATIONS = {
    "$setOnce": {"first": "free"},
    "$add": {"visits": 1},
    "$append": {"tags": "a"},
    "$prepend": {"recent": "b"},
    "$preInsert": {"seen": "c"},
    "$postInsert": {"liked": "d"},
    "$remove": {"cart": "e"},
    "$unset": {"trial": "-"},
}

Calls = dict[str, Callable[[Any], object]]


def their_calls() -> Calls:
    """Return each call as the vendor's library makes it."""
    from amplitude import BaseEvent, EventOptions, Identify, IngestionMetadata, Plan

    base = {"user_id": "user-1", "time": TIME, "insert_id": "m-1"}
    plan = Plan(branch="main", source="web", version="3", version_id="v3")
    metadata = IngestionMetadata(source_name="billing", source_version="1.0")
    options = {**OPTIONS, "plan": plan, "ingestion_metadata": metadata}

    def identify(client: Any) -> object:
        made = Identify()
        made.set("plan", "pro").set_once("first", "free").add("visits", 1)
        made.append("tags", "a").prepend("recent", "b").pre_insert("seen", "c")
        made.post_insert("liked", "d").remove("cart", "e").unset("trial")
        return client.identify(made, EventOptions(**base))

    def group_identify(client: Any) -> object:
        made = Identify().set("seats", 3)
        return client.group_identify("company", "acme", made, EventOptions(**base))

    def track(name: str, **more: Any) -> Callable[[Any], object]:
        return lambda client: client.track(BaseEvent(name, **{**base, **more}))

    return {
        "track": track("Paid", event_properties=ORDER),
        "bare": track("Paid"),
        "context": track("Paid", **THEIR_CONTEXT),
        "options": track("Paid", **options),
        "revenue": track(
            "Paid",
            event_properties=SALE,
            revenue=39.8,
            price=19.9,
            quantity=2,
            product_id="p-1",
            revenue_type="sale",
            currency="EUR",
        ),
        "identify": identify,
        "member": lambda client: client.set_group(
            "company", "acme", EventOptions(**base)
        ),
        "group": group_identify,
    }


def our_calls() -> Calls:
    """Return the same calls as this library makes them."""
    base = {"timestamp": WHEN, "message_id": "m-1"}

    def track(properties: Any = None, options: Any = None, **more: Any) -> Any:
        selector = {"Amplitude": options} if options else None
        return lambda client: client.track(
            "user-1", "Paid", properties, integrations=selector, **base, **more
        )

    def group(traits: dict[str, Any]) -> Callable[[Any], object]:
        return lambda client: client.group(
            "user-1",
            "acme",
            traits,
            integrations={"Amplitude": {"group_type": "company"}},
            **base,
        )

    return {
        "track": track(ORDER),
        "bare": track(),
        "context": track(context=CONTEXT),
        "options": track(options=OPTIONS),
        "revenue": track(SALE),
        "identify": lambda client: client.identify(
            "user-1", {"plan": "pro"}, integrations={"Amplitude": OPERATIONS}, **base
        ),
        "member": group({}),
        "group": group({"seats": 3}),
    }


DIFFERENCES = {
    ("request", "header accept"),
    ("request", "header connection"),
    ("request", "header content-type"),
    ("request", "header user-agent"),
    ("request", "client_upload_time"),
    ("request", "options.min_id_length"),
    ("every event", "library"),
    ("group", "insert_id"),
}
"""What is different: in which call, and where.  ``docs/amplitude.md`` says why."""


@pytest.fixture
def recorder() -> Iterator[Collector]:
    with Collector(Recorder()) as collector:
        yield collector


def theirs(recorder: Collector, name: str) -> list[Any]:
    """Make a call with the vendor's library; return the requests that came of it."""
    from amplitude import Amplitude as TheirAmplitude
    from amplitude import Config

    config = Config(
        api_key="KEY",
        server_url=f"{recorder.url}/2/httpapi",
        flush_interval_millis=10,
    )
    client = TheirAmplitude("KEY", config)
    their_calls()[name](client)
    for future in client.flush():
        if future is not None:
            future.result(timeout=5)
    assert recorder.wait_until(lambda seen: bool(seen.requests))
    client.shutdown()
    return recorder.requests


def ours(recorder: Collector, name: str) -> list[Any]:
    """Make the same call with this library."""
    with Client(Amplitude("KEY", host=recorder.url)) as client:
        our_calls()[name](client)
        assert client.flush(timeout=5.0)
    return recorder.requests


def both(recorder: Collector, name: str) -> tuple[Any, Any]:
    """Return their only request and ours."""
    (their_request,) = theirs(recorder, name)
    recorder.reset()
    (our_request,) = ours(recorder, name)
    assert their_request.path == our_request.path == "/2/httpapi"
    return their_request, our_request


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return the members of a body by their path; events are compared one by one."""
    if not isinstance(value, dict):
        return {path: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if key != "events":
            found.update(flat(inner, f"{path}.{key}".lstrip(".")))
    return found


def unlike(left: dict[str, Any], right: dict[str, Any]) -> set[str]:
    """Return the keys that differ; a number is its value, and True is no number."""
    keys = left.keys() | right.keys()
    return {
        key
        for key in keys
        if (left.get(key, ABSENT), isinstance(left.get(key), bool))
        != (right.get(key, ABSENT), isinstance(right.get(key), bool))
    }


def compare(name: str, their_request: Any, our_request: Any) -> set[tuple[str, str]]:
    """Return in what the requests of a call differ."""
    volatile = {"host", "content-length"}
    headers = [
        {f"header {key}": value for key, value in each.headers.items()}
        for each in (their_request, our_request)
    ]
    bodies = [json.loads(each.body) for each in (their_request, our_request)]
    found = {
        ("request", key)
        for key in unlike(*headers) | unlike(*map(flat, bodies))
        if key.removeprefix("header ") not in volatile
    }
    their_events, our_events = (body["events"] for body in bodies)
    if name == "group":
        # One call of ours is two of theirs; the first is compared as "member".
        assert "$identify" == our_events.pop(0)["event_type"]
    assert 1 == len(their_events) == len(our_events)
    for key in unlike(their_events[0], our_events[0]):
        found.add(("every event" if key == "library" else name, key))
    return found


def test_bodies_differ_in_what_is_listed(require, recorder):
    """Call by call the two libraries' requests are the same but for the list."""
    require("amplitude", "pip install amplitude-analytics")
    found: set[tuple[str, str]] = set()
    for name in their_calls():
        recorder.reset()
        found |= compare(name, *both(recorder, name))
    assert sorted(DIFFERENCES) == sorted(found)


def test_both_lists_have_the_same_calls(require):
    """No call of the comparison is made by one library only."""
    require("amplitude", "pip install amplitude-analytics")
    assert list(their_calls()) == list(our_calls())


def test_documentation_lists_the_differences():
    """Each difference has its line and its reason in the documentation, and no more."""
    text = DOCS.read_text("utf-8").partition("## Beside Amplitude's own library")[2]
    rows = re.findall(
        r"^\| ([^|]+) \| `([^`|]+)` \|.*\|.*\| (.+) \|$", text, re.MULTILINE
    )
    assert sorted(DIFFERENCES) == sorted((call.strip(), key) for call, key, _ in rows)
    assert all(reason.strip() for _, _, reason in rows)
