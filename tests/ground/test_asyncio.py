from __future__ import annotations

import pytest

from tests.ground.conftest import told

pytestmark = pytest.mark.timeout(30)

LOOP = """
import asyncio, time

class Watchdog:
    '''Notes the longest time for which the loop did not come round.'''

    def __init__(self):
        self.worst_s, self._last_s = 0.0, None

    def _look(self):
        now_s = time.perf_counter()
        if self._last_s is not None:
            self.worst_s = max(self.worst_s, now_s - self._last_s - 0.002)
        self._last_s = now_s
        self._handle = asyncio.get_running_loop().call_later(0.002, self._look)

    async def __aenter__(self):
        self._look()
        return self

    async def __aexit__(self, *_):
        self._handle.cancel()
"""

PLAIN = "go = asyncio.run"
UVLOOP = """
import uvloop
def go(main):
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request, require):
    """Give each event loop as the code that makes `go`, which runs a coroutine."""
    if request.param == "asyncio":
        return LOOP + PLAIN
    require("uvloop", "pip install uvloop")
    return LOOP + UVLOOP


def test_everything_that_can_be_awaited(run, collector, loop):
    """Receipts, aflush, aclose and ``async with`` deliver what they say."""
    run(
        loop
        + """
async def main():
    async with make(URL, linger_s=60) as client:
        receipt = client.track("u", "First")
        assert (await receipt).kind.value == "delivered"
        assert await receipt is receipt.outcome
        second = client.track("u", "Second")
        assert await client.aflush(5) and second.outcome.kind.value == "delivered"
        third, fourth = client.track("u", "Third"), client.track("u", "Fourth")
        assert (await client.aflush(5, receipts=[third])).counts["delivered"] == 1
        client.track("u", "Fifth")
    assert client.track("u", "Sixth").outcome.kind.value == "refused"
    assert (await client.track("u", "Sixth")).kind.value == "refused"
    other = make(URL, linger_s=60)
    other.track("u", "Sixth")
    assert (await other.aclose(5)).counts == {"delivered": 1}
    assert await other.aflush(5) is not None

go(main())
"""
    )
    names = ["First", "Second", "Third", "Fourth", "Fifth", "Sixth"]
    assert sorted(names) == told(collector)


def test_ten_thousand_tasks(run, collector, loop):
    """10,000 tasks await a receipt each; the loop comes round all the while."""
    ran = run(
        loop
        + """
async def work(client, number):
    receipt = client.track(f"u-{number % 100}", "Paid", {"n": number})
    return (await receipt).kind.value

async def main():
    client = make(URL)
    async with Watchdog() as dog:
        tasks = [asyncio.create_task(work(client, n)) for n in range(10_000)]
        assert set(await asyncio.gather(*tasks)) == {"delivered"}
        assert await client.aclose(5) is not None
        await asyncio.sleep(0.02)
    return dog.worst_s

print(go(main()))
""",
        limit_s=20,
    )
    assert 10_000 == len(collector.events)
    assert not collector.duplicates
    assert float(ran.out) < 2.0  # making 10,000 tasks is one turn of the loop itself


def test_loop_is_never_blocked(run, loop):
    """With a vendor that hangs, calls, flushes and closes leave the loop alone."""
    ran = run(
        loop
        + """
import socket
listener = socket.create_server(("127.0.0.1", 0))
deaf = f"http://127.0.0.1:{listener.getsockname()[1]}"

async def main():
    client = make(deaf, overflow="block", max_bytes=2**20, block_timeout_s=5.0)
    async with Watchdog() as dog:
        for number in range(2_000):
            client.track("u", "Paid", {"text": "x" * 1_000})
            if number % 20 == 0:
                await asyncio.sleep(0)
        first = client.track("u", "First")
        assert not await client.aflush(0.5)
        assert client.stats().refused["queue_full"]
        await asyncio.sleep(0.02)
        assert not await client.aclose(0.5)
        await asyncio.sleep(0.02)
    return dog.worst_s

began_s = time.monotonic()
print(go(main()))
assert time.monotonic() - began_s < 5
"""
    )
    assert float(ran.out) < 0.4


def test_cancelling_detaches_the_waiter(run, collector, loop):
    """Who stops waiting stops nothing: the event is delivered, others go on waiting."""
    run(
        loop
        + """
async def wait(receipt):
    return await receipt

async def main():
    client = make(URL, linger_s=60)
    receipt = client.track("u", "Paid", integrations={"All": True})
    tasks = [asyncio.create_task(wait(receipt)) for _ in range(3)]
    tasks += [asyncio.create_task(client.aflush(5)) for _ in range(2)]
    closing = asyncio.create_task(client.aflush(5))
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[3].cancel()
    found = await asyncio.gather(*tasks, closing, return_exceptions=True)
    kinds = [type(each).__name__ for each in found]
    assert kinds == ["CancelledError", "Outcome", "Outcome", "CancelledError",
                     "FlushReport", "FlushReport"], kinds
    try:
        await asyncio.wait_for(wait(client.track("u", "Second")), 0)
    except asyncio.TimeoutError:
        pass
    assert await client.aclose(5)

go(main())
"""
    )
    assert ["Paid", "Second"] == told(collector)


def test_loop_closed_while_waiting(run, collector, loop):
    """A loop that ends with waiters leaves the client whole, for the next loop too."""
    ran = run(
        loop
        + """
async def leave(client, kept):
    receipt = client.track("u", "Paid")
    kept.append(asyncio.ensure_future(client.aflush(5)))
    async def wait():
        await receipt
    kept.append(asyncio.ensure_future(wait()))
    await asyncio.sleep(0)
    return receipt

client = make(URL, linger_s=60)
receipts = [go(leave(client, [])) for _ in range(3)]
assert client.flush(5) is not None
assert {each.wait(5).kind.value for each in receipts} == {"delivered"}

async def again():
    return await client.track("u", "Again")

assert go(again()).kind.value == "delivered"
client.close()
"""
    )
    assert ["Again"] + ["Paid"] * 3 == told(collector)
    assert "Traceback" not in ran.err


def test_two_loops_wait_for_one_event(run, collector, loop):
    """Loops of two threads, and a plain thread, wait for the same receipt."""
    run(
        loop
        + """
import threading
client = make(URL, linger_s=60)
found = []

async def wait(receipt):
    found.append(await receipt)
    assert await client.aflush(5) is not None

receipt = client.track("u", "Paid")
threads = [threading.Thread(target=lambda: go(wait(receipt))) for _ in range(4)]
threads.append(threading.Thread(target=lambda: found.append(receipt.wait(5))))
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(8)
assert ["delivered"] * 5 == [outcome.kind.value for outcome in found]
"""
    )
    assert ["Paid"] == told(collector)
