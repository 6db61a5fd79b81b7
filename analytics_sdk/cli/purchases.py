"""The demo's input: real purchases, the calls they become, and what these add up to."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import attrs

FILE = "cdnow_sample.csv"
ORDER = "Order Completed"
POISON_ID = "cdnow:poison"
_MOST_NAMED = 3


@attrs.frozen
class Totals:
    """What a set of events adds up to.

    Args:
        calls: Events, each message id once.
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
        return f"cdnow:order:{self.number}"


class Customer(NamedTuple):
    """A customer and their purchases, the earliest first."""

    id: str
    purchases: Sequence[Purchase]

    @property
    def message_id(self) -> str:
        """The id of the `identify` call."""
        return f"cdnow:customer:{self.id}"

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


@attrs.frozen
class Findings:
    """What a destination turned out to hold.

    Args:
        totals: What its events add up to, each message id once.
        received: Its events, copies included.
        duplicates: The copies among them.
        problems: What is wrong, in sentences.
    """

    totals: Totals
    received: int
    duplicates: int
    problems: Sequence[str]


def examine(
    events: Iterable[Mapping[str, Any]],
    customers: Sequence[Customer],
    *,
    extra: Sequence[str] = (),
) -> Findings:
    """Compare what a destination holds with what was sent there.

    Args:
        events: The payloads in order of arrival, fractions parsed as `Decimal`.
        customers: Whose events these should be.
        extra: The ids of events that should be there and count in no total.
    """
    first: dict[str, Mapping[str, Any]] = {}
    received = 0
    for event in events:
        received += 1
        first.setdefault(str(event.get("messageId")), event)
    wanted = [each for customer in customers for each in customer.message_ids]
    wanted += extra
    totals = _add_up(event for id_, event in first.items() if id_ not in extra)
    problems = [
        *_differences(totals),
        *_named("missing", [each for each in wanted if each not in first]),
        *_named("unknown", sorted(first.keys() - set(wanted))),
        *_named("out of order for customer", _disordered(first, customers)),
    ]
    return Findings(totals, received, received - len(first), problems)


def _add_up(events: Iterable[Mapping[str, Any]]) -> Totals:
    kinds: Counter[str] = Counter()
    customers, days = set(), set()
    discs, dollars = 0, Decimal(0)
    for event in events:
        kinds[event.get("event") or str(event.get("type"))] += 1
        days.add(str(event.get("timestamp"))[:10])
        if event.get("type") == "identify":
            customers.add(event.get("userId"))
        properties = event.get("properties") or {}
        discs += properties.get("quantity", 0)
        dollars += Decimal(properties.get("revenue", 0))
    return Totals(
        calls=kinds.total(),
        orders=kinds[ORDER],
        customers=len(customers),
        discs=discs,
        dollars=dollars,
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


def _disordered(
    first: Mapping[str, Mapping[str, Any]], customers: Sequence[Customer]
) -> list[str]:
    """Return the customers whose events arrived in another order than their calls."""
    arrival = {message_id: at for at, message_id in enumerate(first)}
    found = []
    for customer in customers:
        places = [arrival[each] for each in customer.message_ids if each in arrival]
        if places != sorted(places):
            found.append(customer.id)
    return found


def _named(what: str, ids: Sequence[str]) -> Iterator[str]:
    if ids:
        some = ", ".join(ids[:_MOST_NAMED])
        yield f"{len(ids):,} {what}: {some}{', ...' * (len(ids) > _MOST_NAMED)}"
