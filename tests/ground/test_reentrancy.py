from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.ground.conftest import run_program

pytestmark = pytest.mark.timeout(30)

STORM = """
import signal, time
from analytics_sdk import Client, Delivery, JsonLines

{planted}
client = Client(
    JsonLines(sys.argv[1]), delivery=Delivery(linger_s=0.01, max_bytes=2**21)
)
client.stats()  # its module is imported by the first one
made = {{"calls": 0, "inside": 0, "refused": 0}}

def handler(number, frame):
    made["inside"] += 1
    client.track("u", "Inside", {{"n": made["inside"]}})
    client.track()
    client.stats()
    if made["inside"] % 50 == 0:
        client.track("u", "Inside", urgent=True)
        made["calls"] += 1

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, {every_s}, {every_s})
end_s = time.monotonic() + {for_s}
outside = 0
while time.monotonic() < end_s:
    client.track("u", "Outside", {{"n": outside}})
    client.track(None, "Refused")
    outside += 1
    if outside % 500 == 0:
        client.flush(0.05)
signal.setitimer(signal.ITIMER_REAL, 0)
assert client.flush(20)
stats = client.stats()
calls = made["calls"] + made["inside"] + outside
refused = dict(stats.refused)
assert made["inside"] > 100 * {for_s}, made
assert refused.pop("no_id") == made["inside"] + outside, (stats, made, outside)
assert stats.accepted + sum(refused.values()) == calls, (stats, calls)
assert (0, 0) == (stats.queued_events, stats.queued_bytes), stats
assert client._intake.home.coordinator.buffer.unsettled_bytes == 0
client.close()
print(stats.accepted)
"""


def _storm(path, for_s, planted="", every_s=0.0005, limit_s=None):
    code = STORM.format(for_s=for_s, planted=planted, every_s=every_s)
    untraced = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
    return run_program(code, str(path), limit_s=limit_s or for_s + 15, **untraced)


def _check(ran, path):
    assert 0 == ran.code, ran.err
    ids = [json.loads(line)["messageId"] for line in path.read_text().splitlines()]
    assert int(ran.out) == len(ids) == len(set(ids))


def test_storm_of_signals(tmp_path):
    """A handler may call while a call is under way; every call is counted once."""
    path = tmp_path / "out.jsonl"
    _check(_storm(path, 3), path)


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_long_storm_of_signals(tmp_path):
    """The same holds for a minute."""
    path = tmp_path / "out.jsonl"
    _check(_storm(path, 60), path)


QUEUE_QUEUE = """
import queue
class Locked(queue.Queue):
    pass
queue.SimpleQueue = Locked
"""


def test_storm_finds_locks(tmp_path):
    """With `queue.Queue` in place of `SimpleQueue` a put waits within a put."""
    ran = _storm(tmp_path / "out.jsonl", 20, QUEUE_QUEUE, every_s=0.002, limit_s=5)
    assert 0 != ran.code
    assert 1 < ran.err.count("in put\n")


def test_finalisers_and_weak_references(run, collector):
    """Objects that call as they die may die at any moment, within a call as well."""
    run(
        """
import gc, weakref

client = make(URL, linger_s=0.01)
calls = {"del": 0, "weak": 0}

class Dying:
    def __init__(self):
        self.me = self
    def __del__(self):
        calls["del"] += 1
        client.track("u", "Deleted")

class Gone:
    def __init__(self):
        self.me = self

def gone(reference):
    calls["weak"] += 1
    client.track("u", "Gone")

gc.set_threshold(1)
kept = []
for number in range(300):
    Dying()
    kept.append(weakref.ref(Gone(), gone))
    client.track("u", "Alive", {"a": [{"b": [number]}]})
gc.collect()
gc.set_threshold(700)
assert client.flush(8)
assert client.stats().accepted == 300 + calls["del"] + calls["weak"], calls
assert min(calls.values()) == 300, calls
"""
    )
    counts = Counter(event["event"] for event in collector.events)
    assert {"Deleted": 300, "Gone": 300, "Alive": 300} == counts
    assert not collector.duplicates


def test_logging_handler(run, collector):
    """A log handler may call, flush and look, for our own lines and urllib3's too."""
    run(
        """
import logging

client = make(URL, linger_s=0.01)

class Tracking(logging.Handler):
    def emit(self, record):
        if client.stats().accepted < 2_000:
            client.track("log", record.name.partition(".")[0])
            client.flush(0.0)

logging.getLogger().addHandler(Tracking())
logging.getLogger().setLevel(logging.DEBUG)
for number in range(200):
    client.track("u", "Call", {"bad": object()})
    logging.getLogger("host").warning("something %s", number)
receipt = client.track("u", "Last")
assert receipt.wait(8).kind.value == "delivered"
assert client.close(8), client.stats()
"""
    )
    found = {event["event"] for event in collector.events}
    assert {"host", "analytics_sdk", "Call", "Last"} <= found


def test_plugins_and_values(run, collector):
    """A plugin may call, and so may whatever a value does when it is looked at."""
    run(
        """
from analytics_sdk import Client, Delivery, Segment

made = []

def plugin(event):
    if event["event"] == "Outer":
        made.append(client.track("u", "From a plugin"))
        client.flush(0.0)
    return event

class Value:
    def _call(self, *_):
        made.append(plain.track("u", "From a value"))
        return "text"
    __str__ = __repr__ = __format__ = _call
    def __hash__(self):
        self._call()
        return 1
    def __eq__(self, other):
        self._call()
        return self is other

class Text(str):
    def __str__(self):
        made.append(plain.track("u", "From a text"))
        return "text"
    __repr__ = __str__

class Items(dict):
    def items(self):
        made.append(plain.track("u", "From a mapping"))
        return super().items()
    __iter__ = keys = items

plain = make(URL)
client = Client(
    Segment(KEY, host=URL), delivery=Delivery(linger_s=0.01), plugins=[plugin]
)
for number in range(20):
    for target in (client, plain):
        value = Value()
        target.track("u", "Outer", {"v": value, "d": {value: 1, Text("k"): Text("v")}})
        target.track(Text("u"), Text("Named"), Items(a=Items(b=1)))
        target.track("u", "Placed", context=Items(a=1), integrations=Items(All=True))
assert plain.close(8) and client.close(8)
assert len([each for each in made if not each.accepted]) == 0
assert len(made) >= 20
"""
    )
    assert 20 <= sum(event["event"].startswith("From") for event in collector.events)
    assert not collector.duplicates


def test_call_while_a_tally_is_made(run, collector):
    """A call that comes while a thread's books are opened is entered in them."""
    run(
        """
from analytics_sdk.buffers import memory
client = make(URL)
real, inside = memory.Tally, []

def interrupted():
    if not inside:
        inside.append(None)
        inside[0] = client.track("u", "Inside")
    return real()

memory.Tally = interrupted
client.track("u", "First")
assert client.flush(5)
assert 2 == client.stats().accepted
assert 0 == client._intake.home.coordinator.buffer.unsettled_bytes
client.close()
"""
    )
    assert 2 == len(collector.events)


def test_calls_while_the_first_call_is_made(run, collector):
    """A handler that interrupts the very first call finds one client, not two."""
    run(
        """
import signal
receipts = []
for number in range(60):
    client = make(URL, linger_s=0.01)
    def handler(*_):
        if not inside:
            inside.append(client.track("u", "Inside"))
    inside = []
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.000_002 * (number + 1))
    first = client.track("u", "First")
    until(lambda: inside)
    assert client.flush(5)
    assert client.stats().accepted == 2
    assert {receipt.outcome.kind.value for receipt in [first, *inside]} == {"delivered"}
    client.close()
""",
        limit_s=15,
    )
    assert 120 == len(collector.events)
