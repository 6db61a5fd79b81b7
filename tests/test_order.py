"""Items are written as words, numbered from 1; see `tests/test_lanes.py`."""

from __future__ import annotations

import pytest

from analytics_sdk._items import Item
from analytics_sdk._order import behind, ready, urged, walls_of, with_predecessors
from analytics_sdk.interfaces import Part
from tests.toys import event


def make_items(spelled):
    items = []
    for number, each in enumerate(spelled.split(), 1):
        key, _, joins = each.replace("-", "").partition("+")
        part = Part("main", b"x", key, joins)
        items.append(Item(part, event(f"e{number}"), number, None))
    return items


@pytest.mark.parametrize(
    ("spelled", "barriers", "expected"),
    [
        pytest.param("a", [1], [1], id="alone"),
        pytest.param("a b", [2], [2], id="behind a stranger"),
        pytest.param("a a", [2], [], id="behind its user"),
        pytest.param("a a", [1], [1], id="before its user"),
        pytest.param("b a a+b", [3], [], id="behind both its users"),
        pytest.param("a a+b", [2], [], id="behind one of its users"),
        pytest.param("a+b b", [2], [], id="behind what is joined to its user"),
        pytest.param("a a", [1, 2], [1], id="behind a barrier"),
        pytest.param("a b a", [1, 2, 3], [1, 2], id="several"),
        pytest.param("- -", [2], [2], id="no users"),
    ],
)
@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
def test_ready(spelled, barriers, expected, backwards):
    """A barrier is ready when nothing of its users before it is unsettled."""
    items = make_items(spelled)
    unsettled = items[::-1] if backwards else items
    found = ready([items[number - 1] for number in barriers], unsettled)
    assert expected == sorted(item.sequence for item in found)


@pytest.mark.parametrize(
    ("spelled", "walls", "kept"),
    [
        pytest.param("a", {"a": 1}, [2, 3], id="its user"),
        pytest.param("a a", {"a": 1}, [3], id="the first of two"),
        pytest.param("a+b", {"a": 1, "b": 1}, [2, 3], id="both its users"),
        pytest.param("c", {"c": 1}, [], id="a stranger"),
        pytest.param("", {}, [], id="none"),
    ],
)
def test_walls(spelled, walls, kept):
    """What shares a key with an earlier barrier has to wait for it."""
    barriers = make_items(spelled)
    items = make_items("a a a+b")[len(barriers) :] if barriers else make_items("a b")
    assert walls == walls_of(barriers)
    assert kept == [item.sequence for item in items if behind(item, walls)]


def test_nothing_waits_for_a_later_barrier():
    """A barrier holds back what comes after it, neither itself nor the earlier."""
    items = make_items("a a a")
    walls = walls_of([items[1]])
    assert [False, False, True] == [behind(item, walls) for item in items]


CASES = [
    pytest.param("a b a", [3], [1, 3], id="its user's earlier ones"),
    pytest.param("a b a", [1], [1], id="not the later ones"),
    pytest.param("b a+b c a", [4], [1, 2, 4], id="what is joined to it"),
    pytest.param("a b a+b", [1], [1], id="not what is joined later"),
    pytest.param("a b c", [1, 3], [1, 3], id="several"),
    pytest.param("a b", [], [], id="none"),
]


@pytest.mark.parametrize(("spelled", "wanted", "expected"), CASES)
def test_urged(spelled, wanted, expected):
    """Urgent items bring along what order puts before them."""
    items = make_items(spelled)
    found = urged(items, {items[number - 1].receipt for number in wanted})
    assert expected == sorted(item.sequence for item in found)


@pytest.mark.parametrize(
    ("spelled", "wanted", "expected"),
    [
        *CASES,
        pytest.param(
            "a b c d e f g a+b z", [8, 3, 4, 5], [1, 2, 3, 4, 5, 8], id="many"
        ),
        pytest.param("g f e d c b a z", [7, 6, 5, 4, 3], [3, 4, 5, 6, 7], id="users"),
        pytest.param("z e d c b a", [6, 5, 4, 3, 2], [2, 3, 4, 5, 6], id="stranger"),
        pytest.param("a e d c b a", [6, 5, 4, 3, 2], [1, 2, 3, 4, 5, 6], id="five"),
    ],
)
def test_with_predecessors(spelled, wanted, expected):
    """The same holds of events that are not encoded yet."""
    receipts = [
        event(f"e{number}", *each.split("+")[:2])
        for number, each in enumerate(spelled.split(), 1)
    ]
    chosen = {receipts[number - 1] for number in wanted}
    found = with_predecessors(reversed(receipts), chosen)
    assert expected == sorted(int(receipt.message_id[1:]) for receipt in found)


def test_predecessors_of_two_users():
    """Events of either user come before one that joins the two; a stranger's do not."""
    receipts = [
        event("e1", "carol"),
        event("e2", "alice"),
        event("e3", "bob"),
        event("e4", "alice", "bob"),
    ]
    found = with_predecessors(reversed(receipts), {receipts[3]})
    assert set(receipts[1:]) == found


def test_user_who_is_mentioned_only():
    """A user's id in the properties of a stranger's event does not tie the two."""
    other, own = event("e1", "b", name="a"), event("e2", "a")
    assert {own} == with_predecessors([own, other], {own})


def test_settled_event_precedes_nothing():
    """What has been settled meanwhile is passed over."""
    other, own = event("e1", "a"), event("e2", "a")
    other._raw = "e1"
    assert {own} == with_predecessors([own, other], {own})
