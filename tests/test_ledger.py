from __future__ import annotations

import pytest

from analytics_sdk._ledger import EVENT_OVERHEAD_BYTES, Ledger, charge_of
from analytics_sdk.errors import Reason
from analytics_sdk.receipts import DELIVERED, Outcome, OutcomeKind
from tests.toys import event, fates, word

NAMES = ("A", "B", "C")
REJECTED = Outcome(OutcomeKind.REJECTED, Reason.INVALID)
NOT_TAKEN = Outcome(OutcomeKind.SKIPPED, Reason.NOT_TAKEN)
LOST = Outcome(OutcomeKind.LOST, Reason.EXIT)
EVICTED = Outcome(OutcomeKind.EVICTED, Reason.OLDEST)


def make_ledger(*, report_all=True, report=True):
    return Ledger(NAMES, report_all=report_all, report=report)


def admit(ledger, message_id="e1", to=(0,), **words):
    receipt = event(message_id, to=to, names=NAMES, **words)
    ledger.admit(receipt, 7.0)
    return receipt


def counted(counts):
    """Return counts as the words of a report, by destination."""
    return [
        {word(Outcome(*key)): number for key, number in some.items()} for some in counts
    ]


def told(ledger):
    return [
        (receipt.message_id, index, word(outcome))
        for receipt, index, outcome in ledger.notices
    ]


def test_charge():
    """An event is charged its encoded bytes and a flat sum for the rest."""
    assert 10 + EVENT_OVERHEAD_BYTES == charge_of(b"x" * 10)


def test_admission_is_counted():
    """An event that enters is unsettled, charged once, and born now."""
    ledger = make_ledger()
    receipt = admit(ledger, to=(0, 2))
    charge = charge_of(receipt._raw)
    assert 7.0 == receipt._born_s
    assert (1, 0) == (ledger.unsettled, ledger.settled_events)
    assert (charge, 0) == (ledger.unsettled_bytes, ledger.released_bytes)


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        pytest.param((0, 1, 2), [0, 0, 0], id="chosen everywhere"),
        pytest.param((1,), [1, 0, 1], id="one"),
        pytest.param((0, 2), [0, 1, 0], id="two"),
    ],
)
def test_deselected_destinations_are_counted(to, expected):
    """A destination that was left out has its outcome at once, and nobody is told."""
    ledger = make_ledger()
    receipt = admit(ledger, to=to)
    left_out = (OutcomeKind.SKIPPED, Reason.SELECTOR)
    assert expected == [some[left_out] for some in ledger.counts]
    assert [] == ledger.notices
    assert ["skipped(selector)" if out else "queued" for out in expected] == [
        word(outcome) for outcome in receipt.by_destination.values()
    ]


@pytest.mark.parametrize(
    ("settled", "expected"),
    [
        pytest.param([(0, DELIVERED), (1, DELIVERED)], "delivered", id="all delivered"),
        pytest.param(
            [(0, DELIVERED), (1, NOT_TAKEN)], "delivered", id="delivered over skipped"
        ),
        pytest.param(
            [(0, NOT_TAKEN), (1, NOT_TAKEN)], "skipped(not_taken)", id="all skipped"
        ),
        pytest.param(
            [(0, REJECTED), (1, DELIVERED)],
            "rejected(invalid)",
            id="rejected over delivered",
        ),
        pytest.param(
            [(0, REJECTED), (1, EVICTED)],
            "evicted(oldest)",
            id="evicted over rejected",
        ),
        pytest.param([(0, LOST), (1, EVICTED)], "lost(exit)", id="lost over all"),
        pytest.param(
            [(0, DELIVERED), (0, LOST), (1, DELIVERED)], "delivered", id="first counts"
        ),
    ],
)
def test_last_destination_decides(settled, expected):
    """A receipt's outcome is the worst one, known with the last destination's."""
    ledger = make_ledger()
    receipt = admit(ledger, to=(0, 1))
    charge = ledger.unsettled_bytes
    for index, outcome in settled[:-1]:
        ledger.settle(receipt, index, outcome)
        assert receipt.outcome is None
        assert (1, charge) == (ledger.unsettled, ledger.unsettled_bytes)
    ledger.settle(receipt, *settled[-1])
    assert expected == word(receipt.outcome)
    assert (0, 0) == (ledger.unsettled, ledger.unsettled_bytes)
    assert (1, charge) == (ledger.settled_events, ledger.released_bytes)


def test_receipt_knows_each_destination():
    """A receipt tells what happened at each destination, also while others wait."""
    ledger = make_ledger()
    receipt = admit(ledger, to=(0, 1))
    ledger.settle(receipt, 0, REJECTED)
    assert {"A": "rejected(invalid)", "B": "queued", "C": "skipped(selector)"} == {
        name: word(outcome) for name, outcome in receipt.by_destination.items()
    }
    ledger.settle(receipt, 1, DELIVERED)
    assert {"A": "rejected(invalid)", "B": "delivered", "C": "skipped(selector)"} == {
        name: word(outcome) for name, outcome in receipt.by_destination.items()
    }
    assert "e1" == receipt.message_id


@pytest.mark.parametrize(
    ("outcome", "sent"),
    [(DELIVERED, "yes"), (REJECTED, "yes"), (LOST, "no"), (EVICTED, "no")],
    ids=str,
)
def test_sent_follows_the_outcome(outcome, sent):
    """What a vendor answered about has been sent; what never left has not."""
    ledger = make_ledger()
    receipt = admit(ledger)
    ledger.settle(receipt, 0, outcome)
    assert sent == receipt.sent


def test_an_outcome_counts_once():
    """A second outcome at the same destination changes nothing and tells nobody."""
    ledger = make_ledger()
    receipt = admit(ledger)
    ledger.settle(receipt, 0, DELIVERED)
    ledger.settle(receipt, 0, LOST)
    ledger.settle(receipt, 1, LOST)
    assert ["delivered"] == fates([receipt])
    assert [
        {"delivered": 1},
        {"skipped(selector)": 1},
        {"skipped(selector)": 1},
    ] == counted(ledger.counts)
    assert [("e1", 0, "delivered")] == told(ledger)
    assert (0, 1) == (ledger.unsettled, ledger.settled_events)


def test_outcomes_are_counted_by_word_and_reason():
    """Counts tell destinations, outcomes and reasons apart."""
    ledger = Ledger(("A", "B"), report_all=False)
    lost_too = Outcome(OutcomeKind.LOST, Reason.EXPIRED)
    for outcomes in ((DELIVERED, LOST), (DELIVERED, lost_too), (REJECTED, LOST)):
        receipt = event("e", to=(0, 1), names=("A", "B"))
        ledger.admit(receipt, 0.0)
        for index, outcome in enumerate(outcomes):
            ledger.settle(receipt, index, outcome)
    assert [
        {"delivered": 2, "rejected(invalid)": 1},
        {"lost(exit)": 2, "lost(expired)": 1},
    ] == counted(ledger.counts)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(
            {"report_all": False}, ["rejected(invalid)", "lost(exit)"], id="failures"
        ),
        pytest.param(
            {"report_all": True},
            ["delivered", "skipped(not_taken)", "rejected(invalid)", "lost(exit)"],
            id="all",
        ),
        pytest.param({"report_all": True, "report": False}, [], id="nobody listens"),
    ],
)
def test_notices(options, expected):
    """Those who listen hear of failures, or of all, in order."""
    ledger = make_ledger(**options)
    for outcome in (DELIVERED, NOT_TAKEN, REJECTED, LOST):
        ledger.settle(admit(ledger), 0, outcome)
    assert expected == [word(outcome) for _, _, outcome in ledger.notices]


def test_watched_receipts_become_final_once():
    """A watched receipt is handed over with its last outcome, others are not."""
    ledger = make_ledger()
    watched, other = admit(ledger, "e1", (0, 1)), admit(ledger, "e2")
    ledger.watched.add(watched)
    ledger.settle(other, 0, DELIVERED)
    ledger.settle(watched, 0, DELIVERED)
    assert [] == ledger.finals
    ledger.settle(watched, 1, DELIVERED)
    assert ([watched], set()) == (ledger.finals, ledger.watched)


@pytest.mark.parametrize(
    ("to", "settled", "expected"),
    [
        pytest.param((0,), [], [1, 0, 0], id="chosen alone"),
        pytest.param((0, 1), [], [0, 0, 0], id="two hold it"),
        pytest.param((0, 1), [0], [0, 1, 0], id="the last of two"),
        pytest.param((0, 1, 2), [0], [0, 0, 0], id="two of three are left"),
        pytest.param((0, 1, 2), [0, 2], [0, 1, 0], id="the last of three"),
        pytest.param((0, 1, 2), [0, 2, 1], [0, 0, 0], id="all settled"),
        pytest.param((2,), [2], [0, 0, 0], id="its only one settled"),
    ],
)
def test_sole_holder(to, settled, expected):
    """The bytes of an event are its last destination's own, and nobody else's."""
    ledger = make_ledger()
    receipt = admit(ledger, to=to)
    charge = charge_of(receipt._raw)
    for index in settled:
        ledger.settle(receipt, index, DELIVERED)
    assert [share * charge for share in expected] == ledger.sole_bytes


def test_epochs_across_two_flushes():
    """A flush covers what came before it, with what an earlier one left behind."""
    ledger = Ledger(("A",), report_all=False)
    first, second, third = (event(f"e{index}", names=("A",)) for index in range(3))
    ledger.admit(first, 0.0)
    ledger.admit(second, 0.0)
    covered = ledger.turn_epoch()
    assert [2] == [epoch.unsettled for epoch in covered]

    ledger.settle(first, 0, DELIVERED)
    ledger.admit(third, 1.0)
    assert [1] == [epoch.unsettled for epoch in covered]
    ledger.drop_epochs(covered)

    again = ledger.turn_epoch()
    assert [1, 1] == [epoch.unsettled for epoch in again]
    ledger.settle(second, 0, LOST)
    ledger.settle(third, 0, DELIVERED)
    assert [0, 0] == [epoch.unsettled for epoch in again]
    assert [{"delivered": 1, "lost(exit)": 1}, {"delivered": 1}] == counted(
        counts for epoch in again for counts in epoch.counts
    )
    ledger.drop_epochs(again)
    assert [ledger.epochs[-1]] == ledger.epochs
    assert ledger.epochs[-1] not in again


def test_epochs_of_two_flushes_at_once():
    """An epoch that both flushes cover is dropped once, the current one never."""
    ledger = Ledger(("A",), report_all=False)
    one, two = ledger.turn_epoch(), ledger.turn_epoch()
    assert one[0] is two[0]
    ledger.drop_epochs(one)
    ledger.drop_epochs(two)
    ledger.drop_epochs([ledger.epochs[-1]])
    assert 1 == len(ledger.epochs)
