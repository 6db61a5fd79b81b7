"""Amplitude, the real core and client, and a strict Amplitude at the far end."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk import Client
from analytics_sdk._verdict import Now
from analytics_sdk.collector import ApiRequest, Collector
from analytics_sdk.collector.amplitude import AmplitudeApi
from analytics_sdk.destinations.amplitude import EVENTS, USERMAP, Amplitude
from analytics_sdk.interfaces import HttpResponse
from analytics_sdk.receipts import OutcomeKind
from tests.toys import Bench, event, fates, word

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
RESERVED = b"[Amplitude] Revenue"


class Shop(Bench):
    """A bench whose one destination is Amplitude, with *api* at the far end."""

    def __init__(self, api, **settings):
        super().__init__(Amplitude("KEY", **settings))
        self.destination = self.outlet.destination
        self.api = api
        self.arrived = []
        self.log = []

    def serve(self):
        """Answer what leaves now, until nothing does."""
        while sends := self.leave():
            for send in sends:
                request = self.destination.request(
                    send.route, send.parts, NOON, send.attempt
                )
                path = "/" + request.url.split("/", 3)[3]
                headers = {k.lower(): v for k, v in request.headers.items()}
                asked = ApiRequest("POST", path, headers, request.body)
                answer = self.api.receive(asked)
                self.arrived += answer.accepted
                self.log.append((self.now, send.route, answer.status))
                reply = HttpResponse(answer.status, {}, answer.body)
                self.core.replied(send, reply, Now(self.now, self.jitter))
            assert len(self.log) < 1000

    def serve_until(self, end_s):
        """Do the same at every time at which the core is due, up to *end_s*."""
        self.serve()
        while (due_s := self.core.next_due_s(self.now)) is not None and due_s <= end_s:
            self.now = due_s
            self.serve()
        self.now = end_s

    @property
    def unique(self):
        """What a deduplicating Amplitude keeps, by insert id."""
        return Counter(
            key.split("/")[-1] for key in {each.key for each in self.arrived}
        )


def sale(message_id, user_id, *, bad=False):
    receipt = event(message_id, user_id, names=("Amplitude",))
    if bad:
        receipt._raw = receipt._raw.replace(b'"event":"E"', b'"event":"%b"' % RESERVED)
    return receipt


@pytest.mark.parametrize(("endpoint", "wait_s"), [("http_v2", 30.0), ("batch", 15.0)])
def test_one_fast_user_keeps_up_nobody(endpoint, wait_s):
    """A user over the limit waits alone, for as long as the endpoint asks."""
    api = AmplitudeApi(strict=True, throttled={"speedy"})
    shop = Shop(api, endpoint=endpoint)
    users = ["user-1", "speedy", "user-2", "speedy", "user-1"]
    sales = shop.accept(*(sale(f"e{at}", user) for at, user in enumerate(users)))
    shop.serve_until(0.1)
    delivered, pending = "delivered", "pending"
    assert [delivered, pending, delivered, pending, delivered] == fates(sales)
    assert 2 == len(shop.log)

    late = shop.accept(sale("e5", "user-3"), sale("e6", "speedy"))
    shop.serve_until(wait_s - 0.1)
    assert [delivered, pending] == fates(late)

    api.throttled.clear()
    shop.serve_until(wait_s + 0.1)
    assert [delivered] * 7 == fates([*sales, *late])
    theirs = [
        each.payload["insert_id"]
        for each in shop.arrived
        if each.payload["user_id"] == "speedy"
    ]
    assert ["e1", "e3", "e6"] == theirs
    assert wait_s == pytest.approx(shop.log[-1][0], abs=0.01)


@pytest.mark.parametrize("names_all", [True, False])
@pytest.mark.parametrize("keeps_rest", [True, False])
def test_bad_events_go_and_the_rest_is_resent(names_all, keeps_rest):
    """A 400 that names events costs exactly those, and next to no time."""
    api = AmplitudeApi(strict=True, names_all=names_all, keeps_rest=keeps_rest)
    shop = Shop(api)
    sales = [sale(f"e{at}", f"user-{at % 4}", bad=at in (2, 5)) for at in range(10)]
    shop.accept(*sales)
    shop.serve_until(0.1)
    expected = ["delivered"] * 10
    expected[2] = expected[5] = "rejected(invalid)"
    assert expected == fates(sales)
    assert "event_type" in sales[2].outcome.excerpt
    assert (2 if names_all else 3) == len(shop.log)
    assert {f"e{at}": 1 for at in range(10) if at not in (2, 5)} == shop.unique


def test_bad_event_among_two_thousand():
    """The largest request is not searched: what the answer names goes, at once."""
    shop = Shop(AmplitudeApi(strict=True))
    sales = [sale(f"e{at}", f"user-{at}", bad=at == 1234) for at in range(2_000)]
    shop.accept(*sales)
    shop.serve_until(1.0)
    assert {"delivered": 1_999, "rejected(invalid)": 1} == Counter(fates(sales))
    assert [400, 200] == [status for _, _, status in shop.log]


def test_spent_quota_is_given_up_on():
    """Events of a user whose daily quota is used up end with that reason."""
    shop = Shop(AmplitudeApi(strict=True, over_quota={"spent"}))
    sales = shop.accept(sale("e0", "spent"), sale("e1", "user-1"))
    shop.serve_until(0.1)
    assert ["rejected(quota)", "delivered"] == fates(sales)


def test_wrong_key_costs_nothing():
    """With a wrong key the lane is held and every event kept, until it is mended."""
    shop = Shop(AmplitudeApi(api_key="OTHER"))
    sales = shop.accept(*(sale(f"e{at}", f"user-{at}") for at in range(5)))
    shop.serve_until(10_000.0)
    assert ["pending"] * 5 == fates(sales)
    assert "held(configuration)" == word(shop.outlet.last_error)
    shop.api = AmplitudeApi()
    shop.serve_until(20_000.0)
    assert ["delivered"] * 5 == fates(sales)


def alias(message_id, user_id, previous_id):
    receipt = sale(message_id, user_id)
    receipt._raw = receipt._raw.replace(b'"type":"track"', b'"type":"alias"').replace(
        b'"event":', b'"previousId":"%b","event":' % previous_id.encode()
    )
    return receipt


def test_alias_keeps_its_place():
    """What was called before an alias arrives before it, what came after, after it."""
    shop = Shop(AmplitudeApi(strict=True))
    calls = shop.accept(
        sale("e0", "old-1"), alias("e1", "user-1", "old-1"), sale("e2", "user-1")
    )
    shop.serve_until(0.1)
    assert ["delivered"] * 3 == fates(calls)
    assert [EVENTS, USERMAP, EVENTS] == [route for _, route, _ in shop.log]
    mapping = {"user_id": "old-1", "global_user_id": "user-1"}
    assert mapping == shop.arrived[1].payload


USERS = st.sampled_from(["user-1", "user-2", "user-3", "user-4"])
SOME = st.sets(USERS, max_size=2)


@given(
    st.lists(st.tuples(USERS, st.booleans()), min_size=1, max_size=12),
    SOME,
    SOME,
    st.booleans(),
    st.booleans(),
)
def test_every_event_ends_as_amplitude_decides(
    calls, throttled, spent, names_all, keeps_rest
):
    """Good events arrive, bad and surplus ones are rejected, in bounded requests."""
    api = AmplitudeApi(
        strict=True,
        names_all=names_all,
        keeps_rest=keeps_rest,
        throttled=throttled,
        over_quota=spent,
    )
    shop = Shop(api)
    sales = [sale(f"e{at}", user, bad=bad) for at, (user, bad) in enumerate(calls)]
    shop.accept(*sales)
    shop.serve_until(1.0)
    assert len(shop.log) <= len(calls) + 2
    throttled.clear()
    shop.serve_until(200.0)
    quota = dict.fromkeys(spent, "rejected(quota)")
    expected = [
        "rejected(invalid)" if bad else quota.get(user, "delivered")
        for user, bad in calls
    ]
    assert expected == fates(sales)
    good = [f"e{at}" for at, fate in enumerate(expected) if fate == "delivered"]
    assert Counter(good) == shop.unique
    for wanted in {user for user, _ in calls}:
        theirs = [
            each.payload["insert_id"]
            for each in shop.arrived
            if each.payload["user_id"] == wanted
        ]
        first = list(dict.fromkeys(theirs))
        assert first == sorted(first, key=lambda each: int(each[1:]))


def test_client_delivers_to_a_strict_amplitude():
    """All six calls of a real client arrive, and money and customers add up."""
    with Collector(AmplitudeApi(api_key="KEY", strict=True)) as collector:
        with Client(Amplitude("KEY", host=collector.url)) as client:
            for number in range(20):
                user = f"user-{number % 5}"
                client.identify(user, {"plan": "pro"})
                client.track(user, "Order Completed", {"revenue": 1.25, "quantity": 2})
            client.page("user-0", name="Pricing")
            client.screen("user-0", name="Home")
            client.group("user-0", "acme", {"seats": 3})
            client.alias("old", "user-0")
            assert client.flush(timeout=5.0)
        events = collector.unique_events()
        kinds = Counter(event.get("event_type", "alias") for event in events)
        assert {
            "$identify": 21,
            "Order Completed": 20,
            "Viewed Pricing Page": 1,
            "Viewed Home Screen": 1,
            "$groupidentify": 1,
            "alias": 1,
        } == kinds
        assert 25.0 == sum(event.get("revenue", 0) for event in events)
        customers = {e["user_id"] for e in events if "event_type" in e}
        assert {f"user-{number}" for number in range(5)} == customers
        assert not collector.duplicates
        assert not any("ip" in event for event in events)


def test_client_waits_for_a_fast_user_alone():
    """Over a socket as well: others go on, and the user follows when it may."""
    api = AmplitudeApi(strict=True, throttled={"speedy"}, retry_after_s=1)
    with Collector(api) as collector:
        with Client(Amplitude("KEY", host=collector.url)) as client:
            slow = client.track("speedy", "Paid")
            fine = [client.track(f"user-{number}", "Paid") for number in range(10)]
            assert client.flush(timeout=2.0, receipts=fine)
            assert slow.outcome is None
            api.throttled.clear()
            assert OutcomeKind.DELIVERED is slow.wait(timeout=5.0).kind
        assert 11 == len(collector.unique_events())
        assert [429, 200, 200] == [request.status for request in collector.requests]


def test_client_rejects_what_a_400_names():
    """Over a socket as well: the named event is rejected, its neighbour delivered."""
    with Collector(AmplitudeApi(strict=True)) as collector:
        with Client(Amplitude("KEY", host=collector.url)) as client:
            good = client.track("user-1", "Paid")
            bad = client.track("user-1", RESERVED.decode())
            short = client.track("null", "Paid")
            client.flush(timeout=5.0)
        assert OutcomeKind.DELIVERED is good.outcome.kind
        assert "rejected(invalid)" == word(bad.outcome)
        assert "refused(no_id)" == word(short.outcome)
        assert ["Paid"] == [event["event_type"] for event in collector.events]
