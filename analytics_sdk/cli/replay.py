"""The demo's work: make the calls, deliver them, and examine what has arrived."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import attrs

from analytics_sdk import Client, JsonLines, Segment, Settled, Stats, _clock
from analytics_sdk.cli import DESTINATIONS
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
from analytics_sdk.cli.vendors import (
    KEY,
    THROTTLED,
    VENDORS,
    Vendor,
    bad_day,
    misreceived,
    overmet,
    read_segment,
    resold,
    unmet,
)

FLUSH_TIMEOUT_S = 120.0
LOOK_EVERY_S = 0.05
MOST_TOLD = 5

POISON = {
    "poison": True,
    "revenue": 1,
    "currency": "shells",
    "gift": {"in": {"a": {"box": {"in": "a box"}}}},
}
"""What each vendor refuses for a reason of its own.

Segment's collector is told to refuse it, Amplitude knows no such currency, and Mixpanel
takes nothing that nests so deep.
"""


@attrs.frozen
class Options:
    """How to replay.

    Args:
        threads: How many call at once.
        faults: Whether the collectors have a rough day.
        scale: Multiplies how long that day's faults last.
        only: Where to send.
    """

    threads: int = 4
    faults: bool = False
    scale: float = 1.0
    only: Sequence[str] = DESTINATIONS


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
        collector: The counts of the collector, if there is one.
        problems: What the collector has to complain about.
    """

    name: str
    called: int
    outcomes: Mapping[str, int]
    traffic: Metered
    seconds: float
    findings: Findings
    collector: Mapping[str, Any] = {}
    problems: Sequence[str] = ()

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
        holds: When a destination was on hold, as far as looking every 50 ms shows.
        failures: What `on_outcome` was told.
        problems: What is not as it should be; empty when all is well.
    """

    options: Options
    calling_s: float
    total_s: float
    arrivals: Sequence[Arrivals]
    holds: Sequence[Hold]
    failures: Sequence[Settled]
    problems: Sequence[str]


def replay(customers: Sequence[Customer], options: Options, screen: Screen) -> Result:
    """Send every customer's calls to the destinations and examine each of these.

    Args:
        customers: Whose calls.
        options: How.
        screen: Told of the progress.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        served = [
            _serve(VENDORS[word], word, customers, options, stack)
            for word in options.only
            if word in VENDORS
        ]
        file = Path(folder, "events.jsonl")
        lines = [Metered(JsonLines(file))] * ("jsonl" in options.only)
        vendors = [each.metered for each in served]
        run = _Run((*vendors, *lines), customers, options, screen)
        run.deliver()
        direct = [each.kind for each in vendors if each.kind != Segment.kind]
        arrivals = [_received(each, run, customers, direct) for each in served]
        extra = (POISON_ID,) * options.faults
        arrivals += [
            run.arrivals(
                each,
                examine(map(read_segment, read_lines(file)), customers, extra=extra),
            )
            for each in lines
        ]
        return Result(
            options=options,
            calling_s=run.calling_s,
            total_s=run.total_s,
            arrivals=arrivals,
            holds=run.holds,
            failures=run.failures,
            problems=list(run.problems(arrivals, [each.name for each in vendors])),
        )


class _Served(NamedTuple):
    """A vendor, its collector, and the destination that sends there."""

    vendor: Vendor
    collector: CollectorProcess
    metered: Metered


def _serve(
    vendor: Vendor,
    word: str,
    customers: Sequence[Customer],
    options: Options,
    stack: ExitStack,
) -> _Served:
    """Start a vendor's collector, and its bad day if there is to be one."""
    collector = stack.enter_context(CollectorProcess(word, KEY))
    if options.faults:
        # From among the first, so that their pause runs while all others are served.
        early = sorted(customers[:40], key=lambda each: len(each.purchases))
        throttled = [customer.id for customer in early[-THROTTLED:]]
        collector.play(
            vendor.preset, **bad_day(vendor.preset, options.scale, throttled)
        )
    return _Served(vendor, collector, Metered(vendor.connect(collector.url)))


def _received(
    served: _Served, run: _Run, customers: Sequence[Customer], direct: Sequence[str]
) -> Arrivals:
    """Examine what a vendor's collector has.

    Args:
        served: The vendor.
        run: What the client has done.
        customers: Whose calls should be there.
        direct: The vendors that Segment must not serve a second time.
    """
    vendor, collector, metered = served
    counts = collector.stats()
    events = list(collector.events())
    findings = examine(map(vendor.recognise, events), customers)
    problems = [*misreceived(counts, vendor.poisoned * run.options.faults)]
    if metered.kind == Segment.kind:
        problems += resold(events, direct)
    if run.options.faults:
        problems += unmet(
            counts["by_status"], findings.duplicates, metered.readings, vendor.meets
        )
        problems += overmet(counts["by_status"], vendor.most)
    return run.arrivals(metered, findings, counts, problems)


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
        self.options = options
        self._screen = screen
        self._calls = sum(1 + len(each.purchases) for each in customers)
        self._held_until_s: dict[str, float] = {}
        self._started_s = 0.0
        self._stats = self._client.stats()

    def deliver(self) -> None:
        """Make all calls, flush, close."""
        threads = self.options.threads
        self._started_s = _clock.monotonic()
        with self._client, ThreadPoolExecutor(threads) as pool:
            shards = (self._customers[at::threads] for at in range(threads))
            poisoning = [self._poison] * self.options.faults
            calling = [pool.submit(each) for each in poisoning]
            calling += [pool.submit(make_calls, self._client, each) for each in shards]
            self._watch(calling)
            self.calling_s = _clock.monotonic() - self._started_s
            self._screen.line(f"Made {self._calls:,} calls in {self.calling_s:.2f} s.")
            self._watch([pool.submit(self._client.flush, FLUSH_TIMEOUT_S)])
            self.total_s = _clock.monotonic() - self._started_s
            self._stats = self._client.stats()

    def _poison(self) -> None:
        self._client.track("poisoned", ORDER, POISON, message_id=POISON_ID)

    def _watch(self, working: Sequence[Future[Any]]) -> None:
        """Look at the client's books until all of *working* is done."""
        while wait(working, LOOK_EVERY_S).not_done:
            self._look(self._client.stats(), _clock.monotonic() - self._started_s)
        for future in working:
            future.result()

    def _look(self, stats: Stats, at_s: float) -> None:
        parts = []
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
        self._screen.progress(f"{at_s:5.1f} s: {', '.join(parts)}")

    def arrivals(
        self,
        metered: Metered,
        findings: Findings,
        collector: Mapping[str, Any] | None = None,
        problems: Sequence[str] = (),
    ) -> Arrivals:
        """Sum up one destination."""
        books = self._stats.destinations[metered.name]
        return Arrivals(
            name=metered.name,
            called=self._stats.accepted,
            outcomes=books.outcomes,
            traffic=metered,
            seconds=max(metered.answered_at_s - self._started_s, 0.0),
            findings=findings,
            collector=collector or {},
            problems=problems,
        )

    def problems(
        self, arrivals: Sequence[Arrivals], refusing: Sequence[str]
    ) -> Iterator[str]:
        """Say what became of events that is neither delivery nor expected.

        Args:
            arrivals: Of all destinations.
            refusing: The names of those that refuse the poisoned event.
        """
        for reason, count in self._stats.refused.items():
            yield f"{count:,} calls refused: {reason}"
        for each in arrivals:
            outcomes = self._outcomes(each, refuses=each.name in refusing)
            found = (*outcomes, *each.findings.problems, *each.problems)
            yield from (f"{each.name}: {text}" for text in found)
            if each.findings.duplicates and not self.options.faults:
                yield f"{each.name}: {each.findings.duplicates:,} duplicates"
        told = sorted(
            f"{each.message_id} {each.outcome.kind.value} by {each.destination}"
            for each in self.failures
        )
        poisoned = [f"{POISON_ID} rejected by {name}" for name in refusing]
        if told != sorted(poisoned) * self.options.faults:
            yield f"on_outcome was told of {', '.join(told[:MOST_TOLD]) or 'nothing'}"

    def _outcomes(self, arrivals: Arrivals, *, refuses: bool) -> Iterator[str]:
        """Compare one destination's outcomes with what should have come out."""
        expected = Counter(delivered=self._calls)
        if self.options.faults:
            expected["rejected" if refuses else "delivered"] += 1
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
