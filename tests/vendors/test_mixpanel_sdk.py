"""The same calls through Mixpanel's own Python library and through ours, compared.

Both send to one recorder.  What arrived is read with plain ``json`` and compared field
by field; the differences must be those that the documentation lists, each with its
reason, and no others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from analytics_sdk import Client
from analytics_sdk.collector import AcceptedEvent, ApiAnswer, ApiRequest, Collector
from analytics_sdk.destinations.mixpanel import Mixpanel

DOCS = Path(__file__).parents[2] / "docs" / "mixpanel.md"
TOKEN = "canary-token-1234"
SECOND = 1_795_264_200
PURCHASE = {"revenue": 19.9, "items": ["A-1", "B-2"], "gift": True, "note": None}
TRAITS = {"$email": "jane@example.com", "plan": "pro", "visits": 3}


class Recorder:
    """Keep every body, and say yes to it in the words that its sender expects."""

    name = "recorder"
    keeps_bodies = True

    def receive(self, request: ApiRequest) -> ApiAnswer:
        imported = request.path == "/import" and b"data=" != request.body[:5]
        answer: dict[str, object] = {"status": 1, "error": None}
        if imported:
            answer = {"code": 200, "status": "OK", "num_records_imported": 1}
        return ApiAnswer(
            200,
            json.dumps(answer).encode(),
            accepted=(AcceptedEvent({}, 0, None),),
            decoded_body=request.body,
        )


def received(collector: Collector) -> list[dict[str, Any]]:
    """Return each record that arrived, flat, together with how it was sent."""
    found = []
    for request in collector.requests:
        text = (request.body or b"").decode()
        sent = {"path": request.path, **dict(parse_qsl(request.head.query))}
        for name in ("content-type", "authorization"):
            if name in request.headers:
                sent[name] = request.headers[name].partition(" ")[0]
        if sent["content-type"] == "application/x-www-form-urlencoded":
            form = dict(parse_qsl(text))
            text = form.pop("data")
            sent.update(form)
        document = json.loads(text)
        for record in document if isinstance(document, list) else [document]:
            flat = {f"request: {name}": each for name, each in sent.items()}
            properties = record.pop("properties", {})
            found.append({**flat, **record, **properties})
    collector.reset()
    return sorted(found, key=lambda record: str(record["request: path"]))


def differences(
    ours: dict[str, Any], theirs: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield each field that is not the same, and how it differs."""
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in theirs:
            yield name, "only ours"
        elif name not in ours:
            yield name, "only theirs"
        elif json.dumps(ours[name]) != json.dumps(theirs[name]):
            yield name, "differs"


def our_calls(client: Client, original: Client) -> Iterator[tuple[str, Any]]:
    when = datetime.fromtimestamp(SECOND, timezone.utc)
    yield "track", lambda: client.track("user-1", "Order Completed", PURCHASE)
    yield (
        "track, with a time",
        lambda: client.track("user-1", "Order Completed", PURCHASE, timestamp=when),
    )
    yield "identify", lambda: client.identify("user-1", TRAITS)
    for operation, value in OPERATIONS.items():
        chosen = {"Mixpanel": {operation: value}}
        yield (
            f"identify, {operation}",
            lambda chosen=chosen: client.identify("user-1", integrations=chosen),
        )
    yield "group", lambda: client.group("user-1", "acme", {"$name": "Acme", "size": 12})
    yield "alias", lambda: original.alias("old-1", "user-1")
    yield (
        "identify, two ids",
        lambda: original.identify("user-1", anonymous_id="session-7"),
    )


OPERATIONS: dict[str, Any] = {
    "$set_once": {"first": "x"},
    "$add": {"orders": 1},
    "$append": {"visits": "shop"},
    "$union": {"tags": ["vip"]},
    "$remove": {"tags": "new"},
    "$unset": ["plan"],
    "$delete": True,
}


def their_calls(sdk: Any) -> Iterator[Any]:
    yield lambda: sdk.track("user-1", "Order Completed", PURCHASE)
    yield lambda: sdk.import_data(
        None, "user-1", "Order Completed", SECOND, PURCHASE, api_secret=TOKEN
    )
    yield lambda: sdk.people_set("user-1", TRAITS)
    yield lambda: sdk.people_set_once("user-1", OPERATIONS["$set_once"])
    yield lambda: sdk.people_increment("user-1", OPERATIONS["$add"])
    yield lambda: sdk.people_append("user-1", OPERATIONS["$append"])
    yield lambda: sdk.people_union("user-1", OPERATIONS["$union"])
    yield lambda: sdk.people_remove("user-1", OPERATIONS["$remove"])
    yield lambda: sdk.people_unset("user-1", OPERATIONS["$unset"])
    yield lambda: sdk.people_delete("user-1")
    yield lambda: (
        sdk.group_set("company", "acme", {"$name": "Acme", "size": 12}),
        sdk.people_union("user-1", {"company": ["acme"]}),
    )
    yield lambda: sdk.alias("user-1", "old-1")
    yield lambda: sdk.merge(None, "user-1", "session-7", api_secret=TOKEN)


def listed() -> dict[tuple[str, str, str], str]:
    """Return the differences that the documentation lists, with their reasons."""
    page = DOCS.read_text(encoding="utf-8")
    section = page.partition("## Beside Mixpanel's own library")[2].partition("\n## ")[
        0
    ]
    rows = re.findall(
        r"^\| (.+?) \| `(.+?)` \| (.+?) \| (.+?) \|$", section, re.MULTILINE
    )
    found = {}
    for calls, field, how, why in rows:
        for call in calls.split("; "):
            assert (call, field, how) not in found, "listed twice"
            found[call, field, how] = why
    return found


@pytest.fixture
def recorder() -> Iterator[Collector]:
    with Collector(Recorder()) as running:
        yield running


@pytest.fixture
def clients(recorder) -> Iterator[tuple[Client, Client]]:
    settings = {"host": recorder.url, "group_key": "company"}
    plain = Client(Mixpanel(TOKEN, **settings))
    original = Client(Mixpanel(TOKEN, id_merge="original", **settings))
    yield plain, original
    plain.close()
    original.close()


@pytest.fixture
def sdk(require, recorder, monkeypatch) -> Any:
    require("mixpanel", "pip install mixpanel")
    import mixpanel

    urls = {
        f"{name}_url": f"{recorder.url}/{path}"
        for name, path in {
            "events": "track",
            "people": "engage",
            "groups": "groups",
            "import": "import",
        }.items()
    }
    consumer = mixpanel.Consumer(**urls, retry_limit=0)
    # Its alias() makes a consumer of its own, which would call the real Mixpanel.
    monkeypatch.setattr(mixpanel, "Consumer", lambda: consumer)
    return mixpanel.Mixpanel(TOKEN, consumer=consumer)


def compare(recorder: Collector, clients: Any, sdk: Any) -> set[tuple[str, str, str]]:
    found = set()
    pairs = zip(our_calls(*clients), their_calls(sdk), strict=True)
    for (name, our_call), their_call in pairs:
        our_call()
        for client in clients:
            client.flush(5.0)
        ours = received(recorder)
        their_call()
        theirs = received(recorder)
        assert len(theirs) == len(ours) > 0, name
        for one, other in zip(ours, theirs, strict=True):
            found |= {(name, *each) for each in differences(one, other)}
    return found


def test_differences_are_those_listed(recorder, clients, sdk):
    """Ours and theirs differ in what the documentation says, and in nothing else."""
    expected = listed()
    found = compare(recorder, clients, sdk)
    assert sorted(expected) == sorted(found)
    assert all(len(why) > 10 for why in expected.values())


def test_what_matters_is_the_same(recorder, clients, sdk):
    """The properties, traits and operations of the caller arrive alike in both."""
    said = {"event", "alias", "$set", "$group_key", "$group_id", "$distinct_ids"}
    said |= {*PURCHASE, *OPERATIONS, "$distinct_id"}
    found = compare(recorder, clients, sdk)
    assert set() == said & {field for _, field, _ in found}
    assert ["identify, two ids"] == [
        call for call, *each in found if "distinct_id" in each
    ]
