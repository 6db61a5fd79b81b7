"""What users write, read by type checkers and never run.

A change here that breaks users' own checks is a breaking change, even where every test
of behaviour passes.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from typing_extensions import assert_type

import analytics_sdk
from analytics_sdk import (
    AnalyticsError,
    Client,
    ClosedError,
    ConfigError,
    Console,
    Delivery,
    Destination,
    DestinationStats,
    FlushReport,
    JsonLines,
    Memory,
    Outcome,
    OutcomeKind,
    Plugin,
    QueueFullError,
    Reason,
    Receipt,
    RefusedError,
    Segment,
    Settled,
    Stats,
    configure,
    context,
    get_client,
    hash_keys,
    redact_keys,
    sample,
)
from analytics_sdk.events import Event
from analytics_sdk.interfaces import (
    AllDelivered,
    Bisect,
    Delivered,
    Hold,
    HttpRequest,
    HttpResponse,
    Limits,
    Part,
    PartResult,
    Parts,
    Reading,
    Rejected,
    Request,
    Retry,
    RetryBatch,
    Split,
)


def ten_lines() -> None:
    """Use the client as the README does."""
    client = Client(Segment("WRITE_KEY"), JsonLines("events.jsonl"))
    client.identify("user-1", {"email": "jane@example.com", "plan": "pro"})
    client.page("user-1", name="Pricing", properties={"path": "/pricing"})
    receipt = client.track(
        "user-1",
        "Order Completed",
        {"revenue": Decimal("19.90")},
        message_id="stripe:evt_1",
    )
    report = client.flush(timeout=3.0, receipts=[receipt])
    only = {"All": False, "Amplitude": True, "Segment.io": False}
    client.track("user-1", "Debugged", integrations=only)
    client.close()
    assert_type(receipt, Receipt)
    assert_type(report, FlushReport)


# -- constructors ---------------------------------------------------------------


def make_destinations() -> list[Destination]:
    """Make each destination with all of its arguments."""
    return [
        Segment("WRITE_KEY"),
        Segment(
            "WRITE_KEY",
            region="eu",
            host="https://segment.example.com",
            name="Segment EU",
            suppress_direct=False,
            allow_http=False,
            gzip=True,
        ),
        JsonLines("events.jsonl"),
        JsonLines(Path("events.jsonl"), name="Archive"),
        Console(),
        Console(name="Debug"),
    ]


def make_delivery() -> Delivery:
    """Name every setting; whole numbers do where seconds are asked for."""
    proxies: dict[str, str] = {"https": "http://proxy:8080"}
    return Delivery(
        max_bytes=32 * 1024 * 1024,
        max_event_bytes=1024 * 1024,
        overflow="block",
        block_timeout_s=0.5,
        linger_s=1,
        parallel_uploads=2,
        connect_timeout_s=3,
        request_timeout_s=15.0,
        give_up_after_s=900,
        exit_timeout_s=5,
        gzip=None,
        proxies=proxies,
        ca_file="/etc/ssl/ca.pem",
        driver="inline",
        report="all",
    )


def make_client() -> Client:
    """Name every argument of the client."""
    return Client(
        *make_destinations(),
        delivery=make_delivery(),
        storage=Memory(),
        context={"app": {"name": "shop"}},
        plugins=[redact_keys("password"), drop_robots],
        on_outcome=note,
        strict=False,
        enabled=True,
    )


def make_other_clients() -> None:
    """Make clients from the environment, and the default client."""
    assert_type(Client.from_env(), Client)
    assert_type(Client.from_env(strict=True), Client)
    assert_type(configure(Segment("WRITE_KEY"), strict=True), Client)
    assert_type(get_client(), Client)
    assert_type(analytics_sdk.__version__, str)


# -- the six calls --------------------------------------------------------------

USER = UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


class Order:
    """An object of the application: a property may be anything."""


def call_everything(client: Client, fields: Mapping[str, Any]) -> None:
    """Make each call in its shortest and in its longest form."""
    selector: dict[str, bool | dict[str, object]] = {"All": False, "Amplitude": {}}
    assert_type(client.identify(7), Receipt)
    assert_type(client.identify(anonymous_id=USER), Receipt)
    client.identify(
        USER,
        fields,
        anonymous_id="a",
        context={"ip": "192.0.2.1"},
        timestamp=NOON,
        integrations=selector,
        message_id="m-1",
        urgent=True,
    )
    assert_type(client.track("u", "Ran"), Receipt)
    assert_type(client.track(event="Ran"), Receipt)
    client.track("u", "Ran", {"order": Order(), "at": NOON, "ids": {USER}})
    client.track(
        user_id=0,
        event="Ran",
        properties={"took": timedelta(seconds=1)},
        anonymous_id=None,
        context=None,
        timestamp=None,
        integrations=None,
        message_id=None,
        urgent=False,
    )
    assert_type(client.page("u"), Receipt)
    assert_type(client.page("u", "Docs", "Home", fields, urgent=True), Receipt)
    assert_type(client.screen("u", "Shop", "Cart", {"items": 2}), Receipt)
    assert_type(client.group("u", 5, {"plan": "pro"}), Receipt)
    assert_type(client.group("u", USER, anonymous_id="a"), Receipt)
    assert_type(client.alias("old", "new"), Receipt)
    assert_type(client.alias(previous_id=1, user_id=USER, timestamp=NOON), Receipt)


def call_inside_a_request(client: Client, path: str) -> Receipt:
    """Bind what surrounds calls; then they find their user."""
    around = context(user_id="u", context={"page": {"path": path}})
    with around, context(anonymous_id="a"):
        return client.track(event="Viewed")


# -- receipts and reports -------------------------------------------------------


def read_receipt(receipt: Receipt) -> str:
    """Ask a receipt everything that it can tell."""
    assert_type(receipt.accepted, bool)
    assert_type(receipt.message_id, str)
    assert_type(receipt.sent, str)
    assert_type(receipt.wait(), Outcome | None)
    assert_type(receipt.wait(timeout=1), Outcome | None)
    for name, at_one in receipt.by_destination.items():
        assert_type(name, str)
        assert_type(at_one, Outcome)
    outcome = receipt.outcome
    if outcome is None:
        return "pending"
    if outcome.kind is OutcomeKind.REJECTED:
        return outcome.excerpt
    assert_type(outcome.terminal, bool)
    assert_type(outcome.failure, bool)
    assert_type(outcome.resumes_in_s, float | None)
    reason: Reason | None = outcome.reason
    return reason.remedy if reason else str(outcome.kind)


def read_report(report: FlushReport) -> bool:
    """Ask a report everything that it can tell."""
    assert_type(report.counts, Mapping[str, int])
    assert_type(report.by_destination, Mapping[str, Mapping[str, int]])
    assert_type(report.pending, int)
    assert_type(report.held, int)
    assert_type(report.stored, int)
    assert_type(report.holds, Mapping[str, Outcome])
    assert_type(report.elapsed_s, float)
    assert_type(report.note, str)
    return bool(report)


def read_stats(client: Client) -> int:
    """Read the books; each destination has its own."""
    stats = client.stats()
    assert_type(stats, Stats)
    assert_type(stats.healthy, bool)
    assert_type(client.healthy, bool)
    assert_type(stats.refused, Mapping[str, int])
    assert_type(stats.oldest_age_s, float)
    for books in stats.destinations.values():
        assert_type(books, DestinationStats)
        assert_type(books.hold, Outcome | None)
        assert_type(books.outcomes, Mapping[str, int])
    return stats.queued_events + stats.queued_bytes + stats.accepted


def note(settled: Settled) -> None:
    """Hear of outcomes."""
    assert_type(settled.message_id, str)
    assert_type(settled.destination, str)
    assert_type(settled.outcome, Outcome)
    assert_type(settled.reason, Reason | None)


def flush_in_all_ways(client: Client, receipts: list[Receipt]) -> None:
    """Flush everything, a list, a generator; close with and without a limit."""
    assert_type(client.flush(), FlushReport)
    assert_type(client.flush(3), FlushReport)
    assert_type(client.flush(receipts=receipts), FlushReport)
    assert_type(client.flush(receipts=(each for each in receipts)), FlushReport)
    assert_type(client.close(), FlushReport)
    assert_type(client.close(timeout=2.5), FlushReport)
    with Client(Console()) as other:
        assert_type(other, Client)


async def wait_without_blocking(client: Client) -> OutcomeKind:
    """Await a receipt; flush and close without blocking the event loop."""
    receipt = client.track("u", "Paid", urgent=True)
    outcome = await receipt
    assert_type(outcome, Outcome)
    assert_type(await client.aflush(1.0, receipts=[receipt]), FlushReport)
    assert_type(await client.aclose(timeout=1.0), FlushReport)
    async with Client(Console()) as other:
        assert_type(other, Client)
    return outcome.kind


# -- errors -----------------------------------------------------------------------


def answer_a_webhook(client: Client) -> int:
    """Tell the kinds of refusal apart, the most special one first."""
    try:
        client.track("u", "Paid")
    except QueueFullError as error:
        assert_type(error.reason, Reason)
        return 503
    except ClosedError:
        return 503
    except RefusedError as error:
        return 200 if error.reason is Reason.TOO_LARGE else 400
    return 200


def start() -> Client | None:
    """Catch what a wrong setting raises, as ours or as a ValueError."""
    try:
        return make_client()
    except ConfigError:
        return None
    except AnalyticsError:
        return None
    except ValueError:
        return None


# -- plugins ----------------------------------------------------------------------


def drop_robots(event: dict[str, Any]) -> dict[str, Any] | None:
    """Be a plugin: a function from plain data to plain data, or None."""
    return None if event.get("userId") == "robot" else event


class Tagging:
    """Be a plugin that has settings."""

    def __init__(self, tag: str) -> None:
        """Keep the tag."""
        self._tag = tag

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return the event with the tag."""
        event["context"]["tag"] = self._tag
        return event


PLUGINS: list[Plugin] = [
    drop_robots,
    Tagging("shop"),
    redact_keys("password", "card"),
    hash_keys("email", salt="pepper"),
    hash_keys("email", "phone", salt=b"pepper"),
    sample(0.1),
    sample(1, by="message", types=["page", "screen"]),
]


# -- a destination of one's own -----------------------------------------------------


class Webhook:
    """Be a destination without inheriting from anything."""

    kind = "Webhook"
    aliases: tuple[str, ...] = ()
    takes = frozenset({"track", "identify"})
    limits: Mapping[str, Limits] = {"hook": Limits(events=100, batch_bytes=100_000)}

    def __init__(self, url: str, *, name: str = "Webhook") -> None:
        """Keep address and name."""
        self.url = url
        self.name = name

    def encode(self, event: Event) -> Sequence[Part]:
        """Return one part for an event that has a user."""
        assert_type(event.payload, dict[str, Any])
        assert_type(event.keys, tuple[str, ...])
        if event.user_id is None:
            return []
        return [Part("hook", event.raw, event.user_id, barrier=event.type == "alias")]

    def request(
        self, route: str, parts: Sequence[Part], sent_at: datetime, attempt: int
    ) -> HttpRequest:
        """Return the parts as one JSON list."""
        body = b"[" + b",".join(part.body for part in parts) + b"]"
        return HttpRequest(self.url, {"X-Attempt": str(attempt)}, body, gzip=True)

    def read(
        self, route: str, response: HttpResponse, parts: Sequence[Part]
    ) -> Reading:
        """Return each kind of reading that there is."""
        if response.status == 200:
            return AllDelivered()
        if response.status == 207:
            verdicts: list[PartResult] = [Delivered("late"), Retry(5.0)]
            return Parts([*verdicts, Rejected(Reason.INVALID, "bad revenue")])
        if response.status == 413:
            return Split()
        if response.status == 400:
            return Bisect(response.body[:200].decode("ascii", "replace"))
        if response.status == 401:
            return Hold(Reason.CONFIGURATION)
        return RetryBatch(Reason.SERVER_ERROR, response.retry_after_s)


class Quiet(Destination):
    """Be a destination by inheriting from the protocol."""

    @property
    def kind(self) -> str:
        """Return the vendor."""
        return "Quiet"

    @property
    def name(self) -> str:
        """Return its own name."""
        return "Quiet"

    @property
    def aliases(self) -> tuple[str, ...]:
        """Return no further names."""
        return ()

    @property
    def takes(self) -> frozenset[str]:
        """Return the calls that it has a use for."""
        return frozenset()

    @property
    def limits(self) -> Mapping[str, Limits]:
        """Return no limits."""
        return {"void": Limits()}

    def encode(self, event: Event) -> Sequence[Part]:
        """Return nothing."""
        return ()

    def request(
        self, route: str, parts: Sequence[Part], sent_at: datetime, attempt: int
    ) -> Request:
        """Return an empty request."""
        return HttpRequest("https://h", {}, b"")

    def read(
        self, route: str, response: HttpResponse, parts: Sequence[Part]
    ) -> Reading:
        """Take everything for delivered."""
        return AllDelivered()


CUSTOM: Destination = Webhook("https://hooks.example.com")
CLIENT = Client(Webhook("https://hooks.example.com"), Quiet(), Segment("WRITE_KEY"))


# -- what checkers must refuse (each line needs its ignore, or is an error) ----------


def mistakes(client: Client, receipt: Receipt) -> None:
    """Make the mistakes that types are there to find."""
    client.track("u", "Ran", "properties")  # type: ignore[arg-type]
    client.track("u", 5)  # type: ignore[arg-type]
    client.track("u", "Ran", {}, "a")  # type: ignore[call-arg]
    client.identify(1.5)  # type: ignore[arg-type]
    client.track("u", "Ran", timestamp="now")  # type: ignore[arg-type]
    client.flush(receipts=receipt)  # type: ignore[arg-type]
    Client("WRITE_KEY")  # type: ignore[arg-type]
    Client(plugins=[len])  # type: ignore[list-item]
    Delivery(1024)  # type: ignore[call-arg]
    Delivery(linger=1)  # type: ignore[call-arg]
    Segment()  # type: ignore[call-arg]
