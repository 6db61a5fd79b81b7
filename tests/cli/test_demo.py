"""The demo as users run it, and the demo with the library broken on purpose."""

from __future__ import annotations

import json
import logging
import re
import sys

import attrs
import pytest

from analytics_sdk.cli import demo, main, purchases

pytestmark = pytest.mark.timeout(90)

PLANT = """
import sys
from analytics_sdk import JsonLines, Segment
from analytics_sdk.cli import main
from analytics_sdk.interfaces import AllDelivered, WriteRequest

{plant}
sys.exit(main(["demo", "--json", *sys.argv[1:]]))
"""

NO_RETRY = """
Segment.read = lambda self, route, response, parts: AllDelivered()
"""

# An id of its own for each attempt: then no vendor can recognise a copy.
NO_DEDUP = """
as_before = Segment.request
def request(self, route, parts, sent_at, attempt):
    mark = b'{"messageId":"%d-' % attempt if attempt > 1 else b'{"messageId":"'
    parts = [
        part._replace(body=part.body.replace(b'{"messageId":"', mark, 1))
        for part in parts
    ]
    return as_before(self, route, parts, sent_at, attempt)
Segment.request = request
"""

# A copy that is another event: then it matters which of the two a vendor keeps.
CHANGE = """
as_before = Segment.request
def request(self, route, parts, sent_at, attempt):
    if attempt > 1:
        parts = [
            part._replace(body=part.body.replace(b'"USD"', b'"%d"' % attempt))
            for part in parts
        ]
    return as_before(self, route, parts, sent_at, attempt)
Segment.request = request
"""

DOUBLE = """
as_before = JsonLines.request
def request(self, *arguments):
    path, body = as_before(self, *arguments)
    return WriteRequest(path, body + body)
JsonLines.request = request
"""

LOSE = """
as_before = JsonLines.request
def request(self, *arguments):
    path, body = as_before(self, *arguments)
    return WriteRequest(path, body.split(b"\\n", 1)[1])
JsonLines.request = request
"""

TOTALS = {
    "calls": 9_276,
    "orders": 6_919,
    "customers": 2_357,
    "discs": 16_479,
    "dollars": "244091.94",
    "first_day": "1997-01-01",
    "last_day": "1998-06-30",
}


@pytest.fixture
def run_broken(run):
    def run_demo_with(plant, *arguments):
        script = PLANT.format(plant=plant)
        answer = run("-c", script, *arguments, command=[sys.executable])
        assert "Traceback" not in answer.stderr
        return answer.returncode, json.loads(answer.stdout)

    return run_demo_with


@pytest.fixture(autouse=True)
def same_package_in_the_child(monkeypatch, environment):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])


def cells(output, label):
    """Return a row of one of the tables."""
    rows = [line for line in output.splitlines() if line.startswith(label)]
    assert 1 == len(rows), output
    return rows[0].removeprefix(label).split()


def test_demo_delivers_every_purchase_to_both(run):
    """The real command replays 9,276 calls; both destinations have every total."""
    answer = run("demo")
    assert (0, "") == (answer.returncode, answer.stderr)
    for name in ("Segment.io", "JsonLines"):
        called, delivered, retried, requests, size, copies, rate = cells(
            answer.stdout, name
        )
        assert ("9,276", "9,276", "0", "0") == (called, delivered, retried, copies)
        assert int(requests) > 1
        assert int(size.replace(",", "")) > 1_000_000
        assert int(rate.replace(",", "")) > 0
    assert 3 * ["9,276"] == cells(answer.stdout, "calls")
    assert 3 * ["6,919"] == cells(answer.stdout, "orders")
    assert 3 * ["2,357"] == cells(answer.stdout, "customers")
    assert 3 * ["244,091.94"] == cells(answer.stdout, "dollars")
    assert 3 * ["1997-01-01"] == cells(answer.stdout, "first day")
    assert 3 * ["1998-06-30"] == cells(answer.stdout, "last day")
    assert answer.stdout.endswith("\nEvery total matches.\n")
    assert max(map(len, answer.stdout.splitlines())) <= 80
    assert "\r" not in answer.stdout


def test_json_result_is_one_object(capsys):
    """`--json` prints the whole result for machines, and nothing else."""
    assert 0 == main(["demo", "--json", "--threads", "2"])
    output, errors = capsys.readouterr()
    result = json.loads(output)
    assert "" == errors
    assert (True, []) == (result["matches"], result["problems"])
    assert TOTALS == result["expected"]
    for name in ("Segment.io", "JsonLines"):
        found = result["destinations"][name]
        assert TOTALS == found["totals"]
        assert {"delivered": 9_276} == found["outcomes"]
        assert (9_276, 0, 0) == (found["called"], found["duplicates"], found["retried"])
    segment = result["destinations"]["Segment.io"]
    assert segment["requests"] == result["collector"]["requests"]
    assert segment["bytes"] == result["collector"]["decoded_bytes"]


def test_demo_leaves_logging_as_it_was(capsys):
    """The level that the demo sets for its own run is put back."""
    logger = logging.getLogger("analytics_sdk")
    before = logger.level
    assert 0 == main(["demo"])
    assert before == logger.level
    assert "Every total matches." in capsys.readouterr().out


def test_reader_that_leaves_is_no_crash(start):
    """`| head` ends the demo with status 1 and without a traceback."""
    process = start("demo")
    process.stdout.close()
    assert ("", 1) == (process.stderr.read(), process.wait(60))


def test_missing_data_is_explained(monkeypatch, capsys):
    """Without its data file the demo says where it would find it, and fails."""
    monkeypatch.setattr(demo, "find_file", lambda: None)
    assert 1 == main(["demo"])
    assert purchases.FILE in capsys.readouterr().err


def test_double_delivery_fails_the_demo(run_broken):
    """With no fault about, a destination that has copies is no match."""
    status, result = run_broken(DOUBLE)
    assert (1, False) == (status, result["matches"])
    assert ["JsonLines: 9,276 duplicates"] == result["problems"]


def test_loss_behind_a_success_fails_the_demo(run_broken):
    """Events that the client believes delivered and nobody has are found missing."""
    status, result = run_broken(LOSE)
    assert (1, False) == (status, result["matches"])
    outcomes = result["destinations"]["JsonLines"]["outcomes"]
    assert {"delivered": 9_276} == outcomes
    assert any(" missing: cdnow:" in each for each in result["problems"])


@pytest.mark.parametrize(
    ("count", "end"),
    [(1, "\n  problem 0\n"), (25, "\n  problem 19\n  and 5 more\n")],
)
def test_mismatch_is_shown(count, end, monkeypatch, capsys):
    """The report names what differs, cut to a readable number of lines."""
    problems = [f"problem {number}" for number in range(count)]
    as_before = demo.replay

    def replay(*arguments):
        return attrs.evolve(as_before(*arguments), problems=problems)

    monkeypatch.setattr(demo, "replay", replay)
    assert 1 == main(["demo"])
    output = capsys.readouterr().out
    assert "These do not match:\n  problem 0\n" in output
    assert output.endswith(end)


@pytest.mark.slow
def test_demo_survives_a_rough_day(run):
    """Under faults both destinations end with every total, and the poison is named."""
    answer = run("demo", "--faults", "--scale", "0.1")
    output = answer.stdout
    assert (0, "") == (answer.returncode, answer.stderr), output
    called, delivered, retried, requests, _, copies, _ = cells(output, "Segment.io")
    assert ("9,277", "9,276") == (called, delivered)
    assert int(retried.replace(",", "")) > 0
    assert int(requests) > 20
    assert int(copies.replace(",", "")) > 0
    assert ["9,277", "9,277", "0"] == cells(output, "JsonLines")[:3]
    assert 3 * ["244,091.94"] == cells(output, "dollars")
    for met in (
        "x 503 sent again (server_error)",
        "x 429 sent again (rate_limited)",
        "x 200 sent again (unreadable)",
        "x 401 destination on hold (configuration)",
        "x 400 halved to find the bad event",
        "x no answer: connection dropped, sent again",
    ):
        assert re.search(rf"^ +[1-9]\d* {re.escape(met)}$", output, re.MULTILINE)
    assert re.search(r"Segment.io is on hold for \d+\.\d s: configuration", output)
    assert "Rejected by Segment.io: cdnow:poison, invalid\n" in output
    assert output.endswith("\nEvery total matches.\n")
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.slow
def test_client_without_retry_fails_the_demo(run_broken):
    """A client that takes every answer for a success loses events, and it shows."""
    status, result = run_broken(NO_RETRY, "--faults", "--scale", "0.1")
    segment = result["destinations"]["Segment.io"]
    assert (1, False) == (status, result["matches"])
    assert segment["totals"]["calls"] < 9_276
    assert "on_outcome was told of nothing" in result["problems"]
    assert "fault 401 was never met" in result["problems"]
    assert any(
        re.match(r"Segment\.io: [\d,]+ missing: cdnow:", each)
        for each in result["problems"]
    )


@pytest.mark.slow
def test_new_id_for_each_attempt_fails_the_demo(run_broken):
    """A client that mints an id per attempt makes copies that nobody recognises."""
    status, result = run_broken(NO_DEDUP, "--faults", "--scale", "0.1")
    segment = result["destinations"]["Segment.io"]
    assert (1, False) == (status, result["matches"])
    assert segment["totals"]["calls"] > 9_276
    assert any(
        re.match(r"Segment\.io: [\d,]+ unknown: ", each) for each in result["problems"]
    )


@pytest.mark.slow
def test_changed_copy_fails_the_demo(run_broken):
    """A copy that differs from the event it repeats is no copy, and it shows."""
    status, result = run_broken(CHANGE, "--faults", "--scale", "0.1")
    assert (1, False) == (status, result["matches"])
    [problem] = result["problems"]
    assert problem.endswith(" duplicates differ from the event they repeat")
