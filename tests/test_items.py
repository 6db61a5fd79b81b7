from __future__ import annotations

import pytest

from analytics_sdk._items import Era, Flight, Held, Item, Tracker, place, size_of
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import Limits, Part
from tests.toys import event


def make_item(sequence, *, key="", joins="", urgent=False):
    part = Part("main", b"x" * 10, key, joins)
    item = Item(part, event("e"), sequence, None)
    item.urgent = urgent
    return item


@pytest.mark.parametrize(
    ("key", "joins", "keys"),
    [
        pytest.param("", "", (), id="no user"),
        pytest.param("a", "", ("a",), id="one user"),
        pytest.param("a", "b", ("a", "b"), id="two users joined"),
        pytest.param("", "b", ("b",), id="the second alone"),
    ],
)
def test_keys_of_an_item(key, joins, keys):
    """An item keeps the order of the users that its part names."""
    assert keys == make_item(1, key=key, joins=joins).keys


def test_item_starts_untried():
    """A new item knows its size and place, and has not been tried."""
    item = make_item(7)
    assert (7, 10, 0, False) == (item.sequence, item.size, item.attempts, item.urgent)


def test_urgent_items_come_first_each_kind_in_order():
    """What is urgent goes first, and each kind in the order of the calls."""
    items = [make_item(number, urgent=number % 2 == 0) for number in (4, 1, 3, 2)]
    assert [2, 4, 1, 3] == [item.sequence for item in sorted(items, key=place)]


@pytest.mark.parametrize(("count", "size"), [(1, 15), (2, 27), (3, 39)])
def test_size_of_a_request(count, size):
    """The body that holds some items counts envelope and separators."""
    limits = Limits(envelope_bytes=5, separator_bytes=2)
    assert size == size_of([make_item(number) for number in range(count)], limits)


def test_records_start_empty():
    """Nothing is known of an event's parts, or of a time of 400s, when it begins."""
    tracker, era = Tracker(2), Era()
    assert (2, {}) == (tracker.left, tracker.outcomes)
    assert (False, 0, []) == (era.succeeded, era.refused, list(era.suspects))


def test_hold_is_no_setting_unless_it_says_so():
    """A cause is transient unless it is said to be a setting."""
    assert (False, "") == Held(5.0, Reason.SERVER_ERROR)[2:]


def test_flight_remembers_its_departure():
    """A request knows what it holds, when it left, and whether it was cut off."""
    item = make_item(1)
    flight = Flight([item], 3.0, piece=True)
    assert ([item], 3.0, True) == (flight.items, flight.departed_s, flight.piece)
