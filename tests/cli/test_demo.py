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
from analytics_sdk import Segment
from analytics_sdk.cli import main
from analytics_sdk.cli.metered import Metered
from analytics_sdk.interfaces import AllDelivered, Parts, Retry

as_before = Metered.request
def request(self, route, parts, sent_at, attempt):
    return as_before(self, route, change(parts, attempt), sent_at, attempt)
Metered.request = request
change = lambda parts, attempt: parts
{plant}
sys.exit(main(["demo", "--json", *sys.argv[1:]]))
"""

NO_RETRY = """
Metered.read = lambda self, route, response, parts: AllDelivered()
"""

# An id of its own for each attempt: then no vendor can recognise a copy.
NO_DEDUP = """
def change(parts, attempt):
    old, new = b'"cdnow-order-', b'"cdnow-order-%d-' % attempt
    if attempt > 1:
        parts = [part._replace(body=part.body.replace(old, new)) for part in parts]
    return parts
"""

# A copy that is another event: then it matters which of the two a vendor keeps.
CHANGE = """
def change(parts, attempt):
    if attempt > 1:
        parts = [
            part._replace(body=part.body.replace(b'"USD"', b'"EUR"')) for part in parts
        ]
    return parts
"""

# Room for one more, so that no vendor finds the request too large.
DOUBLE = """
def limits(self):
    bounds = self._inner.limits.items()
    return {route: each._replace(events=900) for route, each in bounds}
Metered.limits = property(limits)
change = lambda parts, attempt: [*parts, parts[0]]
"""

# Vendors count what they get: a lost event is noticed unless another stands for it.
LOSE = """
change = lambda parts, attempt: [*parts[1:2], *parts[1:]] or parts
"""

NEW_ID = """
def change(parts, attempt):
    old, new = b'"cdnow-order-17"', b'"cdnow-order-17x"'
    return [part._replace(body=part.body.replace(old, new)) for part in parts]
"""

# Amplitude asks to leave a user alone for seconds.
IMPATIENT = """
as_read = Metered.read
def read(self, route, response, parts):
    reading = as_read(self, route, response, parts)
    if isinstance(reading, Parts):
        hasty = [Retry(0.5) if isinstance(r, Retry) else r for r in reading.results]
        reading = Parts(hasty)
    return reading
Metered.read = read
"""

# What Segment's cloud is not told, it delivers a second time.
NOT_MUTED = """
as_was = Segment.__init__
def __init__(self, *given, **named):
    as_was(self, *given, suppress_direct=False, **named)
Segment.__init__ = __init__
"""

VENDORS = ("Segment.io", "Amplitude", "Mixpanel")
ALL = (*VENDORS, "JsonLines")

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


def test_demo_delivers_every_purchase_to_all(run):
    """The real command replays 9,276 calls; every destination has every total."""
    answer = run("demo")
    assert (0, "") == (answer.returncode, answer.stderr)
    for name in ALL:
        called, delivered, retried, requests, size, copies, rate = cells(
            answer.stdout, name
        )
        assert ("9,276", "9,276", "0", "0") == (called, delivered, retried, copies)
        assert int(requests) > 1
        assert int(size.replace(",", "")) > 1_000_000
        assert int(rate.replace(",", "")) > 0
    assert 5 * ["9,276"] == cells(answer.stdout, "calls")
    assert 5 * ["6,919"] == cells(answer.stdout, "orders")
    assert 5 * ["2,357"] == cells(answer.stdout, "customers")
    assert 5 * ["244,091.94"] == cells(answer.stdout, "dollars")
    assert 5 * ["1997-01-01"] == cells(answer.stdout, "first day")
    assert 5 * ["1998-06-30"] == cells(answer.stdout, "last day")
    assert answer.stdout.endswith("\nEvery total matches.\n")
    assert max(map(len, answer.stdout.splitlines())) <= 80
    assert "\r" not in answer.stdout


def test_json_result_is_one_object(capsys):
    """`--json` prints the whole result for machines, and nothing else."""
    assert 0 == main(["demo", "--json", "--threads", "2", "--only", "segment,jsonl"])
    output, errors = capsys.readouterr()
    result = json.loads(output)
    assert "" == errors
    assert (True, []) == (result["matches"], result["problems"])
    assert TOTALS == result["expected"]
    assert ["Segment.io", "JsonLines"] == list(result["destinations"])
    for found in result["destinations"].values():
        assert TOTALS == found["totals"]
        assert {"delivered": 9_276} == found["outcomes"]
        assert (9_276, 0, 0) == (found["called"], found["duplicates"], found["retried"])
    segment = result["destinations"]["Segment.io"]
    assert segment["requests"] == segment["collector"]["requests"]
    assert segment["bytes"] == segment["collector"]["decoded_bytes"]


@pytest.mark.parametrize(
    ("only", "names", "spoken"),
    [
        ("jsonl", ["JsonLines"], "to a file of JSON lines."),
        (
            "jsonl,amplitude",
            ["Amplitude", "JsonLines"],
            "to Amplitude (a local server) and a file of JSON lines.",
        ),
    ],
)
def test_only_chooses_the_destinations(only, names, spoken, capsys):
    """With `--only` those named get every call, and nobody else is spoken of."""
    assert 0 == main(["demo", "--only", only])
    output = capsys.readouterr().out
    assert spoken in output.splitlines()
    assert (len(names) + 1) * ["9,276"] == cells(output, "calls")
    assert names == [name for name in ALL if name in output]


def test_demo_leaves_logging_as_it_was(capsys):
    """The level that the demo sets for its own run is put back."""
    logger = logging.getLogger("analytics_sdk")
    before = logger.level
    assert 0 == main(["demo", "--only", "jsonl"])
    assert before == logger.level
    assert "Every total matches." in capsys.readouterr().out


def test_reader_that_leaves_is_no_crash(start):
    """`| head` ends the demo with status 1 and without a traceback."""
    process = start("demo", "--only", "segment")
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
    assert list(ALL) == [each.split(":")[0] for each in result["problems"]]
    for problem in result["problems"]:
        assert re.search(r": [1-9]\d* duplicates$", problem)


def test_loss_behind_a_success_fails_the_demo(run_broken):
    """Events that the client believes delivered and nobody has are found missing."""
    status, result = run_broken(LOSE)
    assert (1, False) == (status, result["matches"])
    for name in ALL:
        destination = result["destinations"][name]
        assert {"delivered": 9_276} == destination["outcomes"]
        assert 9_276 > destination["totals"]["calls"]
        missing = rf"{re.escape(name)}: \d+ missing: cdnow-"
        assert any(re.match(missing, each) for each in result["problems"])


def test_changed_id_fails_the_demo(run_broken):
    """One event under another id is missing and unknown, wherever it went."""
    status, result = run_broken(NEW_ID)
    assert (1, False) == (status, result["matches"])
    assert result["problems"] == [
        f"{name}: 1 {what}"
        for name in ALL
        for what in ("missing: cdnow-order-17", "unknown: cdnow-order-17x")
    ]


def test_second_copies_from_the_cloud_fail_the_demo(run_broken):
    """Segment must be told, in every event, who has it already."""
    status, result = run_broken(NOT_MUTED, "--only", "segment,mixpanel")
    assert (1, False) == (status, result["matches"])
    assert [
        "Segment.io: 9,276 events let Segment send a second copy to Mixpanel"
    ] == result["problems"]


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
    assert 1 == main(["demo", "--only", "jsonl"])
    output = capsys.readouterr().out
    assert "These do not match:\n  problem 0\n" in output
    assert output.endswith(end)


@pytest.mark.slow
def test_demo_survives_a_rough_day(run):
    """Under faults all destinations end with every total, and the poison is named."""
    answer = run("demo", "--faults", "--scale", "0.1")
    output = answer.stdout
    assert (0, "") == (answer.returncode, answer.stderr), output
    for name in VENDORS:
        called, delivered, retried, requests, _, copies, _ = cells(output, name)
        assert ("9,277", "9,276") == (called, delivered)
        assert int(retried.replace(",", "")) > 0
        assert int(requests) > 8
        assert int(copies.replace(",", "")) > 0
        on_hold = rf"{re.escape(name)} is on hold for \d+\.\d s: configuration"
        assert re.search(on_hold, output)
        assert f"Rejected by {name}: cdnow-poison, invalid\n" in output
    assert ["9,277", "9,277", "0"] == cells(output, "JsonLines")[:3]
    assert 5 * ["244,091.94"] == cells(output, "dollars")
    for times, met in (
        (3, "x 503 sent again (server_error)"),
        (2, "x 429 sent again (rate_limited)"),
        (3, "x 200 sent again (unreadable)"),
        (3, "x 401 destination on hold (configuration)"),
        (1, "x 400 halved to find the bad event"),
        (1, "x 400 each by itself: rejected, sent again"),
        (1, "x 400 each by itself: delivered, rejected"),
        (1, "x 200 halved to find the bad event"),
        (3, "x no answer: connection dropped, sent again"),
    ):
        line = rf"^ +[1-9]\d* {re.escape(met)}$"
        assert times == len(re.findall(line, output, re.MULTILINE)), met
    assert re.search(r"^ +3 x 429 each by itself: parked", output, re.MULTILINE)
    assert output.endswith("\nEvery total matches.\n")
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.slow
def test_client_without_retry_fails_the_demo(run_broken):
    """A client that takes every answer for a success loses events, and it shows."""
    status, result = run_broken(NO_RETRY, "--faults", "--scale", "0.1")
    assert (1, False) == (status, result["matches"])
    assert "on_outcome was told of nothing" in result["problems"]
    for name in VENDORS:
        assert result["destinations"][name]["totals"]["calls"] < 9_276
        missing = rf"{re.escape(name)}: [\d,]+ missing: cdnow-"
        assert any(re.match(missing, each) for each in result["problems"])
    assert any("was never met" in each for each in result["problems"])


@pytest.mark.slow
def test_pause_that_is_not_kept_fails_the_demo(run_broken):
    """A client that does not leave Amplitude's fast users alone is found out."""
    arguments = ("--faults", "--scale", "0.1", "--only", "amplitude")
    status, result = run_broken(IMPATIENT, *arguments)
    assert (1, TOTALS) == (status, result["destinations"]["Amplitude"]["totals"])
    assert ["Amplitude: fault 429 was met over 3 times: a pause was not kept"] == (
        result["problems"]
    )


@pytest.mark.slow
def test_new_id_for_each_attempt_fails_the_demo(run_broken):
    """A client that mints an id per attempt makes copies that nobody recognises."""
    status, result = run_broken(NO_DEDUP, "--faults", "--scale", "0.1")
    assert (1, False) == (status, result["matches"])
    for name in VENDORS:
        unknown = rf"{re.escape(name)}: [\d,]+ unknown: "
        assert any(re.match(unknown, each) for each in result["problems"])


@pytest.mark.slow
def test_changed_copy_fails_the_demo(run_broken):
    """A copy that differs from the event it repeats is no copy, and it shows."""
    status, result = run_broken(CHANGE, "--faults", "--scale", "0.1")
    assert (1, False) == (status, result["matches"])
    assert result["problems"]
    for problem in result["problems"]:
        assert problem.endswith(" duplicates differ from the event they repeat")
