from __future__ import annotations

import io

import pytest

from analytics_sdk import Client, Delivery
from analytics_sdk.cli import replay as module
from analytics_sdk.cli.purchases import find_file, read_customers
from analytics_sdk.cli.replay import Options, read_lines, replay
from analytics_sdk.cli.screen import Screen

pytestmark = pytest.mark.timeout(40)

FILE = ("jsonl",)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def same_package_in_the_child(monkeypatch, environment):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])


@pytest.fixture(scope="module")
def customers():
    return read_customers(find_file())


def test_progress_is_shown_on_a_terminal(customers):
    """On a terminal a line tells how far each destination is."""
    terminal = Terminal()
    options = Options(threads=1, only=("segment", "jsonl"))
    result = replay(customers, options, Screen(terminal))
    assert [] == result.problems
    assert " s: Segment.io " in terminal.getvalue()
    assert "Made 9,276 calls in " in terminal.getvalue()


def test_refused_calls_are_a_problem(customers, monkeypatch):
    """Calls that the client refuses for want of memory fail the run by their reason."""

    def small_client(*destinations, **settings):
        return Client(*destinations, delivery=Delivery(max_bytes=20_000), **settings)

    monkeypatch.setattr(module, "Client", small_client)
    result = replay(customers, Options(only=FILE), Screen(None))
    assert result.problems[0].endswith(" calls refused: queue_full")
    assert any(" delivered instead of 9,276" in each for each in result.problems)


def test_crash_of_a_calling_thread_is_raised(customers, monkeypatch):
    """A call that raises ends the run with its error: none may be swallowed."""

    def crash(client, customers):
        message = "as planned"
        raise LookupError(message)

    monkeypatch.setattr(module, "make_calls", crash)
    with pytest.raises(LookupError, match="as planned"):
        replay(customers, Options(only=FILE), Screen(None))


def test_file_that_was_never_written_holds_nothing(tmp_path):
    """A destination that wrote no file is compared as an empty one."""
    assert [] == list(read_lines(tmp_path / "events.jsonl"))
