from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Generator, Mapping
from itertools import permutations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk._encode import make_encoder
from analytics_sdk.errors import Reason
from analytics_sdk.events import Selection
from analytics_sdk.receipts import (
    DELIVERED,
    DESELECTED,
    ELSEWHERE,
    QUEUED,
    FlushReport,
    Outcome,
    OutcomeKind,
    Receipt,
    Settled,
    message_id_of,
    worst,
)

WORST_FIRST = (
    "lost",
    "evicted",
    "dead_lettered",
    "rejected",
    "refused",
    "delivered",
    "skipped",
)
NAMES = ("Segment.io", "Amplitude", "Mixpanel")
LOST = Outcome(OutcomeKind.LOST, Reason.EXIT)
HELD = Outcome(OutcomeKind.HELD, Reason.UNREACHABLE, resumes_in_s=3.5)
REJECTED = Outcome(OutcomeKind.REJECTED, Reason.INVALID, "bad revenue")

terminal = st.sampled_from(WORST_FIRST).map(lambda word: Outcome(OutcomeKind(word)))


class Home:
    """A driver that answers at once, and notes what it was asked."""

    def __init__(self, answer: Outcome | None = None) -> None:
        self.answer = answer
        self.asked: list[float | None] = []
        self.waiting: dict[str, Outcome] = {}

    def wait(self, receipt: Receipt, timeout_s: float | None) -> Outcome | None:
        self.asked.append(timeout_s)
        return self.answer

    def wait_async(self, receipt: Receipt) -> Generator[object, None, Outcome]:
        yield
        assert self.answer is not None
        return self.answer

    def whereabouts(self, receipt: Receipt) -> Mapping[str, Outcome]:
        return self.waiting


def encoded(message_id: str) -> bytes:
    quoted, _ = make_encoder(speed=False).encode(message_id)
    return b'{"messageId":%b,"timestamp":"t","type":"track"}' % quoted


def make_receipt(
    mask: int = 0b1, home: Home | None = None, names: tuple[str, ...] = NAMES
) -> Receipt:
    receipt = Receipt()
    receipt._raw = encoded("m-1")
    receipt._selection = Selection(names, mask, {}, b"", {})
    receipt._pending = mask
    receipt._outcomes = receipt._outcome = None
    receipt._home = home
    receipt._sent = False
    return receipt


def settle(receipt: Receipt, index: int, outcome: Outcome) -> bool:
    return receipt._settle(1 << index, NAMES[index], outcome)


# -- outcomes ---------------------------------------------------------------


@pytest.mark.parametrize("kind", OutcomeKind)
def test_outcome_word_shows_bare(kind):
    """In reports an outcome's word is its text alone."""
    assert kind.value == str(kind) == f"{kind}"
    assert kind.value == kind.name.lower()


@pytest.mark.parametrize("kind", OutcomeKind)
def test_outcome_knows_whether_it_is_final_and_bad(kind):
    """Seven words are final; of those, all but two are failures."""
    outcome = Outcome(kind)
    assert (kind.value in WORST_FIRST) == outcome.terminal
    assert (kind.value in WORST_FIRST[:5]) == outcome.failure


def test_outcome_cannot_change():
    """What was reported stays as it was reported."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        DELIVERED.kind = OutcomeKind.LOST  # type: ignore[misc]


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (worse, better)
        for index, worse in enumerate(WORST_FIRST)
        for better in WORST_FIRST[index + 1 :]
    ],
)
def test_worse_outcome_wins(worse, better):
    """Of two outcomes the one further up in the documented order is reported."""
    bad, good = Outcome(OutcomeKind(worse)), Outcome(OutcomeKind(better))
    assert bad is worst({"a": bad, "b": good})
    assert bad is worst({"a": good, "b": bad})


@given(st.dictionaries(st.text(max_size=3), terminal, min_size=1, max_size=5))
def test_worst_is_one_of_them_and_none_is_worse(outcomes):
    """The worst outcome is a destination's own, and the first in the order."""
    ranks = [WORST_FIRST.index(outcome.kind) for outcome in outcomes.values()]
    assert WORST_FIRST[min(ranks)] == worst(outcomes).kind


# -- message ids ------------------------------------------------------------


@pytest.mark.parametrize(
    "message_id",
    [
        "",
        "stripe:evt_1",
        'a"b',
        "a\\",
        '\\","timestamp":"',
        '","timestamp":"2026","type":"x',
        "käse 🎉",
        "x" * 100,
    ],
)
def test_message_id_is_read_from_the_front(message_id):
    """The id comes back as given, even one that looks like what follows it."""
    assert message_id == message_id_of(encoded(message_id))


@given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_message_id_reads_like_json(message_id, speed):
    """Reading the front of an event agrees with decoding all of it."""
    quoted, _ = make_encoder(speed=None if speed else False).encode(message_id)
    raw = b'{"messageId":%b,"timestamp":"t","event":"\\",\\"timestamp\\":\\""}'
    raw %= quoted
    assert json.loads(raw)["messageId"] == message_id_of(raw)


def test_receipt_keeps_its_message_id_after_settling():
    """When all is settled the bytes go, and the id stays."""
    receipt = make_receipt()
    assert "m-1" == receipt.message_id
    assert settle(receipt, 0, DELIVERED)
    assert "m-1" == receipt._raw == receipt.message_id


# -- receipts ---------------------------------------------------------------


def test_receipt_has_no_truth_value():
    """Asking whether a receipt is true is an error that names what to ask."""
    with pytest.raises(TypeError, match=r"\.accepted or \.outcome"):
        bool(make_receipt())


def test_receipt_shows_state_alone():
    """A receipt's repr has one word of state, and nothing of its event."""
    receipt = make_receipt()
    assert "<Receipt pending>" == repr(receipt)
    settle(receipt, 0, LOST)
    assert "<Receipt lost>" == repr(receipt)


def test_receipt_can_be_referred_to_weakly():
    """Books may watch a receipt without keeping it."""
    receipt = make_receipt()
    assert receipt is weakref.ref(receipt)()


def test_receipt_has_no_dict():
    """A receipt is as small as its slots: a million of them wait in a queue."""
    assert not hasattr(make_receipt(), "__dict__")


@pytest.mark.parametrize(
    ("outcome", "accepted"),
    [
        (None, True),
        (DELIVERED, True),
        (LOST, True),
        (Outcome(OutcomeKind.REFUSED, Reason.QUEUE_FULL), False),
        (Outcome(OutcomeKind.SKIPPED, Reason.DISABLED), True),
    ],
)
def test_receipt_is_accepted_unless_the_call_was_refused(outcome, accepted):
    """Only a refused call is not accepted; what comes later is no refusal."""
    receipt = make_receipt()
    receipt._outcome = outcome
    assert accepted is receipt.accepted


def test_single_destination_settles_at_once():
    """With one destination its outcome is the final one, and needs no dict."""
    receipt = make_receipt(0b010)
    assert receipt.outcome is None
    assert settle(receipt, 1, REJECTED)
    assert REJECTED is receipt.outcome
    assert receipt._outcomes is None
    assert {
        "Segment.io": DESELECTED,
        "Amplitude": REJECTED,
        "Mixpanel": DESELECTED,
    } == receipt.by_destination


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_last_destination_settles_the_receipt(order):
    """In any order, the last destination makes the worst outcome final."""
    outcomes = (DELIVERED, REJECTED, LOST)
    receipt = make_receipt(0b111)
    answers = []
    for index in order:
        assert receipt.outcome is None
        answers.append(settle(receipt, index, outcomes[index]))
    assert [False, False, True] == answers
    assert LOST is receipt.outcome
    assert 0 == receipt._pending
    assert dict(zip(NAMES, outcomes, strict=True)) == receipt.by_destination


def test_outcome_is_there_before_nothing_is_pending():
    """Whoever reads that nothing is pending finds the outcome already written."""
    written: list[str] = []

    class Noting(Receipt):
        __slots__ = ()

        def __setattr__(self, name: str, value: object) -> None:
            written.append(name)
            super().__setattr__(name, value)

    receipt = Noting()
    receipt._raw = encoded("m-1")
    receipt._pending = 0b1
    receipt._outcomes = None
    del written[:]
    settle(receipt, 0, DELIVERED)
    assert written.index("_outcome") < written.index("_pending")


@given(st.lists(terminal, min_size=3, max_size=3), st.permutations(range(3)))
def test_receipt_agrees_with_its_destinations(outcomes, order):
    """The final outcome is the worst of those by destination, in any order."""
    receipt = make_receipt(0b111)
    for index in order:
        settle(receipt, index, outcomes[index])
    assert worst(receipt.by_destination) == receipt.outcome
    assert dict(zip(NAMES, outcomes, strict=True)) == receipt.by_destination


def test_pending_destinations_say_where_the_event_is():
    """Until all have settled, the others are queued, or where the driver says."""
    home = Home()
    receipt = make_receipt(0b011, home)
    settle(receipt, 0, DELIVERED)
    assert {
        "Segment.io": DELIVERED,
        "Amplitude": QUEUED,
        "Mixpanel": DESELECTED,
    } == receipt.by_destination
    home.waiting = {"Amplitude": HELD}
    assert HELD is receipt.by_destination["Amplitude"]


def test_settled_receipt_asks_no_driver():
    """Once final, the outcomes are the receipt's own."""
    home = Home()
    home.waiting = {"Segment.io": HELD}
    receipt = make_receipt(0b001, home)
    settle(receipt, 0, DELIVERED)
    assert DELIVERED is receipt.by_destination["Segment.io"]


def test_unqueued_receipt_is_queued_everywhere():
    """A receipt that no driver has yet says ``queued``."""
    assert QUEUED is make_receipt(0b001).by_destination["Segment.io"]


@pytest.mark.parametrize(
    ("began", "settled", "sent"),
    [
        (False, (), "no"),
        (True, (), "maybe"),
        (True, (LOST,), "maybe"),
        (False, (LOST,), "no"),
        (True, (DELIVERED,), "yes"),
        (True, (REJECTED, LOST), "yes"),
        (False, (DELIVERED,), "yes"),
    ],
)
def test_receipt_says_whether_a_vendor_may_have_it(began, settled, sent):
    """An answer means yes, an unanswered request maybe, nothing sent no."""
    receipt = make_receipt(0b011)
    receipt._sent = began
    for index, outcome in enumerate(settled):
        settle(receipt, index, outcome)
    assert sent == receipt.sent


def test_single_delivery_counts_as_sent():
    """The final outcome alone is enough to say that a vendor has the event."""
    receipt = make_receipt(0b001)
    settle(receipt, 0, DELIVERED)
    assert "yes" == receipt.sent


def test_wait_asks_the_driver():
    """Waiting is the driver's work, and it gets the timeout as given."""
    home = Home(DELIVERED)
    receipt = make_receipt(0b1, home)
    assert DELIVERED is receipt.wait(timeout=2.5)
    home.answer = None
    assert receipt.wait() is None
    assert [2.5, None] == home.asked


def test_wait_returns_at_once_when_settled():
    """A settled receipt, and one without a driver, wait for nobody."""
    home = Home()
    receipt = make_receipt(0b1, home)
    settle(receipt, 0, LOST)
    assert LOST is receipt.wait()
    assert [] == home.asked
    assert make_receipt().wait() is None


@pytest.mark.parametrize(
    ("settled", "home", "outcome"),
    [
        (LOST, Home(DELIVERED), LOST),
        (None, Home(DELIVERED), DELIVERED),
        (None, None, ELSEWHERE),
    ],
)
def test_receipt_can_be_awaited(settled, home, outcome):
    """Awaiting gives the outcome: the final one, or the driver's answer."""
    receipt = make_receipt(0b1, home)
    receipt._outcome = settled

    async def ask() -> Outcome:
        return await receipt

    assert outcome is asyncio.run(ask())


# -- reports ----------------------------------------------------------------


def make_report(**changes: object) -> FlushReport:
    blank = FlushReport(
        counts={},
        by_destination={},
        pending=0,
        held=0,
        stored=0,
        holds={},
        elapsed_s=0.0,
    )
    return attrs.evolve(blank, **changes)


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"counts": {"delivered": 3, "skipped": 1}}, True),
        ({"counts": {"delivered": 3, "rejected": 1}}, False),
        ({"counts": {"lost": 1}}, False),
        ({"counts": {"refused": 1}}, False),
        ({"counts": {"dead_lettered": 1}}, False),
        ({"counts": {"delivered": 3}, "pending": 1}, False),
        ({"counts": {"delivered": 3}, "pending": 1, "held": 1}, False),
        ({"counts": {"delivered": 3}, "pending": 2, "stored": 2}, True),
        ({"counts": {"delivered": 3}, "pending": 2, "stored": 1}, False),
    ],
)
def test_report_is_true_when_all_is_where_it_should_be(changes, good):
    """Delivered, skipped and stored are good; all else makes a report false."""
    assert good is bool(make_report(**changes))


def test_report_and_settled_are_frozen():
    """What the application is told cannot be changed by one of its listeners."""
    told = Settled("m-1", "Amplitude", LOST, Reason.EXIT)
    assert ("m-1", "Amplitude", LOST, Reason.EXIT) == attrs.astuple(told, recurse=False)
    for each, name in ((told, "outcome"), (make_report(), "pending")):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(each, name, None)
