"""Wrong keys, hosts and certificates: events wait, unharmed, for the mending."""

from __future__ import annotations

import time

import pytest

from analytics_sdk import Segment
from analytics_sdk.collector import Step, faults
from tests.faults.rig import KEY, NAME, SWIFT_S, wait_until

PROBE_S = 6.0
"""Longer than the wait before the first probe of a hold."""

CONFIGURATION = (401, 402, 403, 404, 405, 407, 411, 421, 426, 451, 501, 505, 511)


@pytest.mark.parametrize("status", CONFIGURATION)
def test_configuration_fault_keeps_events_until_mended(make_rig, clock, caplog, status):
    """Such an answer holds everything; once mended, everything is delivered."""
    rig = make_rig(Step(faults.Status(status, body=b"wrong key?")))
    rig.offer()
    report = rig.flush(3.0)
    assert (24, 24) == (report.pending, report.held)
    assert "configuration" == report.holds[NAME].reason
    assert 1 == len(rig.collector.requests)
    rig.collector.play()
    clock.leap(PROBE_S * 2)
    assert rig.flush()
    assert {"delivered": 24} == rig.outcomes()
    rig.check(caplog.text)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_redirect_is_never_followed(make_rig, clock, caplog, status):
    """Another host gets not one request, and the hold names where it would go."""
    rig = make_rig()
    there = f"{rig.other.url}/v1/batch?token=secret"
    rig.collector.play(Step(faults.redirect(there, status)))
    rig.offer()
    report = rig.flush(3.0)
    hold = report.holds[NAME]
    assert ("redirected", 24) == (hold.reason, report.held)
    assert 1 == len(rig.collector.requests)
    assert rig.other.url in hold.excerpt
    assert "secret" not in hold.excerpt
    clock.leap(PROBE_S * 2)
    rig.flush(3.0)
    assert [] == rig.other.requests
    rig.collector.play()
    clock.leap(PROBE_S * 4)
    assert rig.flush()
    rig.check(caplog.text)


def test_first_probe_comes_after_five_seconds(make_rig):
    """The first answer that holds is followed by a probe within about 5 s."""
    rig = make_rig(Step(faults.Status(401)))
    rig.offer(2)
    hold = rig.flush(0.5).holds[NAME]
    assert 3.5 < hold.resumes_in_s <= 5.0


def test_probe_is_one_real_event(make_rig, clock, caplog):
    """While on hold, one event asks whether all is well; no event is made up."""
    rig = make_rig(Step(faults.Status(401)))
    rig.offer()
    rig.flush(3.0)
    for _ in range(3):
        clock.leap(400.0)
        rig.flush(3.0)
    first, *probes = rig.copies().values()
    bodies = [request.body.count(b'"messageId"') for request in rig.collector.requests]
    assert [24, 1, 1, 1] == bodies
    assert 4 == len(first)
    assert all(1 == len(copies) for copies in probes)
    rig.collector.play()
    clock.leap(400.0)
    assert rig.flush()
    rig.check(caplog.text)


def test_give_up_clock_stands_still_while_misconfigured(make_rig, clock, caplog):
    """A day with a wrong key costs no event, although giving up takes seconds."""
    rig = make_rig(Step(faults.Status(401)), give_up_after_s=20.0)
    rig.offer(6)
    rig.flush(3.0)
    for _ in range(24):
        clock.leap(3600.0)
        rig.flush(0.5)
    assert {"pending": 6} == rig.outcomes()
    rig.collector.play()
    clock.leap(3600.0)
    assert rig.flush()
    rig.check(caplog.text)


def test_give_up_clock_runs_while_the_server_is_down(make_rig, clock, caplog):
    """What a broken server has refused for longer than the limit ends as expired."""
    rig = make_rig(Step(faults.unavailable()), give_up_after_s=20.0)
    rig.offer(6)
    rig.flush(0.1)
    clock.leap(25.0)
    rig.flush(1.0)
    assert {"lost(expired)": 6} == rig.outcomes()
    assert ["maybe"] * 6 == [receipt.sent for receipt in rig.receipts]
    rig.check(caplog.text)


def test_flush_of_a_known_hold_is_swift(make_rig, caplog):
    """While the key is known to be wrong, flush and scoped flush cost milliseconds."""
    rig = make_rig(Step(faults.Status(401)))
    rig.offer()
    rig.flush(3.0)
    for scope in ({}, {"receipts": rig.offer(3)}, {"receipts": rig.receipts}):
        started_s = time.monotonic()
        report = rig.flush(3.0, **scope)
        assert time.monotonic() - started_s < SWIFT_S
        assert not report
        assert report.pending == report.held > 0
        hold = report.holds[NAME]
        assert "configuration" == hold.reason
        assert 0 < hold.resumes_in_s <= 10.0
        assert "key" in hold.reason.remedy
    receipt = rig.track()
    time.sleep(0.05)
    assert "held" == receipt.by_destination[NAME].kind
    assert receipt.outcome is None


def test_close_of_a_known_hold_is_swift_and_tells(make_rig, caplog):
    """Closing on a hold returns at once: each event is lost(exit), and said to be."""
    rig = make_rig(Step(faults.Status(401)))
    rig.offer()
    rig.flush(3.0)
    started_s = time.monotonic()
    report = rig.close(3.0)
    assert time.monotonic() - started_s < SWIFT_S
    assert {"lost": 24} == report.counts
    assert {"lost(exit)": 24} == rig.outcomes()
    line = "24 events for Segment.io ended as lost(exit)"
    assert wait_until(lambda: line in caplog.text)
    rig.check(caplog.text)


def test_echoed_key_is_blotted_out(make_rig, caplog):
    """A server that repeats the key in its error does not bring it into any report."""
    words = f"unknown write key {KEY}".encode()
    rig = make_rig(Step(faults.Status(401, body=words)))
    rig.offer(3)
    report = rig.flush(1.0)
    assert "unknown write key ***" == report.holds[NAME].excerpt
    rig.check(caplog.text)


# -- TLS -------------------------------------------------------------------


@pytest.fixture
def secure(require, certificate, serve_tls):
    """Make the context of a server whose certificate nobody has vouched for."""
    require("openssl", "apt-get install openssl")
    path = certificate("IP:127.0.0.1")
    return path, serve_tls(path)


def test_unknown_authority_holds_and_sends_nothing(make_rig, secure, caplog):
    """A certificate that nobody vouches for: no byte of any event leaves."""
    rig = make_rig(tls=secure[1])
    rig.offer(5)
    report = rig.flush(3.0)
    assert ("tls", 5) == (report.holds[NAME].reason, report.held)
    assert [] == rig.collector.requests
    rig.check(caplog.text)


def test_known_authority_delivers(make_rig, secure, caplog):
    """The same server is trusted once its authority is named."""
    rig = make_rig(tls=secure[1], ca_file=str(secure[0]))
    rig.offer(5)
    assert rig.flush()
    rig.check(caplog.text)


def test_certificate_of_another_host_holds(
    make_rig, require, certificate, serve_tls, caplog
):
    """A trusted certificate for another name does not do."""
    require("openssl", "apt-get install openssl")
    path = certificate("DNS:elsewhere.example")
    rig = make_rig(tls=serve_tls(path), ca_file=str(path))
    rig.offer(5)
    assert "tls" == rig.flush(3.0).holds[NAME].reason
    assert [] == rig.collector.requests
    rig.check(caplog.text)


@pytest.mark.parametrize(
    "fault",
    [
        faults.Drop("accept"),
        faults.Drop("accept", reset=True),
        faults.Hang("accept", for_s=2.0),
        faults.Drop("after_body"),
        faults.Drop("mid_body", store=True),
        faults.IdleClose(),
    ],
    ids=repr,
)
def test_passing_tls_fault_loses_nothing(make_rig, secure, caplog, fault):
    """Handshakes and secure connections that break off are tried again."""
    rig = make_rig(fault, tls=secure[1], ca_file=str(secure[0]), connect_timeout_s=0.3)
    rig.offer(5)
    assert rig.flush()
    rig.offer(5)
    assert rig.flush()
    rig.check(caplog.text)


def test_plain_answer_to_the_handshake_holds(make_rig, secure, caplog):
    """A server that knows no TLS is a wrong address: no event leaves."""
    plain = faults.Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n", at="accept")
    rig = make_rig(Step(plain), tls=secure[1], ca_file=str(secure[0]))
    rig.offer(5)
    assert "tls" == rig.flush(1.0).holds[NAME].reason
    assert [] == rig.collector.requests
    rig.check(caplog.text)


def test_no_answer_to_the_handshake_sends_nothing(make_rig, caplog):
    """A server that waits for plain text never gets any, and is given up on in time."""
    rig = make_rig(
        connect_timeout_s=0.2,
        destinations=lambda rig: [
            Segment(KEY, host=rig.collector.url.replace("http:", "https:"))
        ],
    )
    rig.offer(5)
    assert "unreachable" == rig.flush(0.6).holds[NAME].reason
    assert [] == rig.collector.requests
    rig.close(0.1)
    rig.check(caplog.text)
