from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time

import pytest

from analytics_sdk import (
    Client,
    Delivery,
    JsonLines,
    Outcome,
    OutcomeKind,
    Reason,
    Segment,
)
from analytics_sdk.collector import Collector, SegmentApi, Step, WithEvent, faults

DELIVERED = Outcome(OutcomeKind.DELIVERED)
LOST = Outcome(OutcomeKind.LOST, Reason.EXIT)
UNAUTHORIZED = Step(faults.Status(401))
BAD_EVENTS = Step(faults.Status(400), only=WithEvent("event", "Bad"))
BIG = {"text": "x" * 30_000}


class Gate:
    """Segment's API behind a gate: each request is counted, *open* lets all by."""

    name = "segment"
    keeps_bodies = False

    def __init__(self):
        self.asked = threading.Semaphore(0)
        self.open = threading.Event()
        self._api = SegmentApi()

    def receive(self, request):
        self.asked.release()
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
def own_threads():
    """Return the threads of clients made since the test began, by name."""
    before = set(threading.enumerate())

    def threads(prefix="analytics_sdk"):
        new = set(threading.enumerate()) - before
        return [thread for thread in new if thread.name.startswith(prefix)]

    return threads


# -- threads ---------------------------------------------------------------------


def test_threads_start_with_the_first_event(make, collector, own_threads):
    """The first event starts the coordinator; the first request starts a sender."""
    client = make(collector)
    assert [] == own_threads()
    client.track("u-1")
    client.track("u-1", "Paid")
    assert ["analytics_sdk"] == [thread.name for thread in own_threads()]
    assert client.flush(5)
    assert 1 == len(own_threads("analytics_sdk-sender"))
    assert all(thread.daemon for thread in own_threads())


def test_threads_end_with_the_client(make, collector, own_threads):
    """After the close no thread of the client is left."""
    client = make(collector, report="all", on_outcome=lambda _: None)
    client.track("u-1", "Paid")
    client.flush(5)
    threads = own_threads()
    assert 3 == len(threads)
    client.close()
    for thread in threads:
        thread.join(3)
    assert [] == own_threads()


def test_racing_first_events_start_one_coordinator(collector, own_threads):
    """Threads that make the first calls at the same time share one coordinator."""
    for _ in range(10):
        with Client(Segment("key", host=collector.url)) as client:
            begin = threading.Barrier(6)
            receipts = []

            def call(client=client, begin=begin, receipts=receipts):
                begin.wait(5)
                receipts.append(client.track("u-1", "Paid"))

            threads = [threading.Thread(target=call) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(5)
            assert 6 == client.stats().accepted
            assert client.flush(5)
            assert [DELIVERED] * 6 == [receipt.outcome for receipt in receipts]
            alive = [one for one in own_threads() if one.name == "analytics_sdk"]
            assert len(alive) == 1
        for thread in alive:
            thread.join(3)


@pytest.mark.parametrize("width", [1, 4])
def test_parallel_uploads_bound_the_requests(make, gate, gated, own_threads, width):
    """So many requests are under way for a destination as it may have, not more."""
    client = make(gated, parallel_uploads=width)
    for number in range(16 * 6):
        client.track(f"u-{number}", "Paid", BIG)
    began = client.flush(0)
    assert began.pending
    for _ in range(width):
        assert gate.asked.acquire(timeout=3)
    assert not gate.asked.acquire(timeout=0.1)
    assert width == len(own_threads("analytics_sdk-sender"))
    gate.open.set()
    assert client.flush(5)


def test_senders_are_bounded(gate, gated, own_threads):
    """With all destinations and uploads, and two more, there are 16 threads at most."""
    destinations = [Segment("key", host=gated.url, name=f"S{n}") for n in range(5)]
    delivery = Delivery(linger_s=60, parallel_uploads=4)
    client = Client(*destinations, delivery=delivery)
    for number in range(16 * 5):
        client.track(f"u-{number}", "Paid", BIG)
    client.flush(0)
    for _ in range(5 * 2):
        assert gate.asked.acquire(timeout=3)
    assert not gate.asked.acquire(timeout=0.1)
    assert 5 * 2 == len(own_threads("analytics_sdk-sender"))
    gate.open.set()
    assert {"delivered": 5 * 80} == client.close(8).counts


@pytest.mark.parametrize("driver", ["threads", "inline"])
def test_many_urgent_events_cost_little(make, collector, driver):
    """Thousands of urgent events are as quickly delivered as others, in order."""
    client = make(collector, driver=driver)
    for number in range(3_000):
        client.track(f"u-{number % 50}", "Paid", {"n": number}, urgent=True)
    assert client.flush(5)
    for user in range(50):
        mine = [e for e in collector.events if e["userId"] == f"u-{user}"]
        order = [event["properties"]["n"] for event in mine]
        assert list(range(user, 3_000, 50)) == order


def test_one_slow_destination_does_not_hold_up_another(make, gate, gated, tmp_path):
    """A destination that does not answer keeps nothing from the others."""
    path = tmp_path / "out.jsonl"
    client = make(gated, JsonLines(path))
    receipt = client.track("u-1", "Paid")
    report = client.flush(0.2)
    assert 1 == report.pending
    assert {"delivered": 1} == report.by_destination["JsonLines"]
    assert DELIVERED == receipt.by_destination["JsonLines"]
    assert Outcome(OutcomeKind.QUEUED) == receipt.by_destination["Segment.io"]
    gate.open.set()
    assert DELIVERED == receipt.wait(5)


class Calling(Segment):
    """A destination that calls a function where the client runs it."""

    __slots__ = ("while_encoding", "while_requesting")

    def encode(self, event):
        self.while_encoding()
        return super().encode(event)

    def request(self, route, parts, sent_at, attempt):
        self.while_requesting()
        return super().request(route, parts, sent_at, attempt)


@pytest.mark.parametrize("place", ["while_encoding", "while_requesting"])
@pytest.mark.parametrize("driver", ["threads", "inline"])
def test_own_threads_never_wait_for_themselves(collector, place, driver):
    """Flush, close and wait return at once, and say why, where they could deadlock."""
    destination = Calling("key", host=collector.url)
    client = Client(destination, delivery=Delivery(driver=driver))
    notes = []

    def flush():
        began = time.monotonic()
        note = client.flush(5).note
        assert client.track("u-2", "Inside", integrations={"All": False}).accepted
        waited = receipt.wait(5)
        notes.append((bool(note), waited, time.monotonic() - began < 1))

    object.__setattr__(destination, "while_encoding", lambda: None)
    object.__setattr__(destination, "while_requesting", lambda: None)
    object.__setattr__(destination, place, flush)
    receipt = client.track("u-1", "Paid")
    client.flush(5)
    object.__setattr__(destination, place, lambda: None)
    assert DELIVERED == receipt.wait(5)
    assert (True, None, True) == notes[0]
    client.close()


# -- on_outcome ------------------------------------------------------------------


def test_failures_are_told(make, collector):
    """By default the application hears of failures only, with all that is known."""
    collector.play(BAD_EVENTS)
    heard = queue.SimpleQueue()
    client = make(collector, on_outcome=heard.put)
    client.track("u-1", "Good")
    bad = client.track("u-2", "Bad")
    client.track("u-3", "Good")
    client.flush(5)
    settled = heard.get(timeout=3)
    client.close()
    assert (bad.message_id, "Segment.io") == (settled.message_id, settled.destination)
    assert bad.outcome == settled.outcome
    assert Reason.INVALID is settled.reason
    assert heard.empty()


def test_all_outcomes_are_told_if_asked_for(make, collector, own_threads):
    """With ``report="all"`` the application hears of every event, on a thread."""
    heard = queue.SimpleQueue()

    def listen(settled):
        heard.put((settled.message_id, settled.outcome, threading.current_thread()))

    client = make(collector, on_outcome=listen, report="all")
    receipts = [client.track("u-1", "Paid") for _ in range(20)]
    client.flush(5)
    told = [heard.get(timeout=3) for _ in range(20)]
    assert [(receipt.message_id, DELIVERED) for receipt in receipts] == [
        (message_id, outcome) for message_id, outcome, _ in told
    ]
    assert {"analytics_sdk-callbacks"} == {thread.name for *_, thread in told}


def test_lost_events_are_told_at_the_close(make, gate, gated):
    """What is lost at the end is told before the callback thread ends."""
    heard = queue.SimpleQueue()
    client = make(gated, on_outcome=heard.put)
    receipts = [client.track("u-1", "Paid") for _ in range(5)]
    client.close(timeout=0)
    told = {heard.get(timeout=3).message_id for _ in range(5)}
    assert {receipt.message_id for receipt in receipts} == told


@pytest.mark.parametrize("driver", ["threads", "inline"])
def test_raising_callback_is_logged_and_called_again(make, collector, driver, caplog):
    """An exception from the callback is logged; the next outcomes are told as well."""
    heard = queue.SimpleQueue()

    def listen(settled):
        heard.put(settled)
        raise ZeroDivisionError

    client = make(collector, on_outcome=listen, report="all", driver=driver)
    with caplog.at_level(logging.ERROR, logger="analytics_sdk"):
        for _ in range(3):
            client.track("u-1", "Paid")
        assert client.flush(5)
        for _ in range(3):
            heard.get(timeout=3)
        client.close()
    assert "on_outcome" in caplog.text


def test_blocking_callback_stops_nothing(make, collector):
    """While the application sits in its callback, events are delivered and waited."""
    go_on = threading.Event()
    client = make(collector, on_outcome=lambda _: go_on.wait(8), report="all")
    for _ in range(3):
        client.track("u-1", "Paid")
        assert client.flush(5)
    assert client.track("u-1", "Paid").wait(5) == DELIVERED
    go_on.set()


def test_outcomes_that_are_not_heard_are_counted(make, collector, own_threads):
    """What a slow callback has no room for is dropped, and counted."""
    go_on, heard = threading.Event(), []

    def listen(settled):
        go_on.wait(8)
        heard.append(settled)

    client = make(collector, on_outcome=listen, report="all")
    for _ in range(10_500):
        client.track("u-1", "Paid")
    assert client.flush(8)
    callbacks = own_threads("analytics_sdk-callbacks")
    go_on.set()
    client.close()
    for thread in callbacks:
        thread.join(3)
    dropped = client.stats().callbacks_dropped
    assert 0 < dropped <= 500
    assert 10_500 == dropped + len(heard)


@pytest.mark.parametrize("driver", ["threads", "inline"])
def test_callback_may_use_the_client(make, collector, driver):
    """In the callback the client can be called, and flush and close do not wait."""
    answers = queue.SimpleQueue()

    def listen(settled):
        if settled.message_id != "first":
            return
        began = time.monotonic()
        receipt = client.track("u-2", "Second", message_id="second")
        report = client.flush(5)
        waited = receipt.wait(5)
        report_async = asyncio.run(client.aflush(5))
        took_s = time.monotonic() - began
        answers.put((receipt, report.note, waited, report_async.note, took_s))

    client = make(collector, on_outcome=listen, report="all", driver=driver)
    client.track("u-1", "First", message_id="first")
    client.flush(5)
    receipt, note, waited, note_async, took_s = answers.get(timeout=8)
    assert note
    assert note_async
    assert waited is None
    assert 1 > took_s
    client.flush(5)
    assert DELIVERED == receipt.outcome


@pytest.mark.parametrize("driver", ["threads", "inline"])
def test_callback_may_close_the_client(make, collector, driver):
    """A close from the callback returns at once; calls are refused from then on."""
    answers = queue.SimpleQueue()

    def listen(settled):
        began = time.monotonic()
        client.close(5)
        answers.put(time.monotonic() - began)

    client = make(collector, on_outcome=listen, report="all", driver=driver)
    client.track("u-1", "First")
    client.flush(5)
    assert 1 > answers.get(timeout=8)
    assert Reason.CLOSED is client.track("u-2", "Second").outcome.reason
    assert 0 == client.stats().queued_events


# -- inline: no threads ----------------------------------------------------------


@pytest.fixture
def inline(make, collector):
    return make(collector, driver="inline")


def test_inline_client_has_no_threads(inline, collector, own_threads):
    """Without threads nothing is sent before somebody asks, and then at once."""
    receipts = [inline.track("u-1", "Paid") for _ in range(3_000)]
    receipts[0] = inline.track("u-1", "Paid", urgent=True)
    assert [] == own_threads()
    assert [] == collector.requests
    assert {None} == {receipt.outcome for receipt in receipts}
    assert 3_001 == inline.stats().queued_events
    assert inline.healthy
    report = inline.flush(8)
    assert {"delivered": 3_001} == report.counts
    assert 3_001 == len(collector.events)
    assert [] == own_threads()


@pytest.mark.parametrize("ask", ["wait", "close", "await", "aflush", "aclose", "leave"])
def test_inline_client_delivers_when_asked(inline, collector, ask):
    """Waiting, closing and leaving the block deliver, sync or async."""
    receipt = inline.track("u-1", "Paid")

    async def main():
        if ask == "await":
            await receipt
        else:
            await getattr(inline, ask)()

    if ask == "wait":
        assert DELIVERED == receipt.wait(5)
    elif ask == "close":
        assert inline.close()
    elif ask == "leave":
        with inline:
            pass
    else:
        asyncio.run(main())
    assert DELIVERED == receipt.outcome
    assert 1 == len(collector.events)


def test_inline_flush_by_receipts(inline, collector):
    """Without threads too, a flush by receipts leaves strangers' events alone."""
    for number in range(100):
        inline.track(f"u-{number}", "Paid", BIG)
    mine = inline.track("me", "Paid")
    assert {"delivered": 1} == inline.flush(5, receipts=[mine]).counts
    assert 50 < inline.stats().queued_events


def test_inline_flush_retries(inline, collector):
    """A flush without threads goes on until the server has recovered."""
    collector.play(faults.unavailable(), faults.Drop("before_body"))
    inline.track("u-1", "Paid")
    assert inline.flush(8)
    assert 1 == len(collector.unique_events())


def test_inline_flush_does_not_wait_for_a_long_hold(inline, collector):
    """Without threads too, a wrong key costs milliseconds."""
    collector.play(UNAUTHORIZED)
    inline.track("u-1", "Paid")
    assert 1 == inline.flush(3).held
    took_s = []
    for _ in range(3):
        began = time.monotonic()
        report = inline.flush(3)
        took_s.append(time.monotonic() - began)
    assert 0.1 > min(took_s)
    assert (1, 1) == (report.pending, report.held)
    assert 1 == len(collector.requests)


def test_inline_wait_for_a_long_hold_is_no_busy_loop(inline, collector):
    """A thread that waits for a destination on hold does not burn the processor."""
    collector.play(UNAUTHORIZED)
    receipt = inline.track("u-1", "Paid")
    inline.flush(1)
    began_s, burnt_s = time.monotonic(), time.thread_time()
    assert receipt.wait(0.4) is None
    assert 2 > time.monotonic() - began_s
    assert 0.15 > time.thread_time() - burnt_s


def test_inline_close_is_bounded(inline, collector):
    """Without threads too, what a close cannot deliver in time is lost."""
    collector.play(Step(faults.unavailable()))
    receipt = inline.track("u-1", "Paid")
    began = time.monotonic()
    report = inline.close(0.3)
    assert 2 > time.monotonic() - began
    assert {"lost": 1} == report.counts
    assert LOST == receipt.outcome
    assert Reason.CLOSED is inline.track("u-1", "Paid").outcome.reason
    assert inline.close()


def test_inline_flush_keeps_to_its_deadline(inline, collector):
    """A server that hangs costs an inline flush little more than its timeout."""
    collector.play(Step(faults.Hang(for_s=6)))
    inline.track("u-1", "Paid")
    began = time.monotonic()
    report = inline.flush(0.3)
    assert 2 > time.monotonic() - began
    assert 1 == report.pending


def test_inline_flushes_take_turns(inline, collector):
    """Threads that flush an inline client at once deliver each event once."""
    found = []

    def work(number):
        receipts = [inline.track(f"u-{number}", "Paid") for _ in range(50)]
        inline.flush(5)
        found.extend(receipt.wait(5) for receipt in receipts)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(8)
    assert [DELIVERED] * 300 == found
    assert not collector.duplicates
    assert 300 == len(collector.events)


def test_inline_callbacks_come_on_the_asking_thread(make, collector):
    """Without threads the application hears of outcomes while it flushes."""
    heard = []

    def listen(settled):
        heard.append((settled.outcome, threading.current_thread()))

    client = make(collector, on_outcome=listen, report="all", driver="inline")
    client.track("u-1", "Paid")
    client.flush(5)
    assert [(DELIVERED, threading.main_thread())] == heard


def test_inline_close_tells_of_what_is_lost(make, collector):
    """Without threads too, the application hears of the events lost at the close."""
    collector.play(UNAUTHORIZED)
    heard = []
    client = make(collector, on_outcome=heard.append, driver="inline")
    receipt = client.track("u-1", "Paid")
    client.close(0.2)
    assert [(receipt.message_id, LOST)] == [
        (settled.message_id, settled.outcome) for settled in heard
    ]


def test_both_drivers_do_the_same(make, tmp_path):
    """The same calls have the same outcomes, requests and books with either driver."""
    found = []
    for driver in ("threads", "inline"):
        with Collector() as collector:
            collector.play(BAD_EVENTS)
            path = tmp_path / f"{driver}.jsonl"
            client = make(collector, JsonLines(path), driver=driver)
            receipts = [
                client.track(f"u-{number % 3}", name, {"n": number})
                for number, name in enumerate(["Good", "Good", "Bad", "Good"] * 5)
            ]
            receipts.append(client.track("u-1"))
            receipts.append(client.alias("u-1", "u-2"))
            report = client.flush(8)
            client.close()
            stats = client.stats()
            found.append(
                (
                    [receipt.outcome for receipt in receipts],
                    report.counts,
                    report.by_destination,
                    stats.destinations,
                    (stats.accepted, stats.refused, stats.queued_bytes),
                    sorted(str(e.get("properties")) for e in collector.events),
                    len(path.read_bytes().splitlines()),
                )
            )
    assert found[0] == found[1]
