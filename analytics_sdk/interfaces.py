"""What flows between the rooms: parts, requests, answers, readings; and the plugs.

A *destination* is pure: it turns an event into parts, parts into a request, and a
response into a reading.  It never sends, sleeps, logs or looks at a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from analytics_sdk.errors import Reason
from analytics_sdk.events import Event

Plugin: TypeAlias = Callable[[dict[str, Any]], dict[str, Any] | None]
"""Takes a private copy of an event as plain data; None drops the event."""


class Limits(NamedTuple):
    """What one request of a route may hold; None stands for no limit."""

    events: int | None = None
    batch_bytes: int | None = None
    """The uncompressed body of a request, envelope and separators included."""
    event_bytes: int | None = None
    """One part's body."""
    envelope_bytes: int = 0
    """What the body holds besides the parts and their separators, at most."""
    separator_bytes: int = 1
    """What stands between two parts."""


class Part(NamedTuple):
    """What one event becomes on one route; an event may have several.

    Args:
        route: The endpoint of the destination that it goes to.
        body: The part as it stands in the request.
        key: The user key whose order it keeps; "" where order does not matter.
        joins: A second key that this part ties to the first.
        barrier: Earlier parts of its keys settle on all routes first, and later
            parts wait for this one.
        idempotent: False when a repeat after a lost answer would count twice.
        refused: Why the destination cannot take this event; it is then never sent.
    """

    route: str
    body: bytes
    key: str = ""
    joins: str = ""
    barrier: bool = False
    idempotent: bool = True
    refused: Reason | None = None

    def __repr__(self) -> str:
        """Show nothing that may be personal data."""
        return f"<Part {self.route} {len(self.body)} bytes>"


class HttpRequest(NamedTuple):
    """One POST, as data.

    Args:
        url: Scheme, host and path, without credentials.
        headers: Names and values; secrets may be among them, so it is never logged.
        body: Uncompressed.
        gzip: Whether the endpoint takes ``Content-Encoding: gzip``.
        idempotent: Whether it may be repeated when its answer was lost.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    gzip: bool = False
    idempotent: bool = True

    def __repr__(self) -> str:
        """Show nothing that may be a secret or personal data."""
        return f"<HttpRequest {len(self.body)} bytes>"


class WriteRequest(NamedTuple):
    """Lines to append to a file, or to standard output where *path* is None."""

    path: str | None
    body: bytes

    def __repr__(self) -> str:
        """Show nothing that may be personal data."""
        return f"<WriteRequest {len(self.body)} bytes>"


Request: TypeAlias = HttpRequest | WriteRequest


class HttpResponse(NamedTuple):
    """One answer, its body cut at the cap.

    Args:
        status: The HTTP status.
        headers: Names in lower case.
        body: At most 64 KiB.
        retry_after_s: What ``Retry-After`` asks for, already in seconds.
    """

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""
    retry_after_s: float | None = None

    def __repr__(self) -> str:
        """Show the status, not the body."""
        return f"<HttpResponse {self.status}>"


class TransportError(NamedTuple):
    """No answer: what went wrong, and whether the vendor may have the request.

    Args:
        reason: ``unreachable``, ``tls``, ``unreadable``, ``configuration`` or ``bug``.
        maybe_sent: False only when not one byte of the request can have arrived.
        message: What happened, without address, key or data.
    """

    reason: Reason
    maybe_sent: bool
    message: str


class Delivered(NamedTuple):
    """This part is at the vendor; *warning* is what the vendor remarked."""

    warning: str = ""


class Rejected(NamedTuple):
    """The vendor will never take this part."""

    reason: Reason
    excerpt: str = ""


class Retry(NamedTuple):
    """This part should be sent again after *after_s* seconds.

    Later parts of its keys wait with it, since their order must hold; others go on.
    """

    after_s: float | None = None
    reason: Reason = Reason.RATE_LIMITED


PartResult: TypeAlias = Delivered | Rejected | Retry


class Parts(NamedTuple):
    """One result for each part of the request, in the request's order."""

    results: Sequence[PartResult]


class AllDelivered(NamedTuple):
    """Every part of the request is at the vendor."""

    warning: str = ""


class RetryBatch(NamedTuple):
    """Send the same parts again, after *after_s* seconds where the vendor said so."""

    reason: Reason
    after_s: float | None = None
    excerpt: str = ""


class Split(NamedTuple):
    """The request is too large: send it in smaller ones."""

    excerpt: str = ""


class Bisect(NamedTuple):
    """Something in the request is bad and the vendor does not say what: find it."""

    excerpt: str = ""


class Hold(NamedTuple):
    """Nothing is wrong with the events: keep them, and try the lane again later."""

    reason: Reason
    after_s: float | None = None
    excerpt: str = ""


Reading: TypeAlias = Parts | AllDelivered | RetryBatch | Split | Bisect | Hold


@runtime_checkable
class Destination(Protocol):
    """One vendor project, as pure functions.

    Attributes:
        kind: The vendor, as the selector names it: ``Amplitude``.
        name: This project's own name; the kind unless several of a kind exist.
        aliases: Further selector keys that mean the kind, such as Segment's
            catalogue names.
        takes: The call types that it has a use for.
        limits: What a request may hold, by route.

    Two more may be there.  ``verbatim = True`` says that parts are the events as they
    are, so that an event's size can be judged at the call.  ``orders = "all"`` says
    that all events keep their order, not only those of one user.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def aliases(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def takes(self) -> frozenset[str]: ...  # noqa: D102

    @property
    def limits(self) -> Mapping[str, Limits]: ...  # noqa: D102

    def encode(self, event: Event) -> Sequence[Part]:
        """Turn an event into the parts that go to this destination's routes."""

    def request(
        self, route: str, parts: Sequence[Part], sent_at: datetime, attempt: int
    ) -> Request:
        """Make one request of *parts*; *attempt* counts from 1."""

    def read(
        self, route: str, response: HttpResponse, parts: Sequence[Part]
    ) -> Reading:
        """Say what *response* means for the *parts* of its request."""
