"""The pure core of delivery: events and answers go in, requests and outcomes come out.

It owns every unsettled event from the moment the coordinator has taken it from the
buffer.  It never acts: `sends` says which requests should leave, `next_due_s` when to
ask again.  Time and jitter are arguments, so each run can be repeated.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import count
from math import inf
from typing import Any

from analytics_sdk._config import Delivery
from analytics_sdk._ledger import Ledger
from analytics_sdk._outlet import Outlet, Send
from analytics_sdk._patience import Policy
from analytics_sdk._verdict import Now, Reply
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import Destination
from analytics_sdk.receipts import Outcome, OutcomeKind, Receipt

SOLE_SHARE = 0.5
"""How much of the memory one destination on hold may fill alone."""

LOW_WATER = 0.95
"""Evicting goes on to here, so that it is not done for every event."""


class Core:
    """Delivery to all destinations of a client.

    Args:
        destinations: In the order of their bits in selections.
        settings: The client's.
        report: Whether outcomes are noted for `on_outcome`.
        keeps: Whether the buffer keeps events for ever, so that nothing is given up.
        decode: Parses an encoded event.
    """

    def __init__(
        self,
        destinations: Sequence[Destination],
        settings: Delivery,
        *,
        report: bool = False,
        keeps: bool = False,
        decode: Callable[[bytes], Any] = json.loads,
    ) -> None:
        """Start with nothing to do."""
        self.ledger = Ledger(
            [destination.name for destination in destinations],
            report=report,
            report_all=settings.report == "all",
        )
        policy = Policy(
            linger_s=settings.linger_s,
            parallel_uploads=settings.parallel_uploads,
            give_up_after_s=None if keeps else settings.give_up_after_s,
        )
        tickets = count(1)
        self.outlets = [
            Outlet(
                index,
                destination,
                policy,
                self.ledger,
                decode=decode,
                tickets=tickets,
            )
            for index, destination in enumerate(destinations)
        ]
        self._max_bytes = settings.max_bytes
        self._drops_oldest = settings.overflow == "drop_oldest"

    def accept(self, receipts: Iterable[Receipt], now: float) -> None:
        """Take over events that have come out of the buffer.

        Args:
            receipts: In the order of their calls; each has a destination to go to.
            now: Monotonic seconds.
        """
        for receipt in receipts:
            self.ledger.admit(receipt, now)
            mask = receipt._pending
            for outlet in self.outlets:
                if mask >> outlet.index & 1:
                    outlet.inbox.append(receipt)

    def prepare(self, most: int) -> bool:
        """Encode up to *most* events for each destination.

        Returns:
            True when there is more to encode before `sends` is asked.
        """
        more = [outlet.prepare(most) for outlet in self.outlets]
        return any(more)

    def sends(self, now: float) -> list[Send]:
        """Return the requests that should leave now."""
        return [send for outlet in self.outlets for send in outlet.sends(now)]

    def replied(self, send: Send, reply: Reply, now: Now) -> None:
        """Take the answer to a request, or why there is none."""
        self.outlets[send.destination].replied(send.ticket, reply, now)

    def tick(self, now: float) -> None:
        """Give up on what is too old, and make room where memory runs out."""
        for outlet in self.outlets:
            outlet.expire(now)
        if len(self.outlets) > 1:
            self._trim_sole_holders(now)
        if self._drops_oldest and self.ledger.unsettled_bytes > self._max_bytes:
            self._evict_oldest(int(self._max_bytes * LOW_WATER))

    def next_due_s(self, now: float) -> float | None:
        """Return when there is something to do that no answer brings about."""
        times = (outlet.next_due_s(now) for outlet in self.outlets)
        return min((time for time in times if time is not None), default=None)

    def rush(self, now: float) -> None:
        """Let everything accepted so far leave without waiting for company."""
        for outlet in self.outlets:
            outlet.rush(now)

    def pull(self, receipts: Collection[Receipt]) -> None:
        """Make events urgent, wherever they wait."""
        for outlet in self.outlets:
            outlet.pull(receipts)

    def settling(
        self, chosen: Callable[[Receipt], bool], now: float
    ) -> dict[Receipt, float]:
        """Return when each *chosen* event may first be settled at any destination.

        Args:
            chosen: Says which of those that are not settled.
            now: Monotonic seconds; also the time where nothing is in the way.
        """
        times: dict[Receipt, float] = {}
        for outlet in self.outlets:
            for receipt, until_s in outlet.settling(chosen, now):
                times[receipt] = min(until_s, times.get(receipt, inf))
        return times

    def may_settle(
        self, chosen: Callable[[Receipt], bool], by_s: float, now: float
    ) -> bool:
        """Say whether any *chosen* event may be settled anywhere until *by_s*."""
        return any(
            until_s <= by_s
            for outlet in self.outlets
            if outlet.soonest_s(now) <= by_s
            for _, until_s in outlet.settling(chosen, now)
        )

    def close(self, reason: Reason) -> None:
        """Settle everything that is left as lost, for *reason*."""
        for outlet in self.outlets:
            outlet.close(Outcome(OutcomeKind.LOST, reason))

    def _trim_sole_holders(self, now: float) -> None:
        """Keep a destination on hold from filling the memory of all."""
        share_bytes = self._max_bytes * SOLE_SHARE
        word = Outcome(OutcomeKind.EVICTED, Reason.HELD_SHARE)
        for outlet in self.outlets:
            index = outlet.index
            sole_bytes = self.ledger.sole_bytes
            if sole_bytes[index] <= share_bytes or not outlet.all_held(now):
                continue
            for receipt in outlet.oldest_first():
                if sole_bytes[index] <= share_bytes * LOW_WATER:
                    break
                if receipt._pending == 1 << index:
                    self.ledger.settle(receipt, index, word)
            outlet.forget_settled()

    def _evict_oldest(self, low_bytes: int) -> None:
        """Drop the oldest events that are not in flight until *low_bytes* are left."""
        word = Outcome(OutcomeKind.EVICTED, Reason.OLDEST)
        flying = set().union(*(outlet.in_flight() for outlet in self.outlets))
        queues = [outlet.oldest_first() for outlet in self.outlets]
        for receipt in heapq.merge(*queues, key=lambda waiting: waiting._born_s):
            if self.ledger.unsettled_bytes <= low_bytes:
                break
            if receipt not in flying:
                for index in range(len(self.outlets)):
                    self.ledger.settle(receipt, index, word)
        for outlet in self.outlets:
            outlet.forget_settled()
