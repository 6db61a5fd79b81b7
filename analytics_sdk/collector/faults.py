"""Name every way in which the collector can be made to misbehave.

A fault is data: it says what goes wrong, never how. `sabotage` acts it out, `script`
says when, `script_json` reads it from another process.

*store* says whether the events of the request count as received all the same. A server
that keeps a batch and then fails to say so is how duplicates are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Literal

_HTML = b"<!doctype html><title>Welcome</title><p>Sign in to use this network."
_MIB = 1024 * 1024


class Phase(IntEnum):
    """Order the moments of an exchange: a fault acts as soon as its own is reached."""

    ACCEPT = 0
    HEAD = 1
    BODY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthy:
    """Answer as the vendor would, after *delay_s*: a pause inside a script."""

    delay_s: float = 0.0
    store: bool = True
    phase: ClassVar[Phase] = Phase.BODY


@dataclass(frozen=True, slots=True)
class Status:
    """Answer with *status* and keep the connection.

    Args:
        status: the code; 204 and 304 carry no body.
        headers: added as they stand; they replace those that the server would add.
        body: the exact bytes.
        store: whether the events count as received.
        retry_after_date_s: adds Retry-After as an HTTP-date this far ahead of the
            answer's own Date; None adds nothing.
        clock_skew_s: how far the server's clock is ahead of ours, in Date and in that
            Retry-After alike.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    store: bool = False
    retry_after_date_s: float | None = None
    clock_skew_s: float = 0.0
    phase: ClassVar[Phase] = Phase.BODY


@dataclass(frozen=True, slots=True)
class Drop:
    """End the connection without a complete answer.

    Args:
        at: "accept" (before TLS), "before_body" (the head is read), "after_body",
            "mid_head" (half of the answer's head is sent) or "mid_body" (half of the
            body that Content-Length promised is sent).
        reset: end with RST rather than FIN.
        store: whether the events count as received; not before the body is read.
    """

    at: Literal["accept", "before_body", "after_body", "mid_head", "mid_body"]
    reset: bool = False
    store: bool = False

    def __post_init__(self) -> None:
        """Refuse to store what is never read."""
        if self.store and self.phase < Phase.BODY:
            message = f"Drop(at={self.at!r}) reads no body: leave store out"
            raise ValueError(message)

    @property
    def phase(self) -> Phase:
        """Act as early as *at* says."""
        early = {"accept": Phase.ACCEPT, "before_body": Phase.HEAD}
        return early.get(self.at, Phase.BODY)


@dataclass(frozen=True, slots=True)
class Hang:
    """Say nothing for *for_s* (or until the collector is closed), then hang up.

    Args:
        at: "accept" (nothing is read, no TLS handshake), "before_body" or "after_body".
        for_s: how long.
        store: whether the events count as received; only with "after_body".
    """

    at: Literal["accept", "before_body", "after_body"] = "after_body"
    for_s: float = 60.0
    store: bool = False

    def __post_init__(self) -> None:
        """Refuse to store what is never read."""
        if self.store and self.phase < Phase.BODY:
            message = f"Hang(at={self.at!r}) reads no body: leave store out"
            raise ValueError(message)

    @property
    def phase(self) -> Phase:
        """Act as early as *at* says."""
        early = {"accept": Phase.ACCEPT, "before_body": Phase.HEAD}
        return early.get(self.at, Phase.BODY)


@dataclass(frozen=True, slots=True)
class Slow:
    """Send the vendor's own answer one byte every *pause_s*.

    Args:
        pause_s: the time before each byte.
        part: which part crawls; the other is sent at once.
        store: whether the events count as received.
    """

    pause_s: float = 1.0
    part: Literal["head", "body", "both"] = "both"
    store: bool = True
    phase: ClassVar[Phase] = Phase.BODY


@dataclass(frozen=True, slots=True)
class Garbage:
    """Answer with bytes that are not HTTP, then close.

    With *at* "accept" they are sent before the TLS handshake.
    """

    data: bytes = b"\x15\x03\x01 this is not the protocol you expected\r\n\r\n"
    at: Literal["accept", "after_body"] = "after_body"
    store: bool = False

    def __post_init__(self) -> None:
        """Refuse to store what is never read."""
        if self.store and self.phase < Phase.BODY:
            message = "Garbage(at='accept') reads no body: leave store out"
            raise ValueError(message)

    @property
    def phase(self) -> Phase:
        """Act as early as *at* says."""
        return Phase.ACCEPT if self.at == "accept" else Phase.BODY


@dataclass(frozen=True, slots=True)
class BrokenChunks:
    """Answer 200 in chunked encoding that goes wrong, then close.

    Args:
        how: "size" sends a chunk size that is no number, "cut" omits the last chunk.
        store: whether the events count as received.
    """

    how: Literal["size", "cut"] = "size"
    store: bool = False
    phase: ClassVar[Phase] = Phase.BODY


@dataclass(frozen=True, slots=True)
class Endless:
    """Answer 200 with a body of unannounced length that goes on to *limit_bytes*."""

    limit_bytes: int = 64 * _MIB
    store: bool = False
    phase: ClassVar[Phase] = Phase.BODY


@dataclass(frozen=True, slots=True)
class GzipBomb:
    """Answer 200 with valid gzip that inflates about a thousandfold.

    Accept-Encoding is ignored, and what comes out begins like a success.
    """

    expanded_bytes: int = 64 * _MIB
    store: bool = False
    phase: ClassVar[Phase] = Phase.BODY


@dataclass(frozen=True, slots=True)
class HugeHeader:
    """Send the vendor's own answer under *lines* headers of *line_bytes* each."""

    line_bytes: int = _MIB
    lines: int = 1
    store: bool = True
    phase: ClassVar[Phase] = Phase.BODY


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Shut only our sending side, unanswered, and keep the rest open for *for_s*."""

    for_s: float = 60.0
    store: bool = False
    phase: ClassVar[Phase] = Phase.BODY


@dataclass(frozen=True, slots=True)
class EarlyAnswer:
    """Answer while the client still writes its body, then end the connection.

    Args:
        status: the code, by default the one a proxy gives to a body that is too large.
        body: the answer's body.
        read_bytes: how much of the request's body is taken first.
        grace_s: how long the answer may travel before the end.
        reset: end with RST rather than FIN.
    """

    status: int = 413
    body: bytes = b""
    read_bytes: int = 0
    grace_s: float = 0.05
    reset: bool = True
    store: ClassVar[bool] = False
    phase: ClassVar[Phase] = Phase.HEAD


@dataclass(frozen=True, slots=True)
class IdleClose:
    """Send the vendor's own answer, then close after *after_s* without a word.

    The answer does not announce it, so the client keeps a connection that is gone. A
    request that arrives in time is served.
    """

    after_s: float = 0.0
    reset: bool = False
    store: bool = True
    phase: ClassVar[Phase] = Phase.BODY


Fault = (
    Healthy
    | Status
    | Drop
    | Hang
    | Slow
    | Garbage
    | BrokenChunks
    | Endless
    | GzipBomb
    | HugeHeader
    | HalfClose
    | EarlyAnswer
    | IdleClose
)


def status_of(fault: Fault | None, healthy: int) -> int | None:
    """Return the status that the client gets to see, None when no usable one.

    Args:
        fault: what goes wrong, None for nothing.
        healthy: the status that the vendor itself would give.
    """
    if fault is None or isinstance(fault, Healthy | Slow | HugeHeader | IdleClose):
        return healthy
    if isinstance(fault, Status | EarlyAnswer):
        return fault.status
    if isinstance(fault, BrokenChunks | Endless | GzipBomb):
        return 200
    return None


def unavailable(status: int = 503) -> Status:
    """Return the answer of a server in trouble."""
    return Status(status, body=b"upstream is unavailable")


def rate_limited(retry_after: str | None = None) -> Status:
    """Return a 429, with Retry-After as given: seconds, an HTTP-date or nonsense."""
    headers = () if retry_after is None else (("Retry-After", retry_after),)
    return Status(429, headers=headers)


def redirect(location: str, status: int = 307) -> Status:
    """Return a redirect to *location*."""
    return Status(status, headers=(("Location", location),))


def captive_portal() -> Status:
    """Return the web page that a hotel's network answers 200 with."""
    return Status(200, headers=(("Content-Type", "text/html"),), body=_HTML)


def empty_success() -> Status:
    """Return a 200 with nothing in it."""
    return Status(200)
