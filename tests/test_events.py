from __future__ import annotations

import enum
import json
import uuid
from datetime import date, datetime, timezone
from types import MappingProxyType

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analytics_sdk._encode import make_encoder
from analytics_sdk._enrich import Enricher, Stamp
from analytics_sdk._head import _HEAD, Head, read_head
from analytics_sdk.errors import Reason, RefusedError
from analytics_sdk.events import (
    CALL_TYPES,
    Alias,
    Call,
    Event,
    Group,
    Identify,
    Page,
    Screen,
    Selection,
    Track,
    checked_id,
    checked_mapping,
    checked_message_id,
    checked_text,
)

CANARY = "canary-7f3a"
CALLS = (Identify, Track, Page, Screen, Group, Alias)
ENRICHER = Enricher(make_encoder(speed=False), None, {"name": "x", "version": "1"})
SELECTION = Selection(("Segment.io",), 1, {}, b',"integrations":{}}', {})
LOOKS_LIKE_MORE = '","timestamp":"2026-11-21T00:00:00.000Z","type":"alias","userId":"x'


class Plan(str, enum.Enum):
    PRO = "pro"


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    """Text as lazy translations are: its `str` is the work of foreign code."""

    __slots__ = ()

    def __str__(self) -> str:
        raise ZeroDivisionError


class RowId(uuid.UUID):
    """A UUID as database drivers hand them out."""


class Lazy:
    """An object that loads, and fails to, when anything is asked of it."""

    @property
    def __class__(self):
        raise ZeroDivisionError

    def __ne__(self, other):
        raise ZeroDivisionError

    __hash__ = None


class Showy:
    """An object whose every text form is personal data."""

    def __repr__(self) -> str:
        return CANARY

    __str__ = __repr__


# -- ids ----------------------------------------------------------------------

UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("user-1", "user-1"),
        (" ", " "),
        ("käse 🎉", "käse 🎉"),
        ("", None),
        (None, None),
        (0, "0"),
        (-5, "-5"),
        (2**70, str(2**70)),
        (Level.LOW, "1"),
        (UUID, "12345678-1234-5678-1234-567812345678"),
        (RowId(int=1), "00000000-0000-0000-0000-000000000001"),
        (Plan.PRO, "pro"),
        pytest.param(Name("jane"), "jane", id="lazy text"),
    ],
)
def test_id_becomes_text(value, text):
    """Texts, ints and UUIDs are ids, and travel as plain text; empty is absent."""
    answer = checked_id(value, "user_id")
    assert text == answer
    assert type(answer) in (str, type(None))


@pytest.mark.parametrize(
    "value",
    [
        True,
        1.5,
        b"user",
        ["user"],
        {},
        object(),
        uuid.SafeUUID.safe,
        Showy(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_ids_are_refused(value):
    """Whatever else is given as an id is refused, naming field, type and remedy."""
    with pytest.raises(RefusedError) as caught:
        checked_id(value, "user_id")
    assert Reason.BAD_ARGUMENT is caught.value.reason
    start = f"user_id: got {type(value).__name__}; pass a str, "
    assert str(caught.value).startswith(start)


def test_int_too_long_for_text_is_refused():
    """An int that Python itself refuses to print is refused like any other value."""
    with pytest.raises(
        RefusedError, match=r"^user_id: got int; it is too long"
    ) as caught:
        checked_id(10**5000, "user_id")
    assert Reason.BAD_ARGUMENT is caught.value.reason
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "value",
    ["Order Completed", "", None, Plan.PRO, pytest.param(Name("x"), id="lazy text")],
)
def test_text_is_taken_as_it_is(value):
    """A name is its plain text, an Enum of text counts as its text."""
    answer = checked_text(value, "event")
    assert value == answer
    assert type(answer) in (str, type(None))


@pytest.mark.parametrize(
    "value", [5, b"Order", ["Order"], Showy()], ids=lambda v: type(v).__name__
)
def test_other_texts_are_refused(value):
    """A name of another type is refused, naming field, type and remedy."""
    with pytest.raises(RefusedError) as caught:
        checked_text(value, "event")
    assert Reason.BAD_ARGUMENT is caught.value.reason
    assert f"event: got {type(value).__name__}; pass a str" == str(caught.value)


@pytest.mark.parametrize("value", [None, {}, {"a": 1}, MappingProxyType({"a": 1})])
def test_mapping_is_taken_as_it_is(value):
    """Mappings are handed on untouched, for the encoder to read."""
    assert value is checked_mapping(value, "properties")


@pytest.mark.parametrize(
    "value",
    [5, "a", [("a", 1)], {"a"}, Showy()],
    ids=lambda v: type(v).__name__,
)
def test_other_mappings_are_refused(value):
    """Members of another type are refused, naming field, type and remedy."""
    with pytest.raises(RefusedError) as caught:
        checked_mapping(value, "properties")
    assert Reason.BAD_ARGUMENT is caught.value.reason
    name = type(value).__name__
    assert f"properties: got {name}; pass a dict or another Mapping" == str(
        caught.value
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("stripe:evt_1", "stripe:evt_1"),
        (" ", " "),
        ("x" * 100, "x" * 100),
        ("ü" * 100, "ü" * 100),
        ("🎉", "🎉"),
        (LOOKS_LIKE_MORE, LOOKS_LIKE_MORE),
        (7, "7"),
        (UUID, str(UUID)),
        (Plan.PRO, "pro"),
    ],
)
def test_message_id_is_printable_text(value, text):
    """One to a hundred printable characters are a message id."""
    assert text == checked_message_id(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", Reason.BAD_MESSAGE_ID),
        ("x" * 101, Reason.BAD_MESSAGE_ID),
        ("a\nb", Reason.BAD_MESSAGE_ID),
        ("a\0", Reason.BAD_MESSAGE_ID),
        ("\x7f", Reason.BAD_MESSAGE_ID),
        ("\ud800", Reason.BAD_MESSAGE_ID),
        ("\u2028", Reason.BAD_MESSAGE_ID),
        (10**100, Reason.BAD_MESSAGE_ID),
        (True, Reason.BAD_ARGUMENT),
        (b"id", Reason.BAD_ARGUMENT),
    ],
    ids=repr,
)
def test_other_message_ids_are_refused(value, reason):
    """Whatever vendors could not keep as an id is refused."""
    with pytest.raises(RefusedError, match=r"^message_id: got ") as caught:
        checked_message_id(value)
    assert reason is caught.value.reason


@pytest.mark.parametrize(
    "field",
    ["user_id", "event", "properties", "context", "timestamp", "message_id"],
)
def test_argument_that_cannot_be_looked_at_is_refused(field):
    """A lazy object that raises when asked for its class does not break the call."""
    with pytest.raises(RefusedError, match=f"^{field}: got Lazy; pass a") as caught:
        Track(**{field: Lazy()})
    assert Reason.BAD_ARGUMENT is caught.value.reason


# -- calls --------------------------------------------------------------------

WHO = {"user_id": "u"}


def refused(kind: type[Call], **given: object) -> RefusedError | None:
    try:
        kind(**given).check()
    except RefusedError as error:
        return error
    return None


def test_every_type_of_call_has_its_class():
    """The six classes are the six types, in the order of the Spec."""
    assert CALL_TYPES == tuple(kind.type for kind in CALLS)


@pytest.mark.parametrize("kind", CALLS)
def test_call_shows_how_it_is_made(kind):
    """For messages, every class has its call with the arguments that it has."""
    name, _, arguments = kind.usage.removesuffix(")").partition("(")
    assert kind.type == name
    fields = {field.name for field in attrs.fields(kind)}
    assert fields.issuperset(arguments.split(", "))


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (Identify, {}, "user_id, anonymous_id: both are missing; give one of them"),
        (Identify, {"user_id": "", "anonymous_id": ""}, "user_id, anonymous_id: "),
        (Track, {"event": "Ran"}, "user_id, anonymous_id: both are missing"),
        (Page, {}, "user_id, anonymous_id: both are missing"),
        (Screen, {}, "user_id, anonymous_id: both are missing"),
        (Group, {"group_id": "g"}, "user_id, anonymous_id: both are missing"),
        (Alias, {}, "previous_id, user_id: one is missing; give both"),
        (Alias, WHO, "previous_id, user_id: one is missing; give both"),
        (Alias, {"previous_id": "p"}, "previous_id, user_id: "),
        (Alias, {"previous_id": "p", "anonymous_id": "a"}, "previous_id, user_id: "),
    ],
)
def test_call_without_ids_is_refused(kind, given, message):
    """A call that says nobody's doing is refused as ``no_id``, with what to give."""
    error = refused(kind, **given)
    assert error is not None
    assert Reason.NO_ID is error.reason
    assert str(error).startswith(message)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (Track, WHO, "event: missing; give what the user did a name"),
        (Track, {**WHO, "event": ""}, "event: missing; give"),
        (Group, WHO, "group_id: missing; give the group's id"),
        (Group, {**WHO, "group_id": ""}, "group_id: missing; give"),
    ],
)
def test_call_without_a_name_is_refused(kind, given, message):
    """A track call without event, a group call without group says what to give."""
    error = refused(kind, **given)
    assert error is not None
    assert Reason.NO_NAME is error.reason
    assert str(error).startswith(message)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (Identify, WHO),
        (Identify, {"anonymous_id": 0}),
        (Identify, {"user_id": 1, "anonymous_id": UUID}),
        (Track, {**WHO, "event": "Ran"}),
        (Page, WHO),
        (Screen, {"anonymous_id": "a"}),
        (Group, {**WHO, "group_id": 0}),
        (Alias, {**WHO, "previous_id": 0}),
    ],
)
def test_complete_call_passes(kind, given):
    """A call with an id, and a name where one is needed, is fine."""
    assert refused(kind, **given) is None


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize(
    "field",
    ["user_id", "anonymous_id", "context", "timestamp", "message_id"],
)
def test_common_field_is_checked_by_its_name(kind, field):
    """Every class checks the common fields, and the message names the field."""
    error = refused(kind, **{field: 1.5})
    assert error is not None
    assert Reason.BAD_ARGUMENT is error.reason
    assert str(error).startswith(f"{field}: got float; pass a")


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (Identify, "traits"),
        (Track, "event"),
        (Track, "properties"),
        (Page, "category"),
        (Page, "name"),
        (Page, "properties"),
        (Screen, "category"),
        (Screen, "name"),
        (Screen, "properties"),
        (Group, "group_id"),
        (Group, "traits"),
        (Alias, "previous_id"),
    ],
)
def test_own_field_is_checked_by_its_name(kind, field):
    """Every class checks its own fields, and the message names the field."""
    error = refused(kind, **WHO, **{field: 1.5})
    assert error is not None
    assert Reason.BAD_ARGUMENT is error.reason
    assert str(error).startswith(f"{field}: got float; pass a")


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (None, True),
        (datetime(2026, 1, 2, tzinfo=timezone.utc), True),
        (datetime(2026, 1, 2), True),  # noqa: DTZ001 - naive ones count as UTC
        (date(2026, 1, 2), False),
        ("2026-01-02T03:04:05Z", False),
        (1_700_000_000, False),
    ],
)
def test_timestamp_is_a_datetime(value, taken):
    """A timestamp is a datetime, with or without a zone; text is not guessed at."""
    error = refused(Identify, **WHO, timestamp=value)
    assert taken is (error is None)
    assert taken or "pass a datetime (naive ones count as UTC)" in str(error)


def test_timestamp_that_is_no_time_is_refused():
    """What calls itself a datetime and has no year, as pandas' NaT, is refused."""

    class NotATime(datetime):
        @property
        def year(self):
            return float("nan")

    error = refused(Identify, **WHO, timestamp=NotATime(2026, 1, 2))
    assert "timestamp: got NotATime; this one is no time" == str(error)


@pytest.mark.parametrize("kind", CALLS)
def test_refusal_never_shows_the_value(kind):
    """No message of any field has the value in it, for it may be personal data."""
    for field in attrs.fields(kind):
        for value in (Showy(), CANARY.encode(), [CANARY], CANARY * 30, f"{CANARY}\n"):
            error = refused(kind, **{field.name: value})
            if error is not None:
                assert CANARY not in f"{error!s} {error!r}"
                assert error.__cause__ is None
                assert error.__suppress_context__ or error.__context__ is None


@pytest.mark.parametrize("kind", CALLS)
def test_call_does_not_show_its_data(kind):
    """The repr of a call has nothing of what the caller said."""
    given = {field.name: CANARY for field in attrs.fields(kind)}
    for name in ("context", "traits", "properties"):
        given.pop(name, None)
    given.pop("timestamp")
    assert CANARY not in repr(kind(**given))


@pytest.mark.parametrize("kind", CALLS)
def test_call_is_frozen_and_slotted(kind):
    """A call cannot be changed, nor take attributes of foreign code."""
    call = kind(**WHO)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        call.user_id = "other"
    assert not hasattr(call, "__dict__")


T = {"plan": "pro"}


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        (Identify(), [("traits", {})]),
        (Identify(traits=T), [("traits", T)]),
        (Track(event="Ran"), [("event", "Ran"), ("properties", {})]),
        (Track(event="Ran", properties=T), [("event", "Ran"), ("properties", T)]),
        (Page(), [("properties", {})]),
        (Page(name="Home"), [("name", "Home"), ("properties", {})]),
        (
            Page(category="Docs", name="Home", properties=T),
            [("category", "Docs"), ("name", "Home"), ("properties", T)],
        ),
        (Screen(category=""), [("category", ""), ("properties", {})]),
        (Group(group_id=5), [("groupId", "5"), ("traits", {})]),
        (Group(group_id="g", traits=T), [("groupId", "g"), ("traits", T)]),
        (Alias(previous_id="p"), [("previousId", "p")]),
    ],
)
def test_call_names_its_members_in_order(call, fields):
    """Each type has its members, by their names on the wire, in a fixed order."""
    assert fields == list(call.fields())


def test_bare_call_has_no_members():
    """What is no type of call has no members."""
    with pytest.raises(NotImplementedError):
        Call().fields()


# -- encoded events -----------------------------------------------------------


def make_event(call: Call, message_id: str = "m-1") -> Event:
    head = ENRICHER.encode(
        call, Stamp(message_id, "2026-11-21T09:30:00.123Z"), None
    ).head
    return Event(head + SELECTION.tail, SELECTION)


def test_event_is_decoded_on_demand_and_once():
    """The views of an event decode its bytes when first asked, and only then."""
    seen: list[bytes] = []

    def decode(raw: bytes) -> object:
        seen.append(raw)
        return json.loads(raw)

    raw = make_event(Track(**WHO, event="Ran", properties=T)).raw
    event = Event(raw, SELECTION, decode)
    assert [] == seen
    assert T == event.payload["properties"]
    assert "track" == event.type
    assert event.payload is event.payload
    assert [raw] == seen
    assert SELECTION is event.selection


@pytest.mark.parametrize(
    ("call", "keys"),
    [
        (Identify(user_id="u"), ("u",)),
        (Identify(anonymous_id="a"), ("a",)),
        (Identify(user_id="u", anonymous_id="a"), ("u", "a")),
        (Identify(user_id="u", anonymous_id="u"), ("u",)),
        (Track(user_id=0, event="Ran"), ("0",)),
        (Alias(user_id="u", previous_id="p"), ("u", "p")),
        (Alias(user_id="u", previous_id="u"), ("u",)),
    ],
)
def test_event_knows_its_user_keys(call, keys):
    """An event keeps the order of its one key, or ties the two that it joins."""
    event = make_event(call)
    assert keys == event.keys
    assert Head(call.type, keys) == read_head(event.raw)


def test_event_shows_its_ids():
    """Ids that the call gave are there, others are None."""
    event = make_event(Identify(user_id="u"), "m-9")
    assert ("m-9", "u", None) == (event.message_id, event.user_id, event.anonymous_id)
    event = make_event(Identify(anonymous_id='a"\\'))
    assert (None, 'a"\\') == (event.user_id, event.anonymous_id)


def test_event_does_not_show_its_data():
    """The repr of an event has nothing of what the caller said."""
    assert CANARY not in repr(make_event(Identify(user_id=CANARY)))


ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(
    [LOOKS_LIKE_MORE, '"', "\\", '\\"', '","userId":"x', "\x00\n\t", "é", "🎉"]
)
calls = st.one_of(
    st.builds(Identify, user_id=ids, anonymous_id=st.none() | ids),
    st.builds(Page, anonymous_id=ids, name=st.none() | ids),
    st.builds(Track, user_id=st.none() | ids, anonymous_id=ids, event=ids),
    st.builds(Alias, user_id=ids, previous_id=ids, anonymous_id=st.none() | ids),
    st.builds(Group, user_id=ids, group_id=ids),
)


@given(calls, ids)
@example(Identify(user_id=LOOKS_LIKE_MORE), LOOKS_LIKE_MORE)
@example(Track(anonymous_id="a", event='","userId":"x'), "\\")
def test_head_reads_like_json(call, message_id):
    """Reading the front of an event agrees with decoding all of it."""
    event = make_event(call, message_id)
    assert _HEAD.match(event.raw)
    head = read_head(event.raw)
    assert event.type == head.type == call.type
    assert sorted(event.keys) == sorted(head.keys)


def test_alias_of_three_ids_joins_the_user_and_the_previous_one():
    """The first two keys of an alias are those that it is about."""
    event = make_event(Alias(user_id="u", previous_id="p", anonymous_id="a"))
    assert Head("alias", ("u", "p", "a")) == read_head(event.raw)


@pytest.mark.parametrize(
    ("raw", "head"),
    [
        (b"{}", Head("", ())),
        (b'{"type":"track","messageId":"m","userId":7}', Head("track", ("7",))),
        (
            b' {"messageId":"m","timestamp":"t","type":"track","userId":"u"}',
            Head("track", ("u",)),
        ),
        (
            (
                b'{"messageId":"m","timestamp":"t","type":"alias",'
                b'"previousId":"p","userId":"\\u0075"}'
            ),
            Head("alias", ("u", "p")),
        ),
    ],
)
def test_other_layouts_are_parsed(raw, head):
    """An event that is laid out otherwise is read all the same."""
    assert head == read_head(raw)


def test_bytes_that_are_no_json_are_an_error():
    """What is no event at all gives no wrong answer."""
    with pytest.raises(ValueError, match="Expecting value"):
        read_head(b"")
