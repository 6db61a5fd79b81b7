from __future__ import annotations

import asyncio
import queue
import signal
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk import (
    Client,
    Delivery,
    JsonLines,
    Outcome,
    OutcomeKind,
    QueueFullError,
    Reason,
    Segment,
)
from analytics_sdk.collector import Collector, SegmentApi, Step, faults

DELIVERED = Outcome(OutcomeKind.DELIVERED)
MAX_BYTES = 100_000
GRANT_BYTES = 64 * 1024
UNAUTHORIZED = Step(faults.Status(401))


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
def gate():
    return Gate()


@pytest.fixture
def gated(gate):
    with Collector(gate) as running:
        yield running
        gate.open.set()


@pytest.fixture
def collector():
    with Collector() as running:
        yield running


@pytest.fixture
def make():
    """Make clients of a collector with little memory; they are closed in the end."""
    made = []

    def make_client(collector, *others, strict=False, on_outcome=None, **delivery):
        settings = Delivery(**{"linger_s": 60.0, "max_bytes": MAX_BYTES, **delivery})
        segment = Segment("key", host=collector.url)
        client = Client(
            segment, *others, delivery=settings, strict=strict, on_outcome=on_outcome
        )
        made.append(client)
        return client

    yield make_client
    for client in made:
        client.close(timeout=0)


def fill(client, text="x" * 500):
    """Call until a call is refused; return the receipts of those that were not."""
    receipts = []
    while not receipts or receipts[-1].accepted:
        receipts.append(client.track("u-1", "Paid", {"text": text}))
        assert len(receipts) < 10_000
    assert Reason.QUEUE_FULL is receipts[-1].outcome.reason
    return receipts[:-1]


# -- drop_newest -----------------------------------------------------------------


@pytest.mark.parametrize("linger_s", [0.0, 60.0])
@pytest.mark.parametrize("size", [0, 500, 20_000])
def test_full_queue_refuses_the_newest(make, gated, linger_s, size):
    """One thread fills the memory to the byte: to its bound, and not over it."""
    client = make(gated, linger_s=linger_s)
    receipts = fill(client, "x" * size)
    stats = client.stats()
    each = stats.queued_bytes / len(receipts)
    assert MAX_BYTES - each < stats.queued_bytes <= MAX_BYTES
    assert (len(receipts), 1) == (stats.accepted, stats.refused["queue_full"])
    assert len(receipts) == stats.queued_events


@given(
    sizes=st.lists(st.integers(0, 3_000), max_size=60),
    linger_s=st.sampled_from([0.0, 60.0]),
)
def test_what_fits_is_accepted_and_nothing_else(sizes, linger_s):
    """For one thread the bound is exact: an event is accepted if and only if it fits.

    The events have sizes of all kinds; a smaller one may fit after a larger did not.
    """
    delivery = Delivery(driver="inline", max_bytes=20_000, linger_s=linger_s)
    client = Client(Segment("key", host="http://127.0.0.1:9"), delivery=delivery)

    def offer(size):
        return client.track("u", "E", {"t": "x" * size}, message_id="m").accepted

    assert offer(0)
    used_bytes = empty_bytes = client.stats().queued_bytes
    for size in sizes:
        fits = used_bytes + empty_bytes + size <= 20_000
        assert fits == offer(size)
        used_bytes += fits * (empty_bytes + size)
        assert used_bytes == client.stats().queued_bytes
    client.close(timeout=0)


def test_charge_is_the_event_and_a_little(make, gated):
    """An event costs its bytes and a fixed overhead, whatever waits beside it."""
    client = make(gated)
    client.track("u-1", "Paid", {"text": ""}, message_id="m-1")
    one = client.stats().queued_bytes
    client.track("u-1", "Paid", {"text": "x" * 1_000}, message_id="m-2")
    assert one + 1_000 == client.stats().queued_bytes - one
    assert 150 < one < 700


def test_event_is_charged_once_for_all_destinations(make, gated, tmp_path):
    """Two destinations make no event dearer, and the last one frees its bytes."""
    client = make(gated, JsonLines(tmp_path / "out.jsonl"))
    alone = make(gated)
    client.track("u-1", "Paid", message_id="m")
    alone.track("u-1", "Paid", message_id="m")
    assert alone.stats().queued_bytes == client.stats().queued_bytes
    client.flush(0.1)
    assert alone.stats().queued_bytes == client.stats().queued_bytes


def test_room_comes_back_with_delivery(make, gate, gated):
    """What has been delivered makes room for as much again, over and over."""
    client = make(gated)
    first = fill(client)
    gate.open.set()
    assert client.flush(5)
    assert 0 == client.stats().queued_bytes
    for _ in range(5):
        assert len(first) == len(fill(client))
        assert client.flush(5)


def test_refused_calls_cost_nothing(make, gate, gated):
    """Refusals of every kind leave the count of bytes alone."""
    client = make(gated)
    fill(client)
    before = client.stats().queued_bytes
    for _ in range(50):
        client.track("u-1", "Paid", {"text": "x" * 500})
        client.track("u-1")
    assert before == client.stats().queued_bytes
    gate.open.set()
    client.flush(5)
    assert 0 == client.stats().queued_bytes


def test_full_queue_names_the_setting(make, gated):
    """A call that finds the queue full says which setting would help."""
    client = make(gated, strict=True)
    with pytest.raises(QueueFullError, match="max_bytes"):
        [client.track("u-1", "Paid") for _ in range(1_000)]


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_threads_overshoot_as_documented(make, gated, overflow):
    """Threads together go over the bound by a grant and an event each at most."""
    most_bytes = 400_000
    client = make(gated, overflow=overflow, max_bytes=most_bytes)
    begin = threading.Barrier(8)
    peaks = []

    def call():
        begin.wait(5)
        for _ in range(400):
            client.track("u-1", "Paid", {"text": "x" * 500})
        peaks.append(client.stats().queued_bytes)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(8)
    ceiling = 1.25 if overflow == "drop_oldest" else 1.0
    assert most_bytes * ceiling + 8 * (GRANT_BYTES + 1_200) >= max(peaks)
    assert most_bytes * 0.5 < max(peaks)
    stats = client.stats()
    assert 3_200 == stats.accepted + stats.refused.get("queue_full", 0)


# -- drop_oldest -----------------------------------------------------------------


def test_oldest_make_room(make, collector):
    """The oldest waiting events are evicted, the newest are kept and delivered."""
    collector.play(faults.rate_limited("1"))
    client = make(collector, overflow="drop_oldest")
    first = client.track("u-1", "First")
    client.flush(0.2)
    receipts = [first]
    while client.stats().destinations["Segment.io"].outcomes.get("evicted", 0) < 50:
        receipts.append(client.track("u-1", "Paid", {"text": "x" * 500}))
        if not len(receipts) % 20:
            client.flush(0)
        assert len(receipts) < 5_000
    client.flush(0)
    evicted = [receipt for receipt in receipts if receipt.outcome is not None]
    assert {Outcome(OutcomeKind.EVICTED, Reason.OLDEST)} == {
        receipt.outcome for receipt in evicted if receipt.accepted
    }
    accepted = [receipt for receipt in receipts if receipt.accepted]
    assert accepted[: len(evicted)] == evicted
    assert MAX_BYTES >= client.stats().queued_bytes
    client.flush(5)
    assert DELIVERED == accepted[-1].outcome
    ids = [receipt.message_id for receipt in accepted[len(evicted) :]]
    assert ids == [event["messageId"] for event in collector.events]


def test_event_under_way_is_not_evicted(make, gate, gated):
    """What has left is not evicted: it may be at the vendor."""
    client = make(gated, overflow="drop_oldest")
    under_way = client.track("u-1", "First", urgent=True)
    assert gate.asked.wait(5)
    for number in range(400):
        client.track("u-2", "Paid", {"text": "x" * 500})
        if not number % 20:
            client.flush(0)
    client.flush(0)
    assert under_way.outcome is None
    gate.open.set()
    assert DELIVERED == under_way.wait(5)
    counts = client.stats().destinations["Segment.io"].reasons
    assert 0 < counts["evicted(oldest)"]


def test_event_under_way_somewhere_is_evicted_nowhere(make, gate, gated, collector):
    """What one destination is about to answer for is not evicted at another."""
    collector.play(UNAUTHORIZED)
    held = Segment("key", host=collector.url, name="Held")
    client = make(gated, held, overflow="drop_oldest")
    under_way = client.track("u-1", "First", urgent=True)
    assert gate.asked.wait(5)
    assert collector.wait_until(lambda seen: seen.requests, 3)
    for number in range(200):
        client.track("u-2", "Paid", {"text": "x" * 500})
        if not number % 20:
            client.flush(0)
    client.flush(0)
    assert 0 < client.stats().destinations["Held"].reasons["evicted(oldest)"]
    assert under_way.outcome is None
    assert {"queued", "held"} == {
        str(outcome.kind) for outcome in under_way.by_destination.values()
    }


def test_evicted_events_are_told(make, gated):
    """The application hears of evicted events as of other failures."""
    heard = queue.SimpleQueue()
    client = make(gated, overflow="drop_oldest", on_outcome=heard.put)
    oldest = client.track("u-1", "First")
    for _ in range(130):
        client.track("u-1", "Paid", {"text": "x" * 500})
    client.flush(0)
    settled = heard.get(timeout=3)
    assert oldest.message_id == settled.message_id
    assert Reason.OLDEST is settled.reason


# -- a destination on hold -------------------------------------------------------


def test_destination_on_hold_keeps_half_the_memory(make, collector, tmp_path):
    """A destination on hold loses its oldest, so that the others have room."""
    collector.play(UNAUTHORIZED)
    client = make(collector, JsonLines(tmp_path / "out.jsonl"))
    receipts = []
    for number in range(300):
        receipts.append(client.track("u-1", "Paid", {"text": "x" * 500}))
        if not number % 20:
            client.flush(0.2)
    client.flush(0.2)
    assert all(receipt.accepted for receipt in receipts)
    assert {DELIVERED} == {r.by_destination["JsonLines"] for r in receipts}
    assert MAX_BYTES / 2 >= client.stats().queued_bytes
    gone = [receipt for receipt in receipts if receipt.outcome is not None]
    assert receipts[: len(gone)] == gone
    assert {Outcome(OutcomeKind.EVICTED, Reason.HELD_SHARE)} == {
        receipt.outcome for receipt in gone
    }
    assert 0 < len(gone) < 300


# -- block -----------------------------------------------------------------------


def test_blocking_call_waits_for_room(make, gate, gated):
    """With ``block`` a call waits until there is room, and is then accepted."""
    client = make(gated, overflow="block", block_timeout_s=5)
    thread = threading.Thread(target=lambda: gate.asked.wait(5) and gate.open.set())
    thread.start()
    receipts = [
        client.track("u-1", "Paid", {"text": "x" * 5_000}, urgent=not number)
        for number in range(19)
    ]
    began = time.monotonic()
    more = [client.track("u-1", "Paid", {"text": "x" * 5_000}) for _ in range(5)]
    thread.join(5)
    assert 5 > time.monotonic() - began
    assert all(receipt.accepted for receipt in [*receipts, *more])
    assert client.flush(5)


def test_blocking_call_gives_up(make, gated):
    """With ``block`` a call waits for `block_timeout_s`, and is then refused."""
    client = make(gated, overflow="block", block_timeout_s=0.2)
    began = time.monotonic()
    receipts = fill(client)
    assert 0.2 <= time.monotonic() - began < 1.5
    assert MAX_BYTES >= client.stats().queued_bytes
    assert receipts


def test_blocking_call_does_not_block_an_event_loop(make, gated):
    """On an event loop's thread ``block`` is ``drop_newest``."""
    client = make(gated, overflow="block", block_timeout_s=5)

    async def main():
        fill(client)

    began = time.monotonic()
    asyncio.run(main())
    assert 2 > time.monotonic() - began


def test_blocking_call_does_not_block_our_threads(make, gate, gated):
    """On the callback thread ``block`` is ``drop_newest``."""
    answers = queue.SimpleQueue()

    def listen(settled):
        began = time.monotonic()
        receipts = fill(client)
        answers.put((receipts, time.monotonic() - began))

    client = make(
        gated, overflow="block", block_timeout_s=8, on_outcome=listen, report="all"
    )
    client.track("u-1", "Paid", urgent=True)
    gate.asked.wait(5)
    gate.open.set()
    _, took_s = answers.get(timeout=7)
    assert 3 > took_s


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs POSIX signals")
def test_call_from_a_signal_handler_does_not_wait(make, gated):
    """A call that interrupts a blocked call is refused at once, not blocked too."""
    client = make(gated, overflow="block", block_timeout_s=0.6)
    took_s = []

    def handle(number, frame):
        began = time.monotonic()
        receipt = client.track("u-1", "Paid", {"text": "x" * 500})
        took_s.append((time.monotonic() - began, receipt.accepted))

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        fill(client)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    [(seconds, accepted)] = took_s
    assert not accepted
    assert 0.2 > seconds


def test_blocked_call_ends_with_the_client(make, gated):
    """A call that waits for room when the client is closed does not wait longer."""
    client = make(gated, overflow="block", block_timeout_s=6)
    receipts = [client.track("u-1", "Paid", {"text": "x" * 9_000}) for _ in range(10)]
    answers = queue.SimpleQueue()

    def call():
        answers.put(client.track("u-1", "Late", {"text": "x" * 9_000}))

    thread = threading.Thread(target=call)
    thread.start()
    client.close(timeout=0.2)
    late = answers.get(timeout=3)
    thread.join(3)
    assert all(receipt.outcome is not None for receipt in receipts)
    assert late.outcome is not None
    stats = client.stats()
    assert (0, 0) == (stats.queued_events, stats.queued_bytes)
    assert stats.accepted == sum(stats.destinations["Segment.io"].outcomes.values())
