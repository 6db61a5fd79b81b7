"""What the log is told: the coordinator's view, counted, once a minute at most.

Calls never log, for logging is made of locks.  They count; here the counts become
lines, without payloads, keys, ids or the vendor's words.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from analytics_sdk._ledger import Ledger
from analytics_sdk.buffers.memory import Tally
from analytics_sdk.errors import Reason
from analytics_sdk.receipts import Outcome, OutcomeKind

LOOK_S = 1.0
REPEAT_S = 60.0

_LOUD = frozenset(
    {
        OutcomeKind.LOST,
        OutcomeKind.EVICTED,
        OutcomeKind.REJECTED,
        OutcomeKind.REFUSED,
        OutcomeKind.DEAD_LETTERED,
    }
)

_log = logging.getLogger("analytics_sdk")


class Reporter:
    """Compares the books with what was said of them, and says what is new."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._next_look_s = float("-inf")
        self._said: Counter[str] = Counter()
        self._silent_until_s: dict[str, float] = {}
        self._held: dict[str, Reason | None] = {}

    def look(
        self,
        now: float,
        ledger: Ledger,
        tallies: Sequence[Tally],
        holds: Mapping[str, Outcome],
        *,
        last: bool = False,
    ) -> None:
        """Say what is new, at most once a second.

        Args:
            now: Monotonic seconds.
            ledger: The books of what was accepted.
            tallies: The books of what was not.
            holds: Destinations on hold.
            last: Whether the client ends, so that nothing may stay unsaid.
        """
        if now < self._next_look_s and not last:
            return
        self._next_look_s = now + LOOK_S
        self._say_holds(holds)
        for words, total in _totals(ledger, tallies):
            new = total - self._said[words]
            if new and (last or now >= self._silent_until_s.get(words, now)):
                self._said[words] = total
                self._silent_until_s[words] = now + REPEAT_S
                _log.warning("analytics_sdk: %d %s", new, words)

    def _say_holds(self, holds: Mapping[str, Outcome]) -> None:
        held = {name: outcome.reason for name, outcome in holds.items()}
        if held == self._held:
            return
        for name, reason in held.items():
            if reason is not None and self._held.get(name) is not reason:
                remedy = reason.remedy
                _log.warning(
                    "analytics_sdk: %s is on hold: %s (%s)", name, reason, remedy
                )
        for name in self._held:
            if name not in held:
                _log.info("analytics_sdk: %s takes events again", name)
        self._held = held


def _totals(ledger: Ledger, tallies: Sequence[Tally]) -> Iterator[tuple[str, int]]:
    """Yield each thing that somebody should know of, and how often it has happened."""
    for name, counts in zip(ledger.names, ledger.counts, strict=True):
        for (kind, reason), number in counts.items():
            if kind in _LOUD:
                remedy = f" ({reason.remedy})" if reason else ""
                yield f"events for {name} ended as {kind}({reason}){remedy}", number
    refused: Counter[Reason] = Counter()
    skipped: Counter[Reason] = Counter()
    for tally in tallies:
        refused.update(dict(tally.refused))
        skipped.update(dict(tally.skipped))
    for reason, number in refused.items():
        yield f"calls were refused: {reason} ({reason.remedy})", number
    yield (
        f"events were dropped: {Reason.PLUGIN_ERROR} ({Reason.PLUGIN_ERROR.remedy})",
        skipped[Reason.PLUGIN_ERROR],
    )
    yield (
        "timestamps had no time zone and were read as UTC",
        sum(tally.naive_timestamps for tally in tallies),
    )
    yield (
        "integrations selectors were no mapping and were read as 'all'",
        sum(tally.unparsable_selectors for tally in tallies),
    )
    yield (
        "values were no JSON and were mended or marked",
        sum(tally.repaired for tally in tallies),
    )
