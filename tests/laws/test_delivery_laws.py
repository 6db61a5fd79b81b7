"""The laws of delivery, under every answer in every order."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from analytics_sdk._config import Delivery
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import (
    AllDelivered,
    Bisect,
    Delivered,
    Hold,
    Limits,
    Parts,
    Rejected,
    Retry,
    RetryBatch,
    Split,
    TransportError,
)
from tests.laws.world import Marked, World
from tests.toys import event

ROUTES = ("main", "side")
KEYS = st.sampled_from(["", "a", "b", "c"])
WAITS = st.sampled_from([None, 0.0, 0.5, 3.0, 30.0, 5000.0, -1.0, math.nan, math.inf])
TIMEOUTS = st.sampled_from([-1.0, 0.0, 0.3, 5.0, 20.0, 90.0, 10_000.0])
GIVE_UP_S = 60.0
YEARS_S = 1e8

LIMITS = st.builds(
    Limits,
    events=st.sampled_from([None, None, 1, 2, 8]),
    batch_bytes=st.sampled_from([None, None, 16, 40, 120]),
    event_bytes=st.sampled_from([None, 40]),
    envelope_bytes=st.sampled_from([0, 10]),
    separator_bytes=st.sampled_from([0, 1, 2]),
)

PART = st.fixed_dictionaries(
    {},
    optional={
        "route": st.sampled_from(ROUTES),
        "joins": st.sampled_from(["a", "b"]),
        "barrier": st.booleans(),
        "idempotent": st.booleans(),
        "refused": st.sampled_from(["not_taken"]),
        "size": st.sampled_from([0, 20, 35, 50]),
    },
)

WORDS = st.one_of(
    st.just({}),
    st.just({}),
    PART,
    st.builds(lambda parts: {"parts": parts}, st.lists(PART, max_size=3)),
    st.just({"raises": True}),
)

RESULT = st.one_of(
    st.builds(Delivered),
    st.builds(Rejected, st.just(Reason.INVALID)),
    st.builds(Retry, WAITS),
)

READING = st.one_of(
    st.just("all delivered"),
    st.just("poison"),
    st.lists(RESULT, min_size=1, max_size=8).map(tuple),
    st.just(Parts(())),
    st.builds(
        RetryBatch, st.sampled_from([Reason.SERVER_ERROR, Reason.UNREADABLE]), WAITS
    ),
    st.just(Split()),
    st.just(Bisect()),
    st.builds(
        Hold,
        st.sampled_from([Reason.CONFIGURATION, Reason.REDIRECTED, Reason.QUOTA]),
        WAITS,
    ),
    st.just(ZeroDivisionError("a destination may be buggy")),
    st.just("a reading of no known type"),
    st.builds(
        TransportError,
        st.sampled_from([Reason.UNREACHABLE, Reason.TLS, Reason.UNREADABLE]),
        st.booleans(),
        st.just("lost"),
    ),
)


WRONG_KEY = Hold(Reason.CONFIGURATION)
BUSY = RetryBatch(Reason.SERVER_ERROR)
SOME = (Delivered(), Retry(2.0), Rejected(Reason.INVALID), Retry())
MOODS = ("all delivered", "poison", "poison", Bisect(), Split(), SOME, WRONG_KEY, BUSY)


class DeliveryLaws(RuleBasedStateMachine):
    """Any events, answers, waits and wishes, in any order."""

    @initialize(
        limits=st.lists(
            st.fixed_dictionaries(dict.fromkeys(ROUTES, LIMITS)),
            min_size=1,
            max_size=3,
        ),
        parallel_uploads=st.integers(1, 4),
        linger_s=st.sampled_from([0.0, 1.0]),
        overflow=st.sampled_from(["drop_newest", "drop_oldest"]),
        max_bytes=st.sampled_from([3_000, 8_000, 1_000_000]),
        keeps=st.booleans(),
        heals=st.sampled_from([True, True, False]),
        start_s=st.sampled_from([0.0, 1000.0, 1.8e9]),
    )
    def start(self, limits, keeps, heals, start_s, **words):
        toys = [Marked(f"Toy{index}", **each) for index, each in enumerate(limits)]
        policy = Delivery(report="all", give_up_after_s=GIVE_UP_S, **words)
        self.world = World(toys, policy, keeps=keeps, start_s=start_s)
        self.poison = set()
        self.heals = heals

    @rule(
        calls=st.lists(
            st.tuples(
                KEYS,
                KEYS,
                WORDS,
                st.integers(1, 7),
                st.booleans(),
                st.sampled_from([1, 1, 2, 6]),
            ),
            min_size=1,
            max_size=6,
        )
    )
    def call(self, calls):
        world = self.world
        receipts = []
        for user, anonymous, words, mask, bad, copies in calls:
            chosen = [at for at in range(len(world.toys)) if mask >> at & 1] or [0]
            for _ in range(copies):
                message_id = f"e{len(world.receipts) + len(receipts)}"
                receipts.append(
                    event(
                        message_id,
                        user,
                        anonymous,
                        to=chosen,
                        names=world.names,
                        **words,
                    )
                )
                if bad:
                    self.poison.add(message_id)
        world.accept(receipts)
        world.turn()

    @precondition(lambda self: self.world.flights)
    @rule(
        answers=st.lists(
            st.tuples(st.integers(0, 20), READING, st.floats(0, 0.99)),
            min_size=1,
            max_size=4,
        )
    )
    def answer(self, answers):
        world = self.world
        for choice, reading, jitter in answers:
            if world.flights:
                send = world.flights[choice % len(world.flights)]
                world.reply(send, self.fit(reading, send), jitter)
        world.turn()

    @rule(
        moods=st.lists(
            st.sampled_from(MOODS),
            min_size=1,
            max_size=12,
        )
    )
    def serve(self, moods):
        """Let the vendors answer whatever leaves in the same way for a while."""
        world = self.world
        for mood in moods:
            for send in list(world.flights):
                world.reply(send, self.fit(mood, send), 0.9)
            if not world.turn():
                due_s = world.core.next_due_s(world.now)
                if due_s is None:
                    break
                world.now = due_s
                world.turn()

    def fit(self, reading, send):
        """Make a reading that fits the request."""
        if reading == "all delivered":
            return AllDelivered()
        if reading == "poison":
            bodies = b" ".join(part.body for part in send.parts).decode()
            ids = {word.split(":")[1].rstrip("=") for word in bodies.split()}
            return Bisect() if ids & self.poison else AllDelivered()
        if type(reading) is tuple:
            return Parts(
                tuple(reading[at % len(reading)] for at in range(len(send.parts)))
            )
        return reading

    @rule(wait_s=st.sampled_from([0.0, 0.001, 0.5, 5.0, 100.0, YEARS_S]))
    def wait(self, wait_s):
        self.pass_time(self.world.now + wait_s)

    @rule()
    def wait_until_due(self):
        due_s = self.world.core.next_due_s(self.world.now)
        if due_s is not None:
            self.pass_time(due_s)

    def pass_time(self, then_s):
        """Let time pass: nothing settles earlier than the core said it could."""
        world = self.world
        stuck = [
            (outlet.index, outlet.soonest_s(world.now), receipt, until_s)
            for outlet in world.core.outlets
            for receipt, until_s in outlet.settling(lambda _receipt: True, world.now)
        ]
        world.now = then_s
        world.turn()
        for index, soonest_s, receipt, until_s in stuck:
            assert soonest_s <= until_s
            assert until_s <= then_s or receipt._pending >> index & 1

    @precondition(lambda self: self.world.receipts)
    @rule(choices=st.lists(st.integers(0, 200), min_size=1, max_size=3))
    def want(self, choices):
        receipts = self.world.receipts
        self.world.pull([receipts[choice % len(receipts)] for choice in choices])
        self.world.turn()

    @rule(timeout_s=TIMEOUTS)
    def flush(self, timeout_s):
        self.world.flush(timeout_s, None)
        self.world.turn()

    @rule(timeout_s=TIMEOUTS, choices=st.lists(st.integers(0, 200), max_size=3))
    def flush_some(self, timeout_s, choices):
        receipts = self.world.receipts
        chosen = {receipts[choice % len(receipts)] for choice in choices if receipts}
        self.world.flush(timeout_s, tuple(chosen))
        self.world.turn()

    @precondition(lambda self: self.world.turns > 20)
    @rule()
    def close(self):
        self.world.close()
        self.world.turn()
        assert 0 == self.world.core.ledger.unsettled

    def teardown(self):
        if not hasattr(self, "world"):
            return
        if self.heals:
            self.world.heal()
        else:
            self.close()


@pytest.mark.timeout(60)
def test_laws_hold_under_every_answer():
    """Conservation, limits, order, holds and liveness survive any run of the core."""
    run_state_machine_as_test(DeliveryLaws, settings=settings(stateful_step_count=30))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_laws_hold_in_long_runs():
    """The same, for runs of hundreds of steps."""
    long = settings(stateful_step_count=200, max_examples=2_000)
    run_state_machine_as_test(DeliveryLaws, settings=long)
