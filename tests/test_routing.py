from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk._routing import MAX_REMEMBERED, Router
from analytics_sdk.destinations.jsonl import JsonLines
from analytics_sdk.destinations.segment import Segment
from analytics_sdk.errors import ConfigError
from analytics_sdk.events import CALL_TYPES, Event
from analytics_sdk.interfaces import Destination

DOCS = Path(__file__).parent.parent / "docs" / "selector.md"

SEGMENT, AMPLITUDE, EU, FILE = "Segment.io", "Amplitude", "Amplitude EU", "JsonLines"
EVERYTHING = {SEGMENT, AMPLITUDE, EU, FILE}
NO_AMPLITUDE = {
    "Amplitude": False,
    "Actions Amplitude": False,
    "Amplitude (Actions)": False,
}


@attrs.frozen(kw_only=True)
class Direct(Destination):
    """A direct destination, as far as the router looks at one."""

    kind: str = "Amplitude"
    name: str = "Amplitude"
    aliases: tuple[str, ...] = ("Actions Amplitude", "Amplitude (Actions)")
    takes: frozenset[str] = frozenset(CALL_TYPES)
    limits: Mapping[str, Any] = {}


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def make_router() -> Router:
    direct = Direct(), Direct(name=EU)
    return Router([Segment("KEY"), *direct, JsonLines("events.jsonl")], encode)


def reached(router: Router, integrations: object) -> set[str]:
    selection, _ = router.select(integrations)
    return {
        name for bit, name in enumerate(selection.names) if selection.mask >> bit & 1
    }


def make_event(router: Router, integrations: object, type_: str = "track") -> Event:
    selection, _ = router.select(integrations)
    head = (
        b'{"messageId":"m-1","timestamp":"2026-11-21T10:00:00.000Z",'
        b'"type":"%b","userId":"u-1","context":{}' % type_.encode()
    )
    return Event(head + selection.tail, selection)


def told(router: Router, integrations: object, type_: str = "track") -> Any:
    """Return the `integrations` that Segment's request carries."""
    (part,) = Segment("KEY").encode(make_event(router, integrations, type_))
    return json.loads(part.body)["integrations"]


class Row(NamedTuple):
    """One row of the table: a selector, who gets the event, and two payloads.

    Beside Segment stand two Amplitudes and a file.  *record* is the selector in the
    event, as the file gets it, *told* the one in Segment's request (None: no request).
    """

    id: str
    source: str
    selector: object
    on: set[str]
    record: dict[str, Any]
    told: dict[str, Any] | None
    readable: bool = True


SPEC = "Segment: spec/common"
FILTER = "Segment: guides/filtering-data"
CATALOGUE = "Segment: catalogue, previous names"
RUDDER = "RudderStack: processor/integrations"
NODE = "analytics-next: core event-queue"
DESIGN = "our design"

ROWS = [
    Row("none", SPEC, None, EVERYTHING, {}, NO_AMPLITUDE),
    Row("empty", SPEC, {}, EVERYTHING, {}, NO_AMPLITUDE),
    Row(
        "all-true",
        SPEC,
        {"All": True},
        EVERYTHING,
        {"All": True},
        {"All": True, **NO_AMPLITUDE},
    ),
    Row("all-false", FILTER, {"All": False}, {SEGMENT}, {"All": False}, {"All": False}),
    Row(
        "named-true-beats-all",
        SPEC,
        {"All": False, "Amplitude": True},
        {SEGMENT, AMPLITUDE, EU},
        {"All": False, "Amplitude": True},
        {"All": False, **NO_AMPLITUDE},
    ),
    Row(
        "named-false-beats-all",
        SPEC,
        {"All": True, "Amplitude": False},
        {SEGMENT, FILE},
        {"All": True, "Amplitude": False},
        {"All": True, **NO_AMPLITUDE},
    ),
    Row(
        "named-false",
        SPEC,
        {"Amplitude": False},
        {SEGMENT, FILE},
        {"Amplitude": False},
        NO_AMPLITUDE,
    ),
    Row(
        "file-only",
        SPEC,
        {"All": False, "JsonLines": True},
        {SEGMENT, FILE},
        {"All": False, "JsonLines": True},
        {"All": False, "JsonLines": True},
    ),
    Row(
        "direct-only",
        DESIGN,
        {"All": False, "Amplitude": True, "Segment.io": False},
        {AMPLITUDE, EU},
        {"All": False, "Amplitude": True, "Segment.io": False},
        None,
    ),
    Row(
        "segment-off",
        NODE,
        {"Segment.io": False},
        {AMPLITUDE, EU, FILE},
        {"Segment.io": False},
        None,
    ),
    Row(
        "segment-only",
        NODE,
        {"All": False, "Segment.io": True},
        {SEGMENT},
        {"All": False, "Segment.io": True},
        {"All": False, "Segment.io": True},
    ),
    Row(
        "segment-by-short-name",
        DESIGN,
        {"Segment": False},
        {AMPLITUDE, EU, FILE},
        {"Segment": False},
        None,
    ),
    Row(
        "options-turn-on",
        RUDDER,
        {"All": False, "Amplitude": {"session_id": 1}},
        {SEGMENT, AMPLITUDE, EU},
        {"All": False, "Amplitude": {"session_id": 1}},
        {"All": False, **NO_AMPLITUDE},
    ),
    Row(
        "options-empty-turn-on",
        NODE,
        {"All": False, "Amplitude": {}},
        {SEGMENT, AMPLITUDE, EU},
        {"All": False, "Amplitude": {}},
        {"All": False, **NO_AMPLITUDE},
    ),
    Row(
        "options-for-the-cloud",
        "Segment: catalogue, Adobe Analytics",
        {"Adobe Analytics": {"marketingCloudVisitorId": "v"}},
        EVERYTHING,
        {"Adobe Analytics": {"marketingCloudVisitorId": "v"}},
        {"Adobe Analytics": {"marketingCloudVisitorId": "v"}, **NO_AMPLITUDE},
    ),
    Row(
        "kind-means-all-of-it",
        "Segment: add-destination",
        {"All": False, "Amplitude": True, "JsonLines": True},
        EVERYTHING,
        {"All": False, "Amplitude": True, "JsonLines": True},
        {"All": False, "JsonLines": True, **NO_AMPLITUDE},
    ),
    Row(
        "name-means-one",
        DESIGN,
        {"Amplitude EU": False},
        {SEGMENT, AMPLITUDE, FILE},
        {"Amplitude EU": False},
        {"Amplitude EU": False, **NO_AMPLITUDE},
    ),
    Row(
        "name-beats-all",
        DESIGN,
        {"All": False, "Amplitude EU": True},
        {SEGMENT, EU},
        {"All": False, "Amplitude EU": True},
        {"All": False, "Amplitude EU": True, **NO_AMPLITUDE},
    ),
    Row(
        "name-beats-kind",
        DESIGN,
        {"Amplitude": False, "Amplitude EU": True},
        {SEGMENT, EU, FILE},
        {"Amplitude": False, "Amplitude EU": True},
        {"Amplitude EU": True, **NO_AMPLITUDE},
    ),
    Row(
        "alias-turns-on",
        CATALOGUE,
        {"All": False, "Actions Amplitude": True},
        {SEGMENT, AMPLITUDE, EU},
        {"All": False, "Actions Amplitude": True},
        {"All": False, **NO_AMPLITUDE},
    ),
    Row(
        "alias-turns-off",
        CATALOGUE,
        {"Amplitude (Actions)": False},
        {SEGMENT, FILE},
        {"Amplitude (Actions)": False},
        NO_AMPLITUDE,
    ),
    Row(
        "kind-beats-alias",
        DESIGN,
        {"Amplitude": True, "Actions Amplitude": False},
        EVERYTHING,
        {"Amplitude": True, "Actions Amplitude": False},
        NO_AMPLITUDE,
    ),
    Row(
        "kind-off-alias-on",
        DESIGN,
        {"Amplitude": False, "Actions Amplitude": True},
        {SEGMENT, FILE},
        {"Amplitude": False, "Actions Amplitude": True},
        {**NO_AMPLITUDE, "Actions Amplitude": True},
    ),
    Row(
        "all-lower-case",
        "Segment: python docs; analytics-go",
        {"all": False, "Amplitude": True},
        {SEGMENT, AMPLITUDE, EU},
        {"All": False, "Amplitude": True},
        {"All": False, **NO_AMPLITUDE},
    ),
    Row(
        "all-exact-beats-other-case",
        DESIGN,
        {"all": True, "All": False},
        {SEGMENT},
        {"All": False},
        {"All": False},
    ),
    Row(
        "case-is-mended",
        DESIGN,
        {"amplitude": False},
        {SEGMENT, FILE},
        {"Amplitude": False},
        NO_AMPLITUDE,
    ),
    Row(
        "case-exact-wins",
        DESIGN,
        {"amplitude": False, "Amplitude": True},
        EVERYTHING,
        {"Amplitude": True},
        NO_AMPLITUDE,
    ),
    Row(
        "case-first-of-two",
        DESIGN,
        {"AMPLITUDE": False, "amplitude": True},
        {SEGMENT, FILE},
        {"Amplitude": False},
        NO_AMPLITUDE,
    ),
    Row(
        "case-of-others-stays",
        "Segment: catalogue, case-sensitive",
        {"mixpanel": False},
        EVERYTHING,
        {"mixpanel": False},
        {"mixpanel": False, **NO_AMPLITUDE},
    ),
    Row(
        "cloud-key-passes",
        "Segment: destination functions",
        {"My Function (My Workspace)": True},
        EVERYTHING,
        {"My Function (My Workspace)": True},
        {"My Function (My Workspace)": True, **NO_AMPLITUDE},
    ),
    Row(
        "salesforce-must-be-named",
        SPEC,
        {"Salesforce": True},
        EVERYTHING,
        {"Salesforce": True},
        {"Salesforce": True, **NO_AMPLITUDE},
    ),
    *(
        Row(
            f"value-{name}-is-off",
            DESIGN,
            {"Amplitude": value},
            {SEGMENT, FILE},
            {"Amplitude": False},
            NO_AMPLITUDE,
        )
        for name, value in [
            ("one", 1),
            ("zero", 0),
            ("text", "true"),
            ("list", [True]),
            ("object", object()),
        ]
    ),
    Row(
        "value-none-is-absent",
        f"{RUDDER}; {NODE}",
        {"Amplitude": None},
        EVERYTHING,
        {},
        NO_AMPLITUDE,
    ),
    Row(
        "value-none-of-all",
        f"{RUDDER}; {NODE}",
        {"All": None, "Amplitude": False},
        {SEGMENT, FILE},
        {"Amplitude": False},
        NO_AMPLITUDE,
    ),
    Row(
        "cloud-value-unreadable",
        DESIGN,
        {"Mixpanel": "yes"},
        EVERYTHING,
        {"Mixpanel": False},
        {"Mixpanel": False, **NO_AMPLITUDE},
    ),
    *(
        Row(
            f"all-{name}-is-off",
            RUDDER,
            {"All": value, "JsonLines": True},
            {SEGMENT, FILE},
            {"All": False, "JsonLines": True},
            {"All": False, "JsonLines": True},
        )
        for name, value in [("one", 1), ("text", "yes"), ("object", {"a": 1})]
    ),
    *(
        Row(f"whole-{name}", DESIGN, value, EVERYTHING, {}, NO_AMPLITUDE, False)
        for name, value in [
            ("bool", False),
            ("text", "Amplitude"),
            ("list", ["Amplitude"]),
            ("pairs", [("Amplitude", False)]),
            ("object", object()),
        ]
    ),
    Row(
        "key-no-text",
        DESIGN,
        {1: True, "Amplitude": False},
        {SEGMENT, FILE},
        {"Amplitude": False},
        NO_AMPLITUDE,
        False,
    ),
]
BY_ID = [pytest.param(row, id=f"{row.id} [{row.source}]") for row in ROWS]


@pytest.mark.parametrize("row", BY_ID)
def test_selector_row(row):
    """Each row of the table reaches its destinations and makes its two payloads."""
    router = make_router()
    selection, readable = router.select(row.selector)
    event = make_event(router, row.selector)
    file_line = JsonLines("events.jsonl").encode(event)[0].body

    assert row.on == reached(router, row.selector)
    assert row.readable is readable
    assert row.record == selection.integrations
    assert row.record == json.loads(file_line)["integrations"]
    if row.told is not None:
        assert row.told == told(router, row.selector)
    assert (row.told is not None) == (SEGMENT in row.on)


@pytest.mark.parametrize("row", BY_ID)
def test_selector_row_is_remembered_right(row):
    """The second answer to a selector equals the first, whoever gave it."""
    router = make_router()
    first = router.select(row.selector)
    second = router.select(row.selector)
    assert (first[0].mask, first[0].tail) == (second[0].mask, second[0].tail)
    assert first[1] is second[1]


def document(row: Row) -> str:
    """Return *row* as it stands in the documentation."""
    selector = re.sub(r"<object[^>]*>", "object()", repr(row.selector))
    selector = "none" if row.selector is None else f"`{selector}`".replace("'", '"')
    short = {SEGMENT: "Segment", AMPLITUDE: "Amplitude", EU: "EU", FILE: "file"}
    on = ", ".join(short[name] for name in short if name in row.on)
    on = "all" if row.on == EVERYTHING else on
    on += "" if row.readable else " (counted)"
    rest = dict(row.told or {})
    off = NO_AMPLITUDE.items() <= rest.items()
    if off:
        rest = {key: each for key, each in rest.items() if key not in NO_AMPLITUDE}
    told = ", ".join([f"`{json.dumps(rest)}`"] * bool(rest) + ["Amplitude: off"] * off)
    return f"| {selector} | {on} | {told or 'nothing'} | {row.source} | `{row.id}` |"


def test_documented_rows_are_these_rows():
    """The table in the documentation is the table that is tested."""
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    start = lines.index("| --- | --- | --- | --- | --- |") + 1
    assert [document(row) for row in ROWS] == lines[start:]


def test_tail_is_the_end_of_the_event():
    """The tail is the last member and the closing brace, byte for byte."""
    selection, _ = make_router().select({"All": False, "Amplitude": {"a": 1}})
    assert b',"integrations":{"All":false,"Amplitude":{"a":1}}}' == selection.tail


def test_default_is_everything():
    """Without a selector all destinations are on and the member is empty."""
    router = make_router()
    assert (router.default, True) == router.select(None)
    assert 0b1111 == router.default.mask
    assert b',"integrations":{}}' == router.default.tail
    assert (SEGMENT, AMPLITUDE, EU, FILE) == router.default.names


def test_only_taken_calls_are_muted():
    """Segment's cloud keeps the calls that the direct destination has no use for."""
    direct = Direct(takes=frozenset({"track"}))
    router = Router([Segment("KEY"), direct], encode)
    assert NO_AMPLITUDE == told(router, None, "track")
    assert {} == told(router, None, "page")
    assert ["track"] == list(router.default.muted)


def test_turned_off_kind_is_off_in_the_cloud_too():
    """A kind that the selector turns off is off for every call, by all its names."""
    direct = Direct(takes=frozenset({"track"}))
    router = Router([Segment("KEY"), direct], encode)
    assert NO_AMPLITUDE == told(router, {"Amplitude": False}, "page")


def test_nothing_is_muted_without_segment():
    """Where Segment does not get the event there is nobody to tell."""
    alone = Router([Direct()], encode)
    beside = make_router()
    assert {} == alone.default.muted
    assert {} == beside.select({"Segment.io": False})[0].muted


def test_destination_without_catalogue_names_mutes_nothing():
    """A file or a second Segment has no copy in Segment's cloud."""
    router = Router(
        [Segment("KEY"), Segment("KEY", name="Second"), JsonLines("x")], encode
    )
    assert {} == router.default.muted


@pytest.mark.parametrize("name", ["", " ", "All", "all", None, 5])
def test_unusable_name_is_refused(name):
    """A name that no selector could use is a configuration error."""
    with pytest.raises(ConfigError, match="name: "):
        Router([Direct(name=name)], encode)


def test_duplicate_name_is_refused():
    """Two destinations of one name could not be told apart."""
    with pytest.raises(ConfigError, match="two destinations are named Amplitude"):
        Router([Direct(), Direct()], encode)


def test_names_that_differ_in_case_are_two():
    """Each exact name means its own destination, another spelling the first."""
    router = Router([Direct(name="prod"), Direct(name="Prod")], encode)
    assert {"prod"} == reached(router, {"Prod": False})
    assert {"Prod"} == reached(router, {"PROD": False})


def test_options_are_a_snapshot():
    """What the caller does to an option object later is not seen."""
    options = {"groups": ["a"]}
    selection, _ = make_router().select({"Amplitude": options})
    options["groups"].append("b")
    assert {"Amplitude": {"groups": ["a"]}} == selection.integrations


def test_options_that_cannot_be_encoded_are_dropped():
    """A destination stays on without its options where they are no JSON object."""
    router = make_router()
    unreadable = {"All": False, "Amplitude": {"at": object()}}
    selection, readable = router.select(unreadable)
    assert ({"All": False, "Amplitude": True}, True) == (
        selection.integrations,
        readable,
    )
    assert {SEGMENT, AMPLITUDE, EU} == reached(router, unreadable)


class Text(str):
    """Text of a caller's own class."""

    __slots__ = ()


def test_text_of_another_class_is_text():
    """A key of a str subclass means what its text says, and leaves as plain text."""
    selection, readable = make_router().select({Text("Amplitude"): False})
    assert readable
    assert [str] == [type(key) for key in selection.integrations]
    assert {"Amplitude": False} == selection.integrations


def test_equal_selectors_share_a_selection():
    """Selectors of bools are read once."""
    router = make_router()
    first, _ = router.select({"All": False, "Amplitude": True})
    again, _ = router.select({"All": False, "Amplitude": True})
    assert first is again


def test_one_is_not_true():
    """The memo tells numbers from the bools that they are equal to."""
    router = make_router()
    assert AMPLITUDE in reached(router, {"Amplitude": True})
    assert AMPLITUDE not in reached(router, {"Amplitude": 1})
    assert AMPLITUDE in reached(router, {"Amplitude": True})


def test_memo_is_bounded():
    """The memo forgets before it grows past its bound, in entries and in bytes."""
    router = make_router()
    for number in range(MAX_REMEMBERED + 2):
        router.select({f"Key {number}": True})
        assert len(router._memo) <= MAX_REMEMBERED
    assert 2 == len(router._memo)
    router.select({"k" * 2000: True})
    router.select({"Amplitude": {"a": 1}})
    assert 2 == len(router._memo)


class Broken(Mapping[str, Any]):
    """A mapping of which every method raises."""

    def __getitem__(self, key: str) -> Any:
        raise LookupError

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        raise OSError


class Ghost:
    """An object that raises when it is asked what it is."""

    @property
    def __class__(self) -> type:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError


class Liar(dict[str, Any]):
    """A dict whose items are no pairs."""

    def items(self) -> Any:
        return [1, 2, 3]


class Rough(str):
    """A key that can be hashed once, when its dict is made."""

    __slots__ = ("_hashed",)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        if hasattr(self, "_hashed"):
            raise RuntimeError
        self._hashed = True
        return 1


@pytest.mark.parametrize("make", [Broken, Ghost, Liar], ids=lambda make: make.__name__)
def test_raising_selector_is_the_default(make):
    """A selector that raises when it is looked at counts as none, and is counted."""
    router = make_router()
    answer = router.select(make())
    assert (router.default, False) == answer


def test_raising_value_turns_its_key_off():
    """A value that raises when it is looked at is unreadable, its neighbour is not."""
    router = make_router()
    assert {SEGMENT} == reached(router, {"Amplitude": Ghost(), "JsonLines": False})
    selection, _ = router.select({"Amplitude": Broken(), "JsonLines": False})
    assert {"Amplitude": True, "JsonLines": False} == selection.integrations


def test_raising_key_is_read_or_counted():
    """A key whose hash raises breaks neither the memo nor the call."""
    assert {SEGMENT, FILE} == reached(make_router(), {Rough("Amplitude"): False})


KEYS = st.sampled_from(
    [
        *("All", "all", "Segment.io", "Segment", "Amplitude", "amplitude"),
        *("Actions Amplitude", "Amplitude (Actions)", "Amplitude EU", "JsonLines"),
        *("Mixpanel", "", "Ключ", "\ud800"),
    ]
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
SELECTORS = st.dictionaries(KEYS, st.booleans() | PLAIN, max_size=6)


@given(
    st.one_of(
        PLAIN,
        SELECTORS,
        st.dictionaries(
            st.one_of(st.integers(), st.binary(), KEYS, st.none()),
            st.one_of(PLAIN, st.builds(object), st.builds(Broken), st.builds(Ghost)),
        ),
        st.builds(object),
    )
)
def test_select_answers_anything(selector):
    """No object makes the call raise, and every answer is a whole, usable selection."""
    router = make_router()
    selection, readable = router.select(selector)
    assert isinstance(readable, bool)
    assert 0 <= selection.mask < 16
    ending = json.loads(b'{"a":1' + selection.tail)["integrations"]
    assert ending == selection.integrations or "nan" in str(selection.integrations)


@given(st.lists(SELECTORS, max_size=8))
def test_memo_changes_no_answer(selectors):
    """What a router has seen before never changes what it says now."""
    router = make_router()
    for selector in selectors:
        seen, fresh = router.select(selector), make_router().select(selector)
        assert (fresh[0].mask, fresh[0].tail, fresh[0].muted, fresh[1]) == (
            seen[0].mask,
            seen[0].tail,
            seen[0].muted,
            seen[1],
        )


@given(SELECTORS, st.sampled_from(sorted(EVERYTHING)), st.booleans())
def test_own_name_has_the_last_word(selector, name, on):
    """A bool beside a destination's own name decides, whatever else is said."""
    said = reached(make_router(), {**selector, name: on})
    assert on is (name in said)


@given(SELECTORS)
def test_nothing_is_sent_twice(selector):
    """Segment's cloud is told off for each direct destination that gets the event."""
    router = make_router()
    reaches = reached(router, selector)
    if SEGMENT in reaches and reaches & {AMPLITUDE, EU}:
        assert NO_AMPLITUDE.items() <= told(router, selector).items()


@given(SELECTORS)
def test_all_false_never_reaches_more(selector):
    """Adding All: False turns destinations off and none on."""
    rest = {key: each for key, each in selector.items() if key.lower() != "all"}
    router = make_router()
    fewer = reached(router, {**rest, "All": False})
    assert fewer <= reached(router, rest)
