"""Programs in processes of their own, and collectors for them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

import analytics_sdk
from analytics_sdk.collector import Collector

ROOT = Path(__file__).parents[2]
PATHS = (str(Path(analytics_sdk.__file__).parents[1]), str(ROOT))

_PRELUDE = """\
import faulthandler, os, sys
faulthandler.enable()  # a program that is aborted shows its stacks
URL = sys.argv[1]
from tests.ground.stage import *
"""


class Ran(NamedTuple):
    """What a program has left behind."""

    code: int
    out: str
    err: str
    took_s: float


Run = Callable[..., Ran]


def run_program(
    code: str,
    url: str = "",
    *,
    limit_s: float = 9.0,
    python: str = sys.executable,
    options: tuple[str, ...] = (),
    prelude: str = _PRELUDE,
    paths: tuple[str, ...] = (),
    **environment: str,
) -> Ran:
    """Run *code* with the names of `stage` and ``URL``; show stacks where it hangs."""
    path = os.pathsep.join((*PATHS, *paths))
    env = {**os.environ, "PYTHONPATH": path, **environment}
    source = prelude + textwrap.dedent(code)
    began_s = time.monotonic()
    process = subprocess.Popen(
        [python, *options, "-c", source, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=env,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    return Ran(process.returncode, out, err, time.monotonic() - began_s)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
def run(collector: Collector) -> Run:
    """Run a program against the test's collector; it must end well."""

    def run_well(code: str, *, ends: int = 0, **given: object) -> Ran:
        ran = run_program(code, collector.url, **given)  # type: ignore[arg-type]
        assert ends == ran.code, f"{ran.out}\n{ran.err}"
        return ran

    return run_well


def told(collector: Collector) -> list[str]:
    """Return the names of the events that have arrived, sorted."""
    return sorted(event["event"] for event in collector.events)


def other_pythons() -> list[str]:
    """Return the supported Pythons of this machine, other than the running one."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = {}
    for minor in range(10, 16):
        folders = [*pyenv.glob(f"3.{minor}.*/bin")]
        path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")])
        program = shutil.which(f"python3.{minor}", path=path)
        if program and minor != sys.version_info.minor:
            found[minor] = program
    return list(found.values())


SITE = str(Path(requests.__file__).parents[1])
"""Our dependencies are pure Python, or can be, so that other Pythons import them."""

PYTHONS = [sys.executable, *other_pythons()]


def version_of(python: str) -> str:
    """Return what to call a Python in the name of a test."""
    return "running" if python == sys.executable else Path(python).name


@pytest.fixture(
    params=[
        pytest.param(each, marks=[] if each == sys.executable else pytest.mark.slow)
        for each in PYTHONS
    ],
    ids=version_of,
)
def python(request: pytest.FixtureRequest) -> dict[str, object]:
    """Give what `run` needs to run with each Python of this machine."""
    if request.param == sys.executable:
        return {}
    return {"python": request.param, "paths": (SITE,)}
