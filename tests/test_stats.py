from __future__ import annotations

import threading

import attrs
import pytest

from analytics_sdk import (
    Client,
    Delivery,
    DestinationStats,
    JsonLines,
    OutcomeKind,
    Reason,
    Segment,
    Stats,
)
from analytics_sdk.collector import Collector, Step, WithEvent, faults

UNAUTHORIZED = Step(faults.Status(401, body=b'{"message": "who are you"}'))


@pytest.fixture
def collector():
    with Collector() as running:
        yield running


@pytest.fixture
def make(collector):
    """Make clients of the collector; they are closed in the end."""
    made = []

    def make_client(*others, **settings):
        delivery = Delivery(**{"linger_s": 60.0, **settings.pop("delivery", {})})
        segment = Segment("key", host=collector.url)
        client = Client(segment, *others, delivery=delivery, **settings)
        made.append(client)
        return client

    yield make_client
    for client in made:
        client.close(timeout=0)


@pytest.fixture
def client(make):
    return make()


def test_fields_are_the_documented_ones():
    """The names of the fields are a promise: dashboards are built on them."""
    assert [
        "accepted",
        "refused",
        "skipped",
        "queued_events",
        "queued_bytes",
        "oldest_age_s",
        "destinations",
        "repaired_values",
        "naive_timestamps",
        "unparsable_selectors",
        "callbacks_dropped",
        "healthy",
    ] == [field.name for field in attrs.fields(Stats)]
    assert ["state", "hold", "last_error", "outcomes", "reasons"] == [
        field.name for field in attrs.fields(DestinationStats)
    ]
    documented = f"{Stats.__doc__}{DestinationStats.__doc__}"
    for field in (*attrs.fields(Stats), *attrs.fields(DestinationStats)):
        assert f"        {field.name}: " in documented


def test_books_before_the_first_event(client):
    """A client that has done nothing has empty books and is healthy."""
    stats = client.stats()
    assert (0, {}, {}, 0, 0, 0.0) == (
        stats.accepted,
        stats.refused,
        stats.skipped,
        stats.queued_events,
        stats.queued_bytes,
        stats.oldest_age_s,
    )
    blank = DestinationStats("open", None, None, {}, {})
    assert {"Segment.io": blank} == stats.destinations
    assert stats.healthy
    client.close()
    assert not client.healthy


def test_books_are_a_snapshot(client):
    """What has been returned does not change when more happens."""
    client.track("u-1")
    client.track("u-1", "Paid")
    stats = client.stats()
    before = repr(stats)
    client.track("u-1")
    client.track("u-1", "Paid")
    client.flush(5)
    assert before == repr(stats)


def test_numbers_add_up(make, collector, tmp_path):
    """Accepted is settled and queued, for each destination, at each moment of rest."""
    collector.play(Step(faults.Status(400), only=WithEvent("event", "Bad")))
    client = make(JsonLines(tmp_path / "out.jsonl"), plugins=[_drop_marked])
    for number in range(40):
        client.track(f"u-{number}", "Bad" if number % 10 == 3 else "Good")
        client.track("u-1", "Good", integrations={"JsonLines": number % 2 == 0})
        client.track("u-1", "Good", integrations={"All": False, "Segment": False})
        client.track("u-1", "Good", {"drop": True})
        client.track("u-1")
    stats = client.stats()
    assert (80, 80) == (stats.accepted, stats.queued_events)
    assert {"no_name": 40} == stats.refused
    assert {"selector": 40, "plugin_drop": 40} == stats.skipped
    client.flush(5)
    stats = client.stats()
    segment = stats.destinations["Segment.io"]
    jsonl = stats.destinations["JsonLines"]
    assert (80, 0, 0) == (stats.accepted, stats.queued_events, stats.queued_bytes)
    assert {"delivered": 76, "rejected": 4} == segment.outcomes
    assert {"rejected(invalid)": 4} == segment.reasons
    assert {"delivered": 60, "skipped": 20} == jsonl.outcomes
    assert {"skipped(selector)": 20} == jsonl.reasons


def _drop_marked(event):
    return None if event["properties"].get("drop") else event


def test_numbers_add_up_during_a_hold(make, collector, tmp_path):
    """While one destination is on hold the other's outcomes are all there."""
    collector.play(UNAUTHORIZED)
    client = make(JsonLines(tmp_path / "out.jsonl"))
    for _ in range(10):
        client.track("u-1", "Paid")
    client.flush(1)
    stats = client.stats()
    assert 10 == stats.queued_events
    assert {"delivered": 10} == stats.destinations["JsonLines"].outcomes
    assert {} == stats.destinations["Segment.io"].outcomes


def test_hold_is_shown(client, collector):
    """A destination on hold says so, why, and for how long; the client is unwell."""
    collector.play(UNAUTHORIZED)
    client.track("u-1", "Paid")
    client.flush(1)
    books = client.stats().destinations["Segment.io"]
    assert "held" == books.state
    assert OutcomeKind.HELD is books.hold.kind
    assert Reason.CONFIGURATION is books.hold.reason
    assert 0 < books.hold.resumes_in_s <= 5
    assert Reason.CONFIGURATION is books.last_error.reason
    assert "who are you" in books.last_error.excerpt
    assert not client.healthy


def test_last_error_outlives_its_hold(client, collector):
    """After a recovery the destination is open, and the last error still known."""
    collector.play(faults.unavailable())
    client.track("u-1", "Paid")
    assert client.flush(5)
    books = client.stats().destinations["Segment.io"]
    assert ("open", None) == (books.state, books.hold)
    assert Reason.SERVER_ERROR is books.last_error.reason
    assert client.healthy


def test_full_memory_is_unhealthy(make, collector):
    """A client whose memory is nearly full is not healthy; with room it is again."""
    client = make(delivery={"max_bytes": 20_000})
    while client.track("u-1", "Paid").accepted:
        pass
    assert not client.healthy
    assert client.flush(5)
    assert client.healthy


def test_age_of_the_oldest(client, collector):
    """The age is that of the oldest waiting event, and zero when nothing waits."""
    collector.play(Step(faults.Hang(for_s=0.4)))
    client.track("u-1", "Paid", urgent=True)
    assert collector.wait_until(lambda seen: seen.requests, 3)
    receipt = client.track("u-2", "Paid")
    assert receipt.wait(0.3) is None
    assert 0.2 < client.stats().oldest_age_s < 5
    collector.play()
    assert client.flush(8)
    assert 0 == client.stats().oldest_age_s


def test_age_counts_what_is_under_way(client, collector):
    """An event that the server does not answer for is as old as it is."""
    collector.play(faults.Hang(for_s=0.6))
    receipt = client.track("u-1", "Paid")
    assert receipt.wait(0.3) is None
    assert 0.2 < client.stats().oldest_age_s < 5


def test_oddities_are_counted(client):
    """Repaired values and unparsable selectors are counted, each where it happens."""
    client.track("u-1", "Paid", {"bad": object(), "worse": float("nan")})
    client.track("u-1", "Paid", integrations=5)
    client.track("u-1", "Paid", integrations={5: True})
    stats = client.stats()
    assert 2 == stats.repaired_values
    assert 2 == stats.unparsable_selectors


def test_books_of_many_threads_are_added(make):
    """Counts are exact over any number of threads, ended ones included."""
    client = make(delivery={"driver": "inline"})

    def call():
        for _ in range(200):
            client.track("u-1", "Paid")
            client.track("u-1")

    for _ in range(3):
        threads = [threading.Thread(target=call) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(8)
    stats = client.stats()
    assert (3_600, {"no_name": 3_600}) == (stats.accepted, stats.refused)
    assert 3_600 == stats.queued_events
    assert client.flush(5)


def test_books_can_be_read_while_things_happen(make, collector):
    """Reading the books at any moment neither raises nor shows impossible numbers."""
    steps = [faults.Healthy(), faults.unavailable(), faults.rate_limited("0")]
    collector.play(*steps * 5)
    client = make(delivery={"linger_s": 0.001})
    done = threading.Event()
    found = []

    def look():
        try:
            while not done.is_set():
                stats = client.stats()
                receipt.by_destination  # noqa: B018 - it must not raise
                settled = sum(stats.destinations["Segment.io"].outcomes.values())
                found.append(0 <= stats.queued_events <= stats.accepted)
                found.append(settled <= client.stats().accepted)
        except Exception as error:  # noqa: BLE001 - reported below
            found.append(error)

    receipt = client.track("u-1", "Paid")
    thread = threading.Thread(target=look)
    thread.start()
    for number in range(2_000):
        receipt = client.track(f"u-{number}", "Paid")
    client.flush(8)
    done.set()
    thread.join(5)
    assert {True} == set(found)
