from __future__ import annotations

import asyncio
import contextvars
import copy
import threading
from collections import UserDict
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk._context import Ambient, ambient, context, merge, without_none

scalars = st.integers() | st.text(max_size=2) | st.booleans()
names = st.sampled_from("abc")
settings = st.dictionaries(
    names,
    st.recursive(
        st.none() | scalars,
        lambda children: st.dictionaries(names, children, max_size=3),
        max_leaves=8,
    ),
    max_size=3,
)


plain = settings.map(without_none)
"""Fields that take nothing away."""

layers = st.recursive(
    st.dictionaries(st.sampled_from("ab"), st.none() | scalars),
    lambda children: st.builds(
        lambda leaves, inner: {**leaves, **inner},
        st.dictionaries(st.sampled_from("ab"), st.none() | scalars),
        st.dictionaries(st.sampled_from("cd"), children),
    ),
    max_leaves=8,
)
"""Fields that are a dict in all layers, or in none."""


def bound() -> Ambient:
    return ambient.get() or Ambient()


# -- binding ------------------------------------------------------------------


def test_nothing_is_bound_outside():
    """Outside of any context there are no ids and no fields."""
    assert ambient.get() is None
    assert Ambient(None, None, {}, unreadable=False) == Ambient()


def test_context_binds_inside_only():
    """What a context binds is there inside, and gone after it."""
    with context(user_id="u", anonymous_id="a", context={"ip": "192.0.2.1"}):
        assert Ambient("u", "a", {"ip": "192.0.2.1"}) == bound()
    assert ambient.get() is None


def test_context_ends_with_an_error():
    """An exception passes through a context, which ends all the same."""
    with pytest.raises(ZeroDivisionError), context(user_id="u"):
        raise ZeroDivisionError
    assert ambient.get() is None


def test_contexts_nest():
    """The inner context's ids and fields win; dicts are merged; then all is back."""
    with context(user_id="u", context={"app": {"name": "shop", "build": 1}, "ip": "x"}):
        with context(anonymous_id="a", context={"app": {"build": 2}, "ip": "y"}):
            assert ("u", "a") == bound()[:2]
            assert {"app": {"name": "shop", "build": 2}, "ip": "y"} == bound().context
            with context(user_id="v"):
                assert ("v", "a") == bound()[:2]
        assert ("u", None) == bound()[:2]
        assert {"app": {"name": "shop", "build": 1}, "ip": "x"} == bound().context


@pytest.mark.parametrize("zero", [0, ""])
def test_id_that_is_not_none_wins(zero):
    """0 is an id, and an empty one hides the outer one: only None is no id."""
    outer = context(user_id="u", anonymous_id="a")
    with outer, context(user_id=zero, anonymous_id=zero):
        assert (zero, zero) == bound()[:2]


def test_field_that_is_none_inside_is_taken_away():
    """None in the inner context removes the outer one's field, also in a dict."""
    outer = context(context={"ip": "x", "page": {"path": "/", "title": "Home"}})
    with outer, context(context={"ip": None, "page": {"title": None}}):
        assert {"page": {"path": "/"}} == without_none(bound().context)


def test_field_taken_away_stays_marked():
    """A None is kept until it has met the client's own fields, which it takes too."""
    with context(context={"ip": None, "page": {"title": None}}), context(user_id="u"):
        assert {"ip": None, "page": {"title": None}} == bound().context


def test_context_that_cannot_be_read_is_left_out_and_noted():
    """A mapping that raises binds no fields, and what is around knows of it."""

    class Broken(UserDict):
        def items(self):
            raise ZeroDivisionError

    with context(context={"ip": "x"}):
        with context(user_id="u", context=Broken()):
            assert Ambient("u", None, {"ip": "x"}, unreadable=True) == bound()
            with context(anonymous_id="a"):
                assert bound().unreadable
        assert not bound().unreadable


def test_bound_fields_are_not_changed_by_nesting():
    """The dicts that the application bound stay as they were."""
    outer, inner = {"app": {"name": "shop"}}, {"app": {"name": None, "build": 2}}
    before = copy.deepcopy((outer, inner))
    with context(context=outer), context(context=inner):
        pass
    assert before == (outer, inner)


def test_what_is_no_mapping_counts_as_empty():
    """Binding something else as fields binds none; the calls go on."""
    with context(context={"ip": "x"}), context(context=["ip"]):
        assert {"ip": "x"} == bound().context


def test_threads_do_not_share_what_is_bound():
    """A thread of its own starts with nothing bound, and keeps to itself."""
    seen: list[object] = []

    def look() -> None:
        seen.append(ambient.get())
        with context(user_id="other"):
            seen.append(bound().user_id)
            inside.set()
            assert done.wait(5)

    inside, done = threading.Event(), threading.Event()
    with context(user_id="u"):
        thread = threading.Thread(target=contextvars.Context().run, args=(look,))
        thread.start()
        assert inside.wait(5)
        assert "u" == bound().user_id
        done.set()
        thread.join()
        assert "u" == bound().user_id
    assert [None, "other"] == seen


def test_tasks_inherit_and_do_not_leak():
    """A task sees what was bound where it was made; what it binds is its own."""

    async def handle(user: str) -> list[object]:
        seen: list[object] = [bound().anonymous_id]
        with context(user_id=user):
            await asyncio.sleep(0)
            seen.append(bound().user_id)
            await asyncio.sleep(0)
            seen.append(bound().user_id)
        seen.append(bound().user_id)
        return seen

    async def serve() -> list[list[object]]:
        with context(anonymous_id="a"):
            tasks = [asyncio.create_task(handle(user)) for user in ("u", "v")]
            answers = await asyncio.gather(*tasks)
            assert bound().user_id is None
        return answers

    assert [["a", "u", "u", None], ["a", "v", "v", None]] == asyncio.run(serve())


# -- merging ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("under", "over", "merged"),
    [
        ({}, None, {}),
        ({"a": 1}, None, {"a": 1}),
        ({"a": 1}, {}, {"a": 1}),
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}),
        ({"a": {"b": 1}}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}),
        ({"a": [1]}, {"a": [2]}, {"a": [2]}),
        ({"a": 1}, {"a": None}, {"a": None}),
        ({}, {"a": None}, {"a": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"b": None, "c": 2}}),
        ({"a": 0}, {"b": ""}, {"a": 0, "b": ""}),
        ({1: "x"}, {1: "y"}, {1: "y"}),
        ({"a": 1}, 5, {"a": 1}),
        ({"a": 1}, [("a", 2)], {"a": 1}),
        ({"a": 1}, MappingProxyType({"a": 2}), {"a": 2}),
    ],
)
def test_merge_by_the_table(under, over, merged):
    """Later wins, dicts are merged, None takes away, no mapping changes nothing."""
    assert merged == merge(under, over)


@given(settings, settings)
def test_merge_changes_neither(under, over):
    """Both arguments, to their depths, stay as they were, and neither is returned."""
    before = copy.deepcopy((under, over))
    merged = merge(under, over)
    assert before == (under, over)
    assert merged is not under
    assert merged is not over


@given(plain, settings)
def test_later_wins_and_none_deletes(under, over):
    """A field is the later one's, without it the earlier one's; a None is nobody's."""
    merged = without_none(merge(under, over))
    for key in (*under, *over):
        if key not in over:
            assert under[key] == merged[key]
        elif over[key] is None:
            assert key not in merged
        elif not isinstance(over[key], dict):
            assert over[key] == merged[key]
        elif isinstance(under.get(key), dict):
            assert without_none(merge(under[key], over[key])) == merged[key]
        else:
            assert without_none(over[key]) == merged[key]
    assert merged.keys() <= under.keys() | over.keys()


@given(settings)
def test_no_none_is_left(fields):
    """What is taken away is gone from every dict, and nothing else is."""
    before = copy.deepcopy(fields)
    left = without_none(fields)
    assert before == fields
    assert "None" not in repr(left)
    assert left == without_none(left)
    if "None" not in repr(fields):
        assert fields == left


@given(settings)
def test_nothing_changes_nothing(value):
    """Laying nothing on it, under it, or itself on itself, leaves a dict as it is."""
    assert value == merge(value, {}) == merge({}, value) == merge(value, value)


@given(layers, layers, layers)
def test_merge_groups_as_one_likes(first, second, third):
    """Layers of one shape give the same whichever two are merged first."""
    assert merge(merge(first, second), third) == merge(first, merge(second, third))


def test_merge_of_cyclic_dicts_ends():
    """Dicts that hold themselves are merged down to a depth, and no further."""
    under: dict = {"a": 1}
    under["self"] = under
    over: dict = {"b": 2}
    over["self"] = over
    merged = merge(under, over)
    depth = 0
    while merged is not over:
        assert 2 == merged["b"]
        merged = merged["self"]
        depth += 1
    assert 17 == depth


def test_depth_of_merge_is_an_argument():
    """Below the depth the inner dict replaces the outer one."""
    under, over = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert {"a": {"c": 2}} == merge(under, over, depth=0)
    assert {"a": {"b": 1, "c": 2}} == merge(under, over, depth=1)


def test_none_below_the_depth_is_kept():
    """As deep as dicts are merged, Nones are taken out of them."""
    fields = {"a": {"b": {"c": None}}, "d": [{"e": None}]}
    assert {"a": {"b": {"c": None}}, "d": [{"e": None}]} == without_none(fields, 1)
    assert {"a": {"b": {}}, "d": [{"e": None}]} == without_none(fields, 2)


def test_lazy_value_is_not_asked_what_it_is():
    """A value that raises when asked for its class is only carried along."""

    class Lazy:
        @property
        def __class__(self):
            raise ZeroDivisionError

    lazy = Lazy()
    merged = without_none(merge({"a": {}, "b": lazy}, {"a": lazy, "b": {}}))
    assert lazy is merged["a"]
    assert {} == merged["b"]
    assert {"a": 1} == merge({"a": 1}, lazy)
