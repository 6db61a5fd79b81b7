"""Lanes are written as words: the user's key of each item, numbered from 1.

``a`` keeps the order of user a, ``a+b`` joins two users, ``-`` has no user; ``!`` after
it makes a barrier, ``*`` an urgent item.
"""

from __future__ import annotations

import math

import pytest

from analytics_sdk._batching import NO_LIMIT
from analytics_sdk._items import Era, Flight, Held, Item, place
from analytics_sdk._lanes import Lane
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import Limits, Part
from tests.toys import event

ROUTE = "main"


def make_item(sequence, spelled="-", size=10):
    key, _, joins = spelled.rstrip("!*").replace("-", "").partition("+")
    part = Part(ROUTE, b"x" * size, key, joins, barrier="!" in spelled)
    item = Item(part, event(f"e{sequence}"), sequence, None)
    item.urgent = "*" in spelled
    return item


def make_items(spelled, size=10):
    return [
        make_item(number, each, size) for number, each in enumerate(spelled.split(), 1)
    ]


def make_lane(items=(), **limits):
    lane = Lane(ROUTE, Limits(**limits))
    for item in items:
        lane.append(item)
    return lane


def take(lane, *, now=0.0, blocked=(), barriers=(), ready=()):
    return numbers(lane.take(now, set(blocked), list(barriers), set(ready)))


def numbers(items):
    return [item.sequence for item in items]


def bytes_of(lane):
    return sum(item.size for item in lane.pending)


# -- places ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        pytest.param("a b c", [1, 2, 3], id="in order"),
        pytest.param("a* b c*", [1, 3, 2], id="urgent behind the urgent"),
        pytest.param("a b*", [2, 1], id="urgent before the rest"),
        pytest.param("a* b*", [1, 2], id="all urgent"),
    ],
)
def test_append(spelled, expected):
    """A new item goes behind all others, an urgent one behind the urgent."""
    lane = make_lane(make_items(spelled))
    assert expected == numbers(lane.waiting())
    assert (len(expected), bytes_of(lane)) == (len(lane), lane.pending_bytes)


def test_put_back_restores_the_order():
    """What was taken and failed goes to where it was, whoever came meanwhile."""
    one, two, three, four = make_items("a b a b")
    lane = make_lane([two, four])
    lane.put_back([three, one])
    assert ([1, 2, 3, 4], 40) == (numbers(lane.waiting()), lane.pending_bytes)


def test_waiting_starts_with_the_pieces():
    """Pieces of a refused request are sent before the rest, so they wait before it."""
    one, two, three, four = make_items("a b c d")
    lane = make_lane([four])
    lane.pieces.extend([[one, two], [three]])
    assert ([1, 2, 3, 4], 4) == (numbers(lane.waiting()), len(lane))


def test_remove():
    """Items are taken out wherever they wait, and an empty piece with its last one."""
    items = one, two, three, four, five = make_items("a b c d e")
    lane = make_lane([four, five])
    lane.pieces.extend([[one, two], [three]])
    lane.remove({two, three, five})
    assert ([1, 4], 10) == (numbers(lane.waiting()), lane.pending_bytes)
    assert [[1]] == [numbers(piece) for piece in lane.pieces]
    lane.remove(set(items))
    assert ([], 0, False) == (lane.waiting(), lane.pending_bytes, lane.busy)


@pytest.mark.parametrize(
    ("change", "busy"),
    [
        pytest.param(lambda lane, item: (lane, item), False, id="nothing"),
        pytest.param(lambda lane, item: lane.append(item), True, id="waiting"),
        pytest.param(lambda lane, item: lane.pieces.append([item]), True, id="piece"),
        pytest.param(
            lambda lane, item: lane.flights.update({1: Flight([item], 0.0, False)}),
            True,
            id="in flight",
        ),
    ],
)
def test_busy(change, busy):
    """A lane is busy while something waits in it or is in flight."""
    lane = make_lane()
    change(lane, make_item(1))
    assert busy == lane.busy


@pytest.mark.parametrize(
    ("sizes", "limits", "cap_bytes", "full"),
    [
        pytest.param([9] * 9, {}, NO_LIMIT, False, id="no limit"),
        pytest.param([9], {"events": 2}, NO_LIMIT, False, id="count: one under"),
        pytest.param([9, 9], {"events": 2}, NO_LIMIT, True, id="count: exact"),
        pytest.param([9, 9], {"batch_bytes": 20}, NO_LIMIT, False, id="bytes: under"),
        pytest.param([9, 9], {"batch_bytes": 19}, NO_LIMIT, True, id="bytes: exact"),
        pytest.param(
            [9, 9],
            {"batch_bytes": 22, "envelope_bytes": 3},
            NO_LIMIT,
            True,
            id="the envelope counts",
        ),
        pytest.param([9, 9], {"batch_bytes": 99}, 19, True, id="a learned cap"),
        pytest.param([9, 9], {}, 20, False, id="under a learned cap"),
        pytest.param([], {"envelope_bytes": 50}, 40, False, id="nothing waits"),
    ],
)
def test_full(sizes, limits, cap_bytes, full):
    """A lane is full when what waits fills a request, and never while empty."""
    lane = make_lane(**limits)
    lane.cap_bytes = cap_bytes
    for number, size in enumerate(sizes):
        lane.append(make_item(number, size=size))
    assert full == lane.full


@pytest.mark.parametrize(
    ("count", "limits", "requests", "expected"),
    [
        pytest.param(3, {"events": 2}, 2, False, id="count: one under"),
        pytest.param(4, {"events": 2}, 2, True, id="count: exact"),
        pytest.param(3, {"batch_bytes": 21}, 2, False, id="bytes: under"),
        pytest.param(4, {"batch_bytes": 21}, 2, True, id="bytes: exact"),
        pytest.param(
            4, {"batch_bytes": 25, "envelope_bytes": 4}, 2, True, id="two envelopes"
        ),
        pytest.param(
            4, {"batch_bytes": 26, "envelope_bytes": 4}, 2, False, id="one byte under"
        ),
    ],
)
def test_fills_several_requests(count, limits, requests, expected):
    """With parallel uploads a lane can tell whether it fills as many requests."""
    lane = make_lane(make_items("- " * count), **limits)
    assert expected == lane.fills(requests)


def test_who_has_to_wait_fills_no_request():
    """Parts that were seen to wait do not count, until something has happened."""
    lane = make_lane(make_items("a a b"), events=2)
    assert lane.full
    assert [3] == take(lane, blocked="a")
    assert not lane.full
    lane.look_again()
    assert lane.full


def test_places_of_a_lane():
    """A lane tells what is first, what is in flight, and all it has."""
    one, two, three = make_items("a b c")
    lane = make_lane()
    assert lane.first() is None
    lane.append(three)
    assert three is lane.first()
    lane.put_first([two])
    assert two is lane.first()
    lane.flights[1] = Flight([one], 0.0, piece=False)
    assert [1] == numbers(lane.in_flight())
    assert [1, 2, 3] == numbers(lane.all_items())


def test_parts_become_urgent():
    """Parts that have become urgent go first, each kind in its order."""
    items = make_items("a b c d")
    lane = make_lane(items)
    items[1].urgent = items[3].urgent = True
    lane.put_in_order()
    assert [2, 4, 1, 3] == numbers(lane.waiting())


def test_end_of_a_search():
    """What was taken apart, the suspects too, waits like the rest, in order."""
    one, two, three, four = make_items("a b c d")
    lane = make_lane([four])
    lane.era = Era()
    lane.era.suspects.append((one, "bad"))
    lane.put_first([two], [three])
    assert (True, [1], 4) == (lane.searching, numbers(lane.suspects), len(lane))
    lane.end_search()
    assert (False, [], 4) == (lane.searching, numbers(lane.suspects), len(lane))
    assert [1, 2, 3, 4] == numbers(lane.pending)
    assert bytes_of(lane) == lane.pending_bytes


def test_suspects_can_be_removed():
    """A suspect that has been settled elsewhere is under suspicion no more."""
    one, two, three = make_items("a b c")
    lane = make_lane()
    lane.era = Era()
    lane.era.suspects += [(one, "bad"), (two, "bad")]
    lane.put_first([three])
    lane.remove({one})
    assert ([2], [2, 3]) == (numbers(lane.suspects), numbers(lane.waiting()))
    lane.remove({three})
    assert ([], [2]) == (numbers(lane.suspects), numbers(lane.pending))


# -- what the next request holds ---------------------------------------------


@pytest.mark.parametrize(
    ("spelled", "limits", "blocked", "expected"),
    [
        pytest.param("a b a", {}, "", [1, 2, 3], id="all"),
        pytest.param("a b a", {"events": 2}, "", [1, 2], id="the limit"),
        pytest.param("a* b c*", {"events": 2}, "", [1, 3], id="urgent first"),
        pytest.param("a b a c", {}, "a", [2, 4], id="one user waits"),
        pytest.param("a - a", {}, "a", [2], id="no user waits for nobody"),
        pytest.param("a a+b b c", {}, "a", [4], id="what is joined waits too"),
        pytest.param("b a+b a c", {}, "a", [1, 4], id="but not what came before"),
        pytest.param("a b c d", {"events": 2}, "a", [2, 3], id="limit beside waiting"),
        pytest.param(
            "a b c d", {"batch_bytes": 21}, "a", [2, 3], id="bytes beside waiting"
        ),
        pytest.param(
            "a b c", {"batch_bytes": 20}, "a", [2], id="one byte over beside waiting"
        ),
        pytest.param(
            "a b", {"batch_bytes": 5}, "a", [2], id="at least one beside waiting"
        ),
        pytest.param("a b", {}, "ab", [], id="everybody waits"),
        pytest.param("", {}, "", [], id="nothing"),
    ],
)
def test_take(spelled, limits, blocked, expected):
    """A request takes in order what fits; who has to wait holds back his own only."""
    items = make_items(spelled)
    lane = make_lane(items, **limits)
    assert expected == take(lane, blocked=blocked)
    left = [item for item in sorted(items, key=place) if item.sequence not in expected]
    assert numbers(left) == numbers(lane.waiting())
    assert bytes_of(lane) == lane.pending_bytes


@pytest.mark.parametrize(
    ("spelled", "ready", "expected"),
    [
        pytest.param("a! b", "1", [1, 2], id="a ready barrier goes"),
        pytest.param("a! b", "", [2], id="one that is not ready stays"),
        pytest.param("b a! a c", "2", [1, 2, 4], id="its user's later ones wait"),
        pytest.param("a a! b", "2", [1, 3], id="its user's earlier ones go alone"),
        pytest.param("a+b! b a c", "1", [1, 4], id="it holds back both its users"),
        pytest.param("a! a! b", "12", [1, 3], id="one barrier after the other"),
        pytest.param("a! b! c", "12", [1, 2, 3], id="strangers' barriers go together"),
        pytest.param("a! a+b b", "", [], id="what joins a waiting user waits"),
    ],
)
def test_barriers(spelled, ready, expected):
    """A barrier leaves after all earlier and before all later parts of its users."""
    items = make_items(spelled)
    barriers = [item for item in items if item.part.barrier]
    chosen = [items[int(number) - 1] for number in ready]
    lane = make_lane(items)
    assert expected == take(lane, barriers=barriers, ready=chosen)


def test_barrier_of_another_lane():
    """Parts wait for an earlier barrier of their user in another lane, not for a later.

    That is how order holds across routes.
    """
    lane = make_lane([make_item(1, "a"), make_item(3, "a"), make_item(4, "b")])
    assert [1, 4] == take(lane, barriers=[make_item(2, "a!")])
    assert [3] == numbers(lane.waiting())


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(4.9, [2], id="before"),
        pytest.param(5.0, [1, 2, 3], id="exactly then"),
        pytest.param(9.0, [1, 2, 3], id="later"),
    ],
)
def test_parked_user_waits_until_his_time(now, expected):
    """A parked user is held back until his time, exactly, and nobody else is."""
    lane = make_lane(make_items("a b a"))
    lane.parked["a"] = 5.0
    assert expected == take(lane, now=now)
    assert ("a" in lane.parked) == (now < 5.0)


def test_pieces_go_first_one_by_one():
    """Pieces are sent before the rest, each as it was cut."""
    one, two, three, four = make_items("a b a c")
    lane = make_lane([four])
    lane.pieces.extend([[one, two], [three]])
    assert [[1, 2], [3], [4]] == [take(lane) for _ in range(3)]
    assert 0 == lane.pending_bytes


def test_parked_user_in_a_piece_does_not_hold_up_strangers():
    """A piece leaves without the user who waits."""
    one, two, three = make_items("a b c")
    lane = make_lane([three])
    lane.pieces.append([one, two])
    lane.parked["a"] = 5.0
    assert [[2], [3], []] == [take(lane) for _ in range(3)]
    assert [1] == take(lane, now=5.0)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param(["a a+b b c"], [4], id="joined in one piece"),
        pytest.param(["a b", "a+c c d"], [2], id="the first piece that has anything"),
        pytest.param(["a a+b", "b c"], [4], id="joined over two pieces"),
        pytest.param(["a", "a", "c a"], [3], id="nothing in the first two"),
        pytest.param(["a", "a"], [], id="nothing in any"),
    ],
)
def test_user_who_waits_holds_back_all_that_is_joined_to_him(pieces, expected):
    """What a waiting part holds back in one piece waits in the later ones too."""
    items = iter(make_items(" ".join(pieces)))
    lane = make_lane()
    for piece in pieces:
        lane.pieces.append([next(items) for _ in piece.split()])
    assert expected == take(lane, blocked="a")
    count = len(" ".join(pieces).split())
    left = [number for number in range(1, count + 1) if number not in expected]
    assert left == sorted(numbers(lane.waiting()))


def test_order_of_a_user_who_waits_between_pieces():
    """What had to wait in one piece leaves before its user's part in the next piece."""
    one, two, three, four = make_items("a b a c")
    lane = make_lane()
    lane.pieces.extend([[one, two], [three, four]])
    taken = take(lane, blocked="a")
    while lane.busy and len(taken) < 4:
        taken += take(lane)
    assert [1, 3] == [number for number in taken if number in (1, 3)]
    assert [1, 2, 3, 4] == sorted(taken)


# -- probes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelled", "blocked", "expected"),
    [
        pytest.param("a b c", "", [1], id="the first"),
        pytest.param("a b c", "a", [2], id="the first that may go"),
        pytest.param("a b", "ab", [], id="nobody may"),
    ],
)
def test_probe_holds_one_event(spelled, blocked, expected):
    """A lane on hold is tried with its smallest real request."""
    lane = make_lane(make_items(spelled), events=10)
    lane.probe_next = True
    assert expected == take(lane, blocked=blocked)


def probe(lane, probes, **words):
    lane.era = Era()
    lane.probe_next = True
    lane.probes = probes
    return take(lane, **words)


def test_probes_in_a_time_of_400s_try_different_events():
    """One bad event at the head does not shut a lane for ever: probes go elsewhere."""
    tried = []
    for probes in range(1, 9):
        lane = make_lane(make_items("a b c d e f g h"))
        tried += probe(lane, probes)
        rest = [number for number in range(1, 9) if number != tried[-1]]
        assert rest == numbers(lane.waiting())
        assert bytes_of(lane) == lane.pending_bytes
    assert len(set(tried)) >= 5


@pytest.mark.parametrize(
    ("spelled", "words", "expected"),
    [
        pytest.param("a b c", {}, [2], id="an event with nothing before it"),
        pytest.param("a a a", {}, [1], id="its user's earlier ones go first"),
        pytest.param("- - -", {}, [2], id="no user, no order"),
        pytest.param("a b! c", {}, [1], id="a barrier is not picked out"),
        pytest.param("a b c", {"blocked": "b"}, [1], id="nor one that must wait"),
        pytest.param("a+b b c", {}, [1], id="nor one that is joined to an earlier"),
        pytest.param(
            "a b c", {"barriers": [make_item(0, "b!")]}, [1], id="nor one behind it"
        ),
        pytest.param("a", {}, [1], id="there is but one"),
    ],
)
def test_probe_in_a_time_of_400s_keeps_order(spelled, words, expected):
    """A probe goes before others only where no user's order is broken."""
    items = make_items(spelled)
    lane = make_lane(items)
    assert expected == probe(lane, 1, **words)
    left = [number for number in range(1, len(items) + 1) if number not in expected]
    assert left == numbers(lane.waiting())
    assert bytes_of(lane) == lane.pending_bytes


def test_probe_of_a_lane_with_pieces_holds_one_event():
    """A search that is stopped by a hold goes on with one event, in order."""
    one, two, three = make_items("a b c")
    lane = make_lane([three])
    lane.pieces.append([one, two])
    lane.probe_next = True
    assert [1] == take(lane)
    lane.probe_next = False
    assert [2, 3] == sorted(take(lane) + take(lane))


# -- holds and the give-up clock ---------------------------------------------


def held(until_s, *, configuration=False):
    reason = Reason.CONFIGURATION if configuration else Reason.SERVER_ERROR
    return Held(until_s, reason, configuration)


@pytest.mark.parametrize(
    ("untils", "expected_s"),
    [
        pytest.param([5.0], 5.0, id="one"),
        pytest.param([5.0, 9.0], 9.0, id="a longer one"),
        pytest.param([9.0, 5.0], 9.0, id="a shorter one"),
        pytest.param([5.0, 9.0, 7.0], 9.0, id="the longest of three"),
    ],
)
def test_longest_hold_wins(untils, expected_s):
    """Of several causes to wait, the longest decides."""
    lane = make_lane()
    for until_s in untils:
        lane.hold(held(until_s), 0.0)
    assert expected_s == lane.held.until_s


def test_equal_hold_names_the_newer_cause():
    """Of two causes that last equally long, the last one is reported."""
    lane = make_lane()
    lane.hold(held(5.0), 0.0)
    lane.hold(held(5.0, configuration=True), 0.0)
    assert Reason.CONFIGURATION == lane.held.reason


def test_hold_ages_what_is_in_flight():
    """What left before a hold says nothing about it, though it left at that time."""
    lane = make_lane()
    lane.flights[1] = Flight([make_item(1)], 5.0, piece=False)
    lane.hold(held(9.0), 5.0)
    assert lane.flights[1].departed_s < lane.failed_at_s == 5.0


def test_release():
    """What gets through ends the hold and all that led to it."""
    lane = make_lane()
    lane.hold(held(5.0), 0.0)
    lane.failures, lane.probes, lane.probe_next = 3, 2, True
    lane.release(1.0)
    assert (None, 0, 0, False) == (
        lane.held,
        lane.failures,
        lane.probes,
        lane.probe_next,
    )


@pytest.mark.parametrize(
    ("story", "born_s", "age_s"),
    [
        pytest.param([], 0, 100, id="nothing"),
        pytest.param([(10, "transient")], 0, 100, id="transient holds count"),
        pytest.param([(10, "configuration")], 0, 10, id="stands since the hold"),
        pytest.param([(10, "configuration"), (50, "mended")], 0, 60, id="goes on"),
        pytest.param(
            [(10, "configuration"), (30, "configuration"), (50, "mended")],
            0,
            60,
            id="one hold after the other",
        ),
        pytest.param(
            [
                (10, "configuration"),
                (20, "mended"),
                (30, "configuration"),
                (40, "mended"),
            ],
            0,
            80,
            id="two times",
        ),
        pytest.param(
            [(10, "configuration"), (20, "mended"), (90, "configuration")],
            0,
            80,
            id="stands again",
        ),
        pytest.param(
            [(10, "configuration"), (50, "mended")], 20, 50, id="born in the middle"
        ),
        pytest.param([(10, "configuration"), (50, "mended")], 60, 40, id="born after"),
        pytest.param([(10, "configuration")], 20, 0, id="born while it stands"),
        pytest.param(
            [(10, "transient"), (20, "configuration")], 0, 20, id="then a setting"
        ),
    ],
)
def test_give_up_clock(story, born_s, age_s):
    """The clock stands still while a lane waits for a setting to be mended."""
    lane = make_lane()
    for now, what in story:
        if what == "mended":
            lane.release(float(now))
        else:
            lane.hold(held(now + 5.0, configuration=what == "configuration"), now)
    assert age_s == lane.age_s(born_s, 100.0)


def test_many_standstills():
    """A long life does not pile up standstills, and rather keeps events too long."""
    lane = make_lane()
    for start in range(0, 1000, 10):
        lane.hold(held(start + 1.0, configuration=True), float(start))
        lane.release(start + 1.0)
    assert 0 <= lane.age_s(0.0, 1000.0) <= 900
    assert 90 == lane.age_s(900.0, 1000.0)


def test_shorter_hold_for_a_setting_does_not_stop_the_clock():
    """The cause that decides how long the lane waits decides about the clock too."""
    lane = make_lane()
    lane.hold(held(60.0), 0.0)
    lane.hold(held(5.0, configuration=True), 0.0)
    assert (False, 30.0) == (lane.clock_stands, lane.age_s(0.0, 30.0))


def test_lane_starts_open():
    """A new lane holds nothing, waits for nothing and knows no cap."""
    lane = make_lane()
    assert (0, False, None, NO_LIMIT) == (
        len(lane),
        lane.busy,
        lane.held,
        lane.cap_bytes,
    )
    assert not lane.clock_stands
    assert math.isinf(lane.failed_at_s)
