"""The measurements; each runs in a process of its own: ``-m benchmarks.workers SPEC``.

A worker prints one JSON object, ends without its client's farewell, and is ended from
inside if it takes too long.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any

from benchmarks.clients import CLIENTS
from benchmarks.events import NAME, Order, Source, make_order
from benchmarks.floor import Floor
from benchmarks.ruler import Ruler, at

CHUNK = 250
"""Calls between two looks at the ruler."""

WARM_UP = 300
NUMBERED_APART = 10_000_000
"""Where the numbers of warm-up events begin."""


def stay_on_loopback() -> None:
    """Refuse connections to anywhere else, whoever asks."""

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            host = arguments[1][0]
            if host not in ("127.0.0.1", "::1"):
                message = "benchmarks: connections leave the loopback interface"
                raise OSError(message)

    sys.addaudithook(look)


def open_client(spec: dict[str, Any]) -> Any:
    kind = Floor if spec["client"] == "floor" else CLIENTS[spec["client"]]
    client = kind(spec["port"], spec)
    logging.disable(logging.ERROR)  # writing to a terminal is not what we measure
    return client


def warm_up(client: Any, calls: int = WARM_UP) -> None:
    """Let threads start, connections open and caches fill; then let all that rest."""
    for user_id, properties in Source(NUMBERED_APART).many(calls):
        client.track(user_id, NAME, properties)
    time.sleep(0.3)


def timed(track: Callable[..., Any], orders: list[Order]) -> list[int]:
    """Return the nanoseconds of each call, with those of reading the clock."""
    taken = []
    for user_id, properties in orders:
        start = perf_counter_ns()
        track(user_id, NAME, properties)
        taken.append(perf_counter_ns() - start)
    return taken


def measure_call(spec: dict[str, Any]) -> dict[str, Any]:
    """What `track` costs a thread that does nothing else."""
    ruler = Ruler()
    client, source = open_client(spec), Source()
    warm_up(client)
    everything: list[int] = []
    rulers: dict[str, list[float]] = {"json": [], "orjson": []}
    ratios: dict[str, list[float]] = {"json": [], "orjson": []}
    for _ in range(spec["calls"] // CHUNK):
        orders = source.many(CHUNK)
        before = ruler.measure(16)
        if spec.get("per_second"):
            taken = paced(client.track, orders, spec["per_second"])
        else:
            taken = timed(client.track, orders)
        after = ruler.measure(16)
        everything += taken
        for name, found in rulers.items():
            found.append((before[name] + after[name]) / 2)
            ratios[name].append(median(taken) / found[-1])
    everything.sort()
    return {
        "calls": len(everything),
        "p50_ns": at(everything, 0.5),
        "p99_ns": at(everything, 0.99),
        "p999_ns": at(everything, 0.999),
        "max_ns": everything[-1],
        "ruler_ns": {name: median(found) for name, found in rulers.items()},
        "p50_to_ruler": {name: median(found) for name, found in ratios.items()},
    }


def paced(track: Callable[..., Any], orders: list[Order], per_second: int) -> list[int]:
    """Time the calls as `timed` does, one each so often, asleep between them."""
    taken = []
    due = perf_counter()
    for user_id, properties in orders:
        due += 1 / per_second
        pause = due - perf_counter()
        if pause > 0:
            time.sleep(pause)
        start = perf_counter_ns()
        track(user_id, NAME, properties)
        taken.append(perf_counter_ns() - start)
    return taken


def measure_throughput(spec: dict[str, Any]) -> dict[str, Any]:
    """How long it takes from the first call until everything is delivered.

    The time and the processor's time hold the building of the events, as the floor's
    do.
    """
    source = Source()
    client = open_client(spec)
    warm_up(client)
    track, give, calls = client.track, source.next, spec["calls"]
    cpu, start = time.process_time(), perf_counter()
    for _ in range(calls):
        user_id, properties = give()
        track(user_id, NAME, properties)
    called = perf_counter()
    client.finish()
    end, cpu_end = perf_counter(), time.process_time()
    return {
        "calls": calls,
        "calling_s": called - start,
        "wall_s": end - start,
        "cpu_s": cpu_end - cpu,
        "events_per_s": calls / (end - start),
        "cpu_s_per_100k": (cpu_end - cpu) / calls * 100_000,
    }


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def measure_memory(spec: dict[str, Any]) -> dict[str, Any]:
    """How much the process grows with each event that nobody takes.

    The first events make the client open what it needs; the slope over the rest is
    what counts.
    """
    import requests  # noqa: F401  (its memory is no event's)

    client = open_client(spec)
    warm_up(client, 5_000)
    time.sleep(0.5)
    gc.collect()
    before = resident_bytes()
    for n in range(spec["calls"]):
        user_id, properties = make_order(n)  # fresh: whoever keeps it pays for all
        client.track(user_id, NAME, properties)
    called = resident_bytes()
    time.sleep(1.5)
    gc.collect()
    settled = resident_bytes()
    return {
        "calls": spec["calls"],
        "bytes_per_event": (max(called, settled) - before) / spec["calls"],
    }


MEASURES = {
    "call": measure_call,
    "throughput": measure_throughput,
    "memory": measure_memory,
}


def main() -> None:
    spec = json.loads(sys.argv[1])
    faulthandler.dump_traceback_later(spec["limit_s"], exit=True)
    stay_on_loopback()
    row = MEASURES[spec["measure"]](spec)
    print(json.dumps(row), flush=True)
    os._exit(0)  # no farewell: a hung sink would keep the client


if __name__ == "__main__":
    main()
