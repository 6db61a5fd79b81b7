from __future__ import annotations

import io

import pytest

from analytics_sdk import Client, Delivery
from analytics_sdk.cli import replay as module
from analytics_sdk.cli.purchases import find_file, read_customers
from analytics_sdk.cli.replay import (
    HTML,
    Options,
    misreceived,
    read_lines,
    replay,
    unmet,
)
from analytics_sdk.cli.screen import Screen

pytestmark = pytest.mark.timeout(40)

ALL_MET = {"200": 9, "400": 1, "401": 1, "429": 1, "503": 1, "none": 1}


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
    result = replay(customers, Options(threads=1), Screen(terminal))
    assert [] == result.problems
    assert " calls, Segment.io " in terminal.getvalue()
    assert "Made 9,276 calls in " in terminal.getvalue()


def test_refused_calls_are_a_problem(customers, monkeypatch):
    """Calls that the client refuses for want of memory fail the run by their reason."""

    def small_client(*destinations, **settings):
        return Client(*destinations, delivery=Delivery(max_bytes=20_000), **settings)

    monkeypatch.setattr(module, "Client", small_client)
    result = replay(customers, Options(), Screen(None))
    assert result.problems[0].endswith(" calls refused: queue_full")
    assert any(" delivered instead of 9,276" in each for each in result.problems)


def test_crash_of_a_calling_thread_is_raised(customers, monkeypatch):
    """A call that raises ends the run with its error: none may be swallowed."""

    def crash(client, customers):
        message = "as planned"
        raise LookupError(message)

    monkeypatch.setattr(module, "make_calls", crash)
    with pytest.raises(LookupError, match="as planned"):
        replay(customers, Options(), Screen(None))


def test_rough_day_is_a_rough_day():
    """A run that met every fault proves what it says."""
    assert [] == list(unmet({"by_status": ALL_MET}, {HTML: 1}))


@pytest.mark.parametrize(
    ("missing", "problem"),
    [
        ("400", "fault 400 was never met"),
        ("401", "fault 401 was never met"),
        ("429", "fault 429 was never met"),
        ("503", "fault 503 was never met"),
        ("none", "no connection was dropped"),
    ],
)
def test_unmet_fault_is_a_problem(missing, problem):
    """A rough day on which a fault did not happen proves nothing about that fault."""
    met = {status: count for status, count in ALL_MET.items() if status != missing}
    assert [problem] == list(unmet({"by_status": met}, {HTML: 1}))


def test_unmet_web_page_is_a_problem():
    """So it is with the web page under status 200."""
    assert ["no web page was met"] == list(unmet({"by_status": ALL_MET}, {}))


def test_what_the_collector_throws_away_is_a_problem():
    """Events that the vendor discards behind a 200, and changed copies, are told."""
    stats = {"rejected_by_reason": {"no_event_name": 3}, "changed_duplicates": 2}
    assert [
        "the collector threw 3 events away: no_event_name",
        "2 duplicates differ from the event they repeat",
    ] == list(misreceived(stats))


def test_file_that_was_never_written_holds_nothing(tmp_path):
    """A destination that wrote no file is compared as an empty one."""
    assert [] == list(read_lines(tmp_path / "events.jsonl"))
