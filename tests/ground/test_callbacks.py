from __future__ import annotations

import queue
import threading
import time

import pytest

from analytics_sdk import OutcomeKind, Reason
from analytics_sdk.collector import Step, faults
from tests.ground.stage import make

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def client_of(collector):
    """Make clients that tell everything to a callback; they are closed in the end."""
    made = []

    def make_client(on_outcome, **delivery):
        settings = {"report": "all", "linger_s": 60, **delivery}
        made.append(make(collector.url, on_outcome=on_outcome, **settings))
        return made[-1]

    yield make_client
    for client in made:
        client.close(timeout=0)


class Leaving(BaseException):
    """What no `except Exception` catches."""


@pytest.mark.parametrize("error", [ZeroDivisionError, Leaving, SystemExit])
def test_raising_callback(client_of, collector, error):
    """Whatever a callback raises, delivery goes on, and flush and close are in time."""
    heard = queue.SimpleQueue()

    def listen(settled):
        heard.put(settled)
        raise error

    client = client_of(listen)
    for number in range(3):
        client.track("u", f"Event {number}")
        assert client.flush(5)
        assert heard.get(timeout=5)
    assert client.close(5) is not None
    assert 3 == len(collector.events)


def test_blocked_callback_keeps_nobody(client_of, collector):
    """A callback that blocks delays no flush, wait or close; drops are counted."""
    gate, entered = threading.Event(), threading.Event()

    def listen(settled):
        entered.set()
        gate.wait(15)

    client = client_of(listen)
    client.track("u", "First")
    assert client.flush(5)
    assert entered.wait(5)
    began_s = time.monotonic()
    for _ in range(10_050):
        client.track("u", "More")
    assert client.flush(8)
    receipt = client.track("u", "Last")
    assert OutcomeKind.DELIVERED is receipt.wait(5).kind
    dropped = client.stats().callbacks_dropped
    assert client.close(0.5) is not None
    assert time.monotonic() - began_s < 10
    assert 0 < dropped < 200
    gate.set()


def test_blocked_callback_and_dead_vendor(client_of, collector):
    """Deadlines hold where the callback blocks and the vendor hangs."""
    collector.play(Step(faults.Hang(for_s=10)))
    gate = threading.Event()
    client = client_of(lambda _: gate.wait(15))
    receipt = client.track("u", "Paid")
    began_s = time.monotonic()
    assert not client.flush(0.3)
    assert receipt.wait(0.3) is None
    client.close(0.3)
    assert time.monotonic() - began_s < 3
    assert Reason.EXIT is receipt.outcome.reason
    gate.set()


@pytest.mark.parametrize("act", ["flush", "close", "track", "wait", "stats", "drop"])
@pytest.mark.parametrize("driver", ["threads", "inline"])
def test_callback_uses_the_client(client_of, collector, act, driver):
    """Each method may be called in a callback: it returns at once, and all goes on."""
    answers = queue.SimpleQueue()
    kept = []

    def listen(settled):
        began_s = time.monotonic()
        client = kept[0]
        if act == "drop":
            kept[:] = [None]
        elif settled.message_id == "first" and act == "track":
            client.track("u", "Second")
        elif act == "wait":
            client.track("u", "Second", integrations={"All": False}).wait(5)
        elif act != "track":
            getattr(client, act)()
        answers.put(time.monotonic() - began_s)

    kept.append(client_of(listen, driver=driver))
    client = kept[0]
    client.track("u", "First", message_id="first")
    client.flush(5)
    assert answers.get(timeout=5) < 1
    if act == "close":
        assert Reason.CLOSED is client.track("u", "Late").outcome.reason
    else:
        client.track("u", "Third")
        assert client.flush(5)
