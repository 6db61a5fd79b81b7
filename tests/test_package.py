"""The package as users meet it: its version, its import, its public names."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import analytics_sdk

PUBLIC_NAMES = [
    line
    for line in Path(__file__).with_name("public_names.txt").read_text().splitlines()
    if line and not line.startswith("#")
]

IMPORT_AND_TELL = """
import json, sys, threading
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import analytics_sdk
new = sorted(set(sys.modules) - before)
logging = sys.modules.get("logging")
print(json.dumps({
    "modules": new,
    "threads": [thread.name for thread in threading.enumerate()],
    "handlers": len(logging.root.handlers) if logging else 0,
}))
"""


@pytest.fixture(scope="module")
def fresh_import():
    """Import the package in an isolated interpreter that nothing has touched."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COVERAGE_")
    }
    parent = Path(analytics_sdk.__file__).parents[1]
    answer = subprocess.run(
        [sys.executable, "-I", "-c", IMPORT_AND_TELL, str(parent)],
        check=True,
        capture_output=True,
        env=environment,
        text=True,
        timeout=30,
    )
    assert "" == answer.stderr
    return json.loads(answer.stdout)


def test_version_is_the_installed_one():
    """The version literal equals the version in the installed metadata."""
    installed = importlib.metadata.version("analytics-sdk-server")
    assert installed == analytics_sdk.__version__


def test_package_is_marked_as_typed():
    """Type checkers of users find the marker that tells them to read our types."""
    assert Path(analytics_sdk.__file__).with_name("py.typed").is_file()


@pytest.mark.timeout(40)
def test_import_starts_no_thread(fresh_import):
    """After the import the main thread is the only one."""
    assert ["MainThread"] == fresh_import["threads"]


@pytest.mark.timeout(40)
@pytest.mark.parametrize(
    "module", ["asyncio", "backoff", "logging.config", "requests", "urllib3"]
)
def test_import_leaves_heavy_modules_alone(fresh_import, module):
    """The import loads nothing that only an upload or the application needs."""
    assert module not in fresh_import["modules"]


@pytest.mark.timeout(40)
def test_import_configures_no_logging(fresh_import):
    """The root logger has no handler after the import."""
    assert 0 == fresh_import["handlers"]


def test_public_names_are_the_committed_ones():
    """A name becomes public, or stops being public, only on purpose."""
    assert PUBLIC_NAMES == sorted(PUBLIC_NAMES)
    assert PUBLIC_NAMES == sorted(analytics_sdk.__all__)


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_name_is_importable(name):
    """Every public name is there."""
    assert hasattr(analytics_sdk, name)


def test_public_names_are_few():
    """The public surface stays small enough to read in one sitting."""
    assert len(set(analytics_sdk.__all__)) == len(analytics_sdk.__all__)
    assert len(analytics_sdk.__all__) <= 50
