"""What travels through delivery: items, the requests they leave in, what holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from analytics_sdk._batching import request_bytes
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import Limits, Part
from analytics_sdk.receipts import Outcome, Receipt


class Tracker:
    """Gathers the outcomes of an event's several parts at one destination."""

    __slots__ = ("left", "outcomes")

    def __init__(self, left: int) -> None:
        """Expect *left* outcomes."""
        self.left = left
        self.outcomes: dict[str, Outcome] = {}


class Item:
    """A part on its way, with what delivery knows of it."""

    __slots__ = (
        "attempts",
        "keys",
        "part",
        "receipt",
        "sequence",
        "size",
        "tracker",
        "urgent",
    )

    def __init__(
        self, part: Part, receipt: Receipt, sequence: int, tracker: Tracker | None
    ) -> None:
        """Start without an attempt; *sequence* is its place in the outlet."""
        self.part = part
        self.receipt = receipt
        self.sequence = sequence
        self.tracker = tracker
        self.attempts = 0
        self.urgent = False
        self.size = len(part.body)
        key, joins = part.key, part.joins
        self.keys: tuple[str, ...] = (key,) if key else ()
        if joins:
            self.keys = (*self.keys, joins)


def place(item: Item) -> tuple[bool, int]:
    """Return the sort key of the order in which a lane sends."""
    return (not item.urgent, item.sequence)


def size_of(items: Sequence[Item], limits: Limits) -> int:
    """Return the length of the request's body that holds *items*."""
    return request_bytes([item.size for item in items], limits)


class Held(NamedTuple):
    """The only waiting state: until when, and for which cause.

    Args:
        until_s: Monotonic seconds.
        reason: The cause, as reports name it.
        configuration: Whether the cause is a setting, so that the give-up clock
            stands still.
        excerpt: What the vendor said.
    """

    until_s: float
    reason: Reason
    configuration: bool = False
    excerpt: str = ""


class Flight(NamedTuple):
    """A request that has left and has not been answered."""

    items: list[Item]
    departed_s: float
    piece: bool
    """Whether it is a cut-off piece of a request that was refused as a whole."""


class Era:
    """A time of 400s: it tells poisoned events from a wrong configuration.

    Attributes:
        succeeded: Whether anything has been delivered since the 400s began.
        suspects: Parts refused alone, not yet judged.
        refused: How many have been refused alone since the last success.
    """

    __slots__ = ("refused", "succeeded", "suspects")

    def __init__(self) -> None:
        """Begin: nothing is known yet."""
        self.succeeded = False
        self.suspects: list[tuple[Item, str]] = []
        self.refused = 0
