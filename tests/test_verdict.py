from __future__ import annotations

import math
from itertools import pairwise

import pytest

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
from analytics_sdk.receipts import OutcomeKind
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

GIVE_UP_S = 900.0
BUSY = RetryBatch(Reason.SERVER_ERROR)
WRONG_KEY = Hold(Reason.CONFIGURATION)


def accepting_up_to(most_bytes):
    """Be a server that refuses larger bodies, without an envelope."""

    def serve(send):
        body_bytes = sum(len(part.body) + 1 for part in send.parts) - 1
        return Split("large") if body_bytes > most_bytes else AllDelivered()

    return serve


def poisoned_by(*bad):
    """Be a server that refuses every request with one of the events *bad*."""

    def serve(send):
        return Bisect("bad") if set(bad) & set(ids(send.parts).split()) else None

    return lambda send: serve(send) or AllDelivered()


def held_word(bench):
    return None if bench.lane.held is None else str(bench.lane.held.reason)


def sizes(log):
    return [len(each.split()) for each in log]


# -- how long a lane waits -----------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "jitter", "wait_s", "reason"),
    [
        pytest.param(BUSY, 0.0, 0.0, "server_error", id="no jitter, no wait"),
        pytest.param(BUSY, 0.999, 0.4995, "server_error", id="most jitter"),
        pytest.param(LOST_BEFORE, 0.5, 0.25, "unreachable", id="no connection"),
        pytest.param(LOST_AFTER, 0.5, 0.25, "unreachable", id="no answer"),
        pytest.param(
            RetryBatch(Reason.RATE_LIMITED, 7.0),
            0.0,
            7.0,
            "rate_limited",
            id="Retry-After is obeyed",
        ),
        pytest.param(
            RetryBatch(Reason.RATE_LIMITED, 0.1),
            0.999,
            0.4995,
            "rate_limited",
            id="a longer back-off wins",
        ),
        pytest.param(
            RetryBatch(Reason.RATE_LIMITED, 899.0),
            0.0,
            899.0,
            "rate_limited",
            id="just under the give-up time",
        ),
        pytest.param(
            RetryBatch(Reason.RATE_LIMITED, 5000.0),
            0.0,
            GIVE_UP_S,
            "rate_limited",
            id="not beyond the give-up time",
        ),
        pytest.param(
            RetryBatch(Reason.RATE_LIMITED, -3.0),
            0.5,
            0.25,
            "rate_limited",
            id="negative",
        ),
        pytest.param(
            RetryBatch(Reason.RATE_LIMITED, math.nan),
            0.5,
            0.25,
            "rate_limited",
            id="not a number",
        ),
        pytest.param(WRONG_KEY, 0.0, 5.0, "configuration", id="a setting: probe"),
        pytest.param(
            Hold(Reason.REDIRECTED), 0.0, 5.0, "redirected", id="a redirect: probe"
        ),
        pytest.param(BAD_TLS, 0.0, 5.0, "tls", id="a certificate: probe"),
        pytest.param(
            Hold(Reason.CONFIGURATION, 60.0),
            0.0,
            60.0,
            "configuration",
            id="a setting, asked for longer",
        ),
        pytest.param(
            Hold(Reason.CONFIGURATION, 1.0),
            0.0,
            5.0,
            "configuration",
            id="a setting, asked for less",
        ),
        pytest.param(
            Hold(Reason.QUOTA, 3.0), 0.0, 3.0, "quota", id="another cause: as asked"
        ),
        pytest.param(Hold(Reason.QUOTA), 0.0, 5.0, "quota", id="or else a probe"),
        pytest.param(
            Hold(Reason.QUOTA, math.nan), 0.0, 5.0, "quota", id="probe: not a number"
        ),
    ],
)
def test_wait(reading, jitter, wait_s, reason):
    """The first failure makes the lane wait, as long as its kind and the server say."""
    bench = Bench(jitter=jitter)
    receipts = bench.accept(*events(3))
    (send,) = bench.leave()
    bench.now = 10.0
    bench.reply(send, reading)
    assert (10.0 + wait_s, reason) == (bench.lane.held.until_s, held_word(bench))
    assert ["pending"] * 3 == fates(receipts)
    assert f"held({reason})" == word(bench.outlet.last_error)


def test_journal_waits_as_long_as_asked():
    """Where nothing is ever given up, the server's wish has no bound of ours."""
    bench = Bench(keeps=True)
    bench.accept(*events(1))
    bench.run(always(RetryBatch(Reason.RATE_LIMITED, 5000.0)))
    assert 5000.0 == bench.lane.held.until_s


def waits_s(log):
    times = [at_s for at_s, _ in log]
    return [after - before for before, after in pairwise(times)]


@pytest.mark.parametrize(
    ("jitter", "share"), [(0.5, 0.5), (0.999, 0.999)], ids=["half", "most jitter"]
)
def test_back_off_doubles(jitter, share):
    """Failures in a row double the wait, from half a second to a minute."""
    bench = Bench(jitter=jitter)
    bench.accept(*events(1))
    log = bench.run_until(300.0, always(BUSY))
    expected = [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert [share * wait_s for wait_s in expected] == pytest.approx(waits_s(log)[:9])


@pytest.mark.parametrize(
    "reading",
    [WRONG_KEY, Hold(Reason.REDIRECTED), Hold(Reason.QUOTA), BAD_TLS],
    ids=["401", "3xx", "other", "tls"],
)
def test_probes_double(reading):
    """A lane on hold is tried after 5 s, then ever less often, every 5 minutes last."""
    bench = Bench(jitter=0.0, keeps=True)
    bench.accept(*events(1))
    log = bench.run_until(1500.0, always(reading))
    assert [5, 10, 20, 40, 80, 160, 300, 300] == waits_s(log)[:8]


def test_success_forgets_the_failures():
    """After a success the next failure waits as long as a first one."""
    bench = Bench()
    bench.accept(*events(1))
    bench.run_until(60.0, scripted(BUSY, BUSY, BUSY, AllDelivered()))
    bench.accept(event("x"))
    bench.run(always(BUSY))
    assert 60.25 == bench.lane.held.until_s


def flying(count, **settings):
    """Return a bench with *count* requests in flight, of one event each."""
    toy = Toy(main=Limits(events=1))
    bench = Bench(toy, jitter=0.0, parallel_uploads=count, **settings)
    bench.accept(*[event(f"e{index}", f"u{index}") for index in range(count)])
    return bench, [send for _ in range(count) for send in bench.leave()]


def test_only_a_request_that_left_later_proves_the_lane_open():
    """A success opens a lane if its request left after the failure was known."""
    bench, (failing, other) = flying(2)
    bench.now = 1.0
    bench.reply(failing, BUSY)
    bench.reply(other, AllDelivered())
    assert "server_error" == held_word(bench)
    (again,) = bench.leave()
    bench.reply(again, AllDelivered())
    assert held_word(bench) is None


def test_answers_in_parallel_are_one_failure_of_the_lane():
    """Requests that left before a hold are no probes of it: they do not double it."""
    bench, sends = flying(4)
    for send in sends:
        bench.reply(send, WRONG_KEY)
    assert 5.0 == bench.lane.held.until_s


def test_longest_of_two_causes_wins():
    """A short back-off does not shorten what another answer has asked for."""
    bench, (one, two) = flying(2)
    bench.reply(one, RetryBatch(Reason.RATE_LIMITED, 60.0))
    bench.reply(two, RetryBatch(Reason.SERVER_ERROR, 2.0))
    assert (60.0, "rate_limited") == (bench.lane.held.until_s, held_word(bench))


# -- the answer for each part --------------------------------------------------


def test_mixed_results():
    """Each part gets its own word; what is to be repeated waits by its user."""
    bench = Bench()
    receipts = bench.accept(*[event(f"e{index}", f"u{index}") for index in range(4)])
    results = [Delivered("old"), Rejected(Reason.QUOTA, "no"), Retry(2.0), Retry()]
    log = bench.run_until(9.0, scripted(Parts(results)))
    assert [(0.0, "e0 e1 e2 e3"), (0.25, "e3"), (2.0, "e2")] == log
    expected = ["delivered", "rejected(quota)", "delivered", "delivered"]
    assert expected == fates(receipts)
    assert "no" == receipts[1].outcome.excerpt


def test_repeated_part_backs_off_by_its_attempts():
    """A part that is to be repeated without a time waits longer each time."""
    bench = Bench()
    bench.accept(event("e1", "a"))
    again = Parts([Retry()])
    log = bench.run_until(9.0, scripted(again, again, again))
    assert [0.0, 0.25, 0.75, 1.75] == [at_s for at_s, _ in log]


def test_user_waits_and_strangers_do_not():
    """While one user's part waits, his later parts wait too, and nobody else's."""
    bench = Bench()
    bench.accept(event("e1", "a"), event("e2", "b"))
    bench.run(scripted(Parts([Retry(5.0), Delivered()])))
    bench.accept(event("e3", "a"), event("e4", "b", "a"), event("e5", "c"))
    log = bench.run_until(9.0, delivering)
    assert [(0.0, "e5"), (5.0, "e1 e3 e4")] == log


def test_joined_users_wait_together():
    """A part that joins two users makes both wait."""
    bench = Bench()
    bench.accept(event("e1", "a", "b"))
    bench.run(always(Parts([Retry(5.0)])))
    bench.accept(event("e2", "a"), event("e3", "b"), event("e4", "c"))
    assert [(0.0, "e4"), (5.0, "e1 e2 e3")] == bench.run_until(9.0, delivering)


def test_user_with_a_wait_that_is_no_number():
    """A user's wait that is not a number counts as none that was asked for."""
    bench = Bench()
    bench.accept(event("e1", "a"))
    log = bench.run_until(9.0, scripted(Parts([Retry(math.nan)])))
    assert [(0.0, "e1"), (0.25, "e1")] == log


def test_longest_wait_of_a_user_wins():
    """A user with two parts to repeat waits for the later of the two."""
    bench = Bench()
    bench.accept(event("e1", "a"), event("e2", "a"))
    log = bench.run_until(9.0, scripted(Parts([Retry(5.0), Retry(2.0)])))
    assert [(0.0, "e1 e2"), (5.0, "e1 e2")] == log


def test_part_without_a_user_makes_the_lane_wait():
    """Where there is no user to wait, the lane waits, for the part's reason."""
    bench = Bench()
    bench.accept(*events(2))
    bench.run(scripted(Parts([Delivered(), Retry(5.0, reason=Reason.QUOTA)])))
    assert (5.0, "quota") == (bench.lane.held.until_s, held_word(bench))
    assert [(5.0, "e1")] == bench.run_until(9.0, delivering)


def test_wait_of_a_part_ends_with_the_give_up_time():
    """A server cannot make a user wait longer than events are kept."""
    bench = Bench()
    bench.accept(event("e1", "a"))
    bench.run(scripted(Parts([Retry(5000.0)])))
    assert {"a": GIVE_UP_S} == bench.lane.parked


def test_rejected_part_proves_the_lane_open():
    """A vendor that judges parts has got the request: the lane's hold is over."""
    bench = Bench(give_up_after_s=60.0)
    receipts = bench.accept(*events(1))
    bench.run_until(9.0, scripted(WRONG_KEY, Parts([Rejected(Reason.INVALID)])))
    assert (["rejected(invalid)"], None) == (fates(receipts), held_word(bench))


def test_part_to_be_repeated_proves_the_lane_open():
    """A vendor that asks for a part again judges parts: nothing is wrong any more."""
    bench = Bench(jitter=0.0)
    bench.accept(event("e1", "a"))
    bench.run_until(5.0, scripted(WRONG_KEY, Parts([Retry(60.0)])))
    assert held_word(bench) is None
    assert not bench.lane.clock_stands


def test_parts_of_a_request_that_left_before_a_hold():
    """What was answered part by part before a failure was known does not end it."""
    bench, (failing, other) = flying(2)
    bench.now = 1.0
    bench.reply(failing, BUSY)
    bench.reply(other, Parts([Delivered()]))
    assert "server_error" == held_word(bench)


@pytest.mark.parametrize(
    "reading",
    [
        pytest.param(Parts([Delivered()]), id="too few results"),
        pytest.param(Parts([Delivered()] * 3), id="too many"),
        pytest.param(Parts([]), id="none"),
        pytest.param(Parts([Delivered(), "ok"]), id="an unknown result"),
        pytest.param(Parts([Delivered(), None]), id="a result that is missing"),
        pytest.param(Parts(None), id="results that are none"),
        pytest.param(Parts(7), id="results that are a number"),
        pytest.param("delivered", id="an unknown reading"),
        pytest.param(None, id="no reading"),
        pytest.param(AllDelivered, id="a class for its instance"),
        pytest.param(ValueError("secret"), id="it raises"),
    ],
)
def test_reading_without_sense_is_retried(reading):
    """What makes no sense settles nothing: the request is sent again, later."""
    bench = Bench()
    receipts = bench.accept(*events(2))
    assert ["e0 e1"] == bench.run(always(reading))
    assert (0.25, "unreadable") == (bench.lane.held.until_s, held_word(bench))
    assert "secret" not in bench.lane.held.excerpt
    assert ["pending"] * 2 == fates(receipts)
    bench.run_until(1.0, delivering)
    assert ["delivered"] * 2 == fates(receipts)


# -- what must not be sent twice -----------------------------------------------


@pytest.mark.parametrize(
    ("error", "idempotent", "expected"),
    [
        pytest.param(LOST_BEFORE, True, "pending", id="not sent"),
        pytest.param(LOST_BEFORE, False, "pending", id="not sent, once only"),
        pytest.param(LOST_AFTER, True, "pending", id="maybe sent"),
        pytest.param(LOST_AFTER, False, "lost(maybe_sent)", id="maybe sent, once only"),
        pytest.param(BUSY, False, "pending", id="answered, once only"),
    ],
)
def test_repeat_that_would_count_twice(error, idempotent, expected):
    """A part that must not count twice is repeated only if it was surely not taken."""
    bench = Bench()
    receipt, other = bench.accept(
        event("e1", idempotent=idempotent), event("e2", idempotent=True)
    )
    bench.run(scripted(error))
    assert [expected, "pending"] == fates([receipt, other])
    later = "e2" if expected != "pending" else "e1 e2"
    assert [(0.25, later)] == bench.run_until(9.0, delivering)
    assert "delivered" == word(other.outcome)


def test_lane_backs_off_although_nothing_is_left_to_repeat():
    """A server that loses answers is not asked again at once with the next event."""
    bench = Bench(Toy(main=Limits(events=1)))
    bench.accept(event("e1", idempotent=False), event("e2", idempotent=False))
    assert ["e1"] == bench.run(scripted(LOST_AFTER))
    assert (0.25, "unreachable") == (bench.lane.held.until_s, held_word(bench))


# -- 413: too large ------------------------------------------------------------


@pytest.mark.parametrize(
    ("part_sizes", "most_bytes", "log", "expected"),
    [
        pytest.param(
            [10] * 8,
            43,
            ["e0 e1 e2 e3 e4 e5 e6 e7", "e0 e1 e2 e3", "e4 e5 e6 e7"],
            ["delivered"] * 8,
            id="halves",
        ),
        pytest.param(
            [10] * 4,
            10,
            ["e0 e1 e2 e3", "e0 e1", "e0", "e1", "e2", "e3"],
            ["delivered"] * 4,
            id="down to one",
        ),
        pytest.param(
            [5, 99, 5],
            20,
            ["e0 e1 e2", "e0", "e1", "e2"],
            ["delivered", "rejected(too_large)", "delivered"],
            id="one is too large",
        ),
        pytest.param([99], 20, ["e0"], ["rejected(too_large)"], id="alone"),
    ],
)
def test_too_large(part_sizes, most_bytes, log, expected):
    """A request that is too large is halved, down to the one event that is at fault."""
    bench = Bench()
    receipts = bench.accept(
        *[event(f"e{index}", size=size) for index, size in enumerate(part_sizes)]
    )
    assert log == bench.run(accepting_up_to(most_bytes))
    assert expected == fates(receipts)


def test_too_large_is_explained():
    """The receipt of an event that is too large shows what the vendor said."""
    bench = Bench()
    (receipt,) = bench.accept(*events(1))
    bench.run(always(Split("over 9 bytes")))
    assert "over 9 bytes" == receipt.outcome.excerpt


def test_learned_cap_grows_again():
    """What a 413 taught is forgotten bit by bit, with each success."""
    bench = Bench()
    bench.accept(*events(8, size=10))
    bench.run(scripted(Split()))
    caps = [bench.lane.cap_bytes]
    rounds = 0
    while rounds < 20:
        rounds += 1
        bench.accept(*events(8, size=10))
        log = bench.run(delivering)
        caps.append(bench.lane.cap_bytes)
        if sizes(log) == [8]:
            break
    assert caps == sorted(set(caps))
    assert 2 <= rounds < 20


def test_too_large_within_a_search():
    """A piece of a refused request that is too large is halved where it stands."""
    bench = Bench()
    receipts = bench.accept(*events(8, size=10))
    log = bench.run(scripted(Bisect(), Split()))
    assert ["e0 e1 e2 e3 e4 e5 e6 e7", "e0 e1 e2 e3", "e0 e1", "e2 e3"] == log[:4]
    assert ["e4 e5 e6 e7"] == log[4:]
    assert ["delivered"] * 8 == fates(receipts)


# -- 400: search for what is bad -----------------------------------------------


@pytest.mark.parametrize(
    ("count", "bad", "requests"),
    [
        pytest.param(1, [0], 1, id="one alone"),
        pytest.param(2, [0], 3, id="first of two"),
        pytest.param(2, [0, 1], 3, id="both of two"),
        pytest.param(8, [0], 7, id="first of eight"),
        pytest.param(8, [7], 7, id="last of eight"),
        pytest.param(8, [0, 7], 11, id="both ends of eight"),
        pytest.param(100, [63], 15, id="one in a hundred"),
        pytest.param(3, [], 1, id="none"),
    ],
)
def test_poison(count, bad, requests):
    """The bad events are found in few requests, and their neighbours are delivered."""
    bench = Bench()
    receipts = bench.accept(*events(count))
    log = bench.run(poisoned_by(*[f"e{index}" for index in bad]))
    expected = ["delivered"] * count
    for index in bad:
        expected[index] = "rejected(invalid)"
    assert expected == fates(receipts)
    assert len(log) <= requests
    assert not bench.outlet.lanes["main"].busy


def test_poison_is_explained():
    """The receipt of a bad event shows what the vendor said."""
    bench = Bench()
    receipts = bench.accept(*events(2))
    bench.run(poisoned_by("e1"))
    assert ["", "bad"] == [receipt.outcome.excerpt for receipt in receipts]


def test_search_keeps_the_order():
    """Pieces of a refused request are sent in their order."""
    bench = Bench()
    bench.accept(*events(4, "a"))
    log = bench.run(poisoned_by("e1"))
    assert ["e0 e1 e2 e3", "e0 e1", "e0", "e1", "e2 e3"] == log


@pytest.mark.parametrize("count", [3, 8, 20, 100])
def test_everything_refused(count):
    """Where each event alone is refused, a setting is wrong: nothing is thrown away."""
    bench = Bench(jitter=0.0)
    receipts = bench.accept(*events(count))
    log = bench.run(always(Bisect("who are you")))
    assert len(log) <= 2 * 8 + math.ceil(math.log2(count))
    assert ["pending"] * count == fates(receipts)
    assert (5.0, "configuration?") == (bench.lane.held.until_s, held_word(bench))
    assert "who are you" == bench.lane.held.excerpt
    assert [f"e{index}" for index in range(count)] == [
        receipt.message_id for receipt in bench.outlet.waiting()
    ]


def test_everything_refused_until_it_is_mended():
    """Events kept for a wrong setting are tried one by one until it is mended."""
    bench = Bench(jitter=0.0, give_up_after_s=10.0)
    receipts = bench.accept(*events(20))
    bench.run(always(Bisect()))
    log = bench.run_until(100.0, always(Bisect()))
    assert {1} == set(sizes(sent for _, sent in log))
    bench.run_until(500.0, delivering)
    assert ["delivered"] * 20 == fates(receipts)


def test_many_bad_events_in_front():
    """Bad events at the head are told from a wrong setting by trying others."""
    bench = Bench(jitter=0.0)
    receipts = bench.accept(*events(40))
    bench.run_until(800.0, poisoned_by(*[f"e{index}" for index in range(10)]))
    assert ["rejected(invalid)"] * 10 + ["delivered"] * 30 == fates(receipts)


def test_trust_after_a_success_is_not_for_ever():
    """Twenty refusals in a row, even after a success, make us doubt the setting."""
    bench = Bench(jitter=0.0)
    receipts = bench.accept(*events(64))
    bench.run(poisoned_by(*[f"e{index}" for index in range(1, 64)]))
    ends = fates(receipts)
    assert {"delivered": 1, "rejected(invalid)": 20, "pending": 43} == {
        end: ends.count(end) for end in ends
    }
    assert "configuration?" == held_word(bench)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param([], ["rejected(invalid)"] * 2 + ["pending"], id="nothing before"),
        pytest.param(["x y"], ["rejected(invalid)"] * 2 + ["pending"], id="a batch"),
    ],
)
def test_single_events_refused_one_after_the_other(before, expected):
    """Two lonely events are rejected, the third makes us doubt the setting."""
    bench = Bench(jitter=0.0)
    for each in before:
        bench.accept(event("e0"))
        bench.run(always(Bisect()))
        bench.accept(*map(event, each.split()))
        bench.run(delivering)
    receipts = []
    while len(receipts) < 3:
        receipts += bench.accept(event(f"e{len(receipts) + 1}"))
        bench.run(always(Bisect()))
    assert expected == fates(receipts)


def test_lonely_success_within_a_time_of_400s():
    """What is refused alone after a success is rejected, whatever came before it."""
    bench = Bench()
    receipts = []
    for bad in (True, True, False, True, True, True, True):
        (receipt,) = bench.accept(event("e1"))
        bench.run(always(Bisect() if bad else AllDelivered()))
        receipts.append(word(receipt.outcome))
    bad, good = "rejected(invalid)", "delivered"
    assert [bad, bad, good, bad, bad, bad, bad] == receipts


def test_successes_between_refusals_keep_up_the_trust():
    """Many bad events among good ones are no wrong setting, however many they are."""
    bench = Bench()
    bad, good = [], []
    for _ in range(25):
        bad += bench.accept(event("bad"))
        bench.run(always(Bisect()))
        good += bench.accept(event("good"))
        bench.run(delivering)
    assert ["rejected(invalid)"] * 23 == fates(bad[2:])
    assert ["delivered"] * 25 == fates(good)


def test_transient_failure_within_a_search():
    """A failure in the middle of a search waits, and the search goes on as it was."""
    bench = Bench()
    receipts = bench.accept(*events(4))
    script = scripted(Bisect(), BUSY, Bisect(), AllDelivered(), Bisect())
    log = bench.run_until(9.0, script)
    assert ["e0 e1 e2 e3", "e0 e1", "e0 e1", "e0", "e1", "e2 e3"] == [
        sent for _, sent in log
    ]
    expected = ["delivered", "rejected(invalid)", "delivered", "delivered"]
    assert expected == fates(receipts)


def suspecting(bench, count=4):
    """Go into a search until one event has been refused alone, and none delivered."""
    receipts = bench.accept(*events(count))
    for _ in range(3):
        (send,) = bench.leave()
        bench.reply(send, Bisect())
    return receipts


def test_close_within_a_search():
    """Events under suspicion are the lane's: closing settles them with the others."""
    bench = Bench()
    receipts = suspecting(bench)
    bench.core.close(Reason.EXIT)
    assert ["lost(exit)"] * 4 == fates(receipts)


def test_give_up_within_a_search():
    """Events under suspicion are given up on with the others of their time."""
    bench = Bench()
    receipts = suspecting(bench)
    bench.run_until(GIVE_UP_S, always(RetryBatch(Reason.SERVER_ERROR, 60.0)))
    bench.leave()
    assert ["lost(expired)"] * 4 == fates(receipts)
    assert bench.outlet.idle


def test_success_condemns_the_suspects():
    """Once something is delivered, what was refused alone before is to blame."""
    bench = Bench()
    receipts = suspecting(bench)
    (send,) = bench.leave()
    assert "pending" == word(receipts[0].outcome)
    bench.reply(send, AllDelivered())
    assert ["rejected(invalid)", "delivered"] == fates(receipts[:2])


def test_last_error_starts_as_none_and_stays_after_a_success():
    """The last failure of a request is remembered even when it is over."""
    bench = Bench()
    assert bench.outlet.last_error is None
    bench.accept(*events(1))
    bench.run_until(1.0, scripted(RetryBatch(Reason.SERVER_ERROR, None, "oops")))
    error = bench.outlet.last_error
    expected = (OutcomeKind.HELD, Reason.SERVER_ERROR, "oops")
    assert expected == (error.kind, error.reason, error.excerpt)


def test_suspects_hold_back_a_barrier_of_their_user():
    """What is under suspicion is not settled: a barrier of its user has to wait."""
    bench = Bench(Toy(main=Limits(), other=Limits()))
    receipts = bench.accept(event("e0", "a"), event("e1", "b"), event("e2", "c"))
    for _ in range(3):
        (send,) = bench.leave()
        bench.reply(send, Bisect())
    assert ["pending"] * 3 == fates(receipts)
    bench.accept(event("x", "a", route="other", barrier=True))
    assert "x" not in " ".join(bench.left()).split()


@pytest.mark.parametrize(
    "reading",
    [AllDelivered("old"), Parts([Delivered("old")])],
    ids=["all", "part"],
)
def test_warning_of_the_vendor_is_kept(reading):
    """What the vendor remarks on an event that it has taken is in the outcome."""
    bench = Bench()
    (receipt,) = bench.accept(event("e1", "a"))
    bench.run(always(reading))
    assert "old" == receipt.outcome.excerpt
