from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from enum import Enum
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_sdk import (
    AnalyticsError,
    Client,
    ClosedError,
    ConfigError,
    Console,
    Delivery,
    JsonLines,
    Memory,
    Outcome,
    OutcomeKind,
    QueueFullError,
    Reason,
    Receipt,
    RefusedError,
    Segment,
    __version__,
    context,
    redact_keys,
)
from analytics_sdk.collector import Collector, Step, WithEvent, faults
from tests.strategies import values

DELIVERED = Outcome(OutcomeKind.DELIVERED)
DESELECTED = Outcome(OutcomeKind.SKIPPED, Reason.SELECTOR)
LIBRARY = {"name": "analytics-sdk-server", "version": __version__}
SECRET = "jane-s3cret"


@pytest.fixture
def collector():
    with Collector() as running:
        yield running


@pytest.fixture
def make(collector):
    """Make clients of a Segment destination, and others if asked for."""
    made = []

    def make_client(*others, linger_s=60.0, delivery=None, **settings):
        segment = Segment("key", host=collector.url)
        delivery = delivery or Delivery(linger_s=linger_s)
        client = Client(segment, *others, delivery=delivery, **settings)
        made.append(client)
        return client

    yield make_client
    for client in made:
        client.close(timeout=0)


@pytest.fixture
def client(make):
    return make()


@pytest.fixture
def only(client, collector):
    """Flush, and return the one event that has arrived."""

    def flush_one():
        assert client.flush(3)
        [payload] = collector.events
        return payload

    return flush_one


# -- the six calls on the wire -------------------------------------------------

CALLS = {
    "identify": (("u-1", {"plan": "pro"}), {"traits": {"plan": "pro"}}),
    "track": (
        ("u-1", "Paid", {"revenue": 1.5}),
        {"event": "Paid", "properties": {"revenue": 1.5}},
    ),
    "page": (
        ("u-1", "Docs", "Pricing", {"path": "/p"}),
        {"category": "Docs", "name": "Pricing", "properties": {"path": "/p"}},
    ),
    "screen": (
        ("u-1", "Game", "Level", {"number": 3}),
        {"category": "Game", "name": "Level", "properties": {"number": 3}},
    ),
    "group": (
        ("u-1", "g-1", {"seats": 5}),
        {"groupId": "g-1", "traits": {"seats": 5}},
    ),
    "alias": (("old", "u-1"), {"previousId": "old"}),
}


@pytest.mark.parametrize("name", CALLS)
def test_call_on_the_wire(client, only, name):
    """Each call arrives with its own members and the common ones, and no others."""
    arguments, members = CALLS[name]
    receipt = getattr(client, name)(*arguments)
    payload = only()
    timestamp = payload.pop("timestamp")
    assert timestamp.endswith("Z")
    assert timedelta(seconds=5) > abs(
        datetime.now(timezone.utc) - datetime.fromisoformat(timestamp[:-1] + "+00:00")
    )
    assert {
        "messageId": receipt.message_id,
        "type": name,
        "userId": "u-1",
        "context": {"library": LIBRARY},
        "integrations": {},
        **members,
    } == payload


@pytest.mark.parametrize("name", ["identify", "track", "page", "screen", "group"])
def test_anonymous_call_has_no_user_id(client, only, name):
    """A call with an anonymous id alone arrives without a ``userId`` member."""
    named = {"track": {"event": "Paid"}, "group": {"group_id": "g"}}.get(name, {})
    getattr(client, name)(anonymous_id="a-1", **named)
    payload = only()
    assert "userId" not in payload
    assert "a-1" == payload["anonymousId"]


def test_what_is_not_given_is_left_out(client, only):
    """A page without category and name has neither member, and empty properties."""
    client.page("u-1")
    payload = only()
    assert {"category", "name"}.isdisjoint(payload)
    assert {} == payload["properties"]


@pytest.mark.parametrize(
    ("given_id", "text"),
    [
        ("user-1", "user-1"),
        ('ü\u2028"\\', 'ü\u2028"\\'),
        (0, "0"),
        (-7, "-7"),
        (2**80, str(2**80)),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    ],
)
def test_id_travels_as_text(client, only, given_id, text):
    """Strings, ints (0 too) and UUIDs arrive as their text, in every id argument."""
    client.group(given_id, given_id, anonymous_id=given_id)
    payload = only()
    ids = [payload[name] for name in ("userId", "anonymousId", "groupId")]
    assert [text] * 3 == ids


def test_enum_of_text_is_its_text(client, only):
    """A name or id given as a member of a str Enum arrives as the member's text."""

    class Name(str, Enum):
        PAID = "Paid"

    client.track("u-1", Name.PAID)
    assert "Paid" == only()["event"]


def test_own_message_id_is_kept(client, only):
    """An id of one's own is the event's on the wire and in the receipt."""
    receipt = client.track("u-1", "Paid", message_id='stripe:"evt"_1')
    assert 'stripe:"evt"_1' == receipt.message_id
    assert 'stripe:"evt"_1' == only()["messageId"]


def test_minted_message_ids_differ_and_sort_by_time(client):
    """Ids that we mint are unique, and those of one thread sort as they were made."""
    ids = [client.track("u-1", "Paid").message_id for _ in range(3_000)]
    assert 3_000 == len(set(ids))
    assert [id_[:18] for id_ in ids] == sorted(id_[:18] for id_ in ids)
    assert {7} == {UUID(id_).version for id_ in ids}


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (
            datetime.fromisoformat("2026-01-02T03:04:05.678900"),
            "2026-01-02T03:04:05.678Z",
        ),
        (
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
            "2026-01-02T03:04:05.000Z",
        ),
        (
            datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            "2026-01-01T21:30:00.000Z",
        ),
        (datetime(999, 1, 1, tzinfo=timezone.utc), "0999-01-01T00:00:00.000Z"),
    ],
)
def test_timestamp_arrives_in_utc(client, only, when, text):
    """A timestamp arrives in UTC with milliseconds; a naive one counts as UTC."""
    client.track("u-1", "Paid", timestamp=when)
    assert text == only()["timestamp"]


def test_naive_timestamps_are_counted(client):
    """Each naive timestamp is counted, an aware one or none is not."""
    aware = datetime(2026, 1, 1, tzinfo=timezone.utc)
    naive = aware.replace(tzinfo=None)
    for when in (naive, naive, aware, None):
        client.track("u-1", "Paid", timestamp=when)
        client.track("u-1", "Paid", {"n": 1}, timestamp=when)
        client.identify("u-1", timestamp=when)
    assert 6 == client.stats().naive_timestamps


def test_selector_arrives(client, only):
    """The ``integrations`` selector is part of the event that Segment gets."""
    client.track("u-1", "Paid", integrations={"All": False, "Mixpanel": {"a": 1}})
    assert {"All": False, "Mixpanel": {"a": 1}} == only()["integrations"]


def test_request_carries_key_and_time_of_sending(client, collector):
    """A request names its write key in the header and says when it was sent."""
    client.track("u-1", "Paid")
    assert client.flush(3)
    [record] = collector.records
    assert "key" == record.key or record.sent_at.endswith("Z")
    assert "Basic a2V5Og==" == collector.requests[0].headers["authorization"]


def test_unserialisable_value_does_not_hurt_its_neighbours(client, only):
    """A value that JSON has no form for is marked and counted; the rest arrives."""
    client.track("u-1", "Paid", {"good": 1, "bad": object(), "also": [1, 2]})
    properties = only()["properties"]
    assert (1, [1, 2]) == (properties["good"], properties["also"])
    assert 1 <= client.stats().repaired_values


def test_ordinary_call_takes_no_other_form(tmp_path):
    """The quick way for ordinary track calls makes the same bytes as the other one."""
    path = tmp_path / "out.jsonl"
    delivery = Delivery(driver="inline")
    client = Client(JsonLines(path), delivery=delivery, context={"ip": "192.0.2.1"})
    times = st.datetimes() | st.datetimes(timezones=st.just(timezone.utc))
    texts = st.text(st.characters(exclude_categories=()), min_size=1, max_size=8)

    @settings(max_examples=25)
    @given(
        user=texts,
        event=texts,
        properties=st.dictionaries(st.text(max_size=4), values(), max_size=3),
        when=times,
        selector=st.none() | st.just({"Amplitude": True}) | values(),
    )
    def call(user, event, properties, when, selector):
        shared = {"timestamp": when, "integrations": selector}
        receipts = [
            client.track(user, event, properties, **shared),
            client.track(user, event, properties, urgent=0, **shared),
        ]
        path.unlink(missing_ok=True)
        client.flush(5)
        lines = path.read_bytes().splitlines() if path.exists() else []
        quick, plain = lines or (b"", b"")
        ids = [receipt.message_id.encode() for receipt in receipts]
        assert plain == quick.replace(*ids)
        outcomes = [receipt.outcome for receipt in receipts]
        assert outcomes[0] == outcomes[1]

    call()
    client.close()


# -- context: the client's, the surrounding, the call's --------------------------


def test_contexts_are_merged(make, collector):
    """Of client's, surrounding and call's context the later wins, dicts are merged."""
    client = make(context={"app": {"name": "shop", "build": 1}, "ip": "192.0.2.1"})
    with context(context={"app": {"build": 2}, "locale": "de"}):
        client.track("u-1", "Paid", context={"app": {"version": "3"}, "locale": "fr"})
    client.flush(3)
    assert {
        "library": LIBRARY,
        "app": {"name": "shop", "build": 2, "version": "3"},
        "ip": "192.0.2.1",
        "locale": "fr",
    } == collector.events[0]["context"]


def test_none_takes_a_field_away(make, collector):
    """A field that is None inside takes the outer one away, at any depth."""
    client = make(context={"ip": "192.0.2.1", "page": {"path": "/", "title": "T"}})
    client.track("u-1", "Paid", context={"ip": None, "page": {"title": None}})
    client.flush(3)
    assert {"library": LIBRARY, "page": {"path": "/"}} == collector.events[0]["context"]


def test_merging_leaves_no_trace(make, collector):
    """What one call adds to the context is not in the next call's."""
    own = {"page": {"path": "/"}}
    client = make(context=own)
    client.track("u-1", "Paid", context={"page": {"title": "T"}})
    client.track("u-1", "Paid")
    client.flush(3)
    assert {"path": "/"} == collector.events[1]["context"]["page"]
    assert {"page": {"path": "/"}} == own


def test_surrounding_ids_serve_calls_without_ids(client, collector):
    """A call without ids takes those bound around it; nested ones win and end."""
    with context(user_id="outer", anonymous_id="a"):
        client.track(event="One")
        with context(user_id="inner"):
            client.track(event="Two")
        client.track(event="Three")
        client.track("own", "Four")
    client.flush(3)
    found = [(e.get("userId"), e.get("anonymousId")) for e in collector.events]
    assert [("outer", "a"), ("inner", "a"), ("outer", "a"), ("own", None)] == found


def test_surroundings_end_with_their_block(client):
    """After the block a call without ids is refused again."""
    with context(user_id="u-1"):
        assert client.track(event="Paid").accepted
    assert Reason.NO_ID is client.track(event="Paid").outcome.reason


def test_surroundings_belong_to_a_thread(client):
    """What is bound in one thread is not seen in another."""
    found = []
    with context(user_id="u-1"):
        thread = threading.Thread(
            target=lambda: found.append(client.track(event="Paid"))
        )
        thread.start()
        thread.join()
    assert Reason.NO_ID is found[0].outcome.reason


def test_surroundings_belong_to_a_task(client, collector):
    """Tasks that bind their own user do not see each other's."""

    async def visit(name, turn):
        with context(user_id=name):
            await turn.wait()
            client.track(event=name)

    async def main():
        turn = asyncio.Event()
        tasks = [asyncio.create_task(visit(name, turn)) for name in ("ann", "bob")]
        await asyncio.sleep(0)
        turn.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    client.flush(3)
    assert {("ann", "ann"), ("bob", "bob")} == {
        (e["userId"], e["event"]) for e in collector.events
    }


def test_unusable_surrounding_id_is_refused_at_the_call(client):
    """An id of a wrong type that is bound around a call is refused by the call."""
    with context(user_id=["u-1"]):
        receipt = client.track(event="Paid")
    assert Reason.BAD_ARGUMENT is receipt.outcome.reason
    assert "user_id: got list" in receipt.outcome.excerpt


# -- wrong arguments -------------------------------------------------------------

REFUSALS = [
    # swapped and shifted
    ("track", (SECRET, {SECRET: 1}), "bad_argument", ("event", "dict", "track(user")),
    ("track", ({SECRET: 1}, "Paid"), "bad_argument", ("user_id", "dict", "track(user")),
    ("track", (SECRET, "Paid", SECRET), "bad_argument", ("properties", "str")),
    (
        "identify",
        ({"email": SECRET}, "u"),
        "bad_argument",
        ("user_id", "dict", "identify(user_id, traits)"),
    ),
    (
        "group",
        (SECRET, {SECRET: 1}),
        "bad_argument",
        ("group_id", "dict", "group(user_id, group_id, traits)"),
    ),
    (
        "page",
        (SECRET, {"path": SECRET}),
        "bad_argument",
        ("category", "dict", "page(user_id, category, name, properties)"),
    ),
    (
        "screen",
        (SECRET, "Docs", {"path": SECRET}),
        "bad_argument",
        ("name", "dict", "screen(user_id, category, name, properties)"),
    ),
    (
        "alias",
        (SECRET, {SECRET: 1}),
        "bad_argument",
        ("user_id", "dict", "alias(previous_id, user_id)"),
    ),
    # missing
    ("identify", (), "no_id", ("user_id", "anonymous_id", "give")),
    ("track", (None, "Paid"), "no_id", ("user_id", "anonymous_id", "give")),
    ("track", ("", "Paid"), "no_id", ("user_id", "anonymous_id", "give")),
    ("track", (SECRET,), "no_name", ("event", "track(user_id, event, properties)")),
    ("track", (SECRET, ""), "no_name", ("event", "track(user_id, event, properties)")),
    ("group", (SECRET,), "no_name", ("group_id", "group(user_id, group_id, traits)")),
    ("alias", (SECRET,), "no_id", ("user_id", "alias(previous_id, user_id)")),
    ("alias", (None, SECRET), "no_id", ("previous_id", "alias(previous_id, user_id)")),
    # of a wrong type
    ("identify", (True,), "bad_argument", ("user_id", "bool", "UUID")),
    ("identify", (1.5,), "bad_argument", ("user_id", "float", "UUID")),
    ("identify", (SECRET.encode(),), "bad_argument", ("user_id", "bytes", "UUID")),
    ("identify", (SECRET, [SECRET]), "bad_argument", ("traits", "list", "dict")),
    ("track", (SECRET, 7), "bad_argument", ("event", "int", "str")),
]


@pytest.mark.parametrize(("name", "arguments", "reason", "words"), REFUSALS)
def test_unusable_argument_is_refused(client, name, arguments, reason, words):
    """The refusal names field, type and remedy, and shows nothing of the values."""
    receipt = getattr(client, name)(*arguments)
    outcome = receipt.outcome
    assert not receipt.accepted
    assert (OutcomeKind.REFUSED, reason) == (outcome.kind, str(outcome.reason))
    assert [] == [word for word in words if word not in outcome.excerpt]
    assert SECRET not in f"{outcome} {receipt!r} {receipt.by_destination}"
    assert {reason: 1} == client.stats().refused


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("anonymous_id", {SECRET: 1}, ("anonymous_id", "dict", "UUID")),
        ("context", SECRET, ("context", "str", "dict")),
        ("timestamp", SECRET, ("timestamp", "str", "datetime")),
        ("timestamp", 1_700_000_000, ("timestamp", "int", "datetime")),
        ("message_id", [SECRET], ("message_id", "list")),
    ],
)
def test_unusable_keyword_is_refused(client, keyword, value, words):
    """The same holds for the arguments that all calls share."""
    outcome = client.track("u-1", "Paid", **{keyword: value}).outcome
    assert Reason.BAD_ARGUMENT is outcome.reason
    assert [] == [word for word in words if word not in outcome.excerpt]
    assert SECRET not in outcome.excerpt


@pytest.mark.parametrize("message_id", ["", "m" * 101, "a\nb", "\x00"])
def test_unusable_message_id_is_refused(client, message_id):
    """A message id is 1 to 100 printable characters."""
    outcome = client.track("u-1", "Paid", message_id=message_id).outcome
    assert Reason.BAD_MESSAGE_ID is outcome.reason
    assert "100 printable characters" in outcome.excerpt


def test_longest_message_id_is_taken(client, only):
    """A message id of 100 characters is taken as it is."""
    client.track("u-1", "Paid", message_id="m" * 100)
    assert "m" * 100 == only()["messageId"]


def test_unreadable_selector_is_counted_and_counts_as_none(client, only):
    """A selector that is no mapping is the default, and is counted."""
    assert client.track("u-1", "Paid", integrations="Amplitude").accepted
    assert {} == only()["integrations"]
    assert 1 == client.stats().unparsable_selectors


def test_refused_receipt_is_final(client):
    """A refused event was never sent, and waiting for it takes no time."""
    receipt = client.track("u-1")
    assert "no" == receipt.sent
    assert receipt.outcome is receipt.wait(5)
    assert receipt.outcome is asyncio.run(_await(receipt))


async def _await(receipt):
    return await receipt


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [((None, "Paid"), Reason.NO_ID), (("u",), Reason.NO_NAME)],
)
def test_strict_client_raises(make, arguments, reason):
    """With ``strict=True`` a refused call raises, and is counted all the same."""
    client = make(strict=True)
    with pytest.raises(RefusedError) as caught:
        client.track(*arguments)
    assert reason is caught.value.reason
    assert {str(reason): 1} == client.stats().refused


def test_strict_errors_have_their_own_classes(collector):
    """With ``strict=True`` a full queue and a closed client raise their own errors."""
    delivery = Delivery(linger_s=60, max_bytes=2_000)
    client = Client(Segment("key", host=collector.url), delivery=delivery, strict=True)
    with pytest.raises(QueueFullError, match="max_bytes") as full:
        [client.track("u-1", "Paid") for _ in range(20)]
    assert Reason.QUEUE_FULL is full.value.reason
    client.close()
    with pytest.raises(ClosedError) as closed:
        client.track("u-1", "Paid")
    assert Reason.CLOSED is closed.value.reason
    assert issubclass(ClosedError, RefusedError)
    assert issubclass(RefusedError, AnalyticsError)


def test_strict_client_accepts_what_is_right(make, collector):
    """With ``strict=True`` a call that is right does as always."""
    client = make(strict=True)
    assert client.track("u-1", "Paid").wait(3) == DELIVERED


# -- nothing raises --------------------------------------------------------------


def _raise(*_, **__):
    raise ZeroDivisionError(SECRET)


class Hostile:
    """Raises whatever is asked of it."""

    __bool__ = __eq__ = __ne__ = __len__ = __iter__ = __str__ = __repr__ = _raise
    __hash__ = __int__ = __float__ = __getattr__ = __format__ = _raise


class Unbound:
    """A lazy object outside of its context: even its class is out of reach."""

    __class__ = property(_raise)


class HostileText(str):
    __slots__ = ()
    __str__ = __eq__ = __ne__ = __len__ = isprintable = encode = __format__ = _raise
    __hash__ = __iter__ = __bool__ = __repr__ = _raise


class HostileInt(int):
    __int__ = __str__ = __eq__ = __ne__ = __repr__ = __bool__ = __index__ = _raise
    __hash__ = _raise


class HostileDict(dict):
    __iter__ = __len__ = __bool__ = __getitem__ = items = keys = values = _raise
    __eq__ = __ne__ = get = __contains__ = _raise
    __hash__ = None


class HostileMapping(Mapping):
    __iter__ = __len__ = __getitem__ = __bool__ = items = keys = _raise


class HostileZone(tzinfo):
    utcoffset = dst = tzname = _raise


class HostileTime(datetime):
    isoformat = astimezone = replace = __str__ = _raise


class EmptyZone(tzinfo):
    def utcoffset(self, when):
        return None


HOSTILE = {
    "object": Hostile(),
    "unbound proxy": Unbound(),
    "text": HostileText("x"),
    "int": HostileInt(5),
    "int of too many digits": 10**5_000,
    "dict": HostileDict(a=1),
    "mapping": HostileMapping(),
    "datetime": HostileTime(2026, 1, 1, tzinfo=timezone.utc),
    "datetime in a hostile zone": datetime(2026, 1, 1, tzinfo=HostileZone()),
    "datetime in a zone without offset": datetime(2026, 1, 1, tzinfo=EmptyZone()),
    "first datetime": datetime.min.replace(tzinfo=timezone(timedelta(hours=9))),
    "last datetime": datetime.max.replace(tzinfo=timezone(-timedelta(hours=9))),
    "lone surrogate": "\ud800",
    "class": Hostile,
}
ARGUMENTS = {
    "identify": ("user_id", "traits"),
    "track": ("user_id", "event", "properties"),
    "page": ("user_id", "category", "name", "properties"),
    "screen": ("user_id", "category", "name", "properties"),
    "group": ("user_id", "group_id", "traits"),
    "alias": ("previous_id", "user_id"),
}
SHARED = ("context", "timestamp", "integrations", "message_id", "urgent")


def _slots():
    for name, own in ARGUMENTS.items():
        anonymous = () if name == "alias" else ("anonymous_id",)
        for argument in (*own, *anonymous, *SHARED):
            yield name, argument


def _good(name):
    positional, _ = CALLS[name]
    return dict(zip(ARGUMENTS[name], positional, strict=True))


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_argument_raises_nothing(make, collector, kind):
    """No object in any argument of any call raises, nor keeps neighbours away."""
    client = make()
    raised = []
    for name, argument in _slots():
        try:
            receipt = getattr(client, name)(**{**_good(name), argument: HOSTILE[kind]})
        except Exception as error:  # noqa: BLE001 - the test is that there is none
            raised.append(f"{name}({argument}=): {type(error).__name__}")
        else:
            assert isinstance(receipt, Receipt)
    assert [] == raised
    neighbour = client.track("u-1", "Neighbour")
    report = client.flush(5)
    assert DELIVERED == neighbour.outcome
    assert {"delivered"} == set(report.counts)
    assert not collector.rejected


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_value_inside_raises_nothing(make, kind):
    """The same objects deep inside properties, traits and contexts raise nothing."""
    client = make()
    inside = {"good": 1, "bad": [{"worse": HOSTILE[kind]}], "worst": HOSTILE[kind]}
    with context(context=inside):
        receipts = [
            client.identify("u-1", inside),
            client.track("u-1", "Paid", inside, context=inside, integrations=inside),
            client.group("u-1", "g-1", inside),
        ]
    assert client.flush(5)
    assert [DELIVERED] * 3 == [receipt.outcome for receipt in receipts]


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_surroundings_raise_nothing(make, kind):
    """The same objects bound around a call raise nothing where it is made."""
    client = make()
    odd = HOSTILE[kind]
    with context(user_id=odd):
        assert isinstance(client.track(event="Paid"), Receipt)
    with context(anonymous_id=odd):
        assert isinstance(client.track(event="Paid"), Receipt)
    with context(context=odd):
        assert isinstance(client.track("u-1", "Paid"), Receipt)
    client.flush(5)


def test_no_value_in_any_argument_raises(collector):
    """Whatever values the arguments of a call have, it returns a receipt."""
    delivery = Delivery(driver="inline")
    client = Client(Segment("key", host=collector.url), delivery=delivery)
    odd = values()
    slots = st.sampled_from(list(_slots()))

    @given(slot=slots, value=odd, other=slots, second=odd)
    def call(slot, value, other, second):
        name, argument = slot
        arguments = {**_good(name), argument: value}
        if other[0] == name:
            arguments[other[1]] = second
        receipt = getattr(client, name)(**arguments)
        assert receipt.accepted or receipt.outcome.reason is not None

    call()
    report = client.flush(8)
    stats = client.stats()
    assert {"delivered"} >= set(report.counts)
    assert stats.accepted == stats.destinations["Segment.io"].outcomes["delivered"]
    assert stats.accepted == len(collector.events)
    client.close()


# -- enabled=False ---------------------------------------------------------------


def test_disabled_client_shares_one_receipt(collector):
    """A disabled client answers every call, right or wrong, with the same receipt."""
    client = Client(Segment("key", host=collector.url), enabled=False, strict=True)
    receipts = {
        id(client.track("u-1", "Paid", {"a": Hostile()})),
        id(client.identify(HOSTILE["object"])),
        id(client.alias()),
    }
    assert 1 == len(receipts)
    receipt = client.track("u-1", "Paid")
    assert Outcome(OutcomeKind.SKIPPED, Reason.DISABLED) == receipt.outcome
    assert receipt.outcome == receipt.wait(0)


def test_disabled_client_does_no_work(collector):
    """A disabled client starts no thread and sends nothing, closed or not."""
    before = set(threading.enumerate())
    with Client(Segment("key", host=collector.url), enabled=False) as client:
        client.track("u-1", "Paid")
        assert client.flush(1)
        assert set() == set(threading.enumerate()) - before
    assert Reason.DISABLED is client.track("u-1", "Paid").outcome.reason
    assert [] == collector.requests


# -- snapshot --------------------------------------------------------------------


def test_event_is_a_snapshot(client, only):
    """What happens to the caller's objects after the call does not change the event."""
    properties = {"items": [{"sku": 1}], "total": 5}
    selector = {"Mixpanel": {"group": ["a"]}}
    own = {"page": {"path": "/"}}
    client.track("u-1", "Paid", properties, context=own, integrations=selector)
    properties["items"][0]["sku"] = 2
    properties["items"].append("more")
    selector["Mixpanel"]["group"].append("b")
    own["page"]["path"] = "/changed"
    del properties["total"]
    payload = only()
    assert {"items": [{"sku": 1}], "total": 5} == payload["properties"]
    assert {"Mixpanel": {"group": ["a"]}} == payload["integrations"]
    assert {"path": "/"} == payload["context"]["page"]


def test_call_leaves_its_arguments_alone(client):
    """No call, plugin or context writes into what the caller passes."""
    properties, own, selector = {"a": {"b": None}}, {"c": None}, {"mixpanel": True}
    client.track("u-1", "Paid", properties, context=own, integrations=selector)
    assert {"a": {"b": None}} == properties
    assert ({"c": None}, {"mixpanel": True}) == (own, selector)


# -- receipts --------------------------------------------------------------------


def test_receipt_of_a_delivered_event(client):
    """A receipt has no outcome at first, and in the end says where the event is."""
    receipt = client.track("u-1", "Paid")
    assert receipt.accepted
    assert receipt.outcome is None
    assert {"Segment.io": Outcome(OutcomeKind.QUEUED)} == receipt.by_destination
    assert "no" == receipt.sent
    assert DELIVERED == receipt.wait(3)
    assert DELIVERED == receipt.outcome
    assert {"Segment.io": DELIVERED} == receipt.by_destination
    assert "yes" == receipt.sent


def test_waiting_makes_an_event_urgent(client):
    """Waiting for a receipt does not wait for the linger time."""
    began = time.monotonic()
    assert DELIVERED == client.track("u-1", "Paid").wait()
    assert 5 > time.monotonic() - began


def test_urgent_event_does_not_linger(client, collector):
    """An urgent event leaves at once, without anybody waiting for it."""
    client.track("u-1", "Paid", urgent=True)
    assert collector.wait_until(lambda seen: seen.events, 3)


def test_wait_gives_up_after_its_timeout(client, collector):
    """Waiting ends without an outcome when the timeout passes first."""
    collector.play(faults.Hang(for_s=0.5))
    receipt = client.track("u-1", "Paid")
    began = time.monotonic()
    assert receipt.wait(0.1) is None
    assert 0.1 <= time.monotonic() - began < 0.5
    assert receipt.wait(0) is None


def test_event_under_way_was_maybe_sent(client, collector):
    """While nobody has answered, the vendor may have the event."""
    collector.play(faults.Hang(for_s=0.3))
    receipt = client.track("u-1", "Paid", urgent=True)
    assert collector.wait_until(lambda seen: seen.requests, 3)
    assert "maybe" == receipt.sent
    assert receipt.outcome is None


def test_rejected_event_was_sent(client, collector):
    """A rejected event arrived: its receipt says so, and repeats the vendor's words."""
    words = b'{"message": "malformed"}'
    collector.play(Step(faults.Status(400, body=words), only=WithEvent("event", "Bad")))
    bad, good = client.track("u-1", "Bad"), client.track("u-2", "Good")
    assert not client.flush(5)
    assert (OutcomeKind.REJECTED, Reason.INVALID) == (
        bad.outcome.kind,
        bad.outcome.reason,
    )
    assert "malformed" in bad.outcome.excerpt
    assert "yes" == bad.sent
    assert DELIVERED == good.outcome


def test_receipt_can_be_awaited(client):
    """Awaiting a receipt returns its outcome, again and again."""

    async def main():
        receipt = client.track("u-1", "Paid")
        return await receipt, await receipt

    assert (DELIVERED, DELIVERED) == asyncio.run(main())


def test_receipt_has_no_truth_value(client):
    """A receipt in a condition raises, for it could mean three things."""
    with pytest.raises(TypeError, match="accepted"):
        bool(client.track("u-1", "Paid"))


def test_receipt_shows_no_data(client):
    """The repr of a receipt and of a client show nothing of events or keys."""
    receipt = client.track(SECRET, "Paid", {"name": SECRET})
    assert SECRET not in repr(receipt)
    client.flush(3)
    assert SECRET not in repr(receipt)
    assert "key" not in repr(client)
    assert "Segment.io" in repr(client)


def test_message_id_is_the_same_after_settling(client):
    """The message id does not change when the event is settled and forgotten."""
    receipts = [client.track("u-1", "Paid"), client.track("u", "P", message_id='é"\\')]
    before = [receipt.message_id for receipt in receipts]
    client.flush(3)
    assert before == [receipt.message_id for receipt in receipts]


def test_own_message_id_is_on_a_refused_receipt(client):
    """Whoever gave an id of their own finds it on a refused receipt too."""
    assert "evt_1" == client.track(None, "Paid", message_id="evt_1").message_id


# -- selector, plugins, sizes ----------------------------------------------------


def test_deselected_event_goes_nowhere(make, collector, tmp_path):
    """An event that the selector keeps from every destination is skipped."""
    client = make(JsonLines(tmp_path / "out.jsonl"))
    receipt = client.track(
        "u-1", "Paid", integrations={"All": False, "Segment.io": False}
    )
    assert DESELECTED == receipt.outcome
    assert receipt.accepted
    assert "no" == receipt.sent
    assert {"selector": 1} == client.stats().skipped
    assert client.flush(3)
    assert [] == collector.events


def test_deselected_event_names_its_destinations(make, tmp_path):
    """The receipt of an event that goes nowhere still speaks of each destination."""
    client = make(JsonLines(tmp_path / "out.jsonl"))
    off = {"All": False, "Segment.io": False}
    receipt = client.track("u-1", "Paid", integrations=off)
    assert {
        "Segment.io": DESELECTED,
        "JsonLines": DESELECTED,
    } == receipt.by_destination


def test_event_may_go_to_some_destinations(make, collector, tmp_path):
    """What the selector turns off is skipped there, and delivered elsewhere."""
    client = make(JsonLines(tmp_path / "out.jsonl"))
    receipt = client.track("u-1", "Paid", integrations={"JsonLines": False})
    assert DESELECTED == receipt.by_destination["JsonLines"]
    assert client.flush(3)
    assert DELIVERED == receipt.outcome
    assert {"Segment.io": DELIVERED, "JsonLines": DESELECTED} == receipt.by_destination
    assert 1 == len(collector.events)
    assert not (tmp_path / "out.jsonl").exists()
    books = client.stats().destinations["JsonLines"]
    assert {"skipped(selector)": 1} == books.reasons


def test_client_without_destinations_skips():
    """Without any destination there is nowhere to go: events are skipped."""
    with Client() as client:
        assert DESELECTED == client.track("u-1", "Paid").outcome
        assert client.flush(1)


def test_several_destinations_at_once(make, collector, tmp_path, capfdbinary):
    """Segment, a file and the console get the same events, each in order."""
    path = tmp_path / "out.jsonl"
    client = make(JsonLines(path), Console())
    receipts = [client.track("u-1", "Paid", {"n": n}) for n in range(50)]
    report = client.flush(5)
    assert report
    assert {"delivered": 150} == report.counts
    assert {"delivered": 50} == report.by_destination["Console"]
    ids = [receipt.message_id for receipt in receipts]
    assert ids == [event["messageId"] for event in collector.events]
    lines = path.read_bytes().splitlines()
    assert ids == [json.loads(line)["messageId"] for line in lines]
    printed = capfdbinary.readouterr().out.splitlines()
    assert ids == [json.loads(line)["messageId"] for line in printed]


def test_worst_outcome_is_the_receipts(make, collector, tmp_path):
    """Delivered here and rejected there is rejected as a whole."""
    collector.play(Step(faults.Status(400), only=WithEvent("event", "Bad")))
    client = make(JsonLines(tmp_path / "out.jsonl"))
    client.track("u-2", "Good")
    receipt = client.track("u-1", "Bad")
    assert not client.flush(5)
    assert OutcomeKind.REJECTED is receipt.outcome.kind
    assert DELIVERED == receipt.by_destination["JsonLines"]


def test_plugin_changes_an_event(make, collector):
    """What a plugin returns is what is sent, and it sees plain data."""
    seen = []

    def add(event):
        seen.append(json.loads(json.dumps(event)))
        event["properties"]["added"] = (1, 2)
        return event

    client = make(plugins=[add, redact_keys("email")])
    client.track("u-1", "Paid", {"email": SECRET, "when": UUID(int=1)})
    assert client.flush(3)
    properties = collector.events[0]["properties"]
    assert [1, 2] == properties["added"]
    assert SECRET not in json.dumps(collector.events)
    assert str(UUID(int=1)) == seen[0]["properties"]["when"]


def test_plugin_cannot_change_who_an_event_is(make, collector):
    """Message id, timestamp and type survive a plugin that would change them."""

    def forge(event):
        return {**event, "messageId": "forged", "timestamp": "never", "type": "alias"}

    client = make(plugins=[forge])
    when = datetime(2026, 1, 1, tzinfo=timezone.utc)
    receipt = client.track("u-1", "Paid", timestamp=when, message_id="m-1")
    assert client.flush(3)
    [event] = collector.events
    assert ("m-1", "2026-01-01T00:00:00.000Z", "track") == (
        event["messageId"],
        event["timestamp"],
        event["type"],
    )
    assert "m-1" == receipt.message_id


def test_plugin_can_choose_destinations(make, collector, tmp_path):
    """A selector that a plugin sets is the one that counts."""

    def choose(event):
        return {**event, "integrations": {"Segment.io": False}}

    client = make(JsonLines(tmp_path / "out.jsonl"), plugins=[choose])
    receipt = client.track("u-1", "Paid")
    assert client.flush(3)
    assert [] == collector.events
    assert DELIVERED == receipt.by_destination["JsonLines"]


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (lambda _: None, Reason.PLUGIN_DROP),
        (_raise, Reason.PLUGIN_ERROR),
        (lambda _: "event", Reason.PLUGIN_ERROR),
    ],
)
def test_plugin_ends_an_event(make, collector, plugin, reason):
    """A plugin that returns None, raises or returns nonsense skips the event."""
    client = make(plugins=[lambda event: event, plugin])
    receipt = client.track("u-1", "Paid")
    assert Outcome(OutcomeKind.SKIPPED, reason) == receipt.outcome
    assert {str(reason): 1} == client.stats().skipped
    assert client.flush(3)
    assert [] == collector.requests


@pytest.mark.parametrize(
    "odd", [{5: 1}, {None: 1}, {"a": object()}, {"": 1}, {"a": Hostile()}]
)
def test_plugin_cannot_poison_a_batch(make, collector, odd):
    """What a plugin adds that is no JSON is mended; the neighbours arrive."""
    client = make(plugins=[lambda event: {**event, **odd}])
    receipts = [client.track("u-1", "Paid") for _ in range(3)]
    assert client.flush(3)
    assert [DELIVERED] * 3 == [receipt.outcome for receipt in receipts]
    assert [200] == [request.status for request in collector.requests]


def test_event_too_large_for_all_is_refused(client, collector):
    """What no destination of the event takes is refused at the call."""
    receipt = client.track("u-1", "Paid", {"text": "x" * 32_768})
    assert Reason.TOO_LARGE is receipt.outcome.reason
    assert not receipt.accepted
    assert client.track("u-1", "Paid", {"text": "x" * 32_000}).accepted
    assert client.flush(3)
    assert 1 == len(collector.events)


def test_event_too_large_for_one_goes_to_the_other(make, collector, tmp_path):
    """What Segment does not take is refused there, and delivered to the file."""
    path = tmp_path / "out.jsonl"
    client = make(JsonLines(path))
    receipt = client.track("u-1", "Paid", {"text": "x" * 40_000})
    assert receipt.accepted
    assert not client.flush(3)
    assert DELIVERED == receipt.by_destination["JsonLines"]
    assert Reason.TOO_LARGE is receipt.by_destination["Segment.io"].reason
    assert OutcomeKind.REFUSED is receipt.by_destination["Segment.io"].kind
    assert 1 == len(path.read_bytes().splitlines())
    assert [] == collector.requests


def test_largest_event_is_a_setting(tmp_path):
    """`max_event_bytes` bounds events where destinations know no limit."""
    delivery = Delivery(max_event_bytes=1_000)
    destination = JsonLines(tmp_path / "out.jsonl")
    with Client(destination, delivery=delivery) as client:
        receipt = client.track("u-1", "Paid", {"text": "x" * 1_000})
        assert Reason.TOO_LARGE is receipt.outcome.reason
        assert client.track("u-1", "Paid", {"text": "x" * 500}).accepted


# -- closing ---------------------------------------------------------------------


def test_close_delivers_and_refuses(client, collector):
    """Closing delivers what waits; calls after it are refused."""
    receipt = client.track("u-1", "Paid")
    report = client.close()
    assert report
    assert {"delivered": 1} == report.counts
    assert DELIVERED == receipt.outcome
    late = client.track("u-1", "Late")
    assert Outcome(OutcomeKind.REFUSED, Reason.CLOSED) == Outcome(
        late.outcome.kind, late.outcome.reason
    )
    assert {"closed": 1} == client.stats().refused
    assert 1 == len(collector.events)


def test_close_is_idempotent(client):
    """Closing again does nothing, however often, at once."""
    client.track("u-1", "Paid")
    client.close()
    began = time.monotonic()
    assert client.close()
    assert client.close(timeout=5)
    assert client.flush(5)
    assert 0.5 > time.monotonic() - began


def test_close_without_events(collector):
    """A client that has seen no event closes at once, and starts nothing later."""
    before = set(threading.enumerate())
    client = Client(Segment("key", host=collector.url))
    assert client.close()
    assert Reason.CLOSED is client.track("u-1", "Paid").outcome.reason
    assert set() == set(threading.enumerate()) - before


def test_close_is_bounded(make, collector):
    """A server that hangs costs the close its timeout; what is left is lost."""
    collector.play(Step(faults.Hang(for_s=5)))
    client = make(linger_s=0.01)
    receipt = client.track("u-1", "Paid")
    collector.wait_until(lambda seen: seen.requests, 3)
    waiting = client.track("u-2", "Paid")
    began = time.monotonic()
    report = client.close(timeout=0.2)
    assert 0.2 <= time.monotonic() - began < 1
    assert not report
    lost = Outcome(OutcomeKind.LOST, Reason.EXIT)
    assert [lost, lost] == [receipt.outcome, waiting.outcome]
    assert {"lost": 2} == report.counts
    assert 0 == report.pending
    assert ("maybe", "no") == (receipt.sent, waiting.sent)
    assert 0 == client.stats().queued_events


def test_close_takes_its_timeout_from_the_settings(collector):
    """Without a timeout of its own, closing waits for `exit_timeout_s`."""
    collector.play(Step(faults.Hang(for_s=5)))
    delivery = Delivery(exit_timeout_s=0.2)
    client = Client(Segment("key", host=collector.url), delivery=delivery)
    receipt = client.track("u-1", "Paid")
    began = time.monotonic()
    client.close()
    assert 0.2 <= time.monotonic() - began < 1
    assert Reason.EXIT is receipt.outcome.reason


def test_lost_event_ends_every_wait(make, collector):
    """Whoever waits for a receipt when the client is closed gets the outcome."""
    collector.play(Step(faults.Hang(for_s=5)))
    client = make()
    receipt = client.track("u-1", "Paid")
    found = []
    waiter = threading.Thread(target=lambda: found.append(receipt.wait(8)))
    waiter.start()
    assert collector.wait_until(lambda seen: seen.requests, 3)
    client.close(timeout=0.1)
    waiter.join(2)
    assert [Outcome(OutcomeKind.LOST, Reason.EXIT)] == found


def test_leaving_the_block_closes(collector):
    """A ``with`` block ends with everything delivered and the client closed."""
    with Client(Segment("key", host=collector.url)) as client:
        receipt = client.track("u-1", "Paid")
    assert DELIVERED == receipt.outcome
    assert Reason.CLOSED is client.track("u-1", "Paid").outcome.reason


def test_leaving_the_block_with_an_error_closes(collector):
    """An error in a ``with`` block goes on, and the events are delivered."""
    receipts = []

    def fail():
        with Client(Segment("key", host=collector.url)) as client:
            receipts.append(client.track("u-1", "Paid"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert DELIVERED == receipts[0].outcome


def test_leaving_the_async_block_closes(collector):
    """An ``async with`` block does the same."""

    async def main():
        async with Client(Segment("key", host=collector.url)) as client:
            receipt = client.track("u-1", "Paid")
            report = await client.aflush(3)
            other = client.track("u-1", "Paid")
        return report, receipt.outcome, other.outcome, client

    report, outcome, other, client = asyncio.run(main())
    assert report
    assert (DELIVERED, DELIVERED) == (outcome, other)
    assert Reason.CLOSED is client.track("u-1", "Paid").outcome.reason


def test_unused_client_flushes_to_nothing(collector):
    """Before the first event a flush has nothing to do, sync or async."""
    client = Client(Segment("key", host=collector.url))
    assert client.flush()
    assert asyncio.run(client.aflush())
    assert asyncio.run(client.aclose())


def test_forgotten_client_delivers(collector):
    """What a client has queued when it is forgotten is delivered all the same."""
    client = Client(Segment("key", host=collector.url), delivery=Delivery(linger_s=60))
    receipt = client.track("u-1", "Paid")
    del client
    gc.collect()
    assert collector.wait_until(lambda seen: seen.events, 3)
    assert DELIVERED == receipt.wait(3)


def test_client_does_not_travel(client):
    """A client refuses to be pickled or copied: key and queue stay where they are."""
    with pytest.raises(TypeError, match="other process"):
        pickle.dumps(client)
    with pytest.raises(TypeError, match="other process"):
        copy.copy(client)


# -- constructor -----------------------------------------------------------------


WRONG_SETTINGS = {
    "empty key": (lambda: Segment(""), "write_key: empty"),
    "blank key": (lambda: Segment("  "), "write_key: empty"),
    "no key": (lambda: Segment(None), "write_key: got NoneType"),
    "region": (lambda: Segment("key", region="mars"), "region: got str"),
    "plain http": (lambda: Segment("key", host="http://example.com"), "allow_http"),
    "one name twice": (lambda: Client(Segment("key"), Segment("other")), "name"),
    "reserved name": (lambda: Client(Segment("key", name="All")), "name"),
    "name of a wrong type": (lambda: Client(Segment("key", name=5)), "name: got int"),
    "key as destination": (lambda: Client(SECRET), "destinations: got str"),
    "list": (lambda: Client([Segment("key")]), "destinations: got list"),
    "delivery": (lambda: Client(delivery={"max_bytes": 1}), "delivery: got dict"),
    "storage": (lambda: Client(storage=SECRET), "storage: got str"),
    "plugin": (lambda: Client(plugins=[SECRET]), "plugins: got str"),
    "bare plugin": (lambda: Client(plugins=redact_keys("a")), "plugins: got"),
    "text for plugins": (lambda: Client(plugins=SECRET), "plugins: got"),
    "context": (lambda: Client(context=SECRET), "context: got str"),
    "on_outcome": (lambda: Client(on_outcome=SECRET), "on_outcome: got str"),
    "max_bytes": (lambda: Delivery(max_bytes=0), "max_bytes: got int"),
    "overflow": (lambda: Delivery(overflow="explode"), "overflow: got str"),
    "linger_s": (lambda: Delivery(linger_s=float("nan")), "linger_s: got float"),
}


@pytest.mark.parametrize("name", WRONG_SETTINGS)
def test_wrong_setting_raises(name):
    """A setting that cannot be right raises `ConfigError`, which shows no value."""
    build, words = WRONG_SETTINGS[name]
    with pytest.raises(ConfigError) as caught:
        build()
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_two_of_a_kind_need_names(collector):
    """Two destinations of a kind are told apart by their names."""
    destinations = (
        Segment("one", host=collector.url, name="First"),
        Segment("two", host=collector.url, name="Second"),
    )
    with Client(*destinations, storage=Memory()) as client:
        receipt = client.track("u-1", "Paid")
        assert {"delivered": 2} == client.flush(3).counts
    assert {"First", "Second"} == set(receipt.by_destination)
    assert 2 == len(collector.events)


def test_creating_a_client_starts_nothing(collector):
    """A client that has been made, and asked about, has started no thread."""
    before = set(threading.enumerate())
    client = Client(Segment("key", host=collector.url))
    assert client.healthy
    assert 0 == client.stats().accepted
    assert set() == set(threading.enumerate()) - before
    client.close()
