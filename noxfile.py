"""Sessions: the tests on every Python at hand, and the gates of `.ci/run`.

`nox` runs the tests and the gates; `nox -s tests-3.13` one session. A Python that is
not installed is skipped.
"""

from __future__ import annotations

import nox

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
FREE_THREADED = ["3.13t", "3.14t"]

nox.needs_version = ">=2025.2.9"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    "tests",
    "free_threaded",
    "lower_bounds",
    "lint",
    "types",
    "arch",
]


def install(session: nox.Session, group: str, *more: str) -> None:
    """Install the package with a dependency group of pyproject.toml."""
    session.install("--upgrade", "pip>=25.1")
    session.install("--editable", ".", "--group", group, *more)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests."""
    install(session, "test")
    session.run("pytest", *session.posargs)


@nox.session(python=FREE_THREADED)
def free_threaded(session: nox.Session) -> None:
    """Run the tests with the GIL off and the core packages only."""
    install(session, "test-core")
    session.run(
        "pytest",
        *session.posargs,
        env={"ANALYTICS_SDK_TESTS": "core", "PYTHON_GIL": "0"},
    )


@nox.session(python=PYTHONS[0])
def lower_bounds(session: nox.Session) -> None:
    """Run the tests on the lowest versions that pyproject.toml allows."""
    lowest = [
        dependency.replace(">=", "==")
        for dependency in PROJECT["project"]["dependencies"]
    ]
    install(session, "test-core", *lowest)
    session.run("pytest", *session.posargs, env={"ANALYTICS_SDK_TESTS": "core"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types inside (mypy) and as users see them (pyright)."""
    install(session, "types")
    session.run("mypy")
    session.run("pyright")


@nox.session
def arch(session: nox.Session) -> None:
    """Check that imports point down."""
    install(session, "lint")
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    install(session, "docs")
    session.run("sphinx-build", "-W", "--keep-going", "docs", "docs/_build/html")


@nox.session
def laws(session: nox.Session) -> None:
    """Search the laws for longer than `tests` does."""
    install(session, "test")
    session.run(
        "pytest",
        "tests/laws",
        "--timeout=600",
        *session.posargs,
        env={"HYPOTHESIS_PROFILE": "soak"},
    )
