"""What a client costs its host: printed as ratios, held by generous bounds only."""

from __future__ import annotations

import pytest

from analytics_sdk.collector import Step, faults

pytestmark = pytest.mark.timeout(60)

PACED = """
import json, socket, statistics, threading, time

PROPERTIES = {{"plan": "pro", "amount": 19.9, "items": list(range(8)), "t": "x" * 80}}
CALLS, PACE_S = {calls}, 0.0005

def measure(call):
    took = []
    next_s = time.perf_counter()
    for number in range(CALLS):
        next_s += PACE_S
        while (left_s := next_s - time.perf_counter()) > 0:
            pause(left_s)
        began = time.perf_counter()
        call(number)
        took.append(time.perf_counter() - began)
    took.sort()
    return took[len(took) // 2], took[int(len(took) * 0.999)], took[-1]

bare = measure(lambda number: json.dumps(PROPERTIES))
{prepare}
client = make(url, linger_s=0.2, request_timeout_s=1.0, exit_timeout_s=0.2)
client.track("warm", "Up")
ours = measure(lambda number: client.track(f"u-{{number % 50}}", "Paid", PROPERTIES))
began_s = time.monotonic()
client.close(0.3)
assert time.monotonic() - began_s < 3
print(*(f"{{1e6 * each:.0f}}" for each in bare + ours))
"""

AWAY = """
closed = socket.create_server(("127.0.0.1", 0))
url = f"http://127.0.0.1:{closed.getsockname()[1]}"
closed.close()
"""

NO_DNS = """
def dead(*_, **__):
    pause(1.0)
    raise socket.gaierror(-3, "Temporary failure in name resolution")
socket.getaddrinfo = dead
url = "https://vendor.invalid"
"""

VENDORS = {
    "healthy": ("url = URL", ()),
    "hung": ("url = URL", (Step(faults.Hang(for_s=20)),)),
    "unavailable": ("url = URL", (Step(faults.unavailable()),)),
    "away": (AWAY, ()),
    "without DNS": (NO_DNS, ()),
}


@pytest.mark.parametrize(
    "vendor",
    [
        pytest.param(each, marks=[] if each == "hung" else pytest.mark.slow)
        for each in VENDORS
    ],
)
def test_paced_calls(run, collector, vendor):
    """Whatever the vendor does, no call of 2,000 a second waits for it."""
    prepare, steps = VENDORS[vendor]
    collector.play(*steps)
    ran = run(PACED.format(calls=1_500, prepare=prepare), limit_s=20)
    bare, bare_high, _, ours, ours_high, worst = map(float, ran.out.split())
    print(  # noqa: T201 - for a reader of `pytest -rP`
        f"{vendor}: median {ours:.0f} us ({ours / max(bare, 1):.1f} x json.dumps), "
        f"p99.9 {ours_high:.0f} us ({ours_high / max(bare_high, 1):.1f} x), "
        f"worst {worst:.0f} us"
    )
    assert ours < 1_000
    assert worst < 500_000


FLAT = """
import threading, time, tracemalloc

{prepare}
settings = dict(linger_s=0.01, overflow={overflow!r}, exit_timeout_s=0.1)
client = make(url, max_bytes=2**20, **settings)
PROPERTIES = {{"text": "x" * 300}}

def burst(seconds):
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        for _ in range(100):
            client.track("u", "Paid", PROPERTIES)
        pause(0.001)

burst(0.5)
tracemalloc.start()
burst({first_s})
first = tracemalloc.get_traced_memory()[0]
threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
burst({second_s})
second = tracemalloc.get_traced_memory()[0]
assert client.stats().queued_bytes <= 2**20 * 1.3
assert threading.active_count() <= threads
assert len(os.listdir("/proc/self/fd")) <= files + 2
print(first, second, sum(client.stats().refused.values()))
"""


def _flat(run, collector, overflow, first_s, second_s):
    collector.play(Step(faults.unavailable()))
    program = FLAT.format(
        prepare="url = URL", overflow=overflow, first_s=first_s, second_s=second_s
    )
    ran = run(program, limit_s=first_s + second_s + 15)
    first, second, _ = map(int, ran.out.split())
    assert second < 2**20 * 6
    assert second - first < 2**20 * 1.5


@pytest.mark.parametrize(
    "overflow", [pytest.param("drop_newest", marks=pytest.mark.slow), "drop_oldest"]
)
def test_memory_is_flat(run, collector, overflow):
    """With the vendor down, tens of thousands of calls more take no more memory."""
    _flat(run, collector, overflow, 1.0, 1.5)


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_memory_is_flat_for_a_minute(run, collector):
    """The same holds for a minute."""
    _flat(run, collector, "drop_oldest", 5.0, 55.0)
