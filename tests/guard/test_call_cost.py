from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import analytics_sdk

HERE = Path(__file__).parent
BASELINE = HERE / "baseline.json"
REFRESH = f"python {HERE.parent.name}/guard/call_cost.py --refresh"
TENTH = 10

Costs = dict[str, dict[str, int]]

pytestmark = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="instructions are CPython's own"
)


def count(*options: str) -> tuple[str, Costs]:
    """Count in a fresh interpreter, where no coverage tool or plugin traces too."""
    package = str(Path(analytics_sdk.__file__).parents[1])
    command = [sys.executable, "-I", HERE / "call_cost.py", "--package", package]
    # Without COVERAGE_…, which starts a tracer; SYSTEMROOT is what Windows cannot miss.
    kept = {name: os.environ[name] for name in {"PATH", "SYSTEMROOT"} & {*os.environ}}
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, env=kept, check=True
    )
    answer = json.loads(done.stdout)
    return answer["version"], answer["costs"]


def baseline_of(version: str) -> Costs:
    known = json.loads(BASELINE.read_text(encoding="utf-8"))
    if version not in known:
        pytest.skip(f"no baseline for Python {version}; to add one: {REFRESH}")
    return known[version]


def flatten(costs: Costs) -> Iterator[tuple[str, int]]:
    """Yield each figure with its name, such as ``plain.depth``."""
    for scenario, figures in costs.items():
        for name, figure in figures.items():
            yield f"{scenario}.{name}", figure


def changes(before: Costs, after: Costs) -> dict[str, float]:
    """Return what has changed by a tenth or more, as shares: 0.2 is dearer."""
    old, new = dict(flatten(before)), dict(flatten(after))
    assert old.keys() == new.keys(), f"other figures than before; {REFRESH}"
    return {
        name: new[name] / old[name] - 1
        for name in old
        if abs(new[name] - old[name]) * TENTH >= old[name]
    }


def told(found: dict[str, float]) -> str:
    lines = [f"  {name}: {share:+.0%}" for name, share in sorted(found.items())]
    return "\n".join(lines)


def test_a_call_does_not_get_dearer():
    """No count of `track` grows by a tenth over the committed baseline."""
    version, costs = count()
    dearer = {
        name: share
        for name, share in changes(baseline_of(version), costs).items()
        if share > 0
    }
    assert {} == dearer, (
        f"track() costs more than its baseline:\n{told(dearer)}\n"
        f"Make it cheaper; or, if it must be, {REFRESH}, and say why in the commit."
    )


def test_gains_are_kept():
    """A call that got cheaper by a tenth gets a new baseline."""
    version, costs = count()
    cheaper = {
        name: share
        for name, share in changes(baseline_of(version), costs).items()
        if share < 0
    }
    assert {} == cheaper, f"Well done:\n{told(cheaper)}\nKeep it: {REFRESH}"


def test_one_more_layer_is_noticed():
    """The guard is fine enough to see a single function call around `track`."""
    version, costs = count("--layer")
    assert "plain.depth" in changes(baseline_of(version), costs)


def test_counts_are_the_same_each_time():
    """Two interpreters count alike, to the last instruction and byte."""
    assert count() == count()
