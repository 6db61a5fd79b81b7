from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from analytics_sdk import Client, Delivery, Receipt
from analytics_sdk.collector import (
    Collector,
    MixpanelApi,
    OnPath,
    Step,
    WithEvent,
    faults,
)
from analytics_sdk.destinations.mixpanel import Mixpanel
from analytics_sdk.errors import Reason
from analytics_sdk.receipts import OutcomeKind

TOKEN = "canary-token-1234"
ZERO = faults.Status(200, body=b'{"status":0,"error":"invalid"}')


class Rig:
    """A client before a collector that speaks Mixpanel."""

    def __init__(self, **settings: Any) -> None:
        api = settings.pop("api", MixpanelApi(token=TOKEN))
        self.collector = Collector(api).start()
        self.client = Client(
            Mixpanel(TOKEN, host=self.collector.url, **settings),
            delivery=Delivery(linger_s=5.0),
        )

    def settle(self, *receipts: Receipt) -> list[str]:
        self.client.flush(5.0)
        return [outcome(receipt) for receipt in receipts]

    def paths(self) -> list[str]:
        return [request.path for request in self.collector.requests]


def outcome(receipt: Receipt) -> str:
    found = receipt.outcome
    if found is None:
        return "none"
    return f"{found.kind}({found.reason})" if found.reason else str(found.kind)


@pytest.fixture
def make_rig() -> Iterator[Any]:
    rigs: list[Rig] = []

    def make(**settings: Any) -> Rig:
        rigs.append(Rig(**settings))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.client.close(timeout=0)
        rig.collector.close()


def identify(rig: Rig, user: str, options: dict[str, Any] | None = None, **traits: Any):
    chosen = {"Mixpanel": options} if options else None
    return rig.client.identify(user, traits, integrations=chosen)


@pytest.mark.parametrize("id_field", ["$insert_id", "insert_id", None])
@pytest.mark.parametrize("with_index", [True, False])
def test_one_bad_event_costs_no_other(make_rig, id_field, with_index):
    """Of a 400 the failed event is rejected with its reason, the rest is not resent.

    Where the answer names neither index nor id, the bad event is searched for.
    """
    api = MixpanelApi(token=TOKEN, id_field=id_field, with_index=with_index)
    rig = make_rig(api=api)
    wide = {f"p{number}": number for number in range(255)}
    receipts = [
        rig.client.track(f"u-{number}", "Paid", wide if number == 3 else {"n": number})
        for number in range(6)
    ]
    settled = rig.settle(*receipts)
    expected = ["delivered"] * 6
    expected[3] = "rejected(invalid)"
    assert expected == settled
    found = receipts[3].outcome
    assert found is not None
    if id_field or with_index:
        assert "properties: must be fewer than 255" == found.excerpt
        assert [400] == [request.status for request in rig.collector.requests]
        assert not rig.collector.duplicates
    ids = [each["properties"]["distinct_id"] for each in rig.collector.unique_events()]
    assert ["u-0", "u-1", "u-2", "u-4", "u-5"] == sorted(ids)


def test_a_zero_is_searched(make_rig):
    """A 200 with status 0 is no success: the bad update is found, the others arrive."""
    rig = make_rig()
    rig.collector.play(Step(ZERO, only=WithEvent("$set.poison", value=True)))
    receipts = [identify(rig, f"u-{n}", poison=n == 2, plan="pro") for n in range(5)]
    expected = ["delivered"] * 5
    expected[2] = "rejected(invalid)"
    assert expected == rig.settle(*receipts)
    users = {each["$distinct_id"] for each in rig.collector.events}
    assert {"u-0", "u-1", "u-3", "u-4"} == users


@pytest.mark.parametrize("store", [True, False])
def test_sums_are_sent_once(make_rig, store):
    """After a lost answer a sum is given up, and what may be repeated is repeated."""
    rig = make_rig()
    rig.collector.play(faults.Drop("after_body", store=store))
    plain = identify(rig, "u-1", plan="pro")
    added = identify(rig, "u-2", {"$add": {"orders": 1}})
    assert ["delivered", "lost(maybe_sent)"] == rig.settle(plain, added)
    sums = [each for each in rig.collector.events if "$add" in each]
    assert int(store) == len(sums)
    assert 1 + store == len([e for e in rig.collector.events if "$set" in e])


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        (faults.Status(504, body=b"upstream request timeout"), "lost(maybe_sent)"),
        (faults.Status(503, body=b"busy"), "delivered"),
        (faults.captive_portal(), "lost(maybe_sent)"),
    ],
)
def test_sums_and_gateways(make_rig, fault, end):
    """Of a gateway's answers only a 503 says that a sum was not taken."""
    rig = make_rig()
    rig.collector.play(fault)
    assert [end] == rig.settle(identify(rig, "u", {"$append": {"seen": "x"}}))
    assert int(end == "delivered") == len(rig.collector.events)


def test_sums_in_a_refused_batch(make_rig):
    """In a request that is answered 0 sums are given up, the rest arrives."""
    rig = make_rig()
    rig.collector.play(ZERO)
    plain = identify(rig, "u-1", plan="pro")
    added = identify(rig, "u-2", {"$add": {"orders": 1}})
    assert ["delivered", "rejected(maybe_sent)"] == rig.settle(plain, added)
    assert ["$set"] == [
        next(k for k in e if k in ("$set", "$add")) for e in rig.collector.events
    ]


def test_wrong_token_holds(make_rig):
    """A 401 keeps every event, and says what is wrong."""
    rig = make_rig(api=MixpanelApi(token="another"))
    receipt = rig.client.track("u", "Paid")
    rig.client.flush(1.0)
    found = receipt.by_destination["Mixpanel"]
    assert (OutcomeKind.HELD, Reason.CONFIGURATION) == (found.kind, found.reason)


def test_a_lost_answer_makes_one_event(make_rig):
    """A retry repeats time and insert id, so that Mixpanel counts the event once."""
    rig = make_rig()
    rig.collector.play(faults.Drop("after_body", store=True))
    receipt = rig.client.track("u", "Paid", message_id="stripe:evt_1")
    assert ["delivered"] == rig.settle(receipt)
    assert (2, 1) == (len(rig.collector.events), len(rig.collector.unique_events()))
    assert not rig.collector.changed_duplicates


def test_too_large_a_request_is_split(make_rig):
    """A 413 halves the request until it fits, and nothing is lost."""
    rig = make_rig()
    rig.collector.play(faults.Status(413, body=b"<html>"))
    receipts = [rig.client.track(f"u-{n}", "Paid") for n in range(4)]
    assert ["delivered"] * 4 == rig.settle(*receipts)
    first, *rest = [request.status for request in rig.collector.requests]
    assert (413, {200}) == (first, set(rest))
    assert not rig.collector.duplicates


def test_original_mode_links_before_it_goes_on(make_rig):
    """Links of ids wait for what came before, and what comes after waits for them."""
    rig = make_rig(id_merge="original")
    rig.client.track(anonymous_id="a-1", event="Viewed")
    rig.client.identify("u-1", {"plan": "pro"}, anonymous_id="a-1")
    rig.client.alias("u-1", "u-2")
    rig.client.track("u-2", "Paid")
    assert rig.client.flush(5.0)
    said = [each.get("event", "$set") for each in rig.collector.events]
    assert ["Viewed", "$merge", "$set", "$create_alias", "Paid"] == said
    assert ["/import", "/import", "/engage", "/track", "/import"] == rig.paths()


def test_every_call_is_taken_by_a_strict_server(make_rig):
    """All calls in both modes are what the documented rules ask for."""
    for mode in ("simplified", "original"):
        rig = make_rig(id_merge=mode)
        client = rig.client
        client.track("u", "Paid", {"revenue": 1.5}, anonymous_id="a")
        client.page("u", name="Home", properties={"url": "https://a.example/"})
        client.screen(anonymous_id="a", name="Basket")
        client.identify("u", {"email": "e", "latitude": 1, "longitude": 2})
        client.group("u", "g", {"name": "Acme"})
        client.alias("old", "u")
        assert client.flush(5.0)
        assert [] == rig.collector.rejected
        assert {200} == {request.status for request in rig.collector.requests}
        assert all(json.dumps(each) for each in rig.collector.events)


@pytest.mark.parametrize(("path", "event"), [("/import", "track"), ("/engage", "set")])
def test_routes_fail_apart(make_rig, path, event):
    """Trouble on one endpoint does not stop the others."""
    rig = make_rig()
    rig.collector.play(Step(faults.unavailable(), only=OnPath(path)))
    tracked = rig.client.track("u-1", "Paid")
    known = identify(rig, "u-2", plan="pro")
    rig.client.flush(1.0)
    done = {"track": known, "set": tracked}[event]
    assert ("delivered", "none") == (
        outcome(done),
        outcome(tracked if done is known else known),
    )
