"""400 and 413: bad events are found, large requests cut, and the rest arrives."""

from __future__ import annotations

import math
import time

import pytest

from analytics_sdk.collector import LargerThan, Step, WithEvent, faults
from tests.faults.rig import KEY, NAME

POISON = WithEvent("properties.poison", value=True)
BAD = faults.Status(400, body=b'{"success": false, "message": "invalid request"}')
TOO_LARGE = faults.Status(413, body=b"too large")


@pytest.mark.parametrize("at", [0, 41, 99], ids=["first", "within", "last"])
def test_one_poisoned_event_is_found(make_rig, caplog, at):
    """One bad event of a hundred is rejected with the reason; the others arrive."""
    rig = make_rig(Step(BAD, only=POISON))
    rig.offer(at)
    poisoned = rig.track(user_id=f"{NAME}-bad", properties={"poison": True})
    rig.offer(99 - at)
    report = rig.flush()
    assert {"delivered": 99, "rejected": 1} == report.counts
    assert not report
    outcome = poisoned.outcome
    assert ("rejected", "invalid") == (outcome.kind, outcome.reason)
    assert "invalid request" in outcome.excerpt
    most = 2 * math.ceil(math.log2(100))
    assert len(rig.collector.requests) <= 1 + most
    rig.check(caplog.text)


def test_several_poisoned_events_are_found(make_rig, caplog):
    """Three bad events among two hundred are rejected, and no good one is."""
    rig = make_rig(Step(BAD, only=POISON))
    bad = []
    for turn in range(200):
        poison = turn in (20, 90, 91)
        receipt = rig.track(user_id=f"u{turn % 5}", properties={"poison": poison})
        bad += [receipt] * poison
    assert {"delivered": 197, "rejected": 3} == rig.flush().counts
    assert ["rejected"] * 3 == [str(receipt.outcome.kind) for receipt in bad]
    rig.check(caplog.text)


def test_poison_does_not_stop_its_users_order(make_rig, caplog):
    """Events of one user stay in order around the one of theirs that is refused."""
    rig = make_rig(Step(BAD, only=POISON))
    for turn in range(30):
        rig.track(user_id="one", properties={"poison": turn == 13})
    assert {"delivered": 29, "rejected": 1} == rig.flush().counts
    rig.check(caplog.text)


def test_poison_in_times_of_trouble_is_still_found(make_rig, caplog):
    """Failures in the midst of the search neither lose nor reject a good event."""
    rig = make_rig(
        Step(faults.Healthy(), requests=1),
        Step(BAD, only=POISON, requests=2),
        faults.unavailable(),
        faults.Drop("after_body", store=True),
        Step(BAD, only=POISON),
        faults.captive_portal(),
    )
    rig.track()
    assert rig.flush()
    for turn in range(64):
        rig.track(user_id=f"u{turn % 5}", properties={"poison": turn == 40})
    rig.flush()
    assert {"delivered": 64, "rejected(invalid)": 1} == rig.outcomes()
    rig.check(caplog.text)


def test_400_to_everything_is_taken_for_our_mistake(make_rig, clock, caplog):
    """Where each event alone is refused, all are kept until the cause is mended."""
    rig = make_rig(Step(BAD))
    rig.offer(60)
    report = rig.flush(3.0)
    assert "configuration?" == report.holds[NAME].reason
    assert {"pending": 60} == rig.outcomes()
    assert (60, 60) == (report.pending, report.held)
    assert len(rig.collector.requests) <= 40
    rig.collector.play()
    clock.leap(15.0)
    assert rig.flush()
    assert {"delivered": 60} == rig.outcomes()
    rig.check(caplog.text)


def test_success_that_says_false_is_none(make_rig, caplog):
    """A 200 whose body denies the success is searched like a 400."""
    denial = faults.Status(200, body=b'{"success": false}')
    rig = make_rig(Step(denial, only=POISON))
    rig.offer(10)
    rig.track(properties={"poison": True})
    rig.offer(10)
    assert {"delivered": 20, "rejected": 1} == rig.flush().counts
    rig.check(caplog.text)


@pytest.mark.parametrize("limit_bytes", [2_000, 20_000])
def test_413_finds_the_size_that_passes(make_rig, caplog, limit_bytes):
    """Requests shrink until the server takes them; all events arrive in order."""
    rig = make_rig(Step(TOO_LARGE, only=LargerThan(limit_bytes)))
    rig.offer(150)
    assert rig.flush()
    assert {"delivered": 150} == rig.outcomes()
    rig.check(caplog.text)


def test_single_event_that_is_too_large_is_rejected(make_rig, caplog):
    """An event that is too large on its own ends so; its neighbours are delivered."""
    rig = make_rig(Step(TOO_LARGE, only=LargerThan(5_000)))
    rig.offer(10)
    large = rig.track(properties={"text": "x" * 6_000})
    rig.offer(10)
    rig.flush()
    assert ("rejected", "too_large") == (large.outcome.kind, large.outcome.reason)
    assert {"delivered": 20, "rejected(too_large)": 1} == rig.outcomes()
    rig.check(caplog.text)


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_early_413_is_heard_while_writing(make_rig, caplog, reset):
    """A 413 that comes before the body has been read splits, and does not wait."""
    rig = make_rig(faults.EarlyAnswer(413, grace_s=0.2, reset=reset))
    rig.offer(400, properties={"text": "x" * 700})
    started_s = time.monotonic()
    assert rig.flush()
    assert time.monotonic() - started_s < 3.0
    error = rig.client.stats().destinations[NAME].last_error
    assert reset or error is None
    rig.check(caplog.text)


def test_event_over_the_vendors_limit_is_refused_at_the_call(make_rig, caplog):
    """What no request could hold is refused at once, and never sent."""
    rig = make_rig()
    rig.offer(3)
    large = rig.track(properties={"text": "x" * 40_000})
    assert ("refused", "too_large") == (large.outcome.kind, large.outcome.reason)
    assert "no" == large.sent
    assert rig.flush()
    rig.check(caplog.text)


def test_rejections_excerpt_holds_no_key(make_rig, caplog):
    """The vendor's words are quoted, but for the key in them."""
    echo = faults.Status(400, body=f"bad: {KEY} <script>\x00\x1b[31m".encode())
    rig = make_rig(Step(echo, only=POISON))
    rig.offer(2)
    poisoned = rig.track(properties={"poison": True})
    rig.flush()
    excerpt = poisoned.outcome.excerpt
    assert excerpt.startswith("bad: *** <script>")
    assert excerpt.isprintable()
    rig.check(caplog.text)
