from __future__ import annotations

from collections import Counter

import pytest

from analytics_sdk.collector import Step, WithEvent, faults
from tests.ground.conftest import told

pytestmark = pytest.mark.timeout(30)

HOOKLESS = """
real, os.register_at_fork = os.register_at_fork, lambda **_: None
"""
"""Forks as uWSGI does them: no hook of Python runs in the child."""


@pytest.mark.parametrize("before", ["", HOOKLESS], ids=["hooks", "no hooks"])
def test_queue_stays_with_the_parent(run, collector, before):
    """The child starts empty; each delivers what it was given, once."""
    run(
        before
        + """
client = make(URL, linger_s=60)
for _ in range(50):
    client.track("p", "Parent")

def child():
    assert 0 == client.stats().accepted + client.stats().queued_events
    receipt = client.track("c", "Child")
    assert client.flush(5).counts == {"delivered": 1}
    return receipt.outcome.kind.value == "delivered"

assert [0, 0, 0] == reap([fork(child) for _ in range(3)])
assert client.flush(5).counts == {"delivered": 50}
"""
    )
    assert ["Child"] * 3 + ["Parent"] * 50 == told(collector)
    assert not collector.duplicates


def test_receipts_are_elsewhere(run, collector):
    """In the child a receipt of the parent answers every question at once."""
    run(
        """
import asyncio, time
client = make(URL, linger_s=60)
receipt = client.track("p", "Parent")

async def wait():
    return await receipt

def child():
    began_s = time.monotonic()
    found = [receipt.wait(5), receipt.wait(), asyncio.run(wait())]
    found += receipt.by_destination.values()
    assert time.monotonic() - began_s < 1
    return {"elsewhere"} == {outcome.kind.value for outcome in found}

assert [0] == reap([fork(child)])
assert receipt.wait(5).kind.value == "delivered"
"""
    )
    assert ["Parent"] == told(collector)


@pytest.mark.parametrize("first", [True, False], ids=["second", "first"])
def test_flush_for_receipts_of_the_parent(run, collector, first):
    """In the child, a flush for the parent's receipts is false at once: all pend."""
    run(
        f"""
client = make(URL, linger_s=60)
receipt = client.track("p", "Parent")

def child():
    if {first}:
        client.track("c", "Child")
    report = client.flush(5, receipts=[receipt])
    return not report and report.pending == 1

assert [0] == reap([fork(child)])
"""
    )


def test_disposing_of_the_client_in_the_child_is_safe(run, collector):
    """Close, drop and collect in the child leave the parent's client whole."""
    run(
        """
import gc
client = make(URL)
client.track("p", "Before")
assert client.flush(5)
client.track("p", "Between")

def child():
    global client
    assert not client.close().counts
    del client
    gc.collect()
    return True

assert [0] * 5 == reap([fork(child) for _ in range(5)])
client.track("p", "After")
assert client.close()
"""
    )
    assert ["After", "Before", "Between"] == told(collector)
    assert 1 == collector.stats()["connections"]


def test_child_holds_no_connection(run):
    """A child that never calls keeps none of the parent's sockets open."""
    run(
        """
from analytics_sdk import Client, JsonLines, Segment
client = Client(Segment(KEY, host=URL), JsonLines(os.devnull))
client.track("p", "Parent")
assert client.flush(5)

def child():
    found = [os.readlink(f"/proc/self/fd/{n}") for n in range(3, 40)
             if os.path.lexists(f"/proc/self/fd/{n}")]
    return not [each for each in found if each.startswith("socket") or "null" in each]

assert [0] == reap([fork(child)])
client.track("p", "Parent")
assert client.flush(5)
"""
    )


def test_grandchildren(run, collector):
    """Children of children of children are clients of their own."""
    run(
        """
client = make(URL)

def generation(depth):
    for _ in range(5):
        client.track(f"u-{depth}", f"Depth {depth}")
    if depth < 4 and reap([fork(lambda: generation(depth + 1))]) != [0]:
        return False
    return client.flush(5).counts == {"delivered": 5}

assert generation(0)
"""
    )
    assert dict.fromkeys((f"Depth {n}" for n in range(5)), 5) == Counter(
        told(collector)
    )


def test_process_id_may_come_again(run, collector):
    """A descendant with the process id of a dead ancestor gets a driver of its own."""
    run(
        """
from analytics_sdk import _intake
client = make(URL)
client.track("p", "Parent")
parent = os.getpid()

def child():
    _intake.getpid = lambda: parent
    client.track("c", "Child")
    return client.flush(5).counts == {"delivered": 1}

assert [0] == reap([fork(child)])
assert client.flush(5)
"""
    )
    assert ["Child", "Parent"] == told(collector)


HOLD = {
    "the turnstile": """
client = make(URL, driver="inline")
client.track("p", "Parent")
locks = [client._intake.home._turnstile]
""",
    "logging's": """
import logging
handler = logging.StreamHandler()
logging.getLogger().addHandler(handler)
client = make(URL, exit_timeout_s=0.1)
client.track("p", "Parent")
locks = [handler.lock]
""",
    "the connections'": """
client = make(URL)
client.track("p", "Parent")
assert client.flush(5)
pools = client._intake.home.ways[-1]._adapter.poolmanager.pools
locks = [pools.lock]
""",
    "of every module that is there": """
import gc, queue, threading
client = make(URL)
client.track("p", "Parent")
assert client.flush(5)
kinds = (type(threading.Lock()), type(threading.RLock()))
pools = client._intake.home.ways[-1]._adapter.poolmanager.pools
ours = ("analytics_sdk", "requests", "urllib3", "queue", "http")
locks = [pools.lock] + [
    value
    for name, module in list(sys.modules.items())
    if name.partition(".")[0] in ours
    for value in list(vars(module).values())
    if isinstance(value, kinds)
]
""",
}


@pytest.mark.parametrize("what", HOLD)
def test_locks_held_at_the_fork(run, collector, what):
    """A lock that another thread holds for ever is in nobody's way in the child."""
    run(
        HOLD[what]
        + """
import gc, threading
held = threading.Event()
def hold():
    for lock in locks:
        lock.acquire()
    held.set()
    threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
held.wait(5)

def child():
    client.track("c", "Child")
    found = client.flush(4).counts
    gc.collect()
    return found == {"delivered": 1}

assert [0] == reap([fork(child)])
os._exit(0)
"""
    )
    assert "Child" in told(collector)


def test_fork_within_an_import(run, collector):
    """A child works although its parent was importing requests at the fork."""
    run(
        """
import threading
begun = threading.Event()

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "urllib3" and not begun.is_set():
            begun.set()
            pause(0.4)

sys.meta_path.insert(0, Slow())
client = make(URL)
client.track("p", "Parent")
assert begun.wait(5)

def child():
    client.track("c", "Child")
    return client.flush(5).counts == {"delivered": 1}

assert [0] == reap([fork(child)])
assert client.flush(5)
"""
    )
    assert ["Child", "Parent"] == told(collector)


def test_fork_within_an_answer(run, collector):
    """No byte of a child travels on a connection of the parent, nor the reverse."""
    collector.play(Step(faults.Slow(0.02), only=WithEvent("event", "Slow")))
    run(
        """
client = make(URL)
client.track("p", "Parent")
assert client.flush(5)
exchange = client._intake.home.ways[-1]._exchange
client.track("p", "Slow")
assert until(lambda: client.stats().queued_events and 10 < exchange.received < 60)

def child():
    for _ in range(10):
        client.track("c", f"Child {os.getpid()}")
        if client.flush(5).counts != {"delivered": 1}:
            return False
    return True

assert [0] * 4 == reap([fork(child) for _ in range(4)])
assert client.flush(5)
for _ in range(20):
    client.track("p", "Parent")
    assert client.flush(5)
"""
    )
    connection_of = {each.number: each.connection for each in collector.requests}
    senders = {
        (connection_of[each.request], each.payload["event"])
        for each in collector.records
    }
    assert 4 * 10 + 22 == len(collector.events)
    assert not collector.duplicates
    assert 5 == len({connection for connection, _ in senders})
    assert 5 + 1 == len(senders)


STORM = """
import threading
CHILDREN, LOAD_S = {children}, 0.002
client = make(URL)
over = threading.Event()
sent = []

def load():
    while not over.wait(LOAD_S):
        sent.append(client.track("p", "Parent"))

def child():
    client.track("c", "Child")
    return client.flush(8).counts == {{"delivered": 1}}

thread = threading.Thread(target=load)
thread.start()
codes, pids = [], []
for _ in range(CHILDREN):
    pids.append(fork(child))
    if len(pids) == 4:
        codes += reap(pids)
        pids = []
codes += reap(pids)
over.set()
thread.join()
assert client.flush(8), client.stats()
assert [0] * CHILDREN == codes, codes
print(len(sent))
"""


def _storm(run, collector, children, limit_s):
    ran = run(STORM.format(children=children), limit_s=limit_s)
    counts = Counter(told(collector))
    assert {"Child": children, "Parent": int(ran.out)} == counts
    assert not collector.duplicates


@pytest.mark.timeout(60)
def test_fork_storm(run, collector):
    """Under load, 300 forks hang nothing, lose nothing and double nothing."""
    _storm(run, collector, 300, 50)


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_long_fork_storm(run, collector):
    """Under load, 1,000 forks hang nothing, lose nothing and double nothing."""
    _storm(run, collector, 1_000, 380)
