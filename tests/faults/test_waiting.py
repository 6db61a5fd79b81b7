"""Retry-After, silence, deadlines, strangers: nobody waits longer than agreed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from analytics_sdk import Segment
from analytics_sdk.collector import Collector, Step, faults
from tests.faults.rig import KEY, NAME, PERSON, SLACK_S, SWIFT_S

GIVE_UP_S = 900.0

ASKED = {
    "0": (0.0, 0.5),
    "-1": (0.0, 0.5),
    "-99999999999": (0.0, 0.5),
    "": (0.0, 0.5),
    "NaN": (0.0, 0.5),
    "inf": (0.0, 0.5),
    "soon": (0.0, 0.5),
    "1 minute": (0.0, 0.5),
    "0x10": (0.0, 0.5),
    "Fri, 31 Feb 2026 25:00:00 GMT": (0.0, 0.5),
    "Wed, 21 Oct 2015 07:28:00 GMT": (0.0, 0.5),
    "7": (6.0, 7.0),
    " 7 ": (6.0, 7.0),
    "7.5": (6.5, 7.5),
    "1e2": (99.0, 100.0),
    "1e9": (GIVE_UP_S - 1, GIVE_UP_S),
    "9" * 40: (GIVE_UP_S - 1, GIVE_UP_S),
    "9" * 4000: (0.0, 0.5),
    "Fri, 31 Dec 9999 23:59:59 GMT": (GIVE_UP_S - 1, GIVE_UP_S),
}


def held_after(rig, fault) -> float:
    """Return how long the destination is held for after one such answer."""
    rig.collector.play(fault)
    rig.offer(4)
    rig.client.flush(0.0)
    assert rig.collector.wait_until(lambda seen: seen.requests)
    until_s = time.monotonic() + 1.0
    while rig.hold is None and time.monotonic() < until_s:
        if rig.receipts[0].outcome is not None:
            return 0.0
        time.sleep(0.001)
    return rig.hold.resumes_in_s if rig.hold else 0.0


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "asked", ASKED, ids=[f"{asked[:30]!r} of {len(asked)}" for asked in ASKED]
)
def test_retry_after_is_obeyed_up_to_the_give_up_time(
    make_rig, clock, caplog, asked, status
):
    """Seconds are obeyed, nonsense is passed over, the absurd ends at giving up."""
    headers = (("Retry-After", asked),)
    least_s, most_s = ASKED[asked]
    rig = make_rig()
    held_s = held_after(rig, faults.Status(status, headers=headers))
    assert least_s <= held_s <= most_s
    clock.leap(min(held_s, GIVE_UP_S - 10))
    if most_s < GIVE_UP_S:
        assert rig.flush()
        assert 2 == len(rig.collector.requests)
    rig.check(caplog.text)


@pytest.mark.parametrize("skew_s", [0, -86_400, 86_400, 4_000_000])
@pytest.mark.parametrize(("ahead_s", "bounds"), [(-60, (0.0, 0.5)), (30, (28.0, 31.0))])
def test_retry_after_as_a_date_counts_by_the_servers_clock(
    make_rig, clock, ahead_s, bounds, skew_s
):
    """A date is compared with the answer's own Date, however wrong that is."""
    rig = make_rig()
    fault = faults.Status(429, retry_after_date_s=ahead_s, clock_skew_s=skew_s)
    held_s = held_after(rig, fault)
    assert bounds[0] <= held_s <= bounds[1]
    clock.leap(held_s)
    assert rig.flush()
    rig.check()


def test_retry_after_is_waited_for_in_real_time(make_rig, caplog):
    """No request leaves before the second that the server asked for is over."""
    rig = make_rig(faults.rate_limited("1"))
    rig.offer()
    assert rig.flush()
    first, second = (request.arrived_at for request in rig.collector.requests)
    assert 1.0 <= second - first < 1.0 + SLACK_S
    rig.check(caplog.text)


def test_urgent_does_not_shorten_a_hold(make_rig, caplog):
    """Neither urgent events, flushes nor waits make a request before the time."""
    rig = make_rig(Step(faults.rate_limited("30")))
    rig.offer(5)
    rig.flush(0.5)
    urgent = rig.track(urgent=True)
    assert urgent.wait(0.2) is None
    started_s = time.monotonic()
    report = rig.flush(2.0, receipts=[urgent])
    assert time.monotonic() - started_s < SWIFT_S
    assert (1, 1) == (report.pending, report.held)
    assert "rate_limited" == report.holds[NAME].reason
    assert 1 == len(rig.collector.requests)
    rig.check(caplog.text)


# -- silence ---------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [faults.Hang(), faults.Slow(0.2), faults.Hang("accept")], ids=repr
)
def test_flush_and_close_keep_their_time_before_a_silent_server(
    make_rig, caplog, fault
):
    """While a request hangs, flush and close return in time and tell the truth."""
    rig = make_rig(Step(fault))
    rig.offer()
    report = rig.flush(0.2)
    assert (24, 0) == (report.pending, report.held)
    assert {"maybe"} == {receipt.sent for receipt in rig.receipts}
    late = rig.offer(3)
    assert {"no"} == {receipt.sent for receipt in late}
    report = rig.close(0.2)
    assert {"lost": 27} == report.counts
    assert {"lost(exit)": 27} == rig.outcomes()
    assert {"no"} == {receipt.sent for receipt in late}
    rig.check(caplog.text)


def test_answer_after_the_end_changes_nothing(make_rig, caplog):
    """A success that comes after close settles nothing a second time."""
    rig = make_rig(faults.Healthy(delay_s=0.5))
    rig.offer()
    rig.flush(0.1)
    rig.close(0.1)
    before = rig.client.stats()
    assert {"lost(exit)": 24} == rig.outcomes()
    assert {"maybe"} == {receipt.sent for receipt in rig.receipts}
    assert 24 == len(rig.collector.events)
    time.sleep(0.6)
    assert before == rig.client.stats()
    rig.check(caplog.text)


EXIT = """if True:
    import sys
    from analytics_sdk import Client, Delivery, Segment

    client = Client(
        Segment("key", host=sys.argv[1]),
        delivery=Delivery(exit_timeout_s=0.3),
        on_outcome=lambda settled: print(settled.outcome.kind, settled.reason),
    )
    for number in range(40):
        client.track(f"user-{number}", "Paid")
"""


@pytest.mark.parametrize("fault", [faults.Hang(), faults.Status(401)], ids=repr)
@pytest.mark.parametrize("end", ["", "client.close()"], ids=["exit", "close, exit"])
def test_losses_at_exit_are_told(make_rig, fault, end):
    """A program that ends before a silent server is told of each event it loses."""
    rig = make_rig(Step(fault))
    command = [sys.executable, "-c", f"{EXIT}\n    {end}", rig.collector.url]
    started_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.monotonic() - started_s < 0.3 + 2.0
    assert "40 events for Segment.io ended as lost(exit)" in done.stderr
    assert ["lost exit"] * 40 == done.stdout.splitlines()


def test_calls_after_close_are_refused_and_told(make_rig, caplog):
    """An event offered after close is refused(closed), and counted."""
    rig = make_rig(Step(faults.Hang()))
    rig.offer(3)
    rig.close(0.05)
    assert "refused(closed)" in str(
        Counter(f"{r.outcome.kind}({r.outcome.reason})" for r in rig.offer(2))
    )
    assert {"closed": 2} == rig.client.stats().refused
    rig.check(caplog.text)


def test_calls_do_not_wait_for_a_silent_server(make_rig, caplog):
    """While the server hangs a call costs what it always costs."""
    rig = make_rig(Step(faults.Hang()))
    rig.offer(5)
    rig.flush(0.1)
    slowest_s = 0.0
    for _ in range(2000):
        started_s = time.perf_counter()
        rig.track()
        slowest_s = max(slowest_s, time.perf_counter() - started_s)
    assert slowest_s < 2  # the server hangs for a minute
    rig.close(0.1)


def test_concurrent_flushes_all_return_and_agree(make_rig, caplog):
    """Eight flushes at once, before trouble: all are back, all true, one copy each."""
    rig = make_rig(Step(faults.unavailable(), requests=2))
    rig.offer(40)
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda _: rig.flush(), range(8)))
    assert [True] * 8 == [bool(report) for report in reports]
    assert {"delivered": 40} == rig.outcomes()
    rig.check(caplog.text)


def test_flushes_and_closes_at_once_all_return(make_rig, caplog):
    """Threads that flush, close, wait and track before a hang all come back in time."""
    rig = make_rig(Step(faults.Hang()))
    receipts = rig.offer(10)
    acts = (
        lambda: rig.flush(0.3),
        lambda: rig.close(0.3),
        lambda: rig.flush(0.3, receipts=receipts[:2]),
        lambda: receipts[0].wait(0.3),
    )
    started_s = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        for turn in range(8):
            pool.submit(acts[turn % 4])
    assert time.monotonic() - started_s < 0.3 + SLACK_S
    rig.check(caplog.text)


# -- strangers -------------------------------------------------------------

TO_SECOND = {"Segment.io": False, "Second": True}


def pair(rig) -> list[Segment]:
    """Make two destinations: the rig's collector, and one more."""
    second = Segment("second", host=rig.second.url, name="Second")
    return [Segment(KEY, host=rig.collector.url), second]


@pytest.fixture
def second():
    with Collector() as running:
        yield running


@pytest.fixture
def make_pair(make_rig, second):
    def make(*script, **settings):
        def destinations(rig):
            rig.second = second
            return pair(rig)

        return make_rig(*script, destinations=destinations, **settings)

    return make


@pytest.mark.parametrize(
    "fault",
    [
        faults.Hang(),
        faults.Status(401),
        faults.unavailable(),
        faults.Drop("accept"),
        faults.Drop("after_body", reset=True),
    ],
    ids=repr,
)
def test_dead_destination_does_not_touch_the_other(make_pair, second, caplog, fault):
    """What goes to the healthy destination is delivered there as if it were alone."""
    rig = make_pair()
    rig.collector.play(Step(fault))
    rig.offer(30)
    rig.client.flush(0.3)
    assert 30 == len(second.unique_events())
    only = rig.track(integrations={"All": False, "Second": True, NAME: False})
    started_s = time.monotonic()
    assert rig.flush(2.0, receipts=[only])
    assert time.monotonic() - started_s < 0.25
    assert "delivered" == only.outcome.kind
    books = rig.client.stats().destinations
    assert {"delivered": 31} == books["Second"].outcomes
    assert {"skipped": 1} == books[NAME].outcomes
    assert all(
        "delivered" == receipt.by_destination["Second"].kind for receipt in rig.receipts
    )
    rig.close(0.1)
    books = rig.client.stats().destinations
    assert {"lost": 30, "skipped": 1} == books[NAME].outcomes
    rig.check(caplog.text)


def test_scoped_flush_passes_by_a_dead_destinations_backlog(make_pair, second, caplog):
    """An event of the healthy destination is through at once past 5,000 for both."""
    rig = make_pair(Step(faults.unavailable()))
    rig.offer(5000)
    rig.client.flush(0.05)
    only = rig.track(integrations={"All": False, "Second": True, NAME: False})
    assert rig.flush(3.0, receipts=[only])
    rig.close(0.1)


def test_urgent_event_overtakes_a_backlog(make_rig, caplog):
    """Behind 5,000 queued events, an urgent one is in the next request that leaves."""
    rig = make_rig(Step(faults.Healthy(delay_s=0.3)))
    rig.offer(5000, users=50, properties={"text": "x" * 300})
    assert rig.collector.wait_until(lambda seen: seen.requests)
    before = len(rig.collector.requests)
    paid = rig.track(user_id="payer", urgent=True, properties={"urgent": True})
    started_s = time.monotonic()
    assert rig.flush(5.0, receipts=[paid])
    assert time.monotonic() - started_s < 2 * 0.3 + SLACK_S
    by_request = [
        record.request
        for record in rig.collector.records
        if record.payload["userId"] == "payer"
    ]
    assert by_request[0] <= before + 2
    assert len(rig.collector.unique_events()) < 4000
    rig.collector.play()
    assert rig.flush()
    rig.check(caplog.text)


def test_urgent_event_does_not_overtake_its_users_failed_request(make_rig, caplog):
    """Where a user's earlier events have to be sent again, they still go first."""
    rig = make_rig(faults.Hang(for_s=0.2))
    rig.offer(3, users=1)
    rig.client.flush(0.0)
    assert rig.collector.wait_until(lambda seen: seen.requests)
    rig.track(user_id=f"{PERSON}-0", urgent=True)
    assert rig.flush()
    rig.check(caplog.text)


def test_scoped_flush_does_not_wait_for_the_backlog(make_rig, caplog):
    """A flush of one ordinary receipt makes it urgent and leaves strangers alone."""
    rig = make_rig(Step(faults.Healthy(delay_s=0.3)))
    rig.offer(5000, users=50, properties={"text": "x" * 300})
    assert rig.collector.wait_until(lambda seen: seen.requests)
    paid = rig.track(user_id="payer", properties={"urgent": True})
    started_s = time.monotonic()
    report = rig.flush(5.0, receipts=[paid])
    assert time.monotonic() - started_s < 2 * 0.3 + SLACK_S
    assert {"delivered": 1} == report.counts
    rig.collector.play()
    assert rig.flush()
    rig.check(caplog.text)


# -- room ------------------------------------------------------------------

ROOM_BYTES = 60_000


def test_full_queue_refuses_and_says_so(make_rig, caplog):
    """While the server hangs, what does not fit is refused at the call; none silent."""
    rig = make_rig(Step(faults.Hang()), max_bytes=ROOM_BYTES)
    rig.offer(1000)
    stats = rig.client.stats()
    assert stats.queued_bytes <= ROOM_BYTES
    assert stats.refused["queue_full"] > 500
    assert not stats.healthy
    assert 1000 == stats.accepted + stats.refused["queue_full"]
    rig.close(0.1)
    rig.check(caplog.text)


def test_oldest_events_make_room_and_are_told(make_rig, caplog):
    """With drop_oldest the newest are kept, and each of the others ends as evicted."""
    rig = make_rig(Step(faults.Hang()), max_bytes=ROOM_BYTES, overflow="drop_oldest")
    rig.offer(5)
    rig.flush(0.1)
    for _ in range(100):
        rig.offer(10)
        time.sleep(0.002)
    rig.flush(0.1)
    stats = rig.client.stats()
    assert stats.queued_bytes <= ROOM_BYTES
    evicted = stats.destinations[NAME].outcomes["evicted"]
    assert evicted > 500
    assert {} == stats.refused
    assert rig.receipts[-1].outcome is None
    rig.close(0.1)
    assert {"lost(exit)": 1005 - evicted, "evicted(oldest)": evicted} == rig.outcomes()
    rig.check(caplog.text)


def test_burst_with_drop_oldest_is_told_in_full(make_rig, caplog):
    """Where calls outrun the evicting, the rest is refused: nothing ends in silence."""
    rig = make_rig(Step(faults.Hang()), max_bytes=ROOM_BYTES, overflow="drop_oldest")
    rig.offer(1000)
    rig.flush(0.1)
    assert rig.client.stats().queued_bytes <= ROOM_BYTES
    rig.close(0.1)
    ends = {"lost(exit)", "evicted(oldest)", "refused(queue_full)"}
    assert rig.outcomes().keys() <= ends
    rig.check(caplog.text)


def test_blocking_calls_wait_no_longer_than_agreed(make_rig, caplog):
    """With block, a call at a full queue waits its time, and is then refused."""
    rig = make_rig(
        Step(faults.Hang()),
        max_bytes=ROOM_BYTES,
        overflow="block",
        block_timeout_s=0.2,
    )
    while rig.client.stats().queued_bytes < ROOM_BYTES - 1000:
        rig.track()
    started_s = time.monotonic()
    refused = [rig.track() for _ in range(4)][-1]
    assert "queue_full" == refused.outcome.reason
    assert 0.2 <= time.monotonic() - started_s < 4 * 0.2 + SLACK_S
    rig.close(0.1)
    rig.check(caplog.text)


def test_held_destination_leaves_half_the_room(make_pair, second, caplog):
    """The events of a destination on hold give way before the healthy one suffers."""
    rig = make_pair(Step(faults.Status(401)), max_bytes=ROOM_BYTES)
    for turn in range(40):
        rig.offer(10)
        rig.client.flush(0.5)
        assert 10 * (turn + 1) == len(second.unique_events())
    stats = rig.client.stats()
    assert {} == stats.refused
    assert stats.queued_bytes <= ROOM_BYTES
    assert stats.destinations[NAME].reasons["evicted(held_share)"] > 0
    rig.close(0.1)
    rig.check(caplog.text)


def test_slow_callback_does_not_hold_up_delivery(make_rig, caplog):
    """An on_outcome that raises is logged without data, and delivery goes on."""
    rig = make_rig(faults.unavailable())

    def refuse(settled):
        rig.settled_in_vain = settled
        raise RuntimeError

    rig.client._on_outcome = refuse
    rig.offer(5)
    assert rig.flush()
    assert {"delivered": 5} == rig.outcomes()
    rig.close()
