from __future__ import annotations

from math import inf

import pytest

from analytics_sdk._items import Flight, Held, Item
from analytics_sdk._lanes import Lane
from analytics_sdk._patience import TICK_S, Patience, Policy, opens_s
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import Limits, Part
from tests.toys import event

LINGER_S = 1.0
GIVE_UP_S = 10.0


def make_item(sequence, key="", *, route="a", barrier=False, born_s=0.0, joins=""):
    receipt = event(f"e{sequence}")
    receipt._born_s = born_s
    part = Part(route, b"x", key, joins, barrier)
    return Item(part, receipt, sequence, None)


def make_lane(*items, route="a"):
    lane = Lane(route, Limits())
    for item in items:
        lane.append(item)
    return lane


def hold(lane, until_s, *, configuration=False, now=0.0):
    lane.hold(Held(until_s, Reason.SERVER_ERROR, configuration), now)
    return lane


def patience(*lanes, barriers=(), give_up_after_s=GIVE_UP_S):
    return Patience(lanes, barriers, Policy(LINGER_S, 1, give_up_after_s))


@pytest.mark.parametrize(
    ("change", "ripe_s"),
    [
        pytest.param({}, 5.0 + LINGER_S, id="lingers"),
        pytest.param({"urgent": True}, -inf, id="urgent"),
        pytest.param({"attempts": 1}, -inf, id="tried before"),
    ],
)
def test_ripe(change, ripe_s):
    """The first event waits for company, but if it is urgent or has been tried."""
    item = make_item(1, born_s=5.0)
    for name, value in change.items():
        setattr(item, name, value)
    assert ripe_s == patience().ripe_s(make_lane(item), 5.5)


@pytest.mark.parametrize(
    ("rush_s", "ripe_s"), [(4.9, 6.0), (5.0, -inf), (5.1, -inf)], ids=str
)
def test_ripe_after_a_flush(rush_s, ripe_s):
    """What was accepted until the flush waits for no company."""
    waiting = patience()
    waiting.rush_s = rush_s
    assert ripe_s == waiting.ripe_s(make_lane(make_item(1, born_s=5.0)), 5.5)


@pytest.mark.parametrize(
    ("now", "ripe_s"),
    [
        pytest.param(6.9, 6.0 + LINGER_S, id="the stranger behind lingers"),
        pytest.param(7.0, -inf, id="parked until now"),
    ],
)
def test_ripe_behind_a_parked_user(now, ripe_s):
    """A parked user's event does not decide for those behind it."""
    parked = make_item(1, "u", born_s=1.0)
    parked.attempts = 1
    lane = make_lane(parked, make_item(2, "v", born_s=6.0))
    lane.parked["u"] = 7.0
    assert ripe_s == patience().ripe_s(lane, now)


def test_ripe_where_all_are_parked():
    """Where everybody is parked there is no linger to wait for."""
    lane = make_lane(make_item(1, "u"))
    lane.parked["u"] = 7.0
    assert -inf == patience().ripe_s(lane, 1.0)


@pytest.mark.parametrize(
    ("give_up_after_s", "now", "left_s", "gives_up_s"),
    [
        pytest.param(10.0, 4.0, 6.0, 10.0, id="some time is left"),
        pytest.param(10.0, 10.0, 0.0, 10.0 + TICK_S, id="no time: at the next moment"),
        pytest.param(10.0, 12.0, -2.0, 12.0 + TICK_S, id="overdue"),
        pytest.param(None, 1e9, inf, inf, id="never"),
    ],
)
def test_give_up_time(give_up_after_s, now, left_s, gives_up_s):
    """An event is given up at its time, or at the next moment where that is over."""
    lane = make_lane(make_item(1))
    waiting = patience(give_up_after_s=give_up_after_s)
    assert left_s == waiting.left_s(lane, 0.0, now)
    assert gives_up_s == waiting.gives_up_s(lane, 0.0, now)


def test_nothing_is_given_up_while_the_clock_stands():
    """While a setting is wrong no event gets too old."""
    lane = hold(make_lane(make_item(1)), 99.0, configuration=True)
    assert inf == patience().gives_up_s(lane, 0.0, 50.0)
    assert [] == patience().too_old(lane, 50.0)


@pytest.mark.parametrize(
    ("held", "attempts", "now", "expected"),
    [
        pytest.param(True, 0, 9.9, [], id="not yet"),
        pytest.param(True, 0, 10.0, [1], id="on hold, never tried"),
        pytest.param(True, 0, 13.0, [1, 2], id="on hold, both"),
        pytest.param(False, 0, 13.0, [], id="open, never tried"),
        pytest.param(False, 1, 13.0, [1, 2], id="open, tried"),
    ],
)
def test_too_old(held, attempts, now, expected):
    """Given up is what has been tried, or waits behind a hold, for too long."""
    items = make_item(1, born_s=0.0), make_item(2, born_s=3.0)
    lane = make_lane(*items)
    for item in items:
        item.attempts = attempts
    if held:
        hold(lane, 99.0)
    assert expected == [item.sequence for item in patience().too_old(lane, now)]


@pytest.mark.parametrize(
    ("until_s", "now", "expected_s"),
    [(None, 5.0, 5.0), (9.0, 5.0, 9.0), (9.0, 9.5, 9.5)],
)
def test_opens(until_s, now, expected_s):
    """A lane opens when its hold ends; where there is none, or no more, it is open."""
    lane = make_lane(make_item(1))
    if until_s is not None:
        hold(lane, until_s)
    assert expected_s == opens_s(lane, now)


@pytest.mark.parametrize(
    ("until_s", "expected_s"),
    [(None, 4.0), (7.0, 7.0), (99.0, 10.0)],
    ids=["open", "the hold ends", "given up before"],
)
@pytest.mark.parametrize("parked", [False, True], ids=["alone", "beside a user"])
def test_moves(until_s, expected_s, parked):
    """Something happens in a lane when its hold ends, or its oldest is given up."""
    lane = make_lane(make_item(1))
    lane.parked.update({"u": 99.0} if parked else {})
    if until_s is not None:
        hold(lane, until_s)
    assert expected_s == min(patience(lane).moves(4.0))


def test_moves_while_something_flies():
    """While a request is in flight its answer may come at any moment."""
    idle, lane = make_lane(route="b"), hold(make_lane(make_item(1)), 9.0)
    assert [9.0] == patience(idle, lane).moves(4.0)
    lane.flights[1] = Flight([make_item(2)], 3.0, piece=False)
    assert [4.0] == patience(idle, lane).moves(4.0)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param(None, None, False, id="nothing is held"),
        pytest.param(9.0, None, False, id="one of two that are busy"),
        pytest.param(9.0, 9.0, True, id="both"),
        pytest.param(9.0, 4.0, False, id="one of the holds is over"),
        pytest.param(9.0, "idle", True, id="the other one has no work"),
        pytest.param("idle", "idle", False, id="there is no work at all"),
    ],
)
def test_all_held(a, b, expected):
    """A destination is on hold when all its lanes with work are."""
    lanes = []
    for number, until_s in enumerate((a, b)):
        route = "ab"[number]
        items = () if until_s == "idle" else (make_item(number, route=route),)
        lane = make_lane(*items, route=route)
        lanes.append(hold(lane, until_s) if isinstance(until_s, float) else lane)
    assert expected == patience(*lanes).all_held(4.0)


@pytest.mark.parametrize(
    ("until_s", "configuration", "left_s", "settles_s"),
    [
        pytest.param(None, False, inf, 4.0, id="open"),
        pytest.param(7.0, False, 6.0, 7.0, id="the hold ends first"),
        pytest.param(99.0, False, 6.0, 10.0, id="given up first"),
        pytest.param(99.0, True, inf, 99.0, id="a setting: kept"),
    ],
)
def test_event_in_no_lane_yet(until_s, configuration, left_s, settles_s):
    """An event that is not encoded waits for the hold, and no longer than others."""
    lane = make_lane(make_item(1))
    if until_s is not None:
        hold(lane, until_s, configuration=configuration)
    receipt = event("x")
    waiting = patience(lane)
    assert left_s == waiting.unsorted_left_s(receipt, 4.0)
    assert settles_s == waiting.unsorted_settles_s(receipt, 4.0)
    assert settles_s == waiting.settles_s(receipt, 4.0)


def test_event_in_flight_settles_at_any_moment():
    """An event that has left may be settled now, whatever holds its lane."""
    lane = hold(make_lane(make_item(1)), 9.0)
    item = make_item(2)
    lane.flights[1] = Flight([item], 3.0, piece=False)
    assert 4.0 == patience(lane).settles_s(item.receipt, 4.0)
    assert 4.0 == patience(lane, make_lane(route="b")).settles_s(item.receipt, 4.0)


def test_event_of_several_parts_settles_with_its_last():
    """An event whose parts wait in two lanes waits for the later of the two."""
    one, two = make_item(1), make_item(2, route="b")
    two.receipt = one.receipt
    lanes = hold(make_lane(one), 5.0), hold(make_lane(two, route="b"), 8.0)
    assert 8.0 == patience(*lanes).settles_s(one.receipt, 4.0)


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        pytest.param({}, [LINGER_S], id="lingers"),
        pytest.param({"held": 7.0}, [7.0, GIVE_UP_S], id="on hold"),
        pytest.param({"parked": 7.0}, [7.0], id="its user waits"),
        pytest.param({"empty": True}, [], id="empty"),
    ],
)
def test_times(story, expected):
    """A lane names the times at which it may have something to do."""
    lane = make_lane() if "empty" in story else make_lane(make_item(1, "u"))
    if "held" in story:
        hold(lane, story["held"])
    if "parked" in story:
        lane.parked["u"] = story["parked"]
    found = [time for time in patience(lane).times(0.5) if time > 0.5]
    assert set(expected) <= set(found)
    assert {*expected, GIVE_UP_S} >= set(found)


@pytest.mark.parametrize(
    ("a", "b", "held", "parked", "expected"),
    [
        pytest.param(
            [(1, "u")], [(2, "u")], {"a": 7.0}, {}, {1: 7.0, 2: 0.0}, id="own lane only"
        ),
        pytest.param(
            [(1, "u"), (2, "v")],
            [],
            {"a": 7.0},
            {},
            {1: 7.0, 2: 7.0},
            id="all of a lane",
        ),
        pytest.param(
            [(1, "u!")], [(2, "u")], {"a": 7.0}, {}, {1: 7.0, 2: 7.0}, id="a barrier"
        ),
        pytest.param(
            [(1, "u!")], [(2, "v")], {"a": 7.0}, {}, {1: 7.0, 2: 0.0}, id="a stranger's"
        ),
        pytest.param(
            [(2, "u!")], [(1, "u")], {"b": 7.0}, {}, {1: 7.0, 2: 7.0}, id="before one"
        ),
        pytest.param(
            [(1, "u"), (2, "u+v"), (3, "v")],
            [],
            {},
            {"u": 7.0},
            {1: 7.0, 2: 7.0, 3: 7.0},
            id="joined to one who waits",
        ),
        pytest.param(
            [(1, "v"), (2, "u+v")],
            [],
            {},
            {"u": 7.0},
            {1: 0.0, 2: 7.0},
            id="not before",
        ),
        pytest.param(
            [(1, "")], [], {}, {"u": 7.0}, {1: 0.0}, id="no user waits for nobody"
        ),
    ],
)
def test_settling(a, b, held, parked, expected):
    """A part waits for its lane, its user, and for what order puts before it."""
    lanes = {}
    found = {}
    for route, words in (("a", a), ("b", b)):
        items = []
        for number, user in words:
            key, _, joins = user.rstrip("!").partition("+")
            barrier = "!" in user
            items.append(
                make_item(number, key, joins=joins, route=route, barrier=barrier)
            )
        found.update({item.sequence: item for item in items})
        lanes[route] = make_lane(*items, route=route)
        lanes[route].parked.update(parked)
    for route, until_s in held.items():
        hold(lanes[route], until_s)
    barriers = [item for item in found.values() if item.part.barrier]
    waiting = patience(*lanes.values(), barriers=barriers, give_up_after_s=None)
    assert expected == {
        number: waiting.settles_s(item.receipt, 0.0) for number, item in found.items()
    }


def test_settling_by_giving_up():
    """A part that gets too old first is settled then."""
    one, two = make_item(1), make_item(2, born_s=2.0)
    lane = hold(make_lane(one, two), 11.0)
    waiting = patience(lane, make_lane(route="b"))
    assert 10.0 == waiting.settles_s(one.receipt, 3.0)
    assert 11.0 == waiting.settles_s(two.receipt, 3.0)
