from __future__ import annotations

import json

import pytest


def read(reply):
    assert "application/json" == reply.headers["content-type"]
    return json.loads(reply.body)


def test_statistics_can_be_fetched(collector, client, make_track):
    """GET /_stats gives what `stats()` gives."""
    client.post(make_track())
    reply = client.request("GET", "/_stats")
    assert 200 == reply.status
    assert collector.stats() == read(reply)


def test_events_can_be_paged(client, make_track):
    """GET /_events gives events from an offset, and where the next page begins."""
    client.post(*[make_track(f"m-{number}") for number in range(5)])
    page = read(client.request("GET", "/_events?offset=1&limit=2"))
    assert (1, 3, 5) == (page["offset"], page["next_offset"], page["total"])
    assert ["m-1", "m-2"] == [event["key"] for event in page["events"]]
    first = page["events"][0]
    assert make_track("m-1") == first["payload"]
    assert (2, 1) == (first["number"], first["request"])
    rest = read(client.request("GET", "/_events?offset=3"))
    assert ["m-3", "m-4"] == [event["key"] for event in rest["events"]]
    assert 5 == rest["next_offset"]
    assert 5 == len(read(client.request("GET", "/_events"))["events"])


@pytest.mark.parametrize("query", ["offset=-1", "offset=x", "limit=0"])
def test_bad_pages_are_refused(client, query):
    """An offset or a limit that is no fitting number is 400."""
    assert 400 == client.request("GET", f"/_events?{query}").status


def test_reset_forgets_and_heals(collector, client, make_track):
    """POST /_reset forgets what was seen and ends the script."""
    client.post(make_track())
    client.request("POST", "/_faults", {"preset": "outage"})
    assert 503 == client.post(make_track()).status
    assert 200 == client.request("POST", "/_reset").status
    assert [] == collector.events
    assert 200 == client.post(make_track()).status


def test_faults_can_be_set(collector, client, make_track):
    """POST /_faults replaces the script, and says how many steps it has."""
    step = {"fault": {"kind": "Status", "status": 418}, "requests": 1}
    reply = client.request("POST", "/_faults", {"steps": [step]})
    assert (200, 1) == (reply.status, read(reply)["steps"])
    assert [418, 200] == [client.post(make_track()).status for _ in range(2)]
    assert collector.script_is_over()


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"preset": "holiday"}'])
def test_bad_scripts_are_refused(client, make_track, body):
    """A script that cannot be read is 400 with a reason, and changes nothing."""
    reply = client.request("POST", "/_faults", body)
    assert 400 == reply.status
    assert read(reply)["message"]
    assert 200 == client.post(make_track()).status


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/_stats"), ("GET", "/_reset"), ("GET", "/_else")]
)
def test_other_control_addresses_do_not_exist(client, method, path):
    """Only the documented endpoints exist, each for its own method."""
    assert 404 == client.request(method, path).status


def test_control_is_neither_recorded_nor_faulted(collector, client, make_track):
    """Control requests stay out of the log and go through whatever is scripted."""
    client.request("POST", "/_faults", {"preset": "outage"})
    assert 503 == client.post(make_track()).status
    assert 200 == client.request("GET", "/_stats").status
    assert ["/v1/batch"] == [request.path for request in collector.requests]
