"""How long an import takes, beside ``import requests`` in the same minute."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.harness import ROOT, Row, environment

OURS = {
    "ours": "import analytics_sdk",
    "ours, with a client": "from analytics_sdk import Client, Segment",
}
RULER = {"requests": "import requests"}

_PROGRAM = """
import sys, time
sys.path.insert(0, {root!r})
known, start = set(sys.modules), time.perf_counter()
{statement}
taken = time.perf_counter() - start
import json
print(json.dumps({{"ms": taken * 1e3, "modules": len(set(sys.modules) - known)}}))
"""


def measure_imports(statements: dict[str, str], runs: int) -> list[Row]:
    """Run each statement in *runs* isolated interpreters, in turns; keep the minima.

    The round before the first compiles what has to be compiled.
    """
    found: dict[str, list[Row]] = {name: [] for name in statements}
    for number in range(runs + 1):
        for name, statement in statements.items():
            row = _run(statement)
            if number:
                found[name].append(row)
    return [_least(name, rows) for name, rows in found.items()]


def _least(name: str, rows: list[Row]) -> Row:
    kind = {"measure": "import", "client": name}
    failed = [row for row in rows if "error" in row]
    return {**kind, **(failed or [min(rows, key=lambda row: row["ms"])])[0]}


def _run(statement: str) -> Row:
    program = _PROGRAM.format(root=str(ROOT), statement=statement)
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment(),
    )
    if done.returncode:
        return {"error": done.stderr.strip()[-400:]}
    row: Row = json.loads(done.stdout)
    return row
