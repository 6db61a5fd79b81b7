from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from contextlib import suppress

import pytest

from analytics_sdk import (
    Client,
    Delivery,
    JsonLines,
    Outcome,
    OutcomeKind,
    Reason,
    Segment,
    context,
)
from analytics_sdk.collector import Collector, SegmentApi, Step, WithEvent, faults
from analytics_sdk.interfaces import Part

DELIVERED = Outcome(OutcomeKind.DELIVERED)
LOST = Outcome(OutcomeKind.LOST, Reason.EXIT)
UNAUTHORIZED = Step(faults.Status(401, body=b'{"message": "who are you"}'))


class Gate:
    """Segment's API behind a gate: *asked* is set by a request, *open* lets all by."""

    name = "segment"
    keeps_bodies = False

    def __init__(self):
        self.asked = threading.Event()
        self.open = threading.Event()
        self._api = SegmentApi()

    def receive(self, request):
        self.asked.set()
        self.open.wait(8)
        return self._api.receive(request)


@pytest.fixture
def collector():
    with Collector() as running:
        yield running


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def gated(gate):
    with Collector(gate) as running:
        yield running
        gate.open.set()


@pytest.fixture
def make():
    """Make clients of a collector; they are closed in the end."""
    made = []

    def make_client(collector, *others, on_outcome=None, **delivery):
        settings = Delivery(**{"linger_s": 60.0, **delivery})
        segment = Segment("key", host=collector.url)
        client = Client(segment, *others, delivery=settings, on_outcome=on_outcome)
        made.append(client)
        return client

    yield make_client
    for client in made:
        client.close(timeout=0)


@pytest.fixture
def client(make, collector):
    return make(collector)


@pytest.fixture
def start():
    """Run functions on threads; the test ends when they have."""
    threads = []

    def start_thread(function, *arguments):
        thread = threading.Thread(target=function, args=arguments)
        thread.start()
        threads.append(thread)
        return thread

    yield start_thread
    for thread in threads:
        thread.join(8)
        assert not thread.is_alive()


def call_later(function):
    """Return a thread's target that keeps what *function* returns, and the list."""
    results = []
    return (lambda: results.append(function())), results


def quickest(function):
    """Return what *function* returns, and the least seconds that it takes of three."""
    took_s = []
    for _ in range(3):
        began = time.monotonic()
        answer = function()
        took_s.append(time.monotonic() - began)
    return answer, min(took_s)


# -- a plain flush ---------------------------------------------------------------


def test_flush_delivers_at_once(client, collector):
    """A flush does not wait for the linger time; its report adds up."""
    receipts = [client.track("u-1", "Paid") for _ in range(100)]
    began = time.monotonic()
    report = client.flush(5)
    assert 3 > time.monotonic() - began
    assert report
    assert {"delivered": 100} == report.counts
    assert {"Segment.io": {"delivered": 100}} == report.by_destination
    assert (0, 0, 0, "") == (report.pending, report.held, report.stored, report.note)
    assert {} == report.holds
    assert 0 < report.elapsed_s <= time.monotonic() - began
    assert {DELIVERED} == {receipt.outcome for receipt in receipts}
    assert 100 == len(collector.events)


def test_flush_covers_what_was_accepted_before(make, gate, gated, start):
    """Events accepted while a flush waits are not its business, and go on waiting."""
    client = make(gated)
    before = client.track("u-1", "Before")
    flush, reports = call_later(lambda: client.flush(5))
    thread = start(flush)
    assert gate.asked.wait(5)
    after = client.track("u-2", "After")
    gate.open.set()
    thread.join(5)
    assert {"delivered": 1} == reports[0].counts
    assert 0 == reports[0].pending
    assert DELIVERED == before.outcome
    assert after.outcome is None
    assert {"delivered": 1} == client.flush(5).counts
    assert DELIVERED == after.outcome


def test_flush_covers_what_is_under_way(make, gate, gated, start):
    """An event in flight before the flush is waited for."""
    client = make(gated)
    receipt = client.track("u-1", "Paid", urgent=True)
    assert gate.asked.wait(5)
    flush, reports = call_later(lambda: client.flush(5))
    thread = start(flush)
    gate.open.set()
    thread.join(5)
    assert {"delivered": 1} == reports[0].counts
    assert DELIVERED == receipt.outcome


def test_flush_gives_up_at_its_deadline(make, gate, gated):
    """When nobody answers, the flush reports what is pending and is false."""
    client = make(gated)
    client.track("u-1", "Paid")
    client.track("u-2", "Paid")
    began = time.monotonic()
    report = client.flush(0.2)
    assert 0.2 <= time.monotonic() - began < 1
    assert not report
    assert (2, {}) == (report.pending, report.counts)
    assert 0.2 <= report.elapsed_s
    gate.open.set()
    assert {"delivered": 2} == client.flush(5).counts


def test_flush_without_time_reports_at_once(make, gated):
    """A flush with a timeout of zero, or less, looks and returns."""
    client = make(gated)
    client.track("u-1", "Paid")
    began = time.monotonic()
    assert 1 == client.flush(0).pending
    assert 1 == client.flush(-5).pending
    assert 0.5 > time.monotonic() - began


def test_flush_of_nothing_is_true(client):
    """With nothing left to settle a flush is true and immediate."""
    client.track("u-1", "Paid")
    assert client.flush(5)
    began = time.monotonic()
    report = client.flush(5)
    assert report
    assert {} == report.counts
    assert 0.5 > time.monotonic() - began


def test_flush_is_false_when_an_event_is_rejected(client, collector):
    """One rejected event makes the report false; the counts tell them apart."""
    collector.play(Step(faults.Status(400), only=WithEvent("event", "Bad")))
    for name in ("Good", "Bad", "Good"):
        client.track(name, name)
    report = client.flush(5)
    assert not report
    assert {"delivered": 2, "rejected": 1} == report.counts
    assert 0 == report.pending


def test_flush_is_true_when_an_event_is_skipped(make, collector, tmp_path):
    """What the selector keeps from a destination does not make a report false."""
    client = make(collector, JsonLines(tmp_path / "out.jsonl"))
    client.track("u-1", "Paid", integrations={"JsonLines": False})
    report = client.flush(5)
    assert report
    assert {"delivered": 1, "skipped": 1} == report.counts
    assert {"skipped": 1} == report.by_destination["JsonLines"]


def test_flush_retries(client, collector):
    """A flush goes on until a server in trouble has recovered."""
    collector.play(faults.unavailable(), faults.Drop("before_body"))
    receipt = client.track("u-1", "Paid")
    assert client.flush(8)
    assert DELIVERED == receipt.outcome
    assert 1 == len(collector.unique_events())


def test_concurrent_flushes(client, collector, start):
    """Eight threads that call and flush at once each get all of theirs delivered."""
    barrier = threading.Barrier(8)
    found = []

    def work(number):
        for turn in range(5):
            barrier.wait(5)
            receipts = [client.track(f"u-{number}", f"T{turn}") for _ in range(20)]
            report = client.flush(5)
            found.append((bool(report), {receipt.outcome for receipt in receipts}))

    threads = [start(work, number) for number in range(8)]
    for thread in threads:
        thread.join(8)
    assert [(True, {DELIVERED})] * 40 == found
    assert 800 == len(collector.events)
    assert not collector.duplicates


# -- a destination on hold -------------------------------------------------------


def test_flush_does_not_wait_for_a_long_hold(client, collector):
    """Once a wrong key is known, a flush within its hold costs milliseconds."""
    collector.play(UNAUTHORIZED)
    receipt = client.track("u-1", "Paid")
    began = time.monotonic()
    first = client.flush(3)
    assert 1 > time.monotonic() - began
    assert not first
    assert (1, 1) == (first.pending, first.held)
    client.track("u-2", "Paid")
    second, took_s = quickest(lambda: client.flush(3))
    assert 0.1 > took_s
    assert (2, 2) == (second.pending, second.held)
    hold = second.holds["Segment.io"]
    assert (OutcomeKind.HELD, Reason.CONFIGURATION) == (hold.kind, hold.reason)
    assert "who are you" in hold.excerpt
    assert 3 < hold.resumes_in_s <= 5
    assert receipt.outcome is None
    assert OutcomeKind.HELD is receipt.by_destination["Segment.io"].kind
    assert 1 == len(collector.requests)


def test_flush_by_receipts_does_not_wait_for_a_long_hold(client, collector):
    """The same holds for the flush of a webhook."""
    collector.play(UNAUTHORIZED)
    client.track("u-1", "Paid")
    client.flush(3)
    mine = client.track("u-2", "Paid")
    report, took_s = quickest(lambda: client.flush(3, receipts=[mine]))
    assert 0.1 > took_s
    assert not report
    assert (1, 1) == (report.pending, report.held)
    assert Reason.CONFIGURATION is report.holds["Segment.io"].reason


def test_flush_delivers_to_others_beside_a_hold(make, collector, tmp_path):
    """A destination on hold keeps nothing from the others."""
    collector.play(UNAUTHORIZED)
    client = make(collector, JsonLines(tmp_path / "out.jsonl"))
    for number in range(3):
        client.track(f"u-{number}", "Paid")
    report = client.flush(3)
    assert {"JsonLines": {"delivered": 3}, "Segment.io": {}} == report.by_destination
    assert (3, 3) == (report.pending, report.held)
    assert {"Segment.io"} == set(report.holds)


def test_flush_waits_out_a_short_hold(client, collector):
    """A hold that ends before the deadline is waited for."""
    collector.play(faults.rate_limited("1"))
    client.track("u-1", "Paid")
    assert client.flush(8)
    assert [429, 200] == [request.status for request in collector.requests]


def test_urgent_does_not_shorten_a_hold(client, collector):
    """An urgent event of a destination on hold waits like the others."""
    collector.play(UNAUTHORIZED)
    client.track("u-1", "Paid")
    client.flush(1)
    assert client.track("u-2", "Paid", urgent=True).wait(0.1) is None
    client.flush(0.1)
    assert 1 == len(collector.requests)


# -- a flush by receipts ---------------------------------------------------------


def test_flush_by_receipts_does_not_wait_for_strangers(client, collector):
    """A webhook's event overtakes the backlog of a slow server."""
    collector.play(Step(faults.Healthy(delay_s=0.2)))
    text = {"text": "x" * 30_000}
    for number in range(200):
        client.track(f"stranger-{number}", "Paid", text)
    mine = client.track("me", "Paid")
    report = client.flush(5, receipts=[mine])
    assert report
    assert {"delivered": 1} == report.counts
    assert DELIVERED == mine.outcome
    assert 100 < client.stats().queued_events
    place = next(
        record.request
        for record in collector.records
        if record.payload["userId"] == "me"
    )
    numbers = [request.number for request in collector.requests]
    assert 2 >= numbers.index(place)


def test_flush_by_receipts_counts_its_own_alone(client):
    """The report of a flush by receipts speaks of those events only."""
    client.track("u-1", "Paid")
    client.flush(5)
    mine = [client.track("u-2", "Paid"), client.track("u-3", "Paid")]
    report = client.flush(5, receipts=iter(mine))
    assert {"delivered": 2} == report.counts
    assert {"delivered": 2} == client.flush(5, receipts=mine).counts


def test_flush_by_no_receipts_is_true(make, gated):
    """A flush of no receipts has nothing to wait for, whatever waits."""
    client = make(gated)
    client.track("u-1", "Paid")
    began = time.monotonic()
    assert client.flush(5, receipts=[])
    assert 0.5 > time.monotonic() - began


def test_flush_by_a_refused_receipt_is_false(client):
    """A refused event is in the scope that it was given to, and is no success."""
    good, refused = client.track("u-1", "Paid"), client.track("u-1")
    began = time.monotonic()
    report = client.flush(5, receipts=[good, refused])
    assert 3 > time.monotonic() - began
    assert not report


def test_flush_by_skipped_receipts_is_true(client):
    """A skipped event is where it should be."""
    skipped = client.track("u-1", "Paid", integrations={"Segment.io": False})
    client.track("u-1", "Paid")
    assert client.flush(5, receipts=[skipped])


def test_flush_keeps_the_order_of_its_user(client, collector):
    """An event pulled forward takes the earlier ones of its user along."""
    text = {"text": "x" * 30_000}
    for number in range(100):
        client.track(f"stranger-{number}", "Paid", text)
    for number in range(3):
        client.track("me", "Earlier", {"n": number})
    mine = client.track("me", "Paid", {"n": 3})
    assert client.flush(5, receipts=[mine])
    client.flush(5)
    order = [e["properties"]["n"] for e in collector.events if e["userId"] == "me"]
    assert [0, 1, 2, 3] == order


@pytest.mark.parametrize("odd", [None, "receipt", 5])
def test_flush_by_something_else_costs_no_event(client, odd):
    """What is no receipt may be refused by the flush, and harms no event."""
    receipt = client.track("u-1", "Paid")
    with suppress(TypeError, ValueError):
        client.flush(0.2, receipts=[odd])
    client.flush(5)
    assert DELIVERED == receipt.outcome


def test_flush_by_a_strangers_receipt_is_bounded(make, collector, gated):
    """A receipt of another client is waited for at most until the deadline."""
    mine, other = make(collector), make(gated)
    foreign = other.track("u-1", "Paid")
    mine.track("u-2", "Paid")
    report = mine.flush(0.2, receipts=[foreign])
    assert not report
    assert mine.flush(5)


# -- closing while others work ---------------------------------------------------


def test_flush_beside_a_close_tells_the_truth(make, gate, gated, start):
    """A flush that a close overtakes reports its events as lost, soon after."""
    client = make(gated)
    receipt = client.track("u-1", "Paid")
    flush, reports = call_later(lambda: client.flush(6))
    thread = start(flush)
    assert gate.asked.wait(5)
    began = time.monotonic()
    client.close(timeout=0.1)
    thread.join(5)
    assert 2 > time.monotonic() - began
    assert LOST == receipt.outcome
    assert not reports[0]


def test_aflush_beside_a_close_returns(make, gate, gated):
    """A task that flushes while another closes gets an answer when all is lost."""
    client = make(gated)
    receipt = client.track("u-1", "Paid")

    async def main():
        flush = asyncio.create_task(client.aflush(6))
        await asyncio.to_thread(gate.asked.wait, 5)
        await client.aclose(timeout=0.1)
        return await asyncio.wait_for(flush, 2)

    assert not asyncio.run(main())
    assert LOST == receipt.outcome


def test_flush_after_close_is_immediate(client):
    """After the close a flush has nothing to wait for, sync or async."""
    client.track("u-1", "Paid")
    client.close()
    began = time.monotonic()
    client.flush(5)
    asyncio.run(client.aflush(5))
    asyncio.run(client.aclose(5))
    assert 0.5 > time.monotonic() - began


def test_concurrent_closes(make, gate, gated, start):
    """Several threads may close at once; each returns when the client has ended."""
    client = make(gated)
    receipt = client.track("u-1", "Paid")
    threads = [start(client.close, 0.2) for _ in range(4)]
    began = time.monotonic()
    for thread in threads:
        thread.join(5)
    assert 2.5 > time.monotonic() - began
    assert LOST == receipt.outcome


@pytest.mark.parametrize("ask", ["receipt", "flush", "receipts"])
def test_wait_that_comes_with_the_end_is_answered(collector, ask):
    """A task that begins to wait while the client ends is not left waiting."""
    entered, go_on = threading.Semaphore(0), threading.Semaphore(0)

    class SlowToEncode(Segment):
        def encode(self, event):
            entered.release()
            go_on.acquire(timeout=8)
            return super().encode(event)

    slow = SlowToEncode("key", host=collector.url)
    client = Client(slow, delivery=Delivery(linger_s=60))

    async def wait(receipt):
        if ask == "flush":
            return await client.aflush(6)
        if ask == "receipts":
            return await client.aflush(6, receipts=[receipt])
        return await receipt

    async def main():
        client.track("u-1", "First")
        assert await asyncio.to_thread(entered.acquire, timeout=3)
        receipt = client.track("u-2", "Second")
        closing = asyncio.create_task(client.aclose(timeout=0))
        await asyncio.sleep(0)
        go_on.release()
        assert await asyncio.to_thread(entered.acquire, timeout=3)
        waiting = asyncio.create_task(wait(receipt))
        await asyncio.sleep(0)
        go_on.release()
        await closing
        assert LOST == receipt.outcome
        return await asyncio.wait_for(waiting, 3)

    answer = asyncio.run(main())
    assert answer == LOST if ask == "receipt" else answer is not None


@pytest.fixture
def hasty():
    """Let threads take turns a thousand times as often, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_calls_racing_with_close_are_all_settled(collector, overflow, start, hasty):
    """Of calls made while the client closes each is refused or settled, once."""
    for _ in range(12):
        delivery = Delivery(linger_s=0.01, overflow=overflow)
        client = Client(Segment("key", host=collector.url), delivery=delivery)
        begin = threading.Barrier(7)
        receipts, errors = [], []

        def call(client=client, begin=begin, receipts=receipts, errors=errors):
            mine = []
            begin.wait(5)
            try:
                while not mine or mine[-1].accepted:
                    mine.append(client.track("u-1", "Paid"))
            except Exception as error:  # noqa: BLE001 - reported below
                errors.append(error)
            receipts.extend(mine)

        threads = [start(call) for _ in range(6)]
        begin.wait(5)
        client.close(timeout=0.02)
        for thread in threads:
            thread.join(5)
        assert [] == errors
        accepted = [receipt for receipt in receipts if receipt.accepted]
        assert [] == [receipt for receipt in accepted if receipt.outcome is None]
        stats = client.stats()
        assert len(accepted) == stats.accepted
        assert (0, 0) == (stats.queued_events, stats.queued_bytes)
        outcomes = stats.destinations["Segment.io"].outcomes
        assert len(accepted) == sum(outcomes.values())


@pytest.mark.parametrize("driver", ["threads", "inline"])
def test_call_that_the_close_overtakes_is_settled(collector, start, driver):
    """An event that enters the queue when the client has ended is lost, and counted."""
    inside, go_on = threading.Event(), threading.Event()

    def wait(event):
        if event["event"] == "Late":
            inside.set()
            go_on.wait(8)
        return event

    segment = Segment("key", host=collector.url)
    client = Client(segment, delivery=Delivery(driver=driver), plugins=[wait])
    client.track("u-1", "First")
    call, receipts = call_later(lambda: client.track("u-1", "Late"))
    thread = start(call)
    assert inside.wait(3)
    client.close()
    go_on.set()
    thread.join(3)
    assert receipts[0].accepted
    assert LOST == receipts[0].outcome == receipts[0].wait(3)
    assert {"Segment.io": LOST} == receipts[0].by_destination
    stats = client.stats()
    assert (2, 0, 0) == (stats.accepted, stats.queued_events, stats.queued_bytes)
    outcomes = stats.destinations["Segment.io"].outcomes
    assert {"delivered": 1, "lost": 1} == outcomes


# -- waiting ---------------------------------------------------------------------


def test_many_threads_wait_for_one_receipt(make, gate, gated, start):
    """Any number of threads may wait for the same receipt."""
    client = make(gated)
    receipt = client.track("u-1", "Paid")
    wait, found = call_later(lambda: receipt.wait(5))
    threads = [start(wait) for _ in range(5)]
    assert gate.asked.wait(5)
    gate.open.set()
    for thread in threads:
        thread.join(5)
    assert [DELIVERED] * 5 == found


def test_cancelling_detaches_the_waiter_only(make, gate, gated):
    """Cancelled tasks stop waiting; the event and the other waiters go on."""
    client = make(gated)

    async def wait(receipt):
        return await receipt

    async def main():
        receipt = client.track("u-1", "Paid")
        leaving = asyncio.create_task(wait(receipt))
        staying = asyncio.create_task(wait(receipt))
        flushing = asyncio.create_task(client.aflush(5))
        await asyncio.to_thread(gate.asked.wait, 5)
        for task in (leaving, flushing):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        gate.open.set()
        return await staying, receipt

    outcome, receipt = asyncio.run(main())
    assert DELIVERED == outcome == receipt.outcome
    assert client.track("u-1", "Paid").wait(5) == DELIVERED


def test_cancelled_close_goes_on(make, gate, gated):
    """A close whose task is cancelled is carried out all the same."""
    client = make(gated)
    receipt = client.track("u-1", "Paid")

    async def main():
        closing = asyncio.create_task(client.aclose(5))
        await asyncio.to_thread(gate.asked.wait, 5)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing

    asyncio.run(main())
    assert Reason.CLOSED is client.track("u-1", "Paid").outcome.reason
    gate.open.set()
    assert DELIVERED == receipt.wait(5)


def test_aflush_by_receipts(client):
    """A task flushes by receipts as a thread does."""

    async def main():
        mine = client.track("u-1", "Paid")
        return await client.aflush(5, receipts=[mine])

    assert {"delivered": 1} == asyncio.run(main()).counts


def test_waiting_does_not_block_the_loop(make, gate, gated):
    """While a task waits for a receipt and another flushes, others run."""
    client = make(gated)

    async def wait(receipt):
        return await receipt

    async def main():
        tasks = [
            asyncio.create_task(wait(client.track("u-1", "Paid"))),
            asyncio.create_task(client.aflush(5)),
        ]
        await asyncio.sleep(0)
        gate.open.set()
        return await asyncio.gather(*tasks)

    outcome, report = asyncio.run(main())
    assert DELIVERED == outcome
    assert report


# -- batches, linger, order ------------------------------------------------------


def small_events(client, count):
    """Make calls whose events are so small that 2,500 of them fit in the bytes."""
    return [
        client.track("u", "E", {"n": number}, message_id=f"m{number}")
        for number in range(count)
    ]


def test_batch_is_full_at_2500_events(client, collector):
    """A request holds Segment's 2,500 events, not one more."""
    with context(context={"library": None}):
        small_events(client, 5_001)
    assert client.flush(8)
    counts = [request.answered.events for request in collector.requests]
    assert [2_500, 2_500, 1] == counts
    order = [event["properties"]["n"] for event in collector.events]
    assert list(range(5_001)) == order


def test_batch_is_full_at_500000_bytes(client, collector):
    """A request holds as many bytes as Segment takes, commas and envelope counted."""
    for number in range(4_500):
        client.track("u-1", "Paid", {"n": number, "text": "x" * (100 + number % 97)})
    assert client.flush(8)
    sizes = [request.decoded_bytes for request in collector.requests]
    assert 3 <= len(sizes)
    assert 500_000 >= max(sizes)
    assert 500_000 - 500 < min(sizes[:-1])
    assert list(range(4_500)) == [e["properties"]["n"] for e in collector.events]


def test_full_batch_does_not_linger(make, collector):
    """A full batch leaves long before the linger time is over; the rest stays."""
    client = make(collector, linger_s=60.0)
    with context(context={"library": None}):
        receipts = small_events(client, 2_600)
    assert collector.wait_until(lambda seen: len(seen.events) == 2_500, 5)
    assert DELIVERED == receipts[2_499].wait(3)
    assert 100 == client.stats().queued_events


def test_lone_event_lingers(make, collector):
    """An event alone waits for company as long as it should, and then leaves."""
    client = make(collector, linger_s=0.3)
    called_at = time.time()
    client.track("u-1", "Paid")
    assert collector.wait_until(lambda seen: seen.events, 5)
    assert 0.29 <= collector.records[0].arrived_at - called_at < 2


def test_company_shares_a_request(make, collector):
    """Events of one linger time leave together."""
    client = make(collector, linger_s=0.3)
    for _ in range(10):
        client.track("u-1", "Paid")
    assert collector.wait_until(lambda seen: seen.events, 5)
    assert [10] == [request.answered.events for request in collector.requests]


def test_throughput_by_counts(make, collector, start):
    """Thousands of calls from several threads arrive once each, in full requests."""
    client = make(collector, linger_s=0.05)

    def work(number):
        for turn in range(4_000):
            client.track(f"u-{number}", "Paid", {"n": turn})

    threads = [start(work, number) for number in range(4)]
    for thread in threads:
        thread.join(9)
    assert client.flush(8)
    stats = collector.stats()
    assert (16_000, 0) == (stats["events"], stats["duplicates"])
    assert 0 == stats["rejected"]
    assert 16_000 / stats["requests"] > 100
    assert 1 == stats["connections"]


@pytest.mark.parametrize("parallel_uploads", [1, 4])
def test_order_of_a_user_is_kept(make, collector, start, parallel_uploads):
    """Each user's events arrive in the order of the calls, through retries too."""
    collector.play(
        Step(faults.Healthy(delay_s=0.02), requests=1),
        faults.unavailable(),
        Step(faults.Healthy(delay_s=0.02), requests=2),
        faults.Drop("after_body"),
    )
    client = make(collector, linger_s=0.005, parallel_uploads=parallel_uploads)

    def visit(user):
        for number in range(400):
            client.track(user, "Seen", {"n": number})

    threads = [start(visit, f"u-{number}") for number in range(4)]
    for thread in threads:
        thread.join(5)
    assert client.flush(8)
    events = collector.unique_events()
    for user in {event["userId"] for event in events}:
        mine = [e["properties"]["n"] for e in events if e["userId"] == user]
        assert list(range(400)) == mine
    assert 1_600 == len(events)


def test_retry_is_the_same_event(client, collector):
    """A repeat carries the same bytes; only the time of sending is new."""
    collector.play(faults.Drop("after_body", store=True))
    client.track("u-1", "Paid", {"n": 1})
    assert client.flush(8)
    first, second = collector.records
    assert first.payload == second.payload
    assert first.sent_at < second.sent_at
    assert {} == collector.changed_duplicates
    assert "1" == collector.requests[1].headers["x-retry-count"]


def test_event_is_given_up_on(make, collector):
    """What cannot be delivered for too long is lost, with its reason."""
    collector.play(Step(faults.unavailable()))
    client = make(collector, give_up_after_s=0.2)
    receipt = client.track("u-1", "Paid")
    assert not client.flush(5)
    assert Outcome(OutcomeKind.LOST, Reason.EXPIRED) == receipt.outcome


def test_nothing_is_given_up_on_while_a_setting_is_wrong(make, collector):
    """A wrong key holds events beyond the give-up time; none is consumed."""
    collector.play(UNAUTHORIZED)
    client = make(collector, give_up_after_s=0.1)
    receipt = client.track("u-1", "Paid")
    client.flush(1)
    assert receipt.wait(0.5) is None
    assert OutcomeKind.HELD is receipt.by_destination["Segment.io"].kind


def test_destination_that_raises_loses_its_event_alone(collector, tmp_path):
    """A destination whose encoding raises costs nobody else an event."""

    class Broken(Segment):
        def encode(self, event):
            if b"Bad" in event.raw:
                raise ZeroDivisionError
            return super().encode(event)

    path = tmp_path / "out.jsonl"
    with Client(Broken("key", host=collector.url), JsonLines(path)) as client:
        bad, good = client.track("u-1", "Bad"), client.track("u-1", "Good")
        assert not client.flush(5)
    outcome = bad.by_destination["Segment.io"]
    assert (OutcomeKind.LOST, Reason.BUG) == (outcome.kind, outcome.reason)
    assert DELIVERED == bad.by_destination["JsonLines"]
    assert DELIVERED == good.outcome
    lines = path.read_bytes().splitlines()
    assert ["Bad", "Good"] == [json.loads(line)["event"] for line in lines]


NONSENSE = {
    "nothing": None,
    "a number": 5,
    "no part": [None],
    "a part without a body": [Part("batch", None)],
    "a part of text": [Part("batch", "text")],
    "a part for no route": [Part("nowhere", b"{}")],
    "a part with an odd key": [Part("batch", b"{}", key=["u-1"])],
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_destination_that_makes_nonsense_loses_its_event_alone(
    collector, tmp_path, kind
):
    """What a destination's mistake costs is its own event: no other, and no waiter."""

    class Broken(Segment):
        def encode(self, event):
            if b"Bad" in event.raw:
                return NONSENSE[kind]
            return super().encode(event)

    async def wait(receipt):
        return await asyncio.wait_for(_outcome(receipt), 3)

    path = tmp_path / "out.jsonl"
    delivery = Delivery(linger_s=0.01)
    broken = Broken("key", host=collector.url)
    client = Client(broken, JsonLines(path), delivery=delivery)
    before = client.track("u-1", "Good")
    assert DELIVERED == before.wait(3)
    bad = client.track("u-2", "Bad")
    outcome = asyncio.run(wait(bad))
    after = client.track("u-1", "Good")
    assert DELIVERED == after.wait(3)
    assert (OutcomeKind.LOST, Reason.BUG) == (outcome.kind, outcome.reason)
    assert DELIVERED == bad.by_destination["JsonLines"]
    client.close()


async def _outcome(receipt):
    return await receipt
