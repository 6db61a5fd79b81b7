from __future__ import annotations

import copy
import json
from collections import OrderedDict, UserDict
from datetime import datetime, timezone
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analytics_sdk._context import Ambient, ambient, context
from analytics_sdk._encode import make_encoder
from analytics_sdk._enrich import Encoded, Enricher, Stamp, apply_plugins
from analytics_sdk._head import Head, read_head
from analytics_sdk.errors import Reason, RefusedError
from analytics_sdk.events import (
    Alias,
    Call,
    Event,
    Group,
    Identify,
    Page,
    Screen,
    Selection,
    Track,
)
from tests.strategies import any_text, keys, plain_values, values

LIBRARY = {"name": "analytics-sdk-server", "version": "0.1.0"}
STAMP = Stamp("m-1", "2026-11-21T09:30:00.123Z")
FRONT = b'{"messageId":"m-1","timestamp":"2026-11-21T09:30:00.123Z","type":"%b"'
CONTEXT = b',"context":{"library":{"name":"analytics-sdk-server","version":"0.1.0"}}'
MEMBERS = ("messageId", "timestamp", "type", "userId", "anonymousId")
BOTH = ["json", "orjson"]


class Broken(UserDict):
    """A mapping whose every method is foreign code that raises."""

    def _raise(self, *_):
        raise ZeroDivisionError

    items = keys = values = __iter__ = __len__ = __bool__ = __getitem__ = _raise


@pytest.fixture(name="speed", params=BOTH)
def _speed(request, require):
    if request.param == "orjson":
        require("orjson", "pip install orjson")
    return request.param == "orjson"


def make_enricher(context: object = None, *, speed: bool | None = False) -> Enricher:
    return Enricher(make_encoder(speed=speed), context, LIBRARY)


def decoded(encoded: Encoded) -> dict:
    return json.loads(encoded.head + b"}")


def encode(call: Call, enricher: Enricher | None = None) -> dict:
    enricher = enricher or make_enricher()
    return decoded(enricher.encode(call, STAMP, ambient.get()))


# -- the layout ---------------------------------------------------------------

WHO = {"user_id": "u"}


@pytest.mark.parametrize(
    ("call", "middle"),
    [
        (Identify(user_id="u"), b',"userId":"u","traits":{}'),
        (
            Identify(user_id="u", anonymous_id=0, traits={"plan": "pro"}),
            b',"userId":"u","anonymousId":"0","traits":{"plan":"pro"}',
        ),
        (
            Track(anonymous_id="a", event="Order Completed", properties={"n": 1}),
            b',"anonymousId":"a","event":"Order Completed","properties":{"n":1}',
        ),
        (Page(user_id="u"), b',"userId":"u","properties":{}'),
        (
            Page(user_id="u", category="Docs", name="Home", properties={"path": "/"}),
            b',"userId":"u","category":"Docs","name":"Home","properties":{"path":"/"}',
        ),
        (
            Screen(user_id="u", name="Cart"),
            b',"userId":"u","name":"Cart","properties":{}',
        ),
        (
            Group(user_id="u", group_id=7, traits={"plan": "pro"}),
            b',"userId":"u","groupId":"7","traits":{"plan":"pro"}',
        ),
        (
            Alias(user_id="u", previous_id="p"),
            b',"userId":"u","previousId":"p"',
        ),
        (
            Alias(user_id="u", anonymous_id="a", previous_id="p"),
            b',"userId":"u","anonymousId":"a","previousId":"p"',
        ),
        (
            Track(user_id='"\\\n', event="käse 🎉"),
            b',"userId":"\\"\\\\\\n","event":"'
            + "käse 🎉".encode()
            + b'","properties":{}',
        ),
    ],
)
def test_event_is_laid_out_to_the_byte(call, middle, speed):
    """Each type of call has the one layout that `events` describes."""
    head = FRONT % call.type.encode() + middle + CONTEXT
    encoded = make_enricher(speed=speed).encode(call, STAMP, None)
    assert head.decode() == encoded.head.decode()
    assert 0 == encoded.repaired


def test_message_id_is_quoted():
    """A message id of the caller's with quotes in it stays one string."""
    odd = Stamp('a","timestamp":"b\\', STAMP.timestamp)
    encoded = make_enricher().encode(Identify(user_id="u"), odd, None)
    assert odd.message_id == decoded(encoded)["messageId"]


optional_text = st.none() | any_text
mappings = st.none() | st.dictionaries(st.text(max_size=4), values(), max_size=3)
ids = st.integers() | st.uuids() | st.text(min_size=1)
common = {
    "user_id": ids,
    "anonymous_id": st.none() | ids,
    "context": mappings,
}
calls = st.one_of(
    st.builds(Identify, **common, traits=mappings),
    st.builds(Track, **common, event=any_text, properties=mappings),
    st.builds(
        Page, **common, category=optional_text, name=optional_text, properties=mappings
    ),
    st.builds(Screen, **common, name=optional_text, properties=mappings),
    st.builds(Group, **common, group_id=ids, traits=mappings),
    st.builds(Alias, **common, previous_id=ids),
)


def without_none(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {k: without_none(each) for k, each in value.items() if each is not None}


def naive(call: Call, enricher: Enricher) -> dict:
    """Build the event as a dict, and let the encoder have all of it at once."""
    members = {
        "messageId": STAMP.message_id,
        "timestamp": STAMP.timestamp,
        "type": call.type,
        "userId": call.user_id,
        "anonymousId": call.anonymous_id,
    }
    given = {name: value for name, value in members.items() if value is not None}
    own = without_none(dict(call.context or {}))
    whole = {**given, **dict(call.fields()), "context": {"library": LIBRARY, **own}}
    return json.loads(enricher.encoder.encode(whole)[0])


@given(calls, st.booleans())
@example(
    Track(user_id="\ud800", event="\udc00x", properties={"a": "\ud83d\ude00"}), False
)
@example(Track(user_id="u", event="e", context={"": OrderedDict({"": None})}), False)
def test_event_parses_like_the_naive_one(call, speed):
    """Pieced together or encoded in one go, an event says the same, in any encoder."""
    enricher = make_enricher(speed=None if speed else False)
    answer = encode(call, enricher)
    library = (call.context or {}).get("library", LIBRARY)
    if isinstance(library, dict) and library is not LIBRARY:
        answer["context"].pop("library")
        expected = naive(call, enricher)
        expected["context"].pop("library", None)
    else:
        expected = naive(call, enricher)
    assert expected == answer
    assert list(expected)[:3] == list(answer)[:3] == list(MEMBERS[:3])
    assert "context" == list(answer)[-1]


@given(st.dictionaries(st.text(max_size=4), plain_values()), st.booleans())
def test_plain_data_needs_no_repair(fields, speed):
    """What JSON has a form for is sent as it is, and nothing is counted."""
    call = Track(user_id="u", event="Ran", properties=fields, context={"a": fields})
    encoded = make_enricher(speed=None if speed else False).encode(call, STAMP, None)
    assert 0 == encoded.repaired
    assert fields == decoded(encoded)["properties"]
    assert without_none(fields) == decoded(encoded)["context"]["a"]


@pytest.mark.parametrize(
    ("call", "repaired"),
    [
        (Identify(user_id="\ud800"), 1),
        (Track(user_id="u", event="\ud800"), 1),
        (Track(user_id="u", event="Ran", properties={"a": object()}), 1),
        (Track(user_id="u", event="Ran", context={"a": object(), "b": object()}), 2),
        (Track(user_id="\ud800", event="\ud800", properties={"a": object()}), 3),
    ],
)
def test_each_repair_is_counted_once(call, repaired):
    """Repairs of ids, names, members and context add up."""
    assert repaired == make_enricher().encode(call, STAMP, None).repaired


@pytest.mark.parametrize("name", ["traits", "properties", "context"])
def test_mapping_that_raises_does_not_break_the_call(name, speed):
    """A mapping whose own code raises is marked or left out, and counted."""
    kind = Identify if name == "traits" else Page
    call = kind(user_id="u", **{name: Broken()})
    encoded = make_enricher(speed=speed).encode(call, STAMP, None)
    assert encoded.repaired >= 1
    answer = decoded(encoded)
    assert "u" == answer["userId"]
    assert LIBRARY == answer["context"]["library"]


def test_unreadable_context_around_is_counted():
    """A surrounding context that could not be read shows in the count of repairs."""
    with context(context=Broken()):
        encoded = make_enricher().encode(Identify(user_id="u"), STAMP, ambient.get())
    assert 1 == encoded.repaired
    assert {"library": LIBRARY} == decoded(encoded)["context"]


def test_caller_keeps_what_is_the_callers():
    """Nothing that the caller passed is changed by encoding it."""
    own = {"app": {"name": "shop", "build": None}, "ip": None}
    properties = {"items": [{"price": Decimal("19.90")}]}
    before = copy.deepcopy((own, properties))
    call = Track(user_id="u", event="Ran", properties=properties, context=own)
    make_enricher({"app": {"name": "x"}}).encode(call, STAMP, Ambient(context=own))
    assert before == (own, properties)


# -- the context --------------------------------------------------------------


def test_context_is_merged_from_the_outside_in():
    """The client's context lies under the surrounding one, the call's own on top."""
    enricher = make_enricher({"ip": "client", "app": {"name": "shop", "build": 1}})
    call = Identify(user_id="u", context={"app": {"build": 3}, "locale": "de"})
    with context(context={"app": {"build": 2, "area": "eu"}, "ip": "around"}):
        answer = encode(call, enricher)["context"]
    assert {
        "library": LIBRARY,
        "ip": "around",
        "app": {"name": "shop", "build": 3, "area": "eu"},
        "locale": "de",
    } == answer


@pytest.mark.parametrize(
    ("client", "around", "own"),
    [
        ({"ip": "x"}, {"ip": None}, None),
        ({"ip": "x"}, {"ip": None}, {}),
        ({"ip": "x"}, {}, {"ip": None}),
        ({}, {"ip": "x"}, {"ip": None}),
        ({"ip": "x"}, {"ip": "y"}, {"ip": None}),
        ({"ip": None}, {}, None),
        ({}, {"ip": None}, None),
        ({}, {}, {"ip": None}),
    ],
)
def test_none_takes_a_field_away(client, around, own):
    """A None takes the field of all outer contexts away, the client's as well."""
    with context(context=around):
        answer = encode(Identify(user_id="u", context=own), make_enricher(client))
    assert {"library": LIBRARY} == answer["context"]


@pytest.mark.parametrize(
    ("client", "around", "own"),
    [
        ({"page": {"path": "/", "title": "x"}}, {"page": {"title": None}}, None),
        ({"page": {"path": "/", "title": "x"}}, {}, {"page": {"title": None}}),
        ({"page": {"path": "/"}}, {}, {"page": {"title": None}}),
        ({}, {}, {"page": {"path": "/", "title": None}}),
        ({"page": {"path": "/", "title": None}}, {}, None),
    ],
)
def test_none_in_a_dict_takes_a_field_away(client, around, own):
    """No None is sent, however deep in dicts it lies and whatever lies beneath."""
    with context(context=around):
        answer = encode(Identify(user_id="u", context=own), make_enricher(client))
    assert {"path": "/"} == answer["context"]["page"]


def test_contexts_are_laid_one_by_one():
    """What one context took away, a later one does not bring back."""
    enricher = make_enricher({"page": {"path": "/secret"}})
    with context(context={"page": None}), context(context={"page": {"title": "x"}}):
        answer = encode(Identify(user_id="u"), enricher)
    assert {"title": "x"} == answer["context"]["page"]


def test_library_can_be_replaced_and_taken_away():
    """A wrapper may name itself in ``context.library``; None takes the member away."""
    answer = encode(Identify(user_id="u"), make_enricher({"library": {"name": "mine"}}))
    assert {"name": "mine", "version": "0.1.0"} == answer["context"]["library"]
    answer = encode(Identify(user_id="u"), make_enricher({"library": None}))
    assert {} == answer["context"]


def test_context_of_the_client_is_a_snapshot(speed):
    """The client's context is what it was when the client was made."""
    given_context = {
        "app": {"build": 1},
        "since": datetime(2026, 1, 1, tzinfo=timezone.utc),
    }
    enricher = make_enricher(given_context, speed=speed)
    plain = encode(Identify(user_id="u"), enricher)["context"]
    given_context["app"]["build"] = 2
    given_context["more"] = True
    assert plain == encode(Identify(user_id="u"), enricher)["context"]
    again = encode(Identify(user_id="u", context={"a": 1}), enricher)["context"]
    assert {**plain, "a": 1} == again


def test_usual_context_is_encoded_once():
    """Calls without a context of their own share the bytes of the client's."""
    enricher = make_enricher({"app": {"name": "shop"}})
    encoded = enricher.encode(Identify(user_id="u"), STAMP, None)
    assert encoded.head.endswith(enricher.plain_context)


# -- plugins ------------------------------------------------------------------


def payload_of(call: Call, stamp: Stamp = STAMP, enricher: Enricher | None = None):
    head = (enricher or make_enricher()).encode(call, stamp, None).head
    return json.loads(head + b',"integrations":{"All":true}}')


def test_plugins_work_in_order():
    """Each plugin gets what the one before it returned."""
    payload = payload_of(Track(user_id="u", event="Ran"))

    def first(event):
        event["properties"]["seen"] = ["first"]
        return event

    def second(event):
        return {**event, "properties": {"seen": [*event["properties"]["seen"], 2]}}

    answer = apply_plugins([first, second], payload)
    assert {"seen": ["first", 2]} == answer["properties"]
    assert payload is apply_plugins([], payload) or payload == apply_plugins(
        [], payload
    )


def test_plugin_that_returns_none_drops_the_event():
    """None ends the event, and later plugins do not see it."""
    payload = payload_of(Identify(user_id="u"))
    seen = []
    answer = apply_plugins([lambda _: None, seen.append], payload)
    assert Reason.PLUGIN_DROP is answer
    assert [] == seen


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Reason.SAMPLED, Reason.SAMPLED),
        (Reason.CONSENT, Reason.CONSENT),
        ("sampled", Reason.PLUGIN_DROP),
        (None, Reason.PLUGIN_DROP),
    ],
)
def test_plugin_may_say_why_it_dropped_the_event(said, reason):
    """A plugin's own `Reason` is reported; anything else in its place is not."""

    class Dropping:
        def __call__(self, event):
            return None

    plugin = Dropping()
    plugin.reason = said
    assert reason is apply_plugins([plugin], payload_of(Identify(user_id="u")))


@pytest.mark.parametrize("answer", [True, 5, "event", [], ("a", 1)], ids=repr)
def test_plugin_that_returns_something_else_is_an_error(answer):
    """A plugin that forgets what to return is told the type that it returned."""
    name = type(answer).__name__
    with pytest.raises(TypeError, match=f"plugin: returned {name}; return a dict"):
        apply_plugins([lambda _: answer], payload_of(Identify(user_id="u")))


def test_plugin_that_raises_is_not_hidden():
    """What a plugin raises reaches the caller of the plugins, who counts it."""

    def fail(event):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        apply_plugins([fail], payload_of(Identify(user_id="u")))


def test_event_keeps_its_identity():
    """A plugin can neither change nor remove message id, timestamp and type."""
    payload = payload_of(Identify(user_id="u"))

    def replace(event):
        return {"messageId": "other", "timestamp": 5, "userId": "v"}

    answer = apply_plugins([replace], payload)
    assert {
        "messageId": "m-1",
        "timestamp": STAMP.timestamp,
        "type": "identify",
        "userId": "v",
    } == answer


@given(calls, st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_relay_restores_the_layout(call, message_id):
    """Whatever order a plugin leaves the members in, the layout is the usual one."""
    enricher = make_enricher()
    payload = payload_of(call, Stamp(message_id, STAMP.timestamp), enricher)
    shuffled = dict(sorted(payload.items(), reverse=True))
    raw = enricher.relay(shuffled).head + b',"integrations":{}}'
    event = Event(raw, Selection((), 0, {}, b"", {}))
    head = read_head(raw)
    assert {**payload, "integrations": {}} == event.payload
    assert call.type == head.type
    assert sorted(event.keys) == sorted(head.keys)
    assert ["context", "integrations"] == list(event.payload)[-2:]


def test_relay_of_an_untouched_event_is_the_event(speed):
    """A plugin that changes nothing leaves the bytes as they were."""
    enricher = make_enricher({"app": {"name": "shop"}}, speed=speed)
    for call in (
        Track(user_id="u", anonymous_id="a", event="Ran", properties={"a": [1, None]}),
        Group(user_id="u", group_id="g"),
        Alias(user_id="u", previous_id="p"),
        Page(user_id="u", category="Docs", name="Home"),
    ):
        payload = payload_of(call, enricher=enricher)
        encoded = enricher.encode(call, STAMP, None)
        assert encoded == enricher.relay(payload)


@given(st.dictionaries(keys, values(), max_size=4), plain_values(), st.booleans())
@example({5: "x", None: "y", (1, 2): "z"}, None, False)
def test_relay_of_anything_is_json(more, value, speed):
    """Odd keys and values that a plugin adds still make an event in the layout."""
    enricher = make_enricher(speed=None if speed else False)
    payload = payload_of(Track(user_id="u", event="Ran"))
    reserved = {*payload, "anonymousId", "previousId"}
    more = {key: each for key, each in more.items() if key not in reserved}
    relayed = enricher.relay({**more, **payload, "properties": value})
    answer = decoded(relayed)
    assert value == answer.get("properties")
    assert Head("track", ("u",)) == read_head(relayed.head + b"}")
    assert "context" == list(answer)[-1]


@pytest.mark.parametrize("given_id", [5, 0, "u"])
def test_relayed_ids_are_text(given_id):
    """An id that a plugin writes as a number travels as text, and keeps its order."""
    payload = {
        **payload_of(Identify(user_id="u", anonymous_id="a")),
        "userId": given_id,
    }
    relayed = make_enricher().relay(payload)
    assert str(given_id) == decoded(relayed)["userId"]
    assert Head("identify", (str(given_id), "a")) == read_head(relayed.head + b"}")


@pytest.mark.parametrize("given_id", [1.5, ["u"], {"id": "u"}, True])
def test_relayed_id_of_another_type_is_refused(given_id):
    """A plugin that makes an id of something else is at fault, and is told so."""
    payload = {**payload_of(Identify(user_id="u")), "userId": given_id}
    with pytest.raises(RefusedError, match=r"^userId: got "):
        make_enricher().relay(payload)


@pytest.mark.parametrize("gone", ["", None])
def test_relayed_id_can_be_taken_away(gone):
    """A plugin may blank an id; it is then absent, like any None."""
    call = Track(user_id="u", anonymous_id="a", event="Ran")
    payload = {**payload_of(call), "userId": gone, "note": None}
    answer = decoded(make_enricher().relay(payload))
    assert "userId" not in answer
    assert "note" not in answer
    assert "a" == answer["anonymousId"]


def test_relay_counts_repairs():
    """What a plugin adds and cannot be encoded is marked and counted."""
    payload = {**payload_of(Identify(user_id="u")), "odd": object(), "more": "\ud800"}
    assert 2 == make_enricher().relay(payload).repaired


def test_relay_refuses_an_event_without_ids():
    """A plugin that takes all ids away leaves nothing that a vendor would keep."""
    payload = {**dict.fromkeys(MEMBERS[:3], "x"), "event": "e", "properties": {}}
    with pytest.raises(RefusedError, match="ids") as caught:
        make_enricher().relay(payload)
    assert Reason.NO_ID is caught.value.reason
