from __future__ import annotations

from decimal import Decimal

import attrs
import pytest

from analytics_sdk.cli import purchases
from analytics_sdk.cli.purchases import (
    ORDER,
    PUBLISHED,
    find_file,
    read_customers,
)
from analytics_sdk.cli.purchases import examine as examine_records
from analytics_sdk.cli.vendors import read_segment


@pytest.fixture(scope="module")
def customers():
    path = find_file()
    assert path is not None
    return read_customers(path)


@pytest.fixture
def events(customers):
    """What a perfect client delivers."""
    made = []
    for customer in customers:
        first_day = f"{customer.purchases[0].day:%Y-%m-%d}"
        made.append(
            {
                "messageId": customer.message_id,
                "type": "identify",
                "userId": customer.id,
                "timestamp": f"{first_day}T00:00:00.000Z",
            }
        )
        made += [
            {
                "messageId": purchase.message_id,
                "type": "track",
                "event": ORDER,
                "userId": customer.id,
                "timestamp": f"{purchase.day:%Y-%m-%d}T00:00:00.000Z",
                "properties": {
                    "revenue": purchase.dollars,
                    "quantity": purchase.discs,
                },
            }
            for purchase in customer.purchases
        ]
    return made


def examine(events, customers, **extra):
    return examine_records(map(read_segment, events), customers, **extra)


def test_complete_copy_has_the_published_totals(customers, events):
    """A destination that holds every event once adds up, to the cent."""
    findings = examine(events, customers)
    assert PUBLISHED == findings.totals
    assert (9_276, 0, []) == (findings.received, findings.duplicates, findings.problems)


def test_missing_event_is_named(customers, events):
    """A lost purchase shows in every total that it counts in, and by its id."""
    lost = events.pop(1)
    problems = examine(events, customers).problems
    assert "calls: 9,275 instead of 9,276" in problems
    assert "orders: 6,918 instead of 6,919" in problems
    assert any(each.startswith("dollars: 244,0") for each in problems)
    assert f"1 missing: {lost['messageId']}" == problems[-1]


def test_lost_customer_is_noticed(customers, events):
    """A lost `identify` shows, though its purchases are there."""
    problems = examine(events[1:], customers).problems
    assert "customers: 2,356 instead of 2,357" in problems


def test_copy_is_a_duplicate_and_counts_once(customers, events):
    """A second copy of an event is counted as such and changes no total."""
    findings = examine([*events, events[3], events[3]], customers)
    assert (PUBLISHED, 2) == (findings.totals, findings.duplicates)
    assert [] == findings.problems


def test_copy_under_another_id_is_unknown(customers, events):
    """A copy that lost its id counts as an event of its own: totals do not match."""
    events.append({**events[1], "messageId": "minted-anew"})
    problems = examine(events, customers).problems
    assert "orders: 6,920 instead of 6,919" in problems
    assert "1 unknown: minted-anew" in problems


def test_many_ids_are_cut(customers, events):
    """Of many missing events three are named."""
    problems = examine(events[:-10], customers).problems
    assert problems[-1].startswith("10 missing: cdnow-")
    assert problems[-1].endswith(", ...")
    assert 2 == problems[-1].count(", cdnow-")


def test_swapped_purchases_are_out_of_order(customers, events):
    """Two purchases of a customer that arrive the wrong way round are noticed."""
    events[1], events[2] = events[2], events[1]
    findings = examine(events, customers)
    assert PUBLISHED == findings.totals
    assert ["1 out of order for customer: 0001"] == findings.problems


def test_customers_may_overtake_each_other(customers, events):
    """Order is promised by customer: two customers' events may arrive interleaved."""
    second = next(at for at in range(1, 99) if events[at]["type"] == "identify")
    turned = [*events[second:], *events[:second]]
    assert [] == examine(turned, customers).problems


def test_fraction_of_a_cent_counts(customers, events):
    """Money is compared exactly, not as it is printed."""
    events[1]["properties"]["revenue"] += Decimal("0.001")
    problems = examine(events, customers).problems
    assert ["dollars: 244091.941 is off by less than a cent"] == problems


def test_extra_event_must_be_there_and_counts_nowhere(customers, events):
    """An event that was sent on top is asked for by its id, outside the totals."""
    extra = {"messageId": "extra", "type": "track", "event": ORDER}
    with_it = examine([*events, extra], customers, extra=["extra"])
    without = examine(events, customers, extra=["extra"])
    assert (PUBLISHED, []) == (with_it.totals, with_it.problems)
    assert ["1 missing: extra"] == without.problems


def test_purchase_of_somebody_else_is_noticed(customers, events):
    """An event must arrive under the customer whose it is; the totals cannot tell."""
    events[1]["userId"] = "9999"
    findings = examine(events, customers)
    assert PUBLISHED == findings.totals
    assert ["1 under another customer: cdnow-order-1"] == findings.problems


def test_copy_that_the_vendor_cannot_recognise_is_kept_twice(customers, events):
    """A copy under the same id and another key of the vendor's counts a second time."""
    records = [read_segment(event) for event in events]
    records.append(records[1]._replace(key=("another",)))
    findings = examine_records(records, customers)
    assert (9_277, 0) == (findings.totals.calls, findings.duplicates)
    assert "1 kept twice: cdnow-order-1" in findings.problems


def test_copy_that_counts_otherwise_is_noticed(customers, events):
    """A copy of another amount is a problem, whichever of the two a vendor keeps."""
    events.append({**events[1], "properties": {"revenue": 1, "quantity": 1}})
    findings = examine(events, customers)
    assert PUBLISHED == findings.totals
    assert ["1 copies count otherwise than what they repeat"] == findings.problems


def test_routes_keep_order_each_for_itself(customers, events):
    """What came in by another route may have overtaken."""
    records = [read_segment(event) for event in events]
    records = sorted(
        (each._replace(route=str(each.introduces)) for each in records),
        key=lambda each: each.route,
    )
    assert [] == examine_records(records, customers).problems


def test_nothing_at_all_is_no_match(customers):
    """An empty destination is compared, not crashed on."""
    findings = examine([], customers)
    assert "first day: never instead of 1997-01-01" in findings.problems


def test_installed_data_goes_first(tmp_path, monkeypatch):
    """The file beside the installed package is taken, then the repository's."""
    package = tmp_path / "analytics_sdk" / "cli"
    beside, repository = package / "data", tmp_path / "examples" / "data"
    monkeypatch.setattr(purchases, "__file__", str(package / "purchases.py"))
    assert find_file() is None
    for folder in (repository, beside):
        folder.mkdir(parents=True)
        (folder / purchases.FILE).touch()
        assert folder / purchases.FILE == find_file()


def test_totals_are_plain_for_json():
    """Money goes into JSON as text: a float could not carry it exactly."""
    plain = attrs.evolve(PUBLISHED, dollars=Decimal("0.10")).plain()
    assert ("0.10", 9_276) == (plain["dollars"], plain["calls"])
