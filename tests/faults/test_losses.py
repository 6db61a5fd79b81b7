"""The count of losses: its recorder, its sums, and two of its stories with ours."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest

from analytics_sdk.collector import ApiRequest
from tests.faults.losses import (
    MARKS,
    PAGE,
    AnyVendor,
    Loss,
    as_markdown,
    judge,
    rows_of,
    write_page,
)

EVENTS = [{"n": 1}, {"n": 2}]


def request(path, document, headers=None, body=None) -> ApiRequest:
    body = body or json.dumps(document).encode()
    return ApiRequest("POST", path, headers or {}, body)


@pytest.mark.parametrize(
    "given",
    [
        request("/v1/batch", {"batch": [{"properties": each} for each in EVENTS]}),
        request(
            "/batch/",
            None,
            {"content-encoding": "gzip"},
            gzip.compress(
                json.dumps(
                    {"batch": [{"properties": each} for each in EVENTS]}
                ).encode()
            ),
        ),
        request(
            "/2/httpapi", {"events": [{"event_properties": each} for each in EVENTS]}
        ),
        request(
            "/track",
            None,
            {"content-type": "application/x-www-form-urlencoded"},
            urlencode(
                {"data": json.dumps([{"properties": each} for each in EVENTS])}
            ).encode(),
        ),
    ],
    ids=["segment", "posthog", "amplitude", "mixpanel"],
)
def test_recorder_reads_each_vendors_format(given):
    """The recorder finds the events of each vendor's request."""
    answer = AnyVendor().receive(given)
    assert (200, [1, 2]) == (
        answer.status,
        [event.payload["n"] for event in answer.accepted],
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"batch": [{"properties": {"n": NaN}}]}', 400),
        (b"half a", 400),
        (b'{"batch": [{"properties": {"n": 1, "mark": "poison-marker"}}]}', 400),
        (b" " * 2_000_000, 413),
    ],
    ids=["NaN", "broken", "poison", "too large"],
)
def test_recorder_refuses_what_vendors_refuse(body, status):
    """What is no JSON, poisoned or too large is refused and not kept."""
    answer = AnyVendor().receive(request("/v1/batch", None, body=body))
    assert (status, ()) == (answer.status, answer.accepted)


def test_every_event_is_in_one_column():
    """Delivered, told and silent add up; a told loss that arrived is no loss."""
    lines = ["S 10.0", *(f"O {n}" for n in range(6)), "T 0 x", "T 4 x", "T 4 y"]
    loss = judge("s", "c", lines, {0: 1, 1: 3}, ended=12.5)
    assert Loss("s", "c", 6, 2, 1, 3, 2, 2.5, "") == loss


def test_exception_out_of_flush_tells_of_all():
    """Where flush raised, the application knows that what is left may be lost."""
    loss = judge("s", "c", ["O 0", "O 1", "A Error"], {0: 1}, ended=0.0)
    assert (1, 0) == (loss.told, loss.silent)


def test_silence_stands_out():
    """A silent loss is set in bold in its row."""
    text = as_markdown([Loss("s", "ours", 1_000, 990, 0, 10, 0, 1.0)])
    assert "| ours | 1,000 | 990 | 0 | **10** | 0 | 1.0 |  |" in text


def test_rows_that_were_not_run_stay(tmp_path):
    """Writing one row into the page leaves the others, and counts them all."""
    page = tmp_path / "page.md"
    page.write_text("\n".join(["before", *MARKS, "after"]))
    ours = Loss("hang at exit", "ours", 1_000, 0, 1_000, 0, 0, 1.5)
    theirs = Loss("hang at exit", "posthog", 1_000, 0, 0, 1_000, 2, 0.5, "killed")
    worse = Loss("hang at exit", "ours", 1_000, 0, 900, 100, 0, 1.0)
    write_page([worse, theirs], page)
    write_page([ours], page)
    text = page.read_text()
    assert [ours, theirs] == list(rows_of(text))
    assert text.startswith("before\n")
    assert text.endswith("after")


def test_page_has_a_place_for_the_tables():
    """The page keeps both markers, in order."""
    text = PAGE.read_text(encoding="utf-8")
    assert [1, 1] == [text.count(mark) for mark in MARKS]
    assert text.index(MARKS[0]) < text.index(MARKS[1])


@pytest.mark.parametrize("scenario", ["drop within the answer", "odd types"])
def test_ours_loses_nothing_in_silence(scenario):
    """The program runs, finds no silent loss of ours, and says so by its status."""
    program = Path(__file__).with_name("losses.py")
    command = [sys.executable, program, "--clients", "ours", "--only", scenario]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    loss = json.loads(done.stdout)
    assert loss["offered"] == loss["delivered"] + loss["told"] > 0
    assert (0, "") == (loss["silent"], loss["note"])
