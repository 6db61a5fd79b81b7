"""The command line: what is measured, how often, and where the answers go."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.clients import MODULES, PEERS
from benchmarks.harness import Harness, Row
from benchmarks.startup import OURS, RULER, measure_imports
from benchmarks.tables import BOTH, report

MEASURES = ("call", "throughput", "memory", "import")
PACKAGES = {"segment": "segment-analytics-python", "posthog": "posthog"}


class Scale(NamedTuple):
    """How much of everything."""

    rounds: int
    calls: int
    paced_calls: int
    deliveries: int
    peer_deliveries: int
    queued: int
    imports: int
    variants: bool


QUICK = Scale(2, 4_000, 0, 20_000, 8_000, 24_000, 7, variants=False)
FULL = Scale(5, 15_000, 8_000, 50_000, 20_000, 60_000, 15, variants=True)


def call_specs(scale: Scale) -> list[dict[str, Any]]:
    """Return the variants of our call, and one call of each peer."""
    base = {"measure": "call", "calls": scale.calls}
    specs = []
    for serialiser in BOTH:
        ours = {**base, "client": "ours", "serialiser": serialiser}
        specs.append(ours)
        if scale.variants:
            calm = {**ours, "calls": scale.paced_calls, "per_second": 2000}
            specs += [{**ours, "destinations": 3}, {**ours, "selector": True}]
            specs += [calm, {**calm, "driver": "inline"}]
    return [*specs, *({**base, "client": name} for name in PEERS)]


def throughput_specs(scale: Scale) -> list[dict[str, Any]]:
    """Return ours and the floor with both serialisers, and each peer."""
    base = {"measure": "throughput", "calls": scale.deliveries}
    ours = [
        {**base, "client": client, "serialiser": serialiser}
        for serialiser in BOTH
        for client in ("floor", "ours")
    ]
    peers = [{**base, "client": name, "calls": scale.peer_deliveries} for name in PEERS]
    return [*ours, *peers]


def memory_specs(scale: Scale) -> list[dict[str, Any]]:
    """Return ours with both serialisers, and each peer."""
    base = {"measure": "memory", "calls": scale.queued}
    ours = [{**base, "client": "ours", "serialiser": name} for name in BOTH]
    return [*ours, *({**base, "client": name} for name in PEERS)]


def import_rows(scale: Scale) -> list[Row]:
    peers = {name: f"import {module}" for name, module in MODULES.items()}
    timed = {**RULER, **OURS}
    if scale.variants:
        return measure_imports({**timed, **peers}, scale.imports)
    return [*measure_imports(timed, scale.imports), *measure_imports(peers, 2)]


def machine() -> str:
    """Say what the figures were measured with."""
    names = ("orjson", "requests", *PACKAGES.values())
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}; {versions}"


def main() -> int:
    """Measure, print, and return 1 where something failed or did not arrive."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than a minute")
    parser.add_argument(
        "--only", default=",".join(MEASURES), help="such as call,import"
    )
    parser.add_argument("--clients", help="such as ours,floor; default: all of them")
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--json", type=Path, help="a file for the rows, one a line")
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    wanted = options.only.split(",")
    clients = options.clients.split(",") if options.clients else None
    start = time.monotonic()
    with Harness() as harness:
        for name, specs in (
            ("call", call_specs(scale)),
            ("throughput", throughput_specs(scale)),
            ("memory", memory_specs(scale)),
        ):
            if name in wanted:
                chosen = [
                    spec
                    for spec in specs
                    if clients is None or spec["client"] in clients
                ]
                # Sizes do not tremble as times do.
                rounds = 1 if name == "memory" else options.rounds or scale.rounds
                harness.take_turns(chosen, rounds)
        if "import" in wanted:
            harness.rows += import_rows(scale)
    print("\r\033[K", end="", file=sys.stderr)
    print(report(harness.rows))
    print(f"\n{machine()}. Took {time.monotonic() - start:.0f} s.")
    if options.json:
        lines = "".join(f"{json.dumps(row)}\n" for row in harness.rows)
        options.json.write_text(lines, encoding="utf-8")
    return int(any("error" in row or row.get("missing") for row in harness.rows))


if __name__ == "__main__":
    sys.exit(main())
