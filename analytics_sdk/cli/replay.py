"""The demo's work: make the calls, deliver them, and examine what has arrived."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs

from analytics_sdk import Client, JsonLines, Segment, Settled, Stats, _clock
from analytics_sdk.cli.collector_process import CollectorProcess
from analytics_sdk.cli.metered import Metered
from analytics_sdk.cli.purchases import (
    ORDER,
    POISON_ID,
    Customer,
    Findings,
    examine,
)
from analytics_sdk.cli.screen import Screen

WRITE_KEY = "demo-write-key"
FLUSH_TIMEOUT_S = 120.0
LOOK_EVERY_S = 0.05

HTML = (200, "sent again (unreadable)")
"""How the client reads a web page where an answer should be."""


@attrs.frozen
class Options:
    """How to replay.

    Args:
        threads: How many call at once.
        faults: Whether the collector has a rough day.
        scale: Multiplies how long that day's 503s and 401s last.
    """

    threads: int = 4
    faults: bool = False
    scale: float = 1.0


@attrs.frozen
class Hold:
    """A destination was put on hold: when, why, and for how long it was meant."""

    at_s: float
    destination: str
    reason: str
    for_s: float


@attrs.frozen
class Arrivals:
    """One destination's part of the result.

    Args:
        name: The destination's.
        called: Calls that were to go there.
        outcomes: Events by final outcome.
        traffic: What passed between it and the client.
        seconds: From the first call to the last answer.
        findings: What the destination holds.
    """

    name: str
    called: int
    outcomes: Mapping[str, int]
    traffic: Metered
    seconds: float
    findings: Findings

    @property
    def per_second(self) -> int:
        """Events delivered a second."""
        return round(self.outcomes.get("delivered", 0) / max(self.seconds, 1e-9))


@attrs.frozen
class Result:
    """What a replay found out.

    Args:
        options: How it was asked for.
        calling_s: How long the calls took.
        total_s: How long it took until everything was settled.
        arrivals: One for each destination.
        collector: The collector's own counts.
        holds: When a destination was on hold, as far as looking every 50 ms shows.
        failures: What `on_outcome` was told.
        problems: What is not as it should be; empty when all is well.
    """

    options: Options
    calling_s: float
    total_s: float
    arrivals: Sequence[Arrivals]
    collector: Mapping[str, Any]
    holds: Sequence[Hold]
    failures: Sequence[Settled]
    problems: Sequence[str]


def replay(customers: Sequence[Customer], options: Options, screen: Screen) -> Result:
    """Send every customer's events to two destinations and examine both.

    Args:
        customers: Whose events.
        options: How.
        screen: Told of the progress.
    """
    with CollectorProcess(WRITE_KEY) as collector, TemporaryDirectory() as folder:
        if options.faults:
            collector.play(
                "rough_day",
                unavailable_s=2.0 * options.scale,
                unauthorized_s=10.0 * options.scale,
                drops=1,
                calm_requests=2,
            )
        file = Path(folder, "events.jsonl")
        segment = Metered(Segment(WRITE_KEY, host=collector.url))
        lines = Metered(JsonLines(file))
        run = _Run((segment, lines), customers, options, screen)
        run.deliver()
        extra = (POISON_ID,) * options.faults
        received = collector.stats()
        arrivals = (
            run.arrivals(segment, examine(collector.events(), customers)),
            run.arrivals(lines, examine(read_lines(file), customers, extra=extra)),
        )
        problems = [*run.problems(arrivals), *misreceived(received)]
        if options.faults:
            problems += unmet(received, segment.readings)
        return Result(
            options=options,
            calling_s=run.calling_s,
            total_s=run.total_s,
            arrivals=arrivals,
            collector=received,
            holds=run.holds,
            failures=run.failures,
            problems=problems,
        )


def read_lines(file: Path) -> Iterator[Mapping[str, Any]]:
    """Read back what `JsonLines` wrote, fractions as `Decimal`."""
    if not file.exists():
        return
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line, parse_float=Decimal)


class _Run:
    """One client and what is noticed while it delivers."""

    def __init__(
        self,
        destinations: Sequence[Metered],
        customers: Sequence[Customer],
        options: Options,
        screen: Screen,
    ) -> None:
        self.failures: list[Settled] = []
        self.holds: list[Hold] = []
        self.calling_s = self.total_s = 0.0
        self._client = Client(*destinations, on_outcome=self.failures.append)
        self._customers = customers
        self._options = options
        self._screen = screen
        self._calls = sum(1 + len(each.purchases) for each in customers)
        self._held_until_s: dict[str, float] = {}
        self._started_s = 0.0
        self._stats = self._client.stats()

    def deliver(self) -> None:
        """Make all calls, flush, close."""
        threads = self._options.threads
        self._started_s = _clock.monotonic()
        with self._client, ThreadPoolExecutor(threads) as pool:
            shards = (self._customers[at::threads] for at in range(threads))
            calling = [pool.submit(make_calls, self._client, each) for each in shards]
            if self._options.faults:
                self._client.track(
                    "poisoned", ORDER, {"poison": True}, message_id=POISON_ID
                )
            self._watch(calling)
            self.calling_s = _clock.monotonic() - self._started_s
            self._screen.line(f"Made {self._calls:,} calls in {self.calling_s:.2f} s.")
            self._watch([pool.submit(self._client.flush, FLUSH_TIMEOUT_S)])
            self.total_s = _clock.monotonic() - self._started_s
            self._stats = self._client.stats()

    def _watch(self, working: Sequence[Future[Any]]) -> None:
        """Look at the client's books until all of *working* is done."""
        while wait(working, LOOK_EVERY_S).not_done:
            self._look(self._client.stats(), _clock.monotonic() - self._started_s)
        for future in working:
            future.result()

    def _look(self, stats: Stats, at_s: float) -> None:
        parts = [f"{at_s:5.1f} s: {stats.accepted:,} calls"]
        for name, books in stats.destinations.items():
            delivered = books.outcomes.get("delivered", 0)
            parts.append(f"{name} {delivered:,}")
            if books.hold is None:
                continue
            until_s = at_s + (books.hold.resumes_in_s or 0.0)
            if until_s > self._held_until_s.get(name, 0.0) + LOOK_EVERY_S:
                self._held_until_s[name] = until_s
                hold = Hold(at_s, name, str(books.hold.reason), until_s - at_s)
                self.holds.append(hold)
                self._screen.line(
                    f"{at_s:5.1f} s: {name} is on hold for {hold.for_s:.1f} s: "
                    f"{hold.reason}"
                )
        self._screen.progress(", ".join(parts))

    def arrivals(self, metered: Metered, findings: Findings) -> Arrivals:
        """Sum up one destination."""
        books = self._stats.destinations[metered.name]
        return Arrivals(
            name=metered.name,
            called=self._stats.accepted,
            outcomes=books.outcomes,
            traffic=metered,
            seconds=max(metered.answered_at_s - self._started_s, 0.0),
            findings=findings,
        )

    def problems(self, arrivals: Sequence[Arrivals]) -> Iterator[str]:
        """Say what became of events that is neither delivery nor expected."""
        for reason, count in self._stats.refused.items():
            yield f"{count:,} calls refused: {reason}"
        for each in arrivals:
            yield from (f"{each.name}: {text}" for text in self._outcomes(each))
            yield from (f"{each.name}: {text}" for text in each.findings.problems)
            if each.findings.duplicates and not self._options.faults:
                yield f"{each.name}: {each.findings.duplicates:,} duplicates"
        told = [(each.message_id, str(each.outcome.kind)) for each in self.failures]
        if told != [(POISON_ID, "rejected")] * self._options.faults:
            yield f"on_outcome was told of {told or 'nothing'}"

    def _outcomes(self, arrivals: Arrivals) -> Iterator[str]:
        """Compare one destination's outcomes with what should have come out."""
        expected = Counter(delivered=self._calls)
        if self._options.faults:
            meets_it = arrivals.name == Segment.kind
            expected["rejected" if meets_it else "delivered"] += 1
        for kind in sorted({*expected, *arrivals.outcomes}):
            count = arrivals.outcomes.get(kind, 0)
            if count != expected[kind]:
                yield f"{count:,} {kind} instead of {expected[kind]:,}"


def make_calls(client: Client, customers: Sequence[Customer]) -> None:
    """Make one `identify` a customer and one `track` a purchase, at their true times.

    Args:
        client: Takes the calls.
        customers: Whose; all of one customer's are made by this thread, in order.
    """
    for customer in customers:
        first_day = customer.purchases[0].day
        client.identify(
            customer.id,
            {"createdAt": first_day, "cohort": f"{first_day:%Y-%m}"},
            timestamp=first_day,
            message_id=customer.message_id,
        )
        for purchase in customer.purchases:
            client.track(
                customer.id,
                ORDER,
                {
                    "order_id": f"cdnow-{purchase.number:05}",
                    "revenue": purchase.dollars,
                    "quantity": purchase.discs,
                    "currency": "USD",
                },
                timestamp=purchase.day,
                message_id=purchase.message_id,
            )


def misreceived(received: Mapping[str, Any]) -> Iterator[str]:
    """Say what the collector found wrong with what it got."""
    for reason, count in received["rejected_by_reason"].items():
        yield f"the collector threw {count:,} events away: {reason}"
    if received["changed_duplicates"]:
        count = received["changed_duplicates"]
        yield f"{count:,} duplicates differ from the event they repeat"


def unmet(
    received: Mapping[str, Any], readings: Mapping[tuple[int, str], int]
) -> Iterator[str]:
    """Name the faults that the client never met: then the run has proved little."""
    met = {status for status, count in received["by_status"].items() if count}
    for status in ("400", "401", "429", "503"):
        if status not in met:
            yield f"fault {status} was never met"
    if "none" not in met:
        yield "no connection was dropped"
    if HTML not in readings:
        yield "no web page was met"
