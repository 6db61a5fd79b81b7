"""Long stories: a bad day in real time, and threads that send through it."""

from __future__ import annotations

import random
import time
from threading import Thread

import pytest

from analytics_sdk.collector import Step, WithEvent, faults, rough_day

BAD = faults.Status(400, body=b'{"success": false}')


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_rough_day_ends_well(make_rig, caplog):
    """503, 429, drops, a web page, 401 and one poisoned event: the totals match."""
    rig = make_rig(rough_day(unavailable_s=1.0, unauthorized_s=1.0))
    poisoned = None
    for turn in range(60):
        rig.offer(10, users=5)
        if turn == 30:
            poisoned = rig.track(properties={"poison": True})
        time.sleep(0.05)
    rig.flush(30.0)
    assert {"delivered": 600, "rejected(invalid)": 1} == rig.outcomes()
    assert "rejected" == poisoned.outcome.kind
    rig.check(caplog.text)


def short_story(seed: int) -> list:
    """Draw faults, each for one request, with a quiet request now and then."""
    draw = random.Random(seed)
    menu = (
        *(faults.unavailable(status) for status in (500, 503)),
        faults.rate_limited("0"),
        *(
            faults.Drop(at, reset=reset, store=True)
            for at in ("after_body", "mid_head", "mid_body")
            for reset in (False, True)
        ),
        faults.Drop("before_body"),
        faults.Garbage(),
        faults.captive_portal(),
        faults.BrokenChunks("cut", store=True),
        faults.IdleClose(),
        faults.EarlyAnswer(503),
        faults.Hang(for_s=0.3),
        faults.Healthy(),
        faults.Healthy(),
        faults.Healthy(),
    )
    return draw.choices(menu, k=12)


@pytest.mark.parametrize("seed", range(8))
def test_threads_send_through_any_story(make_rig, caplog, seed):
    """Four threads, a dozen drawn faults, one poisoned event: the invariants hold."""
    poison = WithEvent("properties.poison", value=True)
    story = (Step(BAD, only=poison), *short_story(seed))
    rig = make_rig(*story, request_timeout_s=0.5, linger_s=0.02)

    def work(user: str) -> None:
        for turn in range(60):
            rig.receipts.append(
                rig.client.track(
                    user,
                    "Paid",
                    {"n": turn, "poison": user == "u2" and turn == 33},
                    urgent=turn == 50,
                )
            )
            time.sleep(0.002)

    threads = [Thread(target=work, args=(f"u{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rig.flush(8.0)
    assert {"delivered": 239, "rejected(invalid)": 1} == rig.outcomes()
    rig.check(caplog.text)
