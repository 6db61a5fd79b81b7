from __future__ import annotations

from analytics_sdk._flushes import Flush, Scope, holds, is_over, report
from analytics_sdk._items import Held
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import Hold
from tests.toys import Bench, event, scripted


def scope_of(receipts, deadline_s):
    return Scope(Flush(tuple(receipts), deadline_s, lambda _report: None), (), 0.0)


def test_held_is_what_is_on_hold_beyond_the_deadline():
    """A hold that ends before the deadline holds nothing for good."""
    bench = Bench()
    receipts = bench.accept(event("e1", "a"))
    bench.run(scripted(Hold(Reason.CONFIGURATION, 20.0)))
    short, long = scope_of(receipts, 10.0), scope_of(receipts, 30.0)
    assert [True, False] == [is_over(bench.core, each, 0.0) for each in (short, long)]
    found = [report(bench.core, each, 0.0).held for each in (short, long)]
    assert [1, 0] == found


def test_settling_is_found_in_one_pass(monkeypatch):
    """A flush of many events looks at the lanes once, even where barriers wait."""
    bench = Bench()
    receipts = bench.accept(
        event("al", "old", "new", barrier=True),
        *[event(f"e{at}", f"u{at}") for at in range(50)],
    )
    bench.run(scripted(Hold(Reason.CONFIGURATION, 20.0)))
    looks = []
    lane = bench.lane
    waiting = lane.waiting
    monkeypatch.setattr(lane, "waiting", lambda: looks.append(1) or waiting())
    report(bench.core, scope_of(receipts, 10.0), 0.0)
    assert 1 == len(looks)


def test_hold_that_ends_while_it_is_looked_at():
    """Another thread may look at holds; one that ends meanwhile breaks nothing."""
    bench = Bench()
    looks = iter([Held(5.0, Reason.CONFIGURATION)])

    class Ending(type(bench.lane)):
        held = property(lambda _self: next(looks, None), lambda _self, _held: None)

    bench.lane.__class__ = Ending
    assert ["Toy"] == list(holds(bench.core, 0.0))
