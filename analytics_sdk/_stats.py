"""The client's books, read from any thread without asking the coordinator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import attrs

from analytics_sdk import _clock
from analytics_sdk._driver import Driver
from analytics_sdk._flushes import holds as find_holds
from analytics_sdk._ledger import Count, Ledger
from analytics_sdk._outlet import Outlet
from analytics_sdk.buffers.memory import LOST_AT_EXIT
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import Destination
from analytics_sdk.receipts import Outcome

FULL = 0.9
"""From here on, a queue counts as full for `Stats.healthy`."""


@attrs.frozen
class DestinationStats:
    """One destination's books.

    Args:
        state: ``open``, or ``held`` while nothing may be sent.
        hold: Why, and for how long still.
        last_error: The last failure, even if it is over.
        outcomes: Events by final outcome.
        reasons: The same by outcome and reason, as ``rejected(invalid)``.
    """

    state: str
    hold: Outcome | None
    last_error: Outcome | None
    outcomes: Mapping[str, int]
    reasons: Mapping[str, int]


@attrs.frozen
class Stats:
    """A client's books, as of one moment.

    Args:
        accepted: Calls that became an event in the queue.
        refused: Calls that were refused, by reason.
        skipped: Calls that ended at the call on purpose, by reason.
        queued_events: Events that some destination has not settled.
        queued_bytes: What they take up, out of `Delivery.max_bytes`.
        oldest_age_s: Seconds since the oldest of them was taken from the queue.
        destinations: Each destination's books, by name.
        repaired_values: Values that had to be mended or marked to become JSON.
        naive_timestamps: Timestamps without a zone, read as UTC.
        unparsable_selectors: Selectors that were no mapping, read as "all".
        callbacks_dropped: Outcomes that `on_outcome` was too slow to hear.
        healthy: Whether every destination takes events and there is room for more.
    """

    accepted: int
    refused: Mapping[str, int]
    skipped: Mapping[str, int]
    queued_events: int
    queued_bytes: int
    oldest_age_s: float
    destinations: Mapping[str, DestinationStats]
    repaired_values: int
    naive_timestamps: int
    unparsable_selectors: int
    callbacks_dropped: int
    healthy: bool


def take_stats(
    home: Driver | None, destinations: Sequence[Destination], *, closed: bool
) -> Stats:
    """Read the books of a client.

    Args:
        home: The client's driver; None before its first event.
        destinations: The client's.
        closed: Whether the client has been closed.
    """
    if home is None:
        return _unopened(destinations, closed=closed)
    coordinator = home.coordinator
    ledger, buffer = coordinator.core.ledger, coordinator.buffer
    now = _clock.monotonic()
    holds = find_holds(coordinator.core, now)
    queued_bytes = buffer.unsettled_bytes
    room = queued_bytes < home.plan.settings.max_bytes * FULL
    ages = [outlet.oldest_age_s(now) for outlet in coordinator.core.outlets]
    queued_events = coordinator.unsettled  # before what it must not be larger than
    tallies = list(buffer.tallies.values())
    accepted = sum(tally.accepted for tally in tallies)
    late: Counter[int] = Counter()
    for tally in tallies:
        late.update(dict(tally.lost))
    return Stats(
        accepted=accepted,
        refused=_total(tally.refused for tally in tallies),
        skipped=_total(tally.skipped for tally in tallies),
        queued_events=queued_events,
        queued_bytes=max(queued_bytes, 0),
        oldest_age_s=max(ages, default=0.0),
        destinations={
            name: _destination(
                outlet,
                {**ledger.counts[outlet.index], **_at_exit(ledger, outlet, late)},
                holds.get(name),
            )
            for name, outlet in zip(ledger.names, coordinator.core.outlets, strict=True)
        },
        repaired_values=sum(tally.repaired for tally in tallies),
        naive_timestamps=sum(tally.naive_timestamps for tally in tallies),
        unparsable_selectors=sum(tally.unparsable_selectors for tally in tallies),
        callbacks_dropped=home.callbacks_dropped,
        healthy=not closed and not holds and room and home.is_alive(),
    )


def _unopened(destinations: Sequence[Destination], *, closed: bool) -> Stats:
    blank = DestinationStats("open", None, None, {}, {})
    return Stats(
        accepted=0,
        refused={},
        skipped={},
        queued_events=0,
        queued_bytes=0,
        oldest_age_s=0.0,
        destinations={destination.name: blank for destination in destinations},
        repaired_values=0,
        naive_timestamps=0,
        unparsable_selectors=0,
        callbacks_dropped=0,
        healthy=not closed,
    )


def _destination(
    outlet: Outlet, counts: Mapping[Count, int], hold: Outcome | None
) -> DestinationStats:
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for (kind, reason), number in dict(counts).items():
        outcomes[str(kind)] += number
        if reason is not None:
            reasons[f"{kind}({reason})"] += number
    return DestinationStats(
        state="open" if hold is None else "held",
        hold=hold,
        last_error=outlet.last_error,
        outcomes=dict(outcomes),
        reasons=dict(reasons),
    )


def _at_exit(ledger: Ledger, outlet: Outlet, late: Counter[int]) -> dict[Count, int]:
    """Return the count of ``lost(exit)``, late comers included, where there are any."""
    word = (LOST_AT_EXIT.kind, LOST_AT_EXIT.reason)
    number = ledger.counts[outlet.index][word] + late[outlet.index]
    return {word: number} if number else {}


def _total(counters: Iterable[Mapping[Reason, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for counter in counters:
        for word, number in dict(counter).items():
            total[str(word)] += number
    return dict(total)
