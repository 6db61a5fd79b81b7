"""The event that every client is given: an "Order Completed" as a shop sends it."""

from __future__ import annotations

import hashlib
from itertools import count
from typing import Any, NamedTuple

NAME = "Order Completed"
USERS = 5_000
POOL = 2_048

_SHELF = (
    ("Teapot, grès, 1.2 l", "Kitchen", 34.5),
    ("Backpack 28 l, recycled", "Travel", 89.95),
    ("Jeu des métiers", "Games", 24.0),
    ("Desk lamp, brass", "Home", 119.0),
    ("Field notebook (3 pcs)", "Stationery", 12.8),
)


class Order(NamedTuple):
    """One call's arguments; *properties* belong to the client that gets them."""

    user_id: str
    properties: dict[str, Any]


def make_order(n: int) -> Order:
    """Return the order numbered *n*: thirteen properties, about 0.6 kB of JSON.

    It depends on *n* alone, and varies enough for a compressor to have some work.
    """
    noise = hashlib.blake2b(n.to_bytes(8, "big"), digest_size=24).hexdigest()
    seed = int(noise[:8], 16)
    lines = [_line(seed >> 3, noise[:24]), _line(seed >> 7, noise[24:])]
    goods = round(sum(line["price"] * line["quantity"] for line in lines), 2)
    properties = {
        "n": n,
        "order_id": f"order_{noise[:16]}",
        "checkout_id": f"checkout_{noise[16:32]}",
        "affiliation": "web shop",
        "total": round(goods * 1.19 + 4.9, 2),
        "revenue": goods,
        "shipping": 4.9,
        "tax": round(goods * 0.19, 2),
        "currency": ("EUR", "USD", "GBP")[seed % 3],
        "coupon": f"AUTUMN-{seed % 89}",
        "payment_method": ("card", "invoice", "wallet")[seed % 3],
        "first_order": seed % 5 == 0,
        "products": lines,
    }
    return Order(f"user_{n % USERS:06d}", properties)


def _line(seed: int, noise: str) -> dict[str, Any]:
    name, category, price = _SHELF[seed % len(_SHELF)]
    return {
        "product_id": noise,
        "sku": f"{seed % 99_991}-{noise[:2]}",
        "name": name,
        "price": price,
        "quantity": 1 + seed % 4,
        "category": category,
    }


class Source:
    """Gives orders at less than a microsecond each, for loops that run flat out.

    The orders are shallow copies out of a pool, each with a number of its own.
    """

    def __init__(self, first: int = 0) -> None:
        self._pool = [make_order(n) for n in range(POOL)]
        self._numbers = count(first)

    def next(self) -> Order:
        n = next(self._numbers)
        user_id, properties = self._pool[n % POOL]
        return Order(user_id, {**properties, "n": n})

    def many(self, number: int) -> list[Order]:
        return [self.next() for _ in range(number)]
