from __future__ import annotations

import sys

import pytest

from analytics_sdk import __version__
from analytics_sdk.cli import INTERRUPTED, collector, demo, main

SHOW_MODULES = """
import sys
from analytics_sdk.cli import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
print(*sorted(sys.modules))
"""


def test_help_names_every_command(run):
    """`--help` exits 0 and names what the command can do."""
    answer = run("--help")
    assert (0, "") == (answer.returncode, answer.stderr)
    assert "demo" in answer.stdout
    assert "collector" in answer.stdout


def test_help_loads_no_command(run):
    """`--help` loads the parser alone: no client, no attrs, no HTTP."""
    answer = run("-c", SHOW_MODULES, command=[sys.executable])
    assert 0 == answer.returncode
    loaded = set(answer.stdout.splitlines()[-1].split())
    heavy = {"attrs", "requests", "analytics_sdk._client", "analytics_sdk.cli.demo"}
    assert set() == loaded & heavy


def test_version_is_the_package_version(capsys):
    """`--version` prints the version and exits 0."""
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert (0, f"{__version__}\n") == (end.value.code, capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["demo", "--threads", "0"],
        ["demo", "--threads", "65"],
        ["demo", "--threads", "many"],
        ["demo", "--scale", "0"],
        ["demo", "--scale", "nan"],
        ["demo", "--scale", "11"],
        ["demo", "--only", ""],
        ["demo", "--only", "segment,posthog"],
        ["collector", "--vendor", "posthog"],
        ["collector", "--port", "high"],
        ["collector", "--port", "-1"],
        ["collector", "--port", "65536"],
    ],
)
def test_wrong_arguments_are_refused(arguments, capsys):
    """What makes no sense exits 2 and says how the command is used."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert 2 == end.value.code
    assert "usage: analytics-sdk" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "module"), [("demo", demo), ("collector", collector)]
)
def test_interrupt_ends_with_the_usual_status(command, module, monkeypatch):
    """^C ends either command with status 130 and no traceback."""

    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, f"run_{command}", interrupted)
    assert INTERRUPTED == main([command])
