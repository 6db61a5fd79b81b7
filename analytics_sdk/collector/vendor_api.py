"""Describe how a vendor's HTTP interface plugs into the collector.

A vendor is one pure object: bytes in, a decision out. It reads no clock and touches
no socket, so each documented rule of a vendor is a row of a table in a test, and the
server stays a thin shell around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """Hold one request as it arrived; header names are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AcceptedEvent:
    """Hold one event that the vendor would keep.

    *raw_bytes* is its size as it stood in the body; *key* is what the vendor
    deduplicates by, or None when the event carries nothing to go by.
    """

    payload: dict[str, Any] = field(repr=False)
    raw_bytes: int
    key: str | None
    sent_at: str | None = None


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """Hold one event that the vendor answers 2xx to and then throws away."""

    payload: object = field(repr=False)
    reason: str
    index: int


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """Hold what the vendor says, and what became of each event."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    accepted: tuple[AcceptedEvent, ...] = ()
    rejected: tuple[RejectedEvent, ...] = ()
    decoded_body: bytes = field(default=b"", repr=False)


class VendorApi(Protocol):
    """Answer requests as one vendor does, without acting on the world."""

    @property
    def name(self) -> str:
        """Name the vendor in statistics."""

    @property
    def keeps_bodies(self) -> bool:
        """Tell whether bodies are worth keeping in the log of requests."""

    def receive(self, request: ApiRequest) -> ApiAnswer:
        """Decide the answer to *request* and sort its events."""
