"""Counts what one `track` call does, without a clock.

Times tell nothing on a busy machine, but how many instructions a call runs, how many
functions it enters, how deep, and how much memory it takes are the same each time.
They depend on the version of Python, so each has figures of its own in
``baseline.json``.

Run as a program: it prints the figures of this interpreter, and with ``--refresh``
writes them into the baseline.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median_low
from types import FrameType
from typing import Any

BASELINE = Path(__file__).with_name("baseline.json")
WARM_UP = 200
CALLS = 101

Costs = dict[str, int]
Call = Callable[[], object]


def version() -> str:
    """Name the interpreters whose figures are alike, such as ``3.13`` or ``3.13t``."""
    free_threaded = not getattr(sys, "_is_gil_enabled", lambda: True)()
    return f"{sys.version_info[0]}.{sys.version_info[1]}{'t' * free_threaded}"


def scenarios() -> dict[str, Call]:
    """Return calls of the kinds that applications make most.

    The inline driver has no threads: nothing but the calls is counted, and nothing is
    sent.
    """
    sys.modules["orjson"] = None  # type: ignore[assignment]  # where it is installed too
    from analytics_sdk import Client, Delivery, Segment, context

    settings = Delivery(driver="inline", max_bytes=1 << 30, exit_timeout_s=0.0)
    client = Client(Segment("key", host="http://127.0.0.1:9"), delivery=settings)
    line = {"product_id": "507f1f77bcf86cd799439011", "name": "Teapot", "price": 34.5}
    properties = {
        "order_id": "order_50314b8e",
        "total": 30.25,
        "revenue": 25.0,
        "currency": "EUR",
        "coupon": "AUTUMN",
        "first_order": True,
        "products": [{**line, "quantity": 1}, {**line, "quantity": 2}],
    }

    def plain() -> object:
        return client.track("user-1", "Order Completed", properties)

    def selected() -> object:
        return client.track(
            "user-1",
            "Order Completed",
            properties,
            integrations={"All": False, "Amplitude": True},
        )

    def surrounded() -> object:
        with context(user_id="user-1", context={"ip": "203.0.113.7"}):
            return client.track(event="Order Completed", properties=properties)

    return {"plain": plain, "selected": selected, "surrounded": surrounded}


def usual(count: Callable[[Call], Costs], call: Call) -> Costs:
    """Return the median of many counts.

    A call in which a second begins, or a thread's share of the memory bound is used
    up, does more than the usual one.
    """
    found = [count(call) for _ in range(CALLS)]
    return {name: median_low(each[name] for each in found) for name in found[0]}


def is_ours(frame: FrameType) -> bool:
    """Say whether *frame* runs code of the package."""
    return f"{os.sep}analytics_sdk{os.sep}" in frame.f_code.co_filename


def count_steps(call: Call) -> Costs:
    """Count the instructions, the Python functions, and the deepest nesting of them.

    Only the package's own code counts: what attrs generates differs by its version.
    """
    costs = {"instructions": 0, "python_calls": 0, "depth": 0}
    depth = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal depth
        if not is_ours(frame):
            return None
        if event == "opcode":
            costs["instructions"] += 1
        elif event == "call":
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            depth += 1
            costs["python_calls"] += 1
            costs["depth"] = max(costs["depth"], depth)
        elif event == "return":
            depth -= 1
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return costs


def count_c_calls(call: Call) -> Costs:
    """Count the calls of functions that are written in C."""
    costs = {"c_calls": 0}

    def profile(frame: FrameType, event: str, _: Any) -> None:
        costs["c_calls"] += event == "c_call" and is_ours(frame)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return costs


def count_memory(call: Call) -> Costs:
    """Count the bytes that the call needs at most, and those that it keeps.

    What is kept is the event in the queue with its receipt.
    """
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    receipt = call()
    after, peak = tracemalloc.get_traced_memory()
    del receipt
    return {"peak_bytes": peak - before, "kept_bytes": after - before}


def measure() -> dict[str, Costs]:
    """Return the costs of every scenario."""
    found: dict[str, Costs] = {}
    for name, call in scenarios().items():
        for _ in range(WARM_UP):
            call()
        gc.collect()
        gc.disable()
        costs = {**usual(count_steps, call), **usual(count_c_calls, call)}
        tracemalloc.start()
        costs.update(usual(count_memory, call))
        tracemalloc.stop()
        gc.enable()
        found[name] = costs
    return found


_LAYER = """
def track(self, *args, **named):
    return inner(self, *args, **named)
"""


def add_layer() -> None:
    """Make `track` call itself through one more function, to see what that costs."""
    from analytics_sdk import Client

    names: dict[str, Any] = {"inner": Client.track}
    place = Client.track.__code__.co_filename
    exec(compile(_LAYER, place, "exec"), names)
    Client.track = names["track"]  # type: ignore[method-assign]


def main() -> None:
    """Print the figures, or write them into the baseline."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--refresh", action="store_true")
    options.add_argument("--layer", action="store_true", help=add_layer.__doc__)
    options.add_argument("--package", default=BASELINE.parents[2], help="its folder")
    given = options.parse_args()
    sys.path.insert(0, str(given.package))
    if given.layer:
        add_layer()
    found = measure()
    if given.refresh:
        known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
        known[version()] = found
        text = json.dumps(known, indent=2, sort_keys=True)
        BASELINE.write_text(f"{text}\n")
    sys.stdout.write(f"{json.dumps({'version': version(), 'costs': found})}\n")
    sys.stdout.flush()
    os._exit(0)  # nothing was to be delivered; there is nothing to say about it


if __name__ == "__main__":
    main()
