"""The search for a bad event: what a refused request costs, and whom it may hit."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import AllDelivered, Bisect, Hold, Limits, Split
from tests.toys import (
    LOST_AFTER,
    Bench,
    Toy,
    always,
    delivering,
    event,
    fates,
    ids,
    scripted,
)

DELIVERED = "delivered"
REJECTED = "rejected(invalid)"


def poisoned(*bad):
    """Be a vendor who refuses any request with a bad event in it."""

    def serve(send):
        found = set(ids(send.parts).split()) & set(bad)
        return Bisect("no") if found else AllDelivered()

    return serve


def calls(bench, count, users=0):
    each = [event(f"e{at}", f"u{at % users}" if users else "") for at in range(count)]
    return bench.accept(*each)


@given(
    st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1)))
)
@example((1, 0))
@example((256, 255))
def test_one_bad_event_is_found_in_few_requests(case):
    """One poison among n costs about 2 log2 n requests more, and nobody else a loss.

    Requests are halved by bytes, so that unequal events take a step or two more.
    """
    count, bad = case
    bench = Bench()
    receipts = calls(bench, count)
    log = bench.run_until(60.0, poisoned(f"e{bad}"))
    expected = [DELIVERED] * count
    expected[bad] = REJECTED
    assert expected == fates(receipts)
    assert len(log) <= 1 + 2 * (math.ceil(math.log2(count)) + 2)


@given(
    st.integers(2, 60).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), max_size=n - 1))
    ),
    st.integers(0, 4),
    st.sampled_from([None, 1, 7]),
    st.integers(1, 3),
)
def test_bad_events_are_rejected_and_good_ones_delivered(case, users, most, uploads):
    """However many are bad, while one is good each gets what it deserves."""
    count, bad = case
    toy = Toy(main=Limits(events=most))
    bench = Bench(toy, parallel_uploads=uploads, give_up_after_s=1.0)
    receipts = calls(bench, count, users)
    bench.run_until(1e6, poisoned(*(f"e{at}" for at in bad)))
    pending = {word for word in fates(receipts) if word not in (DELIVERED, REJECTED)}
    if pending:  # nothing good can overtake its user's bad events
        assert {"pending"} == pending
        assert bench.core.outlets[0].lanes["main"].held.configuration
    for at, word in enumerate(fates(receipts)):
        assert word in (REJECTED if at in bad else DELIVERED, "pending")


@pytest.mark.parametrize("count", [3, 8, 100, 2500])
def test_everything_refused_holds_the_lane_and_keeps_the_events(count):
    """When every event alone is refused it is the setting: no event is lost."""
    bench = Bench(give_up_after_s=5.0)
    receipts = calls(bench, count)
    log = bench.run(always(Bisect()))
    assert ["pending"] * count == fates(receipts)
    assert Reason.SUSPECTED_CONFIGURATION == bench.lane.held.reason
    assert len(log) <= 2 * 8 + math.ceil(math.log2(count))
    probes = bench.run_until(3600.0, always(Bisect()))
    assert ["pending"] * count == fates(receipts)
    assert 5 <= len(probes) <= 30
    assert {1} == {len(sent.split()) for _, sent in probes}
    bench.run_until(7200.0, always(AllDelivered()))
    assert [DELIVERED] * count == fates(receipts)


def test_bad_event_alone_in_low_traffic_is_rejected():
    """One event that is refused alone is its own fault, also on another day."""
    bench = Bench()
    for day in range(4):
        bench.now = day * 86_400.0
        good, bad = bench.accept(event("good"), event("bad"))
        bench.run(poisoned("bad"))
        assert [DELIVERED, REJECTED] == fates([good, bad])


def test_two_lone_refusals_are_believed_and_a_third_is_not():
    """With nothing delivered since, the third event refused alone makes us doubt."""
    bench = Bench()
    receipts = []
    for at in range(3):
        receipts += bench.accept(event(f"e{at}"))
        bench.run(always(Bisect()))
    assert [REJECTED, REJECTED, "pending"] == fates(receipts)


def test_good_event_behind_suspects_ends_the_doubt():
    """A held lane tries events that came later: one good one opens it."""
    bench = Bench()
    bad = calls(bench, 3)
    bench.run(poisoned("e0", "e1", "e2"))
    assert ["pending"] * 3 == fates(bad)
    (good,) = bench.accept(event("good"))
    bench.run_until(3600.0, poisoned("e0", "e1", "e2"))
    assert [REJECTED] * 3 + [DELIVERED] == fates([*bad, good])


def test_twenty_rejections_in_a_row_are_trusted_and_no_more():
    """After a success, the 21st refusal in a row makes us doubt again."""
    bench = Bench(Toy(main=Limits(events=2)))
    receipts = calls(bench, 30)
    bad = {f"e{at}" for at in range(30)} - {"e1"}
    bench.run(poisoned(*bad))
    believed = [REJECTED, DELIVERED] + [REJECTED] * 20
    assert [*believed, *["pending"] * 8] == fates(receipts)
    assert Reason.SUSPECTED_CONFIGURATION == bench.lane.held.reason


@pytest.mark.parametrize(
    "last", [Split(), LOST_AFTER], ids=["too large", "perhaps sent"]
)
def test_search_that_ends_without_a_verdict_forgets_nobody(last):
    """Suspects are tried again when the last piece says nothing about them."""
    bench = Bench()
    receipts = bench.accept(event("e0"), event("e1", idempotent=False))
    bench.run(scripted(Bisect(), Bisect(), last))
    bench.run_until(60.0, delivering)
    assert DELIVERED == fates(receipts)[0]
    assert bench.outlet.idle


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_wrong_key_costs_no_event_and_few_requests(count):
    """401s for a week lose nothing, and all is delivered once the key is mended."""
    bench = Bench(give_up_after_s=10.0)
    receipts = calls(bench, count)
    week_s = 7 * 86_400.0
    log = bench.run_until(week_s, always(Hold(Reason.CONFIGURATION)))
    assert ["pending"] * count == fates(receipts)
    assert len(log) <= 10 + week_s / 225.0
    bench.run_until(week_s + 301.0, always(AllDelivered()))
    assert [DELIVERED] * count == fates(receipts)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(10, 200))
def test_too_large_is_split_down_to_single_events(sizes, most_bytes):
    """Whatever body a vendor takes, what fits alone arrives."""
    bench = Bench()
    receipts = [event(f"e{at}", size=size) for at, size in enumerate(sizes)]
    bench.accept(*receipts)

    def serve(send):
        size = sum(len(part.body) for part in send.parts) + len(send.parts) - 1
        return Split() if size > most_bytes else AllDelivered()

    log = bench.run_until(60.0, serve)
    for at, (size, word) in enumerate(zip(sizes, fates(receipts), strict=True)):
        fits = max(size, len(f"e{at}")) <= most_bytes
        assert (DELIVERED if fits else "rejected(too_large)") == word
    assert len(log) <= 3 * len(sizes) + 10
