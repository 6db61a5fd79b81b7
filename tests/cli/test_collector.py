from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import closing

import pytest

from analytics_sdk import Amplitude, Client, Mixpanel, Segment
from analytics_sdk.cli import main

pytestmark = pytest.mark.timeout(30)

PAID = {
    "type": "track",
    "event": "Paid",
    "userId": "u-1",
    "messageId": "m-1",
    "properties": {"n": 1},
}


@pytest.fixture
def post(post_json):
    def post_events(url, *events):
        return post_json(f"{url}/v1/batch", {"batch": events})

    return post_events


def address(process):
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, line
    return found[0]


def test_events_are_printed_one_a_line(start):
    """Each event that a client sends appears as one line: what, who, which id."""
    process = start("collector", "--port", "0")
    with Client(Segment("key", host=address(process))) as client:
        client.track("user-1", "Order Completed", message_id="order:1")
        client.identify("user-1", {"plan": "pro"}, message_id="who:1")
        client.alias("old", "user-1", message_id="alias:1")
    lines = [process.stdout.readline().split() for _ in range(3)]
    assert [
        ["track", "Order", "Completed", "user-1", "order:1"],
        ["identify", "user-1", "who:1"],
        ["alias", "old", "user-1", "alias:1"],
    ] == lines


@pytest.mark.parametrize(
    ("word", "make", "lines"),
    [
        (
            "amplitude",
            Amplitude,
            ["event Paid user-1 order-1", "event $identify user-1 who-1"],
        ),
        (
            "mixpanel",
            Mixpanel,
            ["event Paid user-1 order-1", "update $set user-1"],
        ),
    ],
)
def test_other_vendors_are_spoken(word, make, lines, start):
    """With `--vendor` and a key it collects what that vendor's users send."""
    process = start("collector", "--port", "0", "--vendor", word, "--key", "the-key")
    with Client(make("the-key", host=address(process))) as client:
        client.track("user-1", "Paid", message_id="order-1")
        client.flush(5)
        client.identify("user-1", {"plan": "pro"}, message_id="who-1")
    assert lines == [" ".join(process.stdout.readline().split()) for _ in range(2)]


def test_duplicates_and_rejections_are_told(start, post):
    """A second copy says where the first was; a discarded event says why."""
    process = start("collector", "--port", "0")
    url = address(process)
    post(url, PAID)
    assert process.stdout.readline().startswith("track    Paid")
    post(url, PAID)
    assert process.stdout.readline().startswith("duplicate, first in request 1: track")
    post(url, {"type": "track"})
    assert "rejected no_user_anon_id: event 0 of its request\n" == (
        process.stdout.readline()
    )


def test_reset_starts_the_printing_anew(start, post, post_json):
    """After a reset the same event is news again, not a duplicate."""
    process = start("collector", "--port", "0")
    url = address(process)
    post(url, PAID, PAID)
    process.stdout.readline()
    assert process.stdout.readline().startswith("duplicate")
    post_json(f"{url}/_reset", None)
    post(url, PAID)
    assert process.stdout.readline().startswith("track    Paid")


def test_verbose_shows_requests_and_payloads(start, post):
    """With `--verbose` each request has a line, and events are whole."""
    process = start("collector", "--port", "0", "--verbose")
    post(address(process), PAID)
    assert re.fullmatch(
        r"request 1: POST /v1/batch, \d+ bytes, 200\n", process.stdout.readline()
    )
    assert '"properties": {"n": 1}' in process.stdout.readline()


def test_strict_collector_refuses(start, post):
    """With `--strict` and a key, another key and a bad event are refused."""
    process = start("collector", "--port", "0", "--strict", "--write-key", "mine")
    assert 401 == post(address(process), PAID)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_interrupt_prints_the_sum(start, post):
    """^C ends the collector with status 0 and the counts of all it got."""
    process = start("collector", "--port", "0")
    post(address(process), PAID, PAID)
    process.stdout.readline()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=10)
    assert "\n2 events in 1 requests, 1 duplicates, 0 rejected.\n" == output
    assert (0, "") == (process.returncode, errors)


def test_child_ends_with_its_parent(start):
    """The demo's collector ends when its standard input closes: its parent is gone."""
    process = start("collector", "--port", "0", "--child")
    address(process)
    output, errors = process.communicate(timeout=10)
    assert ("", "", 0) == (output, errors, process.returncode)


def test_port_in_use_is_told(capsys):
    """A port that is taken ends the command with status 1 and the port's number."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        assert 1 == main(["collector", "--port", port])
    assert f"port {port} cannot be used" in capsys.readouterr().err
