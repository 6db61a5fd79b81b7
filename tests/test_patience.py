from __future__ import annotations

import pytest

from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import Hold, Limits, RetryBatch
from tests.toys import Bench, Toy, always, event, fates

WRONG_KEY = Hold(Reason.CONFIGURATION, 60.0)
BUSY = RetryBatch(Reason.SERVER_ERROR, 8.0)


def two_routes():
    return Bench(Toy(main=Limits(), side=Limits()))


def test_barrier_is_stuck_behind_its_users_part_on_a_held_route():
    """A barrier cannot settle before what its user has waiting on another route."""
    bench = two_routes()
    bench.accept(event("e1", "a", route="side"))
    bench.run(always(WRONG_KEY))
    (barrier,) = bench.accept(event("e2", "a", route="main", barrier=True))
    bench.leave()
    assert 60.0 == bench.stuck_until_s(0.0, barrier)


def test_event_that_is_not_encoded_may_go_to_the_lane_that_opens_first():
    """Of several holds the shortest decides about an event that has no lane yet."""
    bench = two_routes()
    bench.accept(event("e1", route="main"), event("e2", route="side"))
    main, side = bench.leave()
    bench.reply(main, WRONG_KEY)
    bench.reply(side, Hold(Reason.CONFIGURATION, 20.0))
    (late,) = bench.accept(event("e3"))
    assert 20.0 == bench.stuck_until_s(0.0, late)


def test_each_event_is_given_up_at_its_own_time():
    """Half a second younger is half a second longer kept."""
    bench = Bench(give_up_after_s=10.0)
    first = bench.accept(event("e1"))
    bench.now = 0.5
    second = bench.accept(event("e2"))
    bench.run(always(BUSY))
    bench.run_until(10.0, always(BUSY))
    assert ["lost(expired)", "pending"] == fates([*first, *second])
    bench.run_until(10.6, always(BUSY))
    assert ["lost(expired)"] == fates(second)


def test_event_that_grew_old_in_flight_is_kept_while_a_setting_is_wrong():
    """A configuration hold gives nothing up, not even what is over its time."""
    bench = Bench(give_up_after_s=10.0)
    receipts = bench.accept(event("e1"))
    (send,) = bench.leave()
    bench.now = 11.0
    bench.reply(send, WRONG_KEY)
    bench.leave()
    assert ["pending"] == fates(receipts)


@pytest.mark.parametrize("held", ["a", "b"])
def test_barrier_of_two_users_waits_for_both(held):
    """A part that joins two users is no sooner ready than either of them."""
    bench = two_routes()
    bench.accept(event("e1", held, route="side"))
    bench.run(always(WRONG_KEY))
    bench.accept(event("e2", "a", "b", route="main", barrier=True))
    assert [] == bench.left()
