from __future__ import annotations

from collections import deque

import pytest

from analytics_sdk._outlet import LOOKAHEAD_PARTS
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import (
    AllDelivered,
    Bisect,
    Delivered,
    Hold,
    Limits,
    Parts,
    Rejected,
    Retry,
    RetryBatch,
    Split,
)
from analytics_sdk.receipts import DELIVERED
from tests.toys import (
    BAD_TLS,
    LOST_AFTER,
    LOST_BEFORE,
    Bench,
    Toy,
    always,
    delivering,
    event,
    events,
    fates,
    ids,
    scripted,
    word,
)

LINGER_S = 1.0
GIVE_UP_S = 900.0
BUSY = RetryBatch(Reason.SERVER_ERROR)
WRONG_KEY = Hold(Reason.CONFIGURATION)


def lingering(**limits):
    return Bench(Toy(main=Limits(**limits)), linger_s=LINGER_S)


def two_routes(**settings):
    return Bench(Toy(a=Limits(), b=Limits()), **settings)


def hold_route_a(bench, reading=WRONG_KEY, user_id="a"):
    """Send an event of *user_id* to route a, which answers with *reading*."""
    receipt = event("held", user_id, route="a")
    bench.accept(receipt)
    bench.run(scripted(reading))
    return receipt


# -- events in -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param({}, "delivered", id="one part"),
        pytest.param({"parts": [{}, {}]}, "delivered", id="two parts"),
        pytest.param({"parts": []}, "skipped(not_taken)", id="no part"),
        pytest.param({"raises": 1}, "lost(bug)", id="encoding raises"),
        pytest.param({"route": "nowhere"}, "lost(bug)", id="a route of no destination"),
        pytest.param({"body": "text"}, "lost(bug)", id="a body that is no bytes"),
        pytest.param({"key": 7}, "lost(bug)", id="a key that is no text"),
        pytest.param({"joins": None}, "lost(bug)", id="no text to join"),
        pytest.param({"refused": "invalid"}, "refused(invalid)", id="refused"),
        pytest.param({"size": 20}, "delivered", id="as large as may be"),
        pytest.param({"size": 21}, "refused(too_large)", id="one byte too large"),
        pytest.param(
            {"parts": [{}, {"size": 21}]}, "refused(too_large)", id="one part of two"
        ),
        pytest.param(
            {"size": 21, "barrier": True}, "refused(too_large)", id="a large barrier"
        ),
    ],
)
def test_encoding(words, expected):
    """What the destination makes of an event decides at once whether it is sent."""
    bench = Bench(Toy(main=Limits(event_bytes=20)))
    receipt, neighbour = bench.accept(event("e1", "a", **words), event("e2", "a"))
    log = bench.run(delivering)
    assert [expected, "delivered"] == fates([receipt, neighbour])
    parts_left = expected == "delivered" or len(words.get("parts", ())) > 1
    assert parts_left == ("e1" in " ".join(log))


def test_batch_limit_bounds_a_part_too():
    """A part that does not fit an empty request is refused, never sent."""
    bench = Bench(Toy(main=Limits(batch_bytes=20, envelope_bytes=5)))
    receipts = bench.accept(event("e1", size=15), event("e2", size=16))
    bench.run(delivering)
    assert ["delivered", "refused(too_large)"] == fates(receipts)


def test_reason_of_a_bug_names_no_data():
    """What a broken encoding leaves behind is the exception's type alone."""
    bench = Bench()
    (receipt,) = bench.accept(event("e1", raises=1))
    bench.run(delivering)
    assert "encode: ZeroDivisionError" == receipt.outcome.excerpt


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        pytest.param([Delivered(), Delivered()], "delivered", id="both delivered"),
        pytest.param(
            [Delivered(), Rejected(Reason.INVALID)], "rejected(invalid)", id="one not"
        ),
        pytest.param(
            [Rejected(Reason.QUOTA), Delivered()], "rejected(quota)", id="the other not"
        ),
    ],
)
def test_event_of_several_parts(results, expected):
    """An event is settled once, with its last part, by the worst of their outcomes."""
    bench = two_routes(report=True)
    parts = [{"route": "a"}, {"route": "b"}]
    (receipt,) = bench.accept(event("e1", parts=parts))
    one, two = bench.leave()
    bench.reply(one, Parts(results[:1]))
    assert ["pending"] == fates([receipt])
    bench.reply(two, Parts(results[1:]))
    assert [expected] == fates([receipt])
    assert 1 == sum(bench.core.ledger.counts[0].values())


def test_parts_of_an_event_wait_apart():
    """A part that is to be repeated does not bring back the event's other part."""
    bench = two_routes()
    (receipt,) = bench.accept(event("e1", parts=[{"route": "a"}, {"route": "b"}]))
    one, two = bench.leave()
    bench.reply(one, BUSY)
    bench.reply(two, AllDelivered())
    bench.now = 1.0
    (again,) = bench.leave()
    assert "a" == again.route
    bench.reply(again, AllDelivered())
    assert ["delivered"] == fates([receipt])


def test_encoding_is_done_in_slices():
    """Encoding stops after as many events as it is told, and says if there is more."""
    bench = Bench()
    bench.accept(*events(3))
    assert [True, True, False] == [bench.core.prepare(1) for _ in range(3)]
    assert ["e0 e1 e2"] == bench.left()
    assert not bench.core.prepare(0)


def test_encoding_stops_where_a_request_is_full():
    """No more is encoded than the lanes can send."""
    bench = lingering(events=2)
    bench.accept(*events(5))
    bench.core.prepare(100)
    assert (2, 3) == (len(bench.lane), len(bench.outlet.inbox))


def test_lookahead_is_bounded():
    """Where one route waits for company, others do not encode without end."""
    bench = Bench(Toy(main=Limits(), other=Limits()), linger_s=LINGER_S)
    parts = [{"route": "main"}] * LOOKAHEAD_PARTS
    bench.accept(event("e1", parts=parts), event("e2"))
    assert not bench.core.prepare(100)
    assert 1 == len(bench.outlet.inbox)


def test_lane_on_hold_encodes_no_more_than_a_probe():
    """Behind a hold events stay as they came: they cost no second copy."""
    bench = Bench()
    bench.accept(*events(1))
    bench.run(always(WRONG_KEY))
    bench.accept(*events(5))
    bench.leave()
    assert (1, 5) == (len(bench.lane), len(bench.outlet.inbox))


def test_settled_event_is_not_encoded():
    """An event that has been settled while it waited is passed over."""
    bench = Bench()
    one, two = bench.accept(*events(2))
    bench.core.ledger.settle(one, 0, DELIVERED)
    bench.outlet.forget_settled()
    assert ["e1"] == bench.run(delivering)
    assert ["delivered"] * 2 == fates([one, two])


@pytest.mark.parametrize("count", [1, 2], ids=["all of a request", "one of two"])
@pytest.mark.parametrize("forget", [True, False], ids=["forgotten", "still there"])
def test_settled_event_is_not_sent(count, forget):
    """An event that has been settled while its part waited does not leave."""
    bench = lingering()
    receipts = bench.accept(*events(count, "u", barrier=True))
    bench.leave()
    bench.core.ledger.settle(receipts[0], 0, DELIVERED)
    if forget:
        bench.outlet.forget_settled()
    bench.now = LINGER_S
    assert ["e1"][: count - 1] == bench.run(delivering)
    assert bench.outlet.idle


# -- when a request is due -------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "words", "now", "expected"),
    [
        pytest.param(1, {}, 0.0, [], id="alone: waits"),
        pytest.param(1, {}, 0.999, [], id="just before linger ends"),
        pytest.param(1, {}, 1.0, ["e0"], id="exactly when linger ends"),
        pytest.param(3, {}, 0.0, ["e0 e1 e2"], id="full by count"),
        pytest.param(2, {"size": 20}, 0.0, ["e0 e1"], id="full by bytes"),
        pytest.param(2, {"size": 19}, 0.0, [], id="not quite full"),
    ],
)
def test_linger(count, words, now, expected):
    """A request leaves when it is full, or when its first event has waited enough."""
    bench = lingering(events=3, batch_bytes=41)
    bench.accept(*events(count, **words))
    bench.now = now
    assert expected == bench.left()


def test_linger_tells_when():
    """Until its linger ends, a lane is due exactly then; after that at no time."""
    bench = lingering()
    assert bench.core.next_due_s(0.0) is None
    bench.now = 0.1
    bench.accept(*events(1))
    bench.leave()
    due_s = bench.core.next_due_s(bench.now)
    assert 0.1 + LINGER_S == due_s
    bench.now = due_s
    assert ["e0"] == bench.left()
    assert bench.core.next_due_s(due_s) is None


def test_rush():
    """A flush lets leave what is there; what comes later lingers again."""
    bench = lingering()
    bench.accept(event("e1"))
    bench.leave()
    bench.core.rush(bench.now)
    bench.now = 0.1
    bench.accept(event("e2"))
    assert ["e1 e2"] == bench.run(delivering)
    bench.accept(event("e3"))
    assert [] == bench.left()


def test_repeat_does_not_linger():
    """What has been tried already leaves when its hold is over."""
    bench = lingering()
    bench.accept(*events(1))
    bench.core.rush(0.0)
    bench.run(always(BUSY))
    assert [(0.25, "e0")] == bench.run_until(0.5, delivering)


def test_one_request_in_flight():
    """A lane does not send while it waits for an answer, however much there is."""
    bench = Bench(Toy(main=Limits(events=2)))
    bench.accept(*events(6))
    (send,) = bench.leave()
    bench.now = 100.0
    assert [] == bench.left()
    bench.reply(send, AllDelivered())
    assert ["e2 e3"] == bench.left()


def test_routes_do_not_wait_for_each_other():
    """Each route has a request in flight of its own."""
    bench = two_routes()
    bench.accept(event("e1", route="a"), event("e2", route="b"), event("e3", route="a"))
    assert ["e1 e3", "e2"] == bench.left()


def test_every_upload_slot_is_used():
    """With parallel uploads, as many requests leave at once as there are full ones."""
    bench = Bench(Toy(main=Limits(events=1)), parallel_uploads=3)
    bench.accept(*[event(f"e{index}", f"u{index}") for index in range(5)])
    assert ["e0", "e1", "e2"] == bench.left()


def leave_often(bench):
    """Return what leaves in several rounds without an answer."""
    return [ids(send.parts) for _ in range(5) for send in bench.leave()]


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        pytest.param("a b c d", ["e0", "e1", "e2"], id="as many as allowed"),
        pytest.param("a a b", ["e0", "e2"], id="one a user"),
        pytest.param("a a a", ["e0"], id="one user alone"),
        pytest.param("a a+b b c", ["e0", "e3"], id="joined users"),
        pytest.param("- - - -", ["e0", "e1", "e2"], id="no users"),
    ],
)
def test_parallel_uploads_keep_order(users, expected):
    """Several requests are in flight only with different users."""
    bench = Bench(Toy(main=Limits(events=1)), parallel_uploads=3)
    for index, user in enumerate(users.split()):
        bench.accept(event(f"e{index}", *user.replace("-", "").split("+")))
    assert expected == leave_often(bench)


def test_parked_user_with_a_backlog_holds_back_only_himself():
    """However much of a user who waits is queued, strangers behind it leave."""
    bench = Bench(Toy(main=Limits(events=2)))
    bench.accept(event("e0", "a"))
    bench.run(scripted(Parts([Retry(60.0)])))
    bench.accept(*[event(f"e{index}", "a") for index in range(1, 6)])
    (stranger,) = bench.accept(event("x", "b"))
    bench.run_until(1.0, delivering)
    assert "delivered" == word(stranger.outcome)


def test_parallel_uploads_become_one_after_a_failure():
    """A lane that has failed tries again with one request, not with all at once."""
    bench = Bench(Toy(main=Limits(events=1)), parallel_uploads=3)
    bench.accept(*events(6))
    sends = [send for _ in range(3) for send in bench.leave()]
    for send in sends:
        bench.reply(send, BUSY)
    bench.now = 60.0
    assert ["e0"] == leave_often(bench)


def test_attempts_are_counted():
    """A request says how often its oldest part has been tried."""
    bench = Bench()
    bench.accept(*events(1))
    attempts = []
    for _ in range(3):
        (send,) = bench.leave()
        attempts.append(send.attempt)
        bench.reply(send, BUSY)
        bench.now += 60.0
    bench.accept(event("x"))
    (send,) = bench.leave()
    assert [1, 2, 3, 4] == [*attempts, send.attempt]


def test_request_names_what_it_holds():
    """A request says which destination, route and parts it is for, by a number."""
    bench = two_routes()
    bench.accept(event("e1", route="a"), event("e2", route="b"))
    one, two = bench.leave()
    assert (0, "a", "e1") == (one.destination, one.route, ids(one.parts))
    assert (0, "b", "e2") == (two.destination, two.route, ids(two.parts))
    assert one.ticket != two.ticket


@pytest.mark.parametrize(
    ("reading", "sent"),
    [
        pytest.param(None, "maybe", id="no answer yet"),
        pytest.param(LOST_BEFORE, "no", id="surely not sent"),
        pytest.param(BAD_TLS, "no", id="no connection was trusted"),
        pytest.param(LOST_AFTER, "maybe", id="maybe sent"),
        pytest.param(BUSY, "maybe", id="answered, not taken"),
        pytest.param(AllDelivered(), "yes", id="delivered"),
        pytest.param(Parts([Rejected(Reason.INVALID)]), "yes", id="rejected"),
    ],
)
def test_sent(reading, sent):
    """A receipt knows whether the vendor may have the event."""
    bench = Bench()
    (receipt,) = bench.accept(*events(1))
    assert "no" == receipt.sent
    (send,) = bench.leave()
    if reading is not None:
        bench.reply(send, reading)
    assert sent == receipt.sent


# -- order across routes: barriers -----------------------------------------------


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        pytest.param("a:u b:u!", ["a:0"], id="waits for its user on other routes"),
        pytest.param("a:v b:u!", ["a:0", "b:1"], id="not for strangers"),
        pytest.param("b:u! a:u", ["b:0"], id="later ones wait on other routes"),
        pytest.param("b:u! a:v", ["a:1", "b:0"], id="strangers do not"),
        pytest.param("b:u! b:u", ["b:0"], id="later ones wait on its own route"),
        pytest.param("b:u b:u!", ["b:0"], id="earlier ones go first on its own"),
        pytest.param("a:u+v b:v!", ["a:0"], id="waits for what joins its user"),
        pytest.param("b:u+v! a:v a:w", ["a:2", "b:0"], id="holds back what it joins"),
        pytest.param("a:- b:-! a:-", ["a:0 2", "b:1"], id="without users no order"),
        pytest.param("a:u! b:u! a:u", ["a:0"], id="barrier after barrier"),
    ],
)
def test_barrier(story, expected):
    """A barrier leaves alone among its users' parts, on all routes.

    Each word is a route, a user (or two that the event joins), and ``!`` for a barrier.
    """
    bench = two_routes()
    for index, each in enumerate(story.split()):
        route, _, user = each.partition(":")
        users = user.rstrip("!").replace("-", "").split("+")
        bench.accept(event(str(index), *users, route=route, barrier="!" in each))
    assert expected == [f"{send.route}:{ids(send.parts)}" for send in bench.leave()]


def test_barrier_goes_on_when_it_is_settled():
    """Everything leaves in order once each barrier has been answered."""
    bench = two_routes()
    story = [("a", False), ("b", True), ("a", False), ("a", True), ("b", False)]
    receipts = [
        event(str(index), "u", route=route, barrier=barrier)
        for index, (route, barrier) in enumerate(story)
    ]
    bench.accept(*receipts)
    assert ["0", "1", "2", "3", "4"] == bench.run(delivering)
    assert ["delivered"] * 5 == fates(receipts)


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        pytest.param(BUSY, [], id="to be repeated"),
        pytest.param(LOST_AFTER, [], id="no answer"),
        pytest.param(Parts([Retry(5.0)]), [], id="its user waits"),
        pytest.param(WRONG_KEY, [], id="on hold"),
        pytest.param(Parts([Rejected(Reason.INVALID)]), ["y"], id="rejected"),
        pytest.param(AllDelivered(), ["y"], id="delivered"),
    ],
)
def test_unsettled_barrier_holds_back_its_user(reading, expected):
    """Until it is settled, a barrier that came back holds back its user everywhere."""
    bench = two_routes()
    bench.accept(event("x", "u", route="b", barrier=True), event("y", "u", route="a"))
    assert ["x", *expected] == bench.run(scripted(reading))


def test_barrier_waits_for_what_is_to_be_repeated():
    """A part that came back keeps its place before the barrier of its user."""
    bench = two_routes()
    bench.accept(event("x", "u", route="a"), event("y", "u", route="b", barrier=True))
    bench.run(scripted(BUSY))
    assert [(0.25, "x"), (0.25, "y")] == bench.run_until(9.0, delivering)


# -- urgent events ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("users", "pulled", "expected"),
    [
        pytest.param("a b c", 1, "e1 e0 e2", id="alone"),
        pytest.param("a b a", 2, "e0 e2 e1", id="with its user's earlier ones"),
        pytest.param("a b a", 0, "e0 e1 e2", id="not with the later ones"),
        pytest.param("b a+b c a", 3, "e0 e1 e3 e2", id="with what is joined"),
    ],
)
@pytest.mark.parametrize("encoded", [True, False], ids=["encoded", "in the inbox"])
def test_pull(users, pulled, expected, encoded):
    """An urgent event leaves at once, behind what its user's order puts before it."""
    bench = lingering()
    receipts = [
        event(f"e{index}", *each.split("+")) for index, each in enumerate(users.split())
    ]
    bench.accept(*receipts)
    if encoded:
        bench.leave()
    bench.pull(receipts[pulled])
    assert [expected] == bench.left()


def test_pull_takes_the_next_request_only_as_far_as_it_may():
    """What is urgent comes before a backlog, in the limits of a request."""
    bench = Bench(Toy(main=Limits(events=2)))
    bench.accept(*events(6))
    (send,) = bench.leave()
    (urgent,) = bench.accept(event("x"))
    bench.pull(urgent)
    bench.reply(send, AllDelivered())
    assert ["x e2", "e3 e4", "e5"] == bench.run(delivering)


def test_pull_never_shortens_a_hold():
    """An urgent event waits for its lane like any other."""
    bench = Bench()
    bench.accept(*events(1))
    bench.run(always(RetryBatch(Reason.RATE_LIMITED, 60.0)))
    (urgent,) = bench.accept(event("x"))
    bench.pull(urgent)
    assert [(60.0, "x e0")] == bench.run_until(60.0, delivering)


@pytest.mark.parametrize("reading", [AllDelivered(), None], ids=["settled", "flying"])
def test_pull_of_what_does_not_wait(reading):
    """Pulling an event that is settled, or in flight, changes nothing."""
    bench = lingering()
    one, _ = bench.accept(event("e1", "a"), event("e2", "b"))
    bench.pull(one)
    bench.core.rush(0.0)
    (send,) = bench.leave()
    if reading is not None:
        bench.reply(send, reading)
    bench.now = 0.5
    bench.accept(event("e3", "a"))
    bench.pull(one)
    assert [] == bench.left()


def test_pull_of_an_event_that_has_not_arrived():
    """Pulling an event that is not here yet makes nobody else urgent."""
    bench = lingering()
    bench.accept(event("e1", "a"))
    bench.leave()
    bench.pull(event("e2", "a"))
    assert [] == bench.left()


def test_pull_does_not_overtake_what_comes_back():
    """An urgent event does not pass its user's part that was in flight and failed."""
    bench = Bench()
    bench.accept(event("e1", "a"))
    (send,) = bench.leave()
    _, urgent = bench.accept(event("e2", "b"), event("e3", "a"))
    bench.pull(urgent)
    bench.reply(send, BUSY)
    bench.now = 1.0
    sent = " ".join(bench.run(delivering)).split()
    assert ["e1", "e3"] == [each for each in sent if each != "e2"]


def test_pull_of_a_barrier_brings_what_it_waits_for():
    """What an urgent barrier waits for on another route does not linger either."""
    bench = two_routes(linger_s=LINGER_S)
    _, barrier = bench.accept(
        event("x", "u", route="b"), event("y", "u", route="a", barrier=True)
    )
    bench.leave()
    bench.pull(barrier)
    assert ["x", "y"] == bench.run(delivering)


# -- holds and probes ------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        pytest.param(BUSY, [3, 3, 3, 3, 3, 1, 1], id="transient: after five failures"),
        pytest.param(WRONG_KEY, [3, 1, 1], id="a setting: at once"),
    ],
)
def test_probe_size(reading, expected):
    """A lane that stays shut is tried with one event instead of a whole batch."""
    bench = Bench(Toy(main=Limits(events=3)))
    bench.accept(*events(9))
    log = bench.run_until(800.0, scripted(*[reading] * (len(expected) - 1)))
    sizes = [len(sent.split()) for _, sent in log]
    assert expected == sizes[: len(expected)]
    assert [3, 3, 2] == sizes[len(expected) :]


def test_hold_of_a_route_is_its_own():
    """What holds one route does not hold another."""
    bench = two_routes()
    hold_route_a(bench)
    bench.accept(event("e1", "b", route="b"))
    assert ["e1"] == bench.run(delivering)


def test_learned_cap_below_the_envelope_does_not_stall():
    """However little a server takes, events go on one by one."""
    bench = Bench(Toy(main=Limits(envelope_bytes=50)))
    receipts = bench.accept(*events(2, size=5))
    bench.run(scripted(Split()))
    receipts += bench.accept(*events(5, size=5))
    bench.run(delivering)
    assert ["delivered"] * 7 == fates(receipts)


# -- giving up -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "now", "expected"),
    [
        pytest.param(BUSY, 899.9, "pending", id="transient: just before"),
        pytest.param(BUSY, 900.0, "lost(expired)", id="transient: exactly then"),
        pytest.param(LOST_AFTER, 900.0, "lost(expired)", id="no answer"),
        pytest.param(
            RetryBatch(Reason.RATE_LIMITED, 5000.0), 900.0, "lost(expired)", id="429"
        ),
        pytest.param(Parts([Retry(5000.0)]), 900.0, "lost(expired)", id="its user"),
        pytest.param("junk", 900.0, "lost(expired)", id="not understood"),
        pytest.param(Hold(Reason.QUOTA), 900.0, "lost(expired)", id="other holds"),
        pytest.param(WRONG_KEY, 9000.0, "pending", id="401, 403, 404"),
        pytest.param(Hold(Reason.REDIRECTED), 9000.0, "pending", id="3xx"),
        pytest.param(BAD_TLS, 9000.0, "pending", id="tls"),
    ],
)
def test_give_up(reading, now, expected):
    """What cannot be delivered is lost at its time; a setting stops the clock."""
    bench = Bench()
    receipts = bench.accept(event("e0", "a"), event("e1", "a"))
    if isinstance(reading, Parts):
        reading = Parts([*reading.results] * 2)
    bench.run(always(reading))
    receipts += bench.accept(event("e2", "a"))
    bench.now = now
    bench.core.tick(now)
    assert [expected] * 2 == fates(receipts[:2])


@pytest.mark.parametrize(
    ("count", "reading"),
    [(1, BUSY), (3, BUSY), (3, RetryBatch(Reason.SERVER_ERROR, 5000.0))],
    ids=["one", "three", "asked for longer"],
)
def test_give_up_is_due_by_itself(count, reading):
    """The core asks to be called when something is to be given up, and then it is."""
    bench = Bench(give_up_after_s=10.0)
    receipts = bench.accept(*events(count))
    bench.run_until(10.0, always(reading))
    assert ["lost(expired)"] * count == fates(receipts)
    assert bench.outlet.idle


def aging():
    """Return a bench with events of 0, 2 and 4 s, and a hold from 5 to 15 s."""
    bench = Bench(Toy(main=Limits(events=1)), jitter=0.0, give_up_after_s=10.0)
    receipts = []
    sends = []
    for now in (0.0, 2.0, 4.0):
        bench.now = now
        receipts += bench.accept(event(f"e{now}"))
        sends += bench.leave()
    bench.now = 5.0
    bench.reply(sends[0], RetryBatch(Reason.SERVER_ERROR, 10.0))
    return bench, receipts


def test_events_behind_a_hold_are_given_up_each_at_its_time():
    """Also what was never tried is given up, encoded or not, as it gets too old."""
    bench, receipts = aging()
    lost, kept = "lost(expired)", "pending"
    for now, ends in (
        (9.9, [kept, kept, kept]),
        (10.0, [lost, kept, kept]),
        (11.9, [lost, kept, kept]),
        (12.0, [lost, lost, kept]),
        (13.9, [lost, lost, kept]),
        (14.0, [lost, lost, lost]),
    ):
        bench.run_until(now, delivering)
        assert ends == fates(receipts), now


def test_giving_up_late_gives_up_all():
    """Where nobody asked in time, all that is too old is given up at once."""
    bench, receipts = aging()
    bench.now = 14.5
    bench.core.tick(14.5)
    assert ["lost(expired)"] * 3 == fates(receipts)
    assert bench.outlet.idle


def test_old_event_in_an_open_lane_is_not_given_up():
    """What waits for its turn, and has not failed, is sent however old it is."""
    bench = Bench(Toy(main=Limits(events=1)), give_up_after_s=10.0)
    receipts = bench.accept(*events(2))
    (send,) = bench.leave()
    bench.now = 11.0
    assert [] == bench.left()
    bench.reply(send, AllDelivered())
    assert ["e1"] == bench.run(delivering)
    assert ["delivered"] * 2 == fates(receipts)


def test_event_in_flight_is_not_given_up():
    """What has left is not lost before its answer; then it is, if it failed."""
    bench = Bench(give_up_after_s=10.0)
    receipts = bench.accept(*events(1))
    (send,) = bench.leave()
    bench.now = 11.0
    bench.core.tick(11.0)
    assert ["pending"] == fates(receipts)
    bench.reply(send, BUSY)
    bench.core.tick(11.0)
    assert ["lost(expired)"] == fates(receipts)


def test_young_urgent_event_does_not_keep_old_ones():
    """An urgent event at the head does not put off that old ones are given up."""
    bench = Bench(give_up_after_s=10.0)
    receipts = bench.accept(event("old", "a"))
    bench.run(always(RetryBatch(Reason.SERVER_ERROR, 5000.0)))
    bench.now = 9.0
    receipts += bench.accept(event("young", "b"))
    bench.pull(receipts[1])
    bench.now = 10.0
    bench.core.tick(10.0)
    assert ["lost(expired)", "pending"] == fates(receipts)


@pytest.mark.parametrize("mended_s", [5.0, 15.0])
def test_clock_goes_on_when_the_setting_is_mended(mended_s):
    """A setting's time does not count; what follows it does."""
    bench = Bench(jitter=0.0, give_up_after_s=10.0)
    receipts = bench.accept(*events(2))

    def serve(send):
        if bench.now < mended_s:
            return WRONG_KEY
        if ids(send.parts) == "e0":
            return AllDelivered()
        return RetryBatch(Reason.SERVER_ERROR, 3.0)

    bench.run_until(mended_s + 9.9, serve)
    assert ["delivered", "pending"] == fates(receipts)
    bench.run_until(mended_s + 10.0, serve)
    assert ["delivered", "lost(expired)"] == fates(receipts)


def test_clock_goes_on_when_the_cause_is_another():
    """A server in trouble is no setting, also when a setting was wrong before it."""
    bench = Bench(jitter=0.0, give_up_after_s=10.0)
    receipts = bench.accept(*events(1))
    bench.run(scripted(WRONG_KEY))
    trouble = always(RetryBatch(Reason.SERVER_ERROR, 3.0))
    bench.run_until(14.9, trouble)
    assert ["pending"] == fates(receipts)
    bench.run_until(15.0, trouble)
    assert ["lost(expired)"] == fates(receipts)


def test_journal_gives_nothing_up():
    """Where the buffer keeps events for ever, none is given up."""
    bench = Bench(keeps=True, give_up_after_s=10.0)
    receipts = bench.accept(*events(1))
    bench.run_until(2000.0, always(BUSY))
    assert ["pending"] == fates(receipts)


# -- when something can happen ---------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "due_s"),
    [
        pytest.param(AllDelivered(), None, id="nothing is left"),
        pytest.param(BUSY, 0.25, id="back-off"),
        pytest.param(RetryBatch(Reason.RATE_LIMITED, 60.0), 60.0, id="Retry-After"),
        pytest.param(RetryBatch(Reason.RATE_LIMITED, 5000.0), 900.0, id="give-up"),
        pytest.param(Parts([Retry(7.0)]), 7.0, id="a user who waits"),
        pytest.param(Hold(Reason.QUOTA, 60.0), 60.0, id="a hold"),
    ],
)
def test_next_due(reading, due_s):
    """The core knows when it wants to be asked again."""
    bench = Bench()
    bench.accept(event("e1", "a"))
    (send,) = bench.leave()
    assert bench.core.next_due_s(0.0) is None
    bench.reply(send, reading)
    assert [] == bench.left()
    assert due_s == bench.core.next_due_s(0.0)


@pytest.mark.parametrize(
    ("reading", "until_s"),
    [
        pytest.param(None, 0.0, id="in flight: any moment"),
        pytest.param(BUSY, 0.25, id="back-off"),
        pytest.param(RetryBatch(Reason.RATE_LIMITED, 60.0), 60.0, id="Retry-After"),
        pytest.param(WRONG_KEY, 60.0, id="a setting"),
        pytest.param(Parts([Retry(7.0)]), 7.0, id="its user waits"),
        pytest.param(AllDelivered(), 0.0, id="nothing is left"),
    ],
)
@pytest.mark.parametrize("of_one", [True, False], ids=["of it", "of anything"])
def test_stuck_until(reading, until_s, of_one):
    """A flush can know the first moment at which waiting may be worth it."""
    bench = Bench()
    (receipt,) = bench.accept(event("e1", "a"))
    (send,) = bench.leave()
    if reading is WRONG_KEY:
        reading = Hold(Reason.CONFIGURATION, 60.0)
    if reading is not None:
        bench.reply(send, reading)
    assert [] == bench.left()
    stuck_s = bench.stuck_until_s(0.0, receipt if of_one else None)
    assert until_s == stuck_s


def test_stuck_until_of_what_lingers():
    """An event that only waits for company is not stuck."""
    bench = lingering()
    (receipt,) = bench.accept(*events(1))
    assert 0.0 == bench.stuck_until_s(0.0, receipt)
    bench.leave()
    assert 0.0 == bench.stuck_until_s(0.0, receipt)
    assert 0.0 == bench.stuck_until_s(0.0)


def test_stuck_until_of_what_is_not_encoded():
    """Behind a hold an event is stuck also while it is not encoded."""
    bench = Bench()
    bench.accept(*events(1))
    bench.run(scripted(RetryBatch(Reason.RATE_LIMITED, 60.0)))
    (receipt,) = bench.accept(event("x"))
    bench.leave()
    assert 60.0 == bench.stuck_until_s(1.0, receipt)
    assert 60.0 == bench.stuck_until_s(1.0)
    bench.now = 70.0
    assert 70.0 == bench.stuck_until_s(70.0, receipt)


def test_stuck_until_of_an_open_user():
    """A user who waits does not make a stranger stuck."""
    bench = lingering()
    bench.accept(event("e1", "a"))
    bench.core.rush(0.0)
    bench.run(scripted(Parts([Retry(7.0)])))
    bench.now = 1.0
    own, stranger = bench.accept(event("e2", "a"), event("e3", "b"))
    bench.leave()
    assert 7.0 == bench.stuck_until_s(1.0, own)
    assert 1.0 == bench.stuck_until_s(1.0, stranger)
    assert 1.0 == bench.stuck_until_s(1.0)


def test_stuck_until_of_what_is_joined():
    """What waits behind a joined user who waits is stuck as long as he is."""
    bench = Bench()
    bench.accept(event("e1", "a"))
    bench.run(scripted(Parts([Retry(7.0)])))
    _, receipt = bench.accept(event("e2", "a", "b"), event("e3", "b"))
    bench.leave()
    assert 7.0 == bench.stuck_until_s(0.0, receipt)


def test_stuck_until_behind_a_barrier():
    """What waits behind a barrier on a route on hold is stuck as long as that is."""
    bench = two_routes()
    bench.accept(event("x", "u", route="a", barrier=True))
    bench.run(scripted(Hold(Reason.CONFIGURATION, 60.0)))
    (receipt,) = bench.accept(event("y", "u", route="b"))
    bench.leave()
    assert 60.0 == bench.stuck_until_s(0.0, receipt)


@pytest.mark.parametrize(
    ("routes", "until_s"),
    [
        pytest.param("a", 60.0, id="on hold"),
        pytest.param("b", 0.0, id="in flight"),
        pytest.param("ab", 60.0, id="both: the later part decides"),
    ],
)
def test_stuck_until_with_several_routes(routes, until_s):
    """An event is stuck as long as the last of its parts is."""
    bench = two_routes()
    hold_route_a(bench, Hold(Reason.CONFIGURATION, 60.0), "x")
    parts = [{"route": route} for route in routes]
    (receipt,) = bench.accept(event("e1", "u", parts=parts))
    bench.leave()
    assert until_s == bench.stuck_until_s(0.0, receipt)


def test_stuck_until_while_something_flies():
    """While anything is in flight, something may be settled at any moment."""
    bench = two_routes()
    hold_route_a(bench, Hold(Reason.CONFIGURATION, 60.0), "x")
    assert 60.0 == bench.stuck_until_s(0.0)
    bench.accept(event("e1", "u", route="b"))
    bench.leave()
    assert 0.0 == bench.stuck_until_s(0.0)


def test_stuck_until_it_is_given_up():
    """An event that gets too old before its hold ends is settled then."""
    bench = Bench(give_up_after_s=10.0)
    (old,) = bench.accept(event("old"))
    bench.now = 4.0
    bench.run(scripted(RetryBatch(Reason.RATE_LIMITED, 10.0)))
    assert 10.0 == bench.stuck_until_s(4.0, old)


# -- looking, and the end --------------------------------------------------------


def test_places():
    """An outlet tells what waits, what is in flight, and whether it is idle."""
    bench = lingering(events=1)
    assert bench.outlet.idle
    one, two, three = bench.accept(*events(3))
    bench.leave()
    assert {one} == bench.outlet.in_flight()
    assert [two, three] == sorted(bench.outlet.waiting(), key=lambda r: r.message_id)
    assert not bench.outlet.idle
    bench.run(delivering)
    assert not bench.outlet.idle


@pytest.mark.parametrize(
    ("story", "age_s"),
    [
        pytest.param([], 0.0, id="nothing"),
        pytest.param(["accept"], 6.0, id="in the inbox"),
        pytest.param(["accept", "leave"], 6.0, id="in a lane"),
        pytest.param(["accept", "bisect"], 6.0, id="in a search"),
    ],
)
def test_oldest_age(story, age_s):
    """The age of the oldest event that waits is known, wherever it waits."""
    bench = lingering()
    bench.now = 4.0
    for step in story:
        if step == "accept":
            bench.accept(*events(2))
        else:
            if step == "bisect":
                bench.core.rush(4.0)
            for send in bench.leave():
                bench.reply(send, Bisect())
    assert age_s == bench.outlet.oldest_age_s(10.0)


class _Changing(deque):
    """A deque that another thread changes while it is looked at."""

    def __iter__(self):
        raise RuntimeError


def test_oldest_age_while_another_thread_works():
    """Any thread may ask for the age; where all is in motion it gets nothing."""
    bench = Bench()
    bench.outlet.inbox = _Changing()
    assert 0.0 == bench.outlet.oldest_age_s(10.0)


def test_all_held():
    """An outlet is on hold until its lanes with work may send again."""
    bench = two_routes()
    assert not bench.outlet.all_held(0.0)
    hold_route_a(bench, Hold(Reason.CONFIGURATION, 60.0))
    assert bench.outlet.all_held(59.9)
    assert not bench.outlet.all_held(60.0)


def test_oldest_first():
    """Events that wait are listed by age, among equals in the order of their calls."""
    bench = Bench(Toy(a=Limits(), b=Limits()), linger_s=LINGER_S)
    receipts = []
    for now, routes in ((0.0, "bab"), (0.5, "aab"), (0.9, "ba")):
        bench.now = now
        for route in routes:
            name = f"e{len(receipts)}"
            receipts += bench.accept(event(name, "u", route=route))
        bench.leave()
    bench.pull(receipts[7])
    assert receipts == bench.outlet.oldest_first()


def test_oldest_first_leaves_out_what_has_left():
    """An event of which a part is in flight is not among those that wait."""
    bench = two_routes()
    hold_route_a(bench)
    parts = [{"route": "a"}, {"route": "b"}]
    bench.accept(event("e1", "u", parts=parts))
    (send,) = bench.leave()
    waiting = [receipt.message_id for receipt in bench.outlet.oldest_first()]
    assert ("e1", ["held"]) == (ids(send.parts), waiting)


def test_last_error():
    """An outlet remembers what went wrong last, also when it is over."""
    bench = Bench()
    assert bench.outlet.last_error is None
    bench.accept(*events(1))
    bench.run_until(9.0, scripted(BUSY))
    assert "held(server_error)" == word(bench.outlet.last_error)


def test_unknown_answer_is_ignored():
    """An answer that comes twice, or after the end, changes nothing."""
    bench = Bench()
    receipts = bench.accept(*events(1))
    (send,) = bench.leave()
    bench.reply(send, AllDelivered())
    bench.reply(send, BUSY)
    assert ["delivered"] == fates(receipts)
    assert bench.lane.held is None


def test_close_settles_everything():
    """At the end all that waits, or is in flight, is lost for the reason given."""
    bench = Bench(Toy(a=Limits(events=1), b=Limits()), linger_s=LINGER_S)
    receipts = bench.accept(
        event("e1", "u", route="a"),
        event("e2", "u", route="a"),
        event("e3", "u", route="b", barrier=True),
        event("e4", parts=[{"route": "a"}, {"route": "b"}]),
    )
    (send,) = bench.leave()
    bench.accept(*(late := [event("e5", route="a")]))
    bench.core.close(Reason.EXIT)
    assert ["lost(exit)"] * 5 == fates([*receipts, *late])
    assert "maybe" == receipts[0].sent
    assert bench.outlet.idle
    bench.reply(send, AllDelivered())
    assert "lost(exit)" == word(receipts[0].outcome)
    assert [] == bench.left()


def test_urgent_event_keeps_an_order_that_holds_for_all():
    """Where all events are in one order, an urgent one brings along all before it."""
    toy = Toy(main=Limits(events=2))
    toy.orders = "all"
    bench = Bench(toy)
    receipts = bench.accept(*[event(f"e{at}", f"u{at}", key="one") for at in range(6)])
    bench.pull(receipts[4])
    assert ["e0 e1", "e2 e3", "e4 e5"] == bench.run(delivering)


def test_pull_costs_nothing_while_nothing_may_leave():
    """Behind a hold nothing is searched or encoded for an urgent event."""
    bench = Bench(Toy(main=Limits(events=2)))
    bench.accept(*events(9))
    bench.run(scripted(Hold(Reason.CONFIGURATION, 60.0)))
    (urgent,) = bench.accept(event("x", "z"))
    bench.leave()
    waiting = list(bench.outlet.inbox)
    bench.pull(urgent)
    bench.leave()
    assert waiting == list(bench.outlet.inbox)
    assert (60.0, "x") == bench.run_until(60.0, delivering)[0]
