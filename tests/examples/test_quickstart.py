from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import analytics_sdk

SCRIPT = Path(__file__).parents[2] / "examples" / "quickstart.py"


@pytest.mark.timeout(30)
def test_quickstart_runs_as_it_is(tmp_path):
    """The quickstart needs no account and prints what became of its events."""
    parent = str(Path(analytics_sdk.__file__).parents[1])
    answer = subprocess.run(
        [sys.executable, str(SCRIPT)],
        check=False,
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": parent},
        text=True,
        timeout=25,
    )
    assert (0, "") == (answer.returncode, answer.stderr)
    assert [
        "everything delivered: True",
        "the order: <Receipt delivered> order:1001",
        "received: identify {'email': 'jane@example.com', 'plan': 'pro'}",
        "received: track {'revenue': 19.9, 'currency': 'USD'}",
    ] == answer.stdout.splitlines()


def test_quickstart_is_short():
    """The quickstart fits on one screen."""
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 26
