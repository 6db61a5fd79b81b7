from __future__ import annotations

import pytest

from analytics_sdk.collector.faults import (
    Drop,
    Garbage,
    Hang,
    Healthy,
    Phase,
    Status,
    unavailable,
)
from analytics_sdk.collector.script import (
    LargerThan,
    Matching,
    OnPath,
    Playback,
    Received,
    Reused,
    Script,
    Step,
    WithEvent,
)

FIRST, SECOND, HEALTHY = Status(500), Status(429), None
POISON = WithEvent("properties.poison", value=True)
POISONED = Received(events=({"properties": {}}, {"properties": {"poison": True}}))
CLEAN = Received(events=({"properties": {"poison": False}},))


def play(*steps):
    return Playback(Script.of(steps))


def pick(playback, request=CLEAN, now=0.0, phase=Phase.BODY):
    return playback.pick(phase, request, now=now)


def test_steps_run_one_after_another():
    """Counted steps are used up in order, and then the server is healthy."""
    playback = play(Step(FIRST, requests=2), SECOND)
    assert not playback.is_over(now=0)
    picked = [pick(playback) for _ in range(4)]
    assert [FIRST, FIRST, SECOND, HEALTHY] == picked
    assert playback.is_over(now=0)


def test_a_time_step_begins_with_its_first_request():
    """A step with *for_s* is timed from the request that first meets it."""
    playback = play(Step(FIRST, for_s=2.0), Step(SECOND, for_s=1.0))
    times = [10.0, 11.9, 12.0, 12.9, 13.0]
    picked = [pick(playback, now=now) for now in times]
    assert [FIRST, FIRST, SECOND, SECOND, HEALTHY] == picked


def test_a_step_with_both_bounds_ends_at_the_first():
    """A step with a count and a time ends with whichever is reached first."""
    step = Step(FIRST, requests=2, for_s=1.0)
    counted, timed = play(step), play(step)
    assert [FIRST, FIRST, HEALTHY] == [pick(counted) for _ in range(3)]
    assert [FIRST, HEALTHY] == [pick(timed), pick(timed, now=1.0)]


def test_a_step_without_bounds_lasts():
    """A step with neither bound never ends."""
    playback = play(Step(FIRST), SECOND)
    assert {FIRST} == {pick(playback, now=now) for now in range(100)}
    assert not playback.is_over(now=1e9)


def test_a_condition_leaves_others_to_the_next_step():
    """A step with a condition stands beside those that follow it."""
    playback = play(Step(FIRST, only=POISON), Step(SECOND, requests=1))
    requests = [CLEAN, POISONED, CLEAN, POISONED]
    assert [SECOND, FIRST, HEALTHY, FIRST] == [pick(playback, r) for r in requests]


def test_a_fault_waits_for_its_phase():
    """A step holds its place until the exchange reaches the moment where it acts."""
    early, late = Drop("before_body"), FIRST
    playback = play(late, early)
    assert HEALTHY is pick(playback, phase=Phase.HEAD)
    assert late == pick(playback, phase=Phase.BODY)
    assert HEALTHY is pick(playback, phase=Phase.ACCEPT)
    assert early == pick(playback, phase=Phase.HEAD)


def test_a_missed_phase_is_caught_up():
    """A fault whose own moment has passed acts at the next one."""
    fault = Drop("accept")
    assert fault == pick(play(fault), phase=Phase.BODY)


def test_a_condition_on_the_body_lets_earlier_faults_go_first():
    """What cannot be judged before the body is read does not block what can act."""
    early = Drop("before_body")
    playback = play(Step(FIRST, only=POISON), early)
    assert early == pick(playback, POISONED, phase=Phase.HEAD)
    assert FIRST == pick(playback, POISONED, phase=Phase.BODY)


def test_no_condition_is_judged_at_accept():
    """A connection is not a request: steps with conditions wait for one."""
    early = Drop("accept")
    playback = play(Step(FIRST, only=OnPath("/")), early)
    assert early == pick(playback, phase=Phase.ACCEPT)


@pytest.mark.parametrize(
    ("condition", "request_", "expected"),
    [
        (POISON, POISONED, True),
        (POISON, CLEAN, False),
        (POISON, Received(events=({"properties": {"poison": 1}},)), False),
        (POISON, Received(events=({"properties": "poison"}, "text")), False),
        (WithEvent("a", None), Received(events=({"a": None},)), True),
        (WithEvent("a", None), Received(events=({},)), False),
        (OnPath("/a"), Received(path="/a"), True),
        (OnPath("/a"), Received(path="/a/b"), False),
        (Reused(), Received(exchange=1), False),
        (Reused(), Received(exchange=2), True),
        (LargerThan(2), Received(body=b"123"), True),
        (LargerThan(3), Received(body=b"123"), False),
        (Matching(lambda request: request.body == b"1"), Received(body=b"1"), True),
        (Matching(lambda request: request.body == b"1"), Received(body=b"2"), False),
    ],
)
def test_conditions(condition, request_, expected):
    """Each condition holds for what it describes and for nothing else."""
    assert expected is condition.matches(request_)


@pytest.mark.parametrize(
    "arguments",
    [
        {"fault": FIRST, "requests": 0},
        {"fault": FIRST, "for_s": 0.0},
        {"fault": FIRST, "for_s": float("nan")},
        {"fault": Drop("before_body"), "only": POISON},
        {"fault": Drop("accept"), "only": OnPath("/")},
    ],
)
def test_a_step_that_could_never_act_is_refused(arguments):
    """Empty bounds, and conditions on what is never read, are errors at once."""
    with pytest.raises(ValueError, match=r"leave it out|use OnPath|drop only"):
        Step(**arguments)


@pytest.mark.parametrize(
    ("kind", "moment"),
    [(Drop, "before_body"), (Drop, "accept"), (Hang, "accept"), (Garbage, "accept")],
)
def test_nothing_unread_can_be_stored(kind, moment):
    """A fault that acts before the body is read cannot store it."""
    with pytest.raises(ValueError, match="leave store out"):
        kind(at=moment, store=True)


def test_bare_faults_stand_for_one_request():
    """In a list of steps a fault alone counts for a single request."""
    script = Script.of([Healthy(), Step(unavailable())])
    assert (
        Step(Healthy(), requests=1),
        Step(Status(503, body=b"upstream is unavailable")),
    ) == script.steps
