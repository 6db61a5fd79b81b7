"""What every test shares: Hypothesis profiles and the `require` fixture."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

ON_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
CORE_ONLY = os.environ.get("ANALYTICS_SDK_TESTS") == "core"

settings.register_profile("default", deadline=None, max_examples=50)
settings.register_profile(
    "ci", deadline=None, max_examples=100, derandomize=True, print_blob=True
)
settings.register_profile(
    "soak",
    deadline=None,
    max_examples=10_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if ON_CI else "default")
)

Require = Callable[[str, str], None]


def require_tool(tool: str, install_hint: str) -> None:
    """Skip the running test where *tool* is missing; fail it on CI.

    A test that is skipped everywhere guards nothing, so CI installs what tests need.
    Where only the core packages are meant to be there (`ANALYTICS_SDK_TESTS=core`)
    the test is skipped on CI too.

    Args:
        tool: A program on the path; with ``pip install`` as the hint, a package.
        install_hint: The command that installs it.
    """
    package = install_hint.startswith("pip install")
    if importlib.util.find_spec(tool) if package else shutil.which(tool):
        return
    reason = f"{tool} is not installed; to run this test: {install_hint}"
    if ON_CI and not CORE_ONLY:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def require() -> Require:
    """Give a test the means to ask for a program or an optional package."""
    return require_tool
