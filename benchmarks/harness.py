"""Runs measurements in fresh processes, one at a time, in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from typing_extensions import Self

from benchmarks.sink import Sink

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 60.0

Row = dict[str, Any]


class Harness:
    """Starts workers against a sink that answers and one that hangs.

    Attributes:
        rows: What has been measured, in order.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def __enter__(self) -> Self:
        self._sink = Sink().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.__exit__()

    def run(self, spec: dict[str, Any]) -> Row:
        """Carry out one measurement, note it, and say so on standard error."""
        print(f"\r\033[K{describe(spec)}", end="", file=sys.stderr, flush=True)
        if spec["measure"] == "memory":
            with Sink(hang=True) as hung:
                row = _work({**spec, "port": hung.port})
                arrived = hung.count()
                row["event_bytes"] = arrived["bytes"] / max(arrived["events"], 1)
        else:
            self._sink.clear()
            row = _work({**spec, "port": self._sink.port})
            if spec["measure"] == "throughput" and "error" not in row:
                row.update(_check(self._sink.count(), row["calls"]))
        noted = {**spec, **row}
        self.rows.append(noted)
        return noted

    def take_turns(self, specs: list[dict[str, Any]], rounds: int) -> None:
        """Carry out every measurement *rounds* times, one of each in a round."""
        for _ in range(rounds):
            for spec in specs:
                self.run(spec)


def describe(spec: dict[str, Any]) -> str:
    """Name a measurement in a few words."""
    given = [
        str(spec[key]) for key in ("measure", "client", "serialiser") if key in spec
    ]
    more = ("per_second", "destinations", "selector", "driver")
    return " ".join([*given, *(f"{key}={spec[key]}" for key in more if key in spec)])


def environment() -> dict[str, str]:
    """Return the environment of a worker: no proxies, and compiled files are kept."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and name != "PYTHONDONTWRITEBYTECODE"
    }
    return {**kept, "PYTHONHASHSEED": "0"}


def _work(spec: dict[str, Any]) -> Row:
    limited = {**spec, "limit_s": LIMIT_S}
    busy, start = busy_s(), time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.workers", json.dumps(limited)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    try:
        out, err = process.communicate(timeout=LIMIT_S + 5)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode or not out.strip():
        return {"error": err.strip()[-400:] or f"exit status {process.returncode}"}
    row: Row = json.loads(out.splitlines()[-1])
    row["busy_cores"] = (busy_s() - busy) / (time.monotonic() - start)
    return row


def _check(arrived: dict[str, Any], calls: int) -> Row:
    """Say what is missing, and what came twice: a fast loss is no throughput."""
    warm = arrived["different"] - calls
    return {
        "requests": arrived["requests"],
        "bytes_per_event": arrived["bytes"] / max(arrived["events"], 1),
        "missing": max(-warm, 0),
        "twice": arrived["events"] - arrived["different"],
    }


def busy_s() -> float:
    """Return the processor seconds that the whole machine has spent; 0 if unknown."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return 0.0
    spent = [int(ticks) for ticks in first.split()[1:9]]
    idle = spent[3] + spent[4]
    return (sum(spent) - idle) / os.sysconf("SC_CLK_TCK")
