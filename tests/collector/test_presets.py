from __future__ import annotations

import json

import pytest

from analytics_sdk.collector.faults import Phase
from analytics_sdk.collector.presets import (
    amplitude_day,
    mixpanel_day,
    outage,
    rough_day,
)
from analytics_sdk.collector.script import Playback, Received

CLEAN = Received()
POISONED = Received(events=({"properties": {"poison": True}},))


def meet(playback, request, now):
    """Offer a request as the server does: when its head is read, then its body."""
    for phase in (Phase.HEAD, Phase.BODY):
        fault = playback.pick(phase, request, now=now)
        if fault is not None:
            status = getattr(fault, "status", "")
            return f"{type(fault).__name__} {status}".strip()
    return "well"


def test_a_rough_day_has_everything_in_order():
    """Each trouble comes once, for its own length, and ends in health."""
    playback = Playback(
        rough_day(
            unavailable_s=2,
            rate_limits=2,
            drops=1,
            unauthorized_s=10,
            calm_requests=1,
        )
    )
    met = [meet(playback, CLEAN, now) for now in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]
    assert [
        "Healthy",
        "Status 503",
        "Status 503",
        "Healthy",
        "Status 429",
        "Status 429",
        "Drop",
        "Drop",
        "Drop",
        "Status 200",
        "Status 401",
    ] == met
    assert ["Status 401", "well"] == [meet(playback, CLEAN, now) for now in (19.9, 20)]


def test_poison_is_refused_all_day():
    """The poisoned request gets 400 before, during and after all other trouble."""
    playback = Playback(rough_day(calm_requests=1, unavailable_s=1))
    assert "Status 400" == meet(playback, POISONED, 0)
    assert "Healthy" == meet(playback, CLEAN, 0)
    assert "Status 503" == meet(playback, CLEAN, 0)
    assert "Status 400" == meet(playback, POISONED, 0.5)
    assert "Status 503" == meet(playback, CLEAN, 0.9)


def test_amplitude_names_who_is_too_fast():
    """Each throttled user is refused until their pause is over, and nobody else is."""
    playback = Playback(
        amplitude_day(throttled=["a", "b"], park_s=30, calm_requests=1, drops=1)
    )
    events = {user: Received(events=({"user_id": user},)) for user in "abc"}
    said = [meet(playback, events[user], now) for user, now in [("a", 0), ("b", 9)]]
    assert 2 * ["Status 429"] == said
    assert "Healthy" == meet(playback, events["c"], 10)
    assert "Status 429" == meet(playback, events["a"], 29.9)
    assert "Status 503" == meet(playback, events["a"], 30)
    assert "Status 429" == meet(playback, events["b"], 38.9)


@pytest.mark.parametrize("wait_s", [None, 7])
def test_amplitude_announces_no_pause_unless_asked(wait_s):
    """A 429 names its user; Retry-After is there only where the day wants it."""
    step = amplitude_day(throttled=["a"], retry_after_s=wait_s).steps[0]
    said = json.loads(step.fault.body)
    assert (429, {"a": 31}) == (said["code"], said["throttled_users"])
    announced = dict(step.fault.headers).get("Retry-After")
    assert (wait_s and str(wait_s)) == announced


def test_a_day_at_mixpanel_has_everything_in_order():
    """The first update is answered 0 under 200; events meet all the rest in order."""
    playback = Playback(mixpanel_day(drops=1, rate_limits=2, unavailable_s=2))
    update = Received(path="/engage")
    assert "Healthy" == meet(playback, CLEAN, 0)
    assert "Status 200" == meet(playback, update, 0)
    met = [meet(playback, update, now) for now in [0, 1, 2, 3, 4, 5, 6, 7, 8, 17.9, 18]]
    assert [
        "Status 503",
        "Status 503",
        "Healthy",
        "Status 429",
        "Status 429",
        "Drop",
        "Drop",
        "Drop",
        "Status 200",
        "Status 401",
        "Status 401",
    ] == met
    assert "well" == meet(playback, CLEAN, 28)


def test_an_outage_ends():
    """An outage answers one status for its time and then ends."""
    playback = Playback(outage(for_s=5, status=500))
    met = [meet(playback, CLEAN, now) for now in (3, 7.9, 8)]
    assert ["Status 500", "Status 500", "well"] == met
