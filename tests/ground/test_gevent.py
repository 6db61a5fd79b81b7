from __future__ import annotations

import pytest

from tests.ground.conftest import told

pytestmark = pytest.mark.timeout(40)

BEFORE = "from gevent import monkey; monkey.patch_all()\n"
AFTER = (
    "from analytics_sdk import Client\nfrom gevent import monkey; monkey.patch_all()\n"
)
EVENTLET = "import eventlet; eventlet.monkey_patch()\n"

PRELUDE = """
import faulthandler, os, sys
faulthandler.enable()
import warnings
warnings.simplefilter("ignore")
{patch}
URL = sys.argv[1]
from tests.ground.stage import *
"""


@pytest.fixture
def gevent(require):
    require("gevent", "pip install gevent")


@pytest.fixture(params=["before", "after"])
def patched(request, gevent):
    """Give the options of `run` for a patch before, or after, our import."""
    patch = {"before": BEFORE, "after": AFTER}[request.param]
    return {"prelude": PRELUDE.format(patch=patch), "limit_s": 12.0}


ALL = """
import time
began_s = time.monotonic()
client = make(URL, linger_s=0.2)
first = client.track("u", "First")
assert first.wait(5).kind.value == "delivered", "wait"
client.track("u", "Second")
report = client.flush(5)
assert report and not report.note, report
third = client.track("u", "Third")
assert until(lambda: third.outcome, 3), "linger"
client.track("u", "Fourth")
report = client.close(5)
assert report and not report.note, report
assert time.monotonic() - began_s < 6
"""


def test_all_ways_to_settle(run, collector, patched):
    """Wait, flush, linger and close deliver, patched before or after the import."""
    run(ALL, **patched)
    assert sorted(["First", "Second", "Third", "Fourth"]) == told(collector)


def test_many_greenlets(run, collector, patched):
    """1,000 greenlets call and wait; each event is counted and delivered once."""
    run(
        """
import gevent
client = make(URL)
def work(number):
    receipt = client.track(f"u-{number % 50}", "Paid")
    gevent.sleep(0)
    return receipt.wait(8).kind.value
found = [gevent.spawn(work, n) for n in range(1_000)]
gevent.joinall(found, timeout=10)
assert {"delivered"} == {each.value for each in found}
assert client.stats().accepted == 1_000
client.close(5)
""",
        **patched,
    )
    assert 1_000 == len(collector.events)
    assert not collector.duplicates


def test_greenlets_leave_nothing(run, patched):
    """Thousands of greenlets, one after the other, do not make the books grow."""
    ran = run(
        """
import gevent
client = make(URL)
for _ in range(5_000):
    gevent.spawn(client.track, "u", "Paid").join()
print(len(client._intake.home.coordinator.buffer.tallies))
client.close(5)
""",
        **patched,
    )
    assert int(ran.out) < 100


def test_backlog_at_exit(run, collector, patched):
    """The end of a patched program delivers what is queued."""
    ran = run(
        """
client = make(URL, linger_s=60)
for number in range(300):
    client.track("u", "Paid")
""",
        **patched,
    )
    assert 300 == len(collector.events)
    assert "" == ran.err


def test_hub_is_never_blocked(run, collector, patched):
    """While a vendor hangs, greenlets go on: a flush blocks its own greenlet alone."""
    ran = run(
        """
import gevent, socket, time
listener = socket.create_server(("127.0.0.1", 0))
client = make(f"http://127.0.0.1:{listener.getsockname()[1]}", overflow="drop_oldest")
worst = [0.0]
def watch():
    last_s = time.perf_counter()
    while True:
        gevent.sleep(0.005)
        now_s = time.perf_counter()
        worst[0] = max(worst[0], now_s - last_s)
        last_s = now_s
watching = gevent.spawn(watch)
client.track("u", "Paid")
client.flush(1.0)
client.track("u", "Paid")
gevent.sleep(0.2)
client.close(0.5)
print(worst[0])
""",
        **patched,
    )
    assert float(ran.out) < 0.5


def test_late_patching(run, collector, gevent):
    """Patched after the first event, a client delivers all the same, and says so."""
    ran = run(
        """
import time
client = make(URL)
client.track("u", "Before")
assert client.flush(5)
import warnings
warnings.simplefilter("ignore")
from gevent import monkey
monkey.patch_all()
began_s = time.monotonic()
receipt = client.track("u", "After")
assert until(lambda: receipt.outcome, 5)
client.track("u", "Flushed")
assert client.flush(4)
assert client.track("u", "Waited").wait(4)
assert client.close(4)
print(time.monotonic() - began_s)
""",
        limit_s=15,
    )
    assert ["After", "Before", "Flushed", "Waited"] == told(collector)
    assert float(ran.out) < 4
    assert 1 == ran.err.count("patch_all() first")


def test_eventlet(run, collector, require):
    """Under eventlet, at best effort, events are delivered at the flush."""
    require("eventlet", "pip install eventlet")
    run(
        """
client = make(URL)
client.track("u", "Paid")
assert client.flush(5)
client.track("u", "Last")
client.close(5)
""",
        prelude=PRELUDE.format(patch=EVENTLET),
    )
    assert ["Last", "Paid"] == told(collector)
