"""The command in a process of its own, with the package that the tests test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import analytics_sdk

COMMAND = [sys.executable, "-m", "analytics_sdk"]

# A shell that starts the tests in the background makes its children deaf to ^C.
HEARS_INTERRUPTS = """
import signal, sys
from analytics_sdk.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""


@pytest.fixture
def environment():
    parent = str(Path(analytics_sdk.__file__).parents[1])
    paths = [parent, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture
def run(environment, tmp_path):
    def run_command(*arguments, command=tuple(COMMAND)):
        return subprocess.run(
            [*command, *arguments],
            check=False,
            capture_output=True,
            cwd=tmp_path,
            env=environment,
            text=True,
            timeout=100,
        )

    return run_command


def end(process):
    if os.name != "nt":
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
    process.kill()


@pytest.fixture
def start(environment, tmp_path):
    started = []

    def start_command(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", HEARS_INTERRUPTS, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment,
            text=True,
        )
        started.append(process)
        return process

    yield start_command
    for process in started:
        with process:
            end(process)


@pytest.fixture
def post_json():
    def post(url, document):
        parts = urlsplit(url)
        with closing(HTTPConnection(parts.netloc, timeout=5)) as connection:
            connection.request(
                "POST",
                parts.path,
                json.dumps(document),
                {"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            answer.read()
            return answer.status

    return post
