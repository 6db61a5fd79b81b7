from __future__ import annotations

import json

import pytest

from analytics_sdk._config import Delivery
from analytics_sdk._delivery import Core
from analytics_sdk._ledger import charge_of
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import (
    AllDelivered,
    Hold,
    Limits,
    Parts,
    Rejected,
    Retry,
    RetryBatch,
)
from tests.toys import Bench, Toy, delivering, event, fates, ids, scripted, word

A, B = 0, 1
BUSY = RetryBatch(Reason.SERVER_ERROR)
WRONG_KEY = Hold(Reason.CONFIGURATION)
NAMES = ("A", "B")
CHARGE = charge_of(event("e00", "u00")._raw)


def both(message_id, user_id="", to=(A, B), **words):
    return event(message_id, user_id, to=to, names=NAMES, **words)


def two(a=None, b=None, **settings):
    """Return a bench with the destinations A and B."""
    limits = Limits()
    return Bench(
        Toy("A", **(a or {"m": limits})), Toy("B", **(b or {"m": limits})), **settings
    )


def answering(a, b):
    """Be two servers, each with one answer."""
    return lambda send: (a, b)[send.destination]


def at_each(receipt):
    return {name: word(outcome) for name, outcome in receipt.by_destination.items()}


def where(sends):
    return [f"{NAMES[send.destination]}:{ids(send.parts)}" for send in sends]


# -- several destinations ------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        pytest.param((A, B), ["A:e1", "B:e1"], id="both"),
        pytest.param((A,), ["A:e1"], id="the first"),
        pytest.param((B,), ["B:e1"], id="the second"),
    ],
)
def test_event_goes_where_it_was_told(to, expected):
    """An event leaves for each destination that the selector chose, once."""
    bench = two()
    (receipt,) = bench.accept(both("e1", to=to))
    sends = bench.leave()
    assert expected == where(sends)
    for send in sends:
        bench.reply(send, AllDelivered())
    assert ["delivered"] == fates([receipt])
    assert len(sends) == len({send.ticket for send in sends})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param({"raises": 1}, "lost(bug)", id="its encoding raises"),
        pytest.param({"parts": []}, "skipped(not_taken)", id="it has no use for it"),
        pytest.param({"refused": "no_name"}, "refused(no_name)", id="it refuses it"),
        pytest.param({"size": 31}, "refused(too_large)", id="too large for it"),
    ],
)
@pytest.mark.parametrize("broken", ["A", "B"])
def test_what_one_destination_does_not_take(words, expected, broken):
    """An event that one destination cannot take is delivered to the other."""
    limits = {"m": Limits(event_bytes=30)}
    bench = two(limits, limits)
    (receipt,) = bench.accept(both("e1", at={broken: words}))
    bench.run(delivering)
    other = "B" if broken == "A" else "A"
    assert {broken: expected, other: "delivered"} == at_each(receipt)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param(
            AllDelivered(), WRONG_KEY, {"A": "delivered", "B": "queued"}, id="hold"
        ),
        pytest.param(BUSY, AllDelivered(), {"A": "queued", "B": "delivered"}, id="503"),
        pytest.param(
            Parts([Rejected(Reason.INVALID)]),
            AllDelivered(),
            {"A": "rejected(invalid)", "B": "delivered"},
            id="rejected",
        ),
        pytest.param(
            Parts([Retry(9.0)]),
            AllDelivered(),
            {"A": "queued", "B": "delivered"},
            id="a user who waits",
        ),
    ],
)
def test_destinations_do_not_wait_for_each_other(a, b, expected):
    """What one destination answers changes nothing at the other."""
    bench = two()
    (receipt,) = bench.accept(both("e1", "u"))
    bench.run(answering(a, b))
    assert expected == at_each(receipt)


def test_barrier_is_its_destinations_own():
    """A barrier at one destination holds nothing back at the other."""
    bench = two()
    bench.accept(both("e1", "u", at={"A": {"barrier": True}}), both("e2", "u"))
    assert ["A:e1", "B:e1 e2"] == where(bench.leave())


def test_events_are_decoded_with_the_clients_codec():
    """Destinations see what the given decoder makes of an event's bytes."""
    decoded = []

    def decode(raw):
        decoded.append(raw)
        return json.loads(raw)

    core = Core([Toy()], Delivery(), decode=decode)
    receipt = event("e1")
    core.accept([receipt], 0.0)
    core.prepare(1)
    assert [receipt._raw] == decoded


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, [], id="nobody listens"),
        pytest.param({"report": True}, ["rejected(invalid)"], id="failures"),
        pytest.param(
            {"report": True, "settings": {"report": "all"}},
            ["rejected(invalid)", "delivered"],
            id="all",
        ),
    ],
)
def test_who_is_told(options, expected):
    """The settings say which outcomes are noted for those who listen."""
    settings = Delivery(linger_s=0.0, **options.pop("settings", {}))
    core = Core([Toy("A"), Toy("B")], settings, **options)
    bench = two()
    bench.core = core
    bench.accept(both("e1"))
    bench.run(answering(Parts([Rejected(Reason.INVALID)]), AllDelivered()))
    assert expected == [word(outcome) for _, _, outcome in core.ledger.notices]


# -- time ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "due_s"),
    [
        pytest.param(AllDelivered(), AllDelivered(), None, id="nothing to do"),
        pytest.param(WRONG_KEY, AllDelivered(), 5.0, id="the first"),
        pytest.param(AllDelivered(), WRONG_KEY, 5.0, id="the second"),
        pytest.param(Hold(Reason.QUOTA, 9.0), WRONG_KEY, 5.0, id="the earlier"),
    ],
)
def test_next_due(a, b, due_s):
    """The core is due when the first of its destinations is."""
    bench = two(jitter=0.0)
    bench.accept(both("e1"))
    bench.run(answering(a, b))
    assert due_s == bench.core.next_due_s(bench.now)


@pytest.mark.parametrize(
    ("a", "b", "until_s"),
    [
        pytest.param(AllDelivered(), AllDelivered(), 0.0, id="settled"),
        pytest.param(AllDelivered(), Hold(Reason.QUOTA, 60.0), 60.0, id="one is held"),
        pytest.param(
            Hold(Reason.QUOTA, 9.0), Hold(Reason.QUOTA, 60.0), 9.0, id="both are held"
        ),
        pytest.param(None, Hold(Reason.QUOTA, 60.0), 0.0, id="one is in flight"),
    ],
)
@pytest.mark.parametrize("of_one", [True, False], ids=["of it", "of anything"])
def test_stuck_until(a, b, until_s, of_one):
    """Something can happen when the first destination with events may send."""
    bench = two()
    (receipt,) = bench.accept(both("e1"))
    for send, reading in zip(bench.leave(), (a, b), strict=True):
        if reading is not None:
            bench.reply(send, reading)
    assert [] == bench.left()
    assert until_s == bench.stuck_until_s(0.0, receipt if of_one else None)


def test_stuck_receipt_beside_strangers():
    """What else goes on does not make a stuck event look as if it could be settled."""
    bench = two()
    (receipt,) = bench.accept(both("e1", to=(B,)))
    bench.run(scripted(Hold(Reason.QUOTA, 60.0)))
    bench.accept(both("e2", to=(A,)))
    bench.leave()
    assert 60.0 == bench.stuck_until_s(0.0, receipt)
    assert 0.0 == bench.stuck_until_s(0.0)


@pytest.mark.parametrize(
    ("wake", "expected"),
    [
        pytest.param("rush", ["A:e1 e2", "B:e1 e2"], id="a flush"),
        pytest.param("pull", ["A:e2 e1", "B:e2 e1"], id="an urgent event"),
        pytest.param("", [], id="neither"),
    ],
)
def test_rush_and_pull_reach_all_destinations(wake, expected):
    """A flush, and an urgent event, need not wait for company anywhere."""
    bench = two(linger_s=1.0)
    _, receipt = bench.accept(both("e1", "u"), both("e2", "v"))
    if wake == "rush":
        bench.core.rush(0.0)
    elif wake == "pull":
        bench.pull(receipt)
    assert expected == where(bench.leave())


@pytest.mark.parametrize(
    ("keeps", "expected"), [(False, "lost(expired)"), (True, "pending")], ids=str
)
def test_giving_up_is_for_events_in_memory(keeps, expected):
    """Where the buffer keeps events for ever, none is given up."""
    bench = two(keeps=keeps, give_up_after_s=10.0)
    receipts = bench.accept(both("e1"))
    bench.run(answering(AllDelivered(), RetryBatch(Reason.SERVER_ERROR, 99.0)))
    bench.now = 10.0
    bench.core.tick(10.0)
    assert [expected] == fates(receipts)


# -- memory: a destination on hold ---------------------------------------------


def numbered(count, start=0, to=(A, B), **words):
    return [
        both(f"e{index:02}", f"u{index:02}", to=to, **words)
        for index in range(start, start + count)
    ]


def evicted(receipts):
    return [
        index
        for index, receipt in enumerate(receipts)
        if word(receipt.outcome).startswith("evicted")
    ]


def holding_b(count, **words):
    """Let A deliver *count* events and B hold them; memory is for twenty."""
    bench = two(max_bytes=20 * CHARGE, **words)
    receipts = bench.accept(*numbered(count))
    for send in bench.leave():
        bench.reply(send, AllDelivered() if send.destination == A else WRONG_KEY)
    return bench, receipts


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        pytest.param(9, [], id="less than half"),
        pytest.param(10, [], id="exactly half"),
        pytest.param(11, [0, 1], id="more: down to 95 per cent"),
        pytest.param(15, [0, 1, 2, 3, 4, 5], id="much more"),
    ],
)
def test_destination_on_hold_keeps_half_of_the_memory(count, expected):
    """A destination on hold drops its own oldest when it alone fills over half."""
    bench, receipts = holding_b(count)
    bench.core.tick(bench.now)
    assert expected == evicted(receipts)
    for index in expected:
        assert "evicted(held_share)" == word(receipts[index].outcome)
        assert {"A": "delivered", "B": "evicted(held_share)"} == at_each(
            receipts[index]
        )
    assert (count - len(expected)) * CHARGE == bench.core.ledger.unsettled_bytes
    bench.run_until(60.0, delivering)
    assert count - len(expected) == fates(receipts).count("delivered")


def test_events_that_others_need_are_not_dropped():
    """What another destination has not settled either is not the held one's share."""
    bench, receipts = holding_b(8)
    receipts += bench.accept(*numbered(8, start=8))
    flying = bench.leave()
    bench.core.tick(bench.now)
    assert ([], ["A"]) == (evicted(receipts), [NAMES[s.destination] for s in flying])
    for send in flying:
        bench.reply(send, AllDelivered())
    bench.core.tick(bench.now)
    assert list(range(7)) == evicted(receipts)


def test_share_is_made_of_events_that_nobody_else_needs():
    """Older events that another destination still needs are passed over."""
    bench = two(max_bytes=20 * CHARGE)
    receipts = bench.accept(*numbered(2))
    bench.run(answering(WRONG_KEY, WRONG_KEY))
    receipts += bench.accept(*numbered(11, start=2, to=(B,)))
    bench.core.tick(bench.now)
    assert [2, 3] == evicted(receipts)
    assert {"A": "queued", "B": "queued"} == at_each(receipts[0])


def test_share_in_flight_is_not_dropped():
    """What is in flight to a destination is its own, however much that is."""
    limits = {"m": Limits(events=11)}
    bench = two(b=limits, max_bytes=20 * CHARGE, parallel_uploads=2)
    receipts = bench.accept(*numbered(11, to=(B,)))
    bench.leave()
    receipts += bench.accept(*numbered(11, start=11, to=(B,)))
    (send,) = bench.leave()
    bench.reply(send, WRONG_KEY)
    bench.core.tick(bench.now)
    assert list(range(11, 22)) == evicted(receipts)


@pytest.mark.parametrize(
    ("a", "b"),
    [(AllDelivered(), None), (WRONG_KEY, WRONG_KEY)],
    ids=["in flight", "both on hold"],
)
def test_no_share_without_a_sole_holder_on_hold(a, b):
    """A destination that works, or that is not alone, drops nothing."""
    bench = two(max_bytes=20 * CHARGE)
    receipts = bench.accept(*numbered(15))
    for send, reading in zip(bench.leave(), (a, b), strict=True):
        if reading is not None:
            bench.reply(send, reading)
    bench.core.tick(bench.now)
    assert [] == evicted(receipts)


def test_only_destination_may_fill_the_memory():
    """Where there is one destination, there is nobody to keep memory for."""
    bench = Bench(max_bytes=20 * CHARGE)
    receipts = bench.accept(*[event(f"e{index:02}", "u") for index in range(15)])
    bench.run(scripted(WRONG_KEY))
    bench.core.tick(bench.now)
    assert ["pending"] * 15 == fates(receipts)


def test_route_without_traffic_does_not_hide_a_hold():
    """A destination whose busy routes are all on hold is on hold."""
    routes = {"m": Limits(), "idle": Limits()}
    bench = two(b=routes, max_bytes=20 * CHARGE)
    receipts = bench.accept(*numbered(15))
    bench.run(answering(AllDelivered(), WRONG_KEY))
    bench.core.tick(bench.now)
    assert list(range(6)) == evicted(receipts)


# -- memory: the oldest go -----------------------------------------------------


def full_bench(count, toy=None, overflow="drop_oldest", **settings):
    """Accept *count* events, one a second, where ten have room; none leaves."""
    toy = toy or Toy()
    bench = Bench(
        toy, max_bytes=10 * CHARGE, overflow=overflow, linger_s=99.0, **settings
    )
    receipts = []
    for index in range(count):
        bench.now = float(index)
        receipts += bench.accept(event(f"e{index:02}", f"u{index:02}"))
    return bench, receipts


@pytest.mark.parametrize(
    ("count", "overflow", "expected"),
    [
        pytest.param(10, "drop_oldest", [], id="exactly full"),
        pytest.param(11, "drop_oldest", [0, 1], id="over: down to 95 per cent"),
        pytest.param(15, "drop_oldest", [0, 1, 2, 3, 4, 5], id="far over"),
        pytest.param(15, "drop_newest", [], id="drop_newest drops at the door"),
        pytest.param(15, "block", [], id="block waits at the door"),
    ],
)
@pytest.mark.parametrize("encoded", [True, False], ids=["encoded", "in the inbox"])
def test_drop_oldest(count, overflow, expected, encoded):
    """Over the memory bound the oldest events that wait are dropped, if so chosen."""
    bench, receipts = full_bench(count, overflow=overflow)
    if encoded:
        bench.core.prepare(100)
    bench.core.tick(bench.now)
    assert expected == evicted(receipts)
    assert {"evicted(oldest)", "pending"} >= set(fates(receipts))
    bench.core.rush(bench.now)
    bench.run(delivering)
    assert count - len(expected) == fates(receipts).count("delivered")


def test_drop_oldest_spares_what_is_in_flight():
    """An event that has left is not dropped: its answer counts."""
    bench = Bench(
        Toy(main=Limits(events=2)), max_bytes=10 * CHARGE, overflow="drop_oldest"
    )
    receipts = bench.accept(*[event(f"e{index:02}", "u00") for index in range(2)])
    (send,) = bench.leave()
    receipts += bench.accept(*[event(f"e{index:02}", "u00") for index in range(2, 12)])
    bench.core.tick(bench.now)
    assert [2, 3, 4] == evicted(receipts)
    bench.reply(send, AllDelivered())
    assert ["delivered"] * 2 == fates(receipts[:2])


def test_drop_oldest_where_all_is_in_flight():
    """Where everything has left, nothing is dropped."""
    bench = Bench(max_bytes=10 * CHARGE, overflow="drop_oldest")
    receipts = bench.accept(*[event(f"e{index:02}", "u00") for index in range(12)])
    (send,) = bench.core.prepare(100) or bench.core.sends(0.0)
    bench.core.tick(0.0)
    bench.reply(send, AllDelivered())
    assert ["delivered"] * 12 == fates(receipts)


def test_drop_oldest_where_one_destination_has_it_in_flight():
    """An event in flight to one destination is kept at the others too.

    Dropping it there would lose it and make no room.
    """
    bench = two(max_bytes=10 * CHARGE, overflow="drop_oldest")
    bench.accept(both("x", to=(B,)))
    bench.run(scripted(Hold(Reason.QUOTA, 60.0)))
    bench.now = 1.0
    receipts = bench.accept(*numbered(4))
    (send,) = bench.leave()
    bench.now = 2.0
    receipts += bench.accept(*numbered(8, start=4))
    bench.core.tick(bench.now)
    assert [4, 5, 6] == evicted(receipts)
    bench.reply(send, AllDelivered())
    assert {"A": "delivered", "B": "queued"} == at_each(receipts[0])


def test_drop_oldest_over_several_routes():
    """The oldest event goes, whatever its route."""
    toy = Toy(a=Limits(), b=Limits())
    bench = Bench(toy, max_bytes=10 * CHARGE, overflow="drop_oldest", linger_s=99.0)
    receipts = []
    for index in range(11):
        bench.now = float(index)
        route = "b" if index < 5 else "a"
        receipts += bench.accept(event(f"e{index:02}", "u00", route=route))
    bench.core.prepare(100)
    bench.core.tick(bench.now)
    gone = evicted(receipts)
    assert list(range(len(gone))) == gone
    assert gone


def test_drop_oldest_spares_a_young_urgent_event():
    """An event that somebody waits for goes first to the vendor, not overboard."""
    bench, receipts = full_bench(10)
    receipts += bench.accept(event("e10", "u10"))
    bench.core.prepare(100)
    bench.pull(receipts[10])
    bench.core.tick(bench.now)
    assert [0, 1] == evicted(receipts)


def test_dropped_barrier_sets_its_user_free():
    """A barrier that was dropped holds nothing back any more."""
    toy = Toy(a=Limits(), b=Limits())
    bench = Bench(toy, max_bytes=10 * CHARGE, overflow="drop_oldest")
    bench.accept(event("x", "v", route="a"))
    bench.run(scripted(WRONG_KEY))
    receipts = bench.accept(event("e00", "u", route="a", barrier=True))
    bench.leave()
    bench.now = 1.0
    receipts += bench.accept(event("e01", "u", route="b"))
    bench.leave()
    assert ["pending"] * 2 == fates(receipts)
    bench.now = 2.0
    bench.accept(*[event(f"f{index:02}", "w", route="a") for index in range(8)])
    bench.run(delivering)
    assert ["evicted(oldest)", "delivered"] == fates(receipts)


# -- the end -------------------------------------------------------------------


def test_close():
    """At the end each destination loses what it has not settled, and nothing else."""
    bench = two()
    receipts = bench.accept(both("e1"), both("e2", to=(A,)), both("e3", to=(B,)))
    sends = bench.leave()
    bench.reply(sends[A], AllDelivered())
    bench.core.close(Reason.EXIT)
    assert ["lost(exit)", "delivered", "lost(exit)"] == fates(receipts)
    assert {"A": "delivered", "B": "lost(exit)"} == at_each(receipts[0])
    bench.reply(sends[B], AllDelivered())
    assert ["lost(exit)", "delivered", "lost(exit)"] == fates(receipts)
    assert (0, 0) == (bench.core.ledger.unsettled, bench.core.ledger.unsettled_bytes)
    assert [] == bench.leave()
