"""``analytics-sdk demo``: replay real purchases, then compare every total."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from analytics_sdk.cli.purchases import FILE, PUBLISHED, find_file, read_customers
from analytics_sdk.cli.replay import Arrivals, Options, Result, replay
from analytics_sdk.cli.screen import Screen
from analytics_sdk.cli.vendors import VENDORS

_ROW = "{:<12}{:>8}{:>11}{:>9}{:>10}{:>12}{:>7}{:>11}"
_HEADINGS = (
    "destination",
    "called",
    "delivered",
    "retried",
    "requests",
    "bytes",
    "dupl.",
    "events/s",
)
_MOST_PROBLEMS = 20

_IDENTIFIES = {
    "Amplitude": "a $identify event at Amplitude",
    "Mixpanel": "the update of a profile at Mixpanel, with neither id nor day",
}


def run_demo(options: argparse.Namespace) -> int:
    """Replay, report, and return 0 only when every total matches."""
    path = find_file()
    if path is None:
        print(f"{FILE} is missing: run the demo from the repository", file=sys.stderr)
        return 1
    screen = Screen(None if options.json else sys.stdout)
    screen.line(
        f"Replaying {PUBLISHED.orders:,} purchases of {PUBLISHED.customers:,} "
        f"customers from {options.threads} threads"
    )
    screen.line(f"to {_spoken(options.only)}.")
    with _no_warnings():
        result = replay(
            read_customers(path),
            Options(options.threads, options.faults, options.scale, options.only),
            screen,
        )
    if options.json:
        print(json.dumps(to_json(result), indent=2))
    else:
        for line in report(result):
            screen.line(line)
    return 1 if result.problems else 0


def _spoken(only: Sequence[str]) -> str:
    vendors = [word.capitalize() for word in only if word in VENDORS]
    where = "local servers" if len(vendors) > 1 else "a local server"
    places = [f"{', '.join(vendors)} ({where})"] * bool(vendors)
    return " and ".join([*places, *["a file of JSON lines"] * ("jsonl" in only)])


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Keep back the log's lines on holds and losses: the report has them, and more."""
    logger = logging.getLogger("analytics_sdk")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def report(result: Result) -> Iterator[str]:
    """Yield the result as lines of at most 80 columns."""
    yield f"Settled everything after {result.total_s:.2f} s."
    yield ""
    yield _ROW.format(*_HEADINGS)
    for each in result.arrivals:
        yield _ROW.format(
            each.name,
            f"{each.called:,}",
            f"{each.outcomes.get('delivered', 0):,}",
            f"{each.traffic.retried:,}",
            f"{each.traffic.requests:,}",
            f"{each.traffic.bytes:,}",
            f"{each.findings.duplicates:,}",
            f"{each.per_second:,}",
        )
    if result.options.faults:
        for each in result.arrivals:
            if each.collector:
                yield from _what_happened(each)
        yield from _holds_and_failures(result)
    yield ""
    yield from _totals(result.arrivals)
    yield ""
    yield "Each call counts once, copies left out."
    for each in result.arrivals:
        if each.name in _IDENTIFIES:
            yield f"An identify is {_IDENTIFIES[each.name]}."
    yield ""
    if not result.problems:
        yield "Every total matches."
        return
    yield "These do not match:"
    for problem in result.problems[:_MOST_PROBLEMS]:
        yield f"  {problem}"
    if len(result.problems) > _MOST_PROBLEMS:
        yield f"  and {len(result.problems) - _MOST_PROBLEMS} more"


def _what_happened(arrivals: Arrivals) -> Iterator[str]:
    yield ""
    yield f"What {arrivals.name} answered, and what the client did about it:"
    for (status, meaning), count in arrivals.traffic.readings.items():
        yield f"  {count:>5} x {status} {meaning}"
    dropped = arrivals.collector["by_status"].get("none", 0)
    yield f"  {dropped:>5} x no answer: connection dropped, sent again"


def _holds_and_failures(result: Result) -> Iterator[str]:
    yield ""
    held_s = sum(hold.for_s for hold in result.holds)
    yield f"{len(result.holds)} holds, of {held_s:.1f} s together."
    for failure in result.failures:
        yield (
            f"{failure.outcome.kind.value.capitalize()} by {failure.destination}: "
            f"{failure.message_id}, {failure.reason}"
        )
        yield f"  {failure.outcome.excerpt[:76]}"


def _totals(arrivals: Sequence[Arrivals]) -> Iterator[str]:
    columns = [each.findings.totals.shown() for each in arrivals]
    names = [each.name for each in arrivals]
    yield _totals_row("as received", "expected", names)
    for label, expected in PUBLISHED.shown().items():
        yield _totals_row(label, expected, [column[label] for column in columns])


def _totals_row(label: str, expected: str, found: Sequence[str]) -> str:
    return f"{label:<12}{expected:>13}" + "".join(f"{each:>13}" for each in found)


def to_json(result: Result) -> dict[str, Any]:
    """Return the result as plain values; amounts of money are text."""
    return {
        "matches": not result.problems,
        "problems": list(result.problems),
        "calling_s": round(result.calling_s, 3),
        "total_s": round(result.total_s, 3),
        "expected": PUBLISHED.plain(),
        "destinations": {
            each.name: {
                "called": each.called,
                "outcomes": dict(each.outcomes),
                "retried": each.traffic.retried,
                "requests": each.traffic.requests,
                "bytes": each.traffic.bytes,
                "duplicates": each.findings.duplicates,
                "events_per_s": each.per_second,
                "readings": {
                    f"{status} {meaning}": count
                    for (status, meaning), count in each.traffic.readings.items()
                },
                "totals": each.findings.totals.plain(),
                "collector": dict(each.collector),
            }
            for each in result.arrivals
        },
        "holds": [
            {
                "at_s": round(hold.at_s, 3),
                "destination": hold.destination,
                "reason": hold.reason,
                "for_s": round(hold.for_s, 3),
            }
            for hold in result.holds
        ],
        "failures": [
            {
                "message_id": failure.message_id,
                "destination": failure.destination,
                "outcome": str(failure.outcome.kind),
                "reason": str(failure.reason),
                "excerpt": failure.outcome.excerpt,
            }
            for failure in result.failures
        ],
    }
