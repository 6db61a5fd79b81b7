"""The demo's input: real purchases, the calls they become, and what these add up to."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import attrs

FILE = "cdnow_sample.csv"
ORDER = "Order Completed"
CUSTOMER_ID = "cdnow-customer-{}"
ORDER_ID = "cdnow-order-{}"
POISON_ID = "cdnow-poison"
_MOST_NAMED = 3


@attrs.frozen
class Totals:
    """What a set of events adds up to.

    Args:
        calls: Calls that have arrived, each once.
        orders: Purchases among them.
        customers: Customers made known by an `identify`.
        discs: CDs bought.
        dollars: What they cost, added up exactly.
        first_day: The day of the earliest event.
        last_day: The day of the latest event.
    """

    calls: int
    orders: int
    customers: int
    discs: int
    dollars: Decimal
    first_day: str
    last_day: str

    def plain(self) -> dict[str, int | str]:
        """Return the values for JSON; dollars as text, for they are exact."""
        return {**attrs.asdict(self), "dollars": str(self.dollars)}

    def shown(self) -> dict[str, str]:
        """Return the values as people read them, by label."""
        return {
            "calls": f"{self.calls:,}",
            "orders": f"{self.orders:,}",
            "customers": f"{self.customers:,}",
            "CDs": f"{self.discs:,}",
            "dollars": f"{self.dollars:,.2f}",
            "first day": self.first_day,
            "last day": self.last_day,
        }


PUBLISHED = Totals(
    calls=9_276,
    orders=6_919,
    customers=2_357,
    discs=16_479,
    dollars=Decimal("244091.94"),
    first_day="1997-01-01",
    last_day="1998-06-30",
)
"""What is known of the data set without reading it."""


class Purchase(NamedTuple):
    """One row of the file; *number* counts from 1."""

    number: int
    customer: str
    day: datetime
    discs: int
    dollars: Decimal

    @property
    def message_id(self) -> str:
        """The id that makes a second copy of this purchase recognisable."""
        return ORDER_ID.format(self.number)


class Customer(NamedTuple):
    """A customer and their purchases, the earliest first."""

    id: str
    purchases: Sequence[Purchase]

    @property
    def message_id(self) -> str:
        """The id of the `identify` call."""
        return CUSTOMER_ID.format(self.id)

    @property
    def message_ids(self) -> Iterator[str]:
        """The ids of this customer's events, in the order of their calls."""
        yield self.message_id
        for purchase in self.purchases:
            yield purchase.message_id


def find_file() -> Path | None:
    """Return where the data is: in an installed package, or in the repository."""
    here = Path(__file__).resolve()
    places = (here.parent / "data", here.parents[2] / "examples" / "data")
    return next((folder / FILE for folder in places if (folder / FILE).is_file()), None)


def read_customers(path: Path) -> list[Customer]:
    """Read the file, which is sorted by customer and day."""
    with path.open(encoding="ascii", newline="") as file:
        purchases = [
            Purchase(
                number,
                row["customer_id"],
                datetime.strptime(row["date"], "%Y-%m-%d").replace(tzinfo=timezone.utc),
                int(row["quantity"]),
                Decimal(row["dollars"]),
            )
            for number, row in enumerate(csv.DictReader(file), 1)
        ]
    grouped = groupby(purchases, key=lambda purchase: purchase.customer)
    return [Customer(customer, tuple(theirs)) for customer, theirs in grouped]


class Arrived(NamedTuple):
    """What counts of one record that a destination holds, in no vendor's words.

    Args:
        key: What the vendor recognises a copy by.
        id: The message id of the call.
        user: Whose it is.
        introduces: Whether it makes a customer known.
        orders: Whether it is a purchase.
        day: When it happened; "" where the record has no time.
        discs: CDs bought.
        dollars: What they cost.
        route: Where it came in; order is kept on each route.
    """

    key: tuple[object, ...]
    id: str
    user: str
    introduces: bool = False
    orders: bool = False
    day: str = ""
    discs: int = 0
    dollars: Decimal = Decimal(0)
    route: str = ""


@attrs.frozen
class Findings:
    """What a destination turned out to hold.

    Args:
        totals: What its records add up to, copies left out.
        received: Its events, copies included.
        duplicates: The copies among them.
        problems: What is wrong, in sentences.
    """

    totals: Totals
    received: int
    duplicates: int
    problems: Sequence[str]


def examine(
    records: Iterable[Arrived],
    customers: Sequence[Customer],
    *,
    extra: Sequence[str] = (),
) -> Findings:
    """Compare what a destination holds with what was sent there.

    Args:
        records: In order of arrival, copies included.
        customers: Whose calls these should be.
        extra: The ids of calls that should be there and count in no total.
    """
    first: dict[tuple[object, ...], Arrived] = {}
    received = changed = 0
    for record in records:
        received += 1
        changed += first.setdefault(record.key, record) != record
    owners = dict.fromkeys(extra, "")
    for customer in customers:
        owners.update(dict.fromkeys(customer.message_ids, customer.id))
    kept = Counter(record.id for record in first.values())
    counting = [each for each in first.values() if each.id not in extra]
    totals = _add_up(counting)
    problems = [
        *_differences(totals),
        *_named("missing", [each for each in owners if not kept[each]]),
        *_named("unknown", sorted(kept.keys() - owners.keys())),
        *_named("kept twice", sorted(each for each in kept if kept[each] > 1)),
        *_named(
            "under another customer",
            [
                each.id
                for each in counting
                if owners.get(each.id, each.user) != each.user
            ],
        ),
        *_named("out of order for customer", _disordered(counting, customers)),
    ]
    if changed:
        problems.append(f"{changed:,} copies count otherwise than what they repeat")
    return Findings(totals, received, received - len(first), problems)


def _add_up(records: Sequence[Arrived]) -> Totals:
    days = {record.day for record in records if record.day}
    return Totals(
        calls=len(records),
        orders=sum(record.orders for record in records),
        customers=len({record.user for record in records if record.introduces}),
        discs=sum(record.discs for record in records),
        dollars=sum((record.dollars for record in records), Decimal(0)),
        first_day=min(days, default="never"),
        last_day=max(days, default="never"),
    )


def _differences(totals: Totals) -> Iterator[str]:
    expected = PUBLISHED.shown()
    for label, value in totals.shown().items():
        if value != expected[label]:
            yield f"{label}: {value} instead of {expected[label]}"
    if totals != PUBLISHED and totals.shown() == expected:
        yield f"dollars: {totals.dollars} is off by less than a cent"


def _disordered(records: Iterable[Arrived], customers: Sequence[Customer]) -> list[str]:
    """Return the customers whose calls arrived in another order than they were made."""
    calls = (id_ for customer in customers for id_ in customer.message_ids)
    places = {id_: place for place, id_ in enumerate(calls)}
    latest: dict[tuple[str, str], int] = {}
    found: dict[str, None] = {}
    for record in records:
        place, lane = places.get(record.id), (record.route, record.user)
        if place is None:
            continue
        if place < latest.get(lane, 0):
            found[record.user] = None
        latest[lane] = place
    return list(found)


def _named(what: str, ids: Sequence[str]) -> Iterator[str]:
    if ids:
        some = ", ".join(ids[:_MOST_NAMED])
        yield f"{len(ids):,} {what}: {some}{', ...' * (len(ids) > _MOST_NAMED)}"
