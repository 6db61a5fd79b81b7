"""Keep what the collector saw: requests, events, copies, rejections."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from analytics_sdk.collector.faults import Fault, status_of
from analytics_sdk.collector.vendor_api import AcceptedEvent, ApiAnswer
from analytics_sdk.collector.wire import Head


@dataclass(frozen=True, slots=True)
class Answered:
    """Hold what a request was told, and what became of its events.

    *status* is None when no usable status was sent; *fault* names the fault that was
    acted out; *events* counts those that were kept.
    """

    status: int | None
    fault: str | None
    events: int


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """Hold one request.

    *body_bytes* counts the body as it travelled, *decoded_bytes* after gzip; both are 0
    when it was never read. *body* is kept for recorders only.
    """

    number: int
    connection: int
    arrived_at: float
    head: Head
    body_bytes: int
    decoded_bytes: int
    answered: Answered
    body: bytes | None = field(repr=False)

    @property
    def method(self) -> str:
        """Return the method."""
        return self.head.method

    @property
    def path(self) -> str:
        """Return the path without its query."""
        return self.head.path

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers under lower-case names."""
        return self.head.headers

    @property
    def status(self) -> int | None:
        """Return the status that was sent, None when no usable one was."""
        return self.answered.status

    @property
    def fault(self) -> str | None:
        """Return the kind of the fault that was acted out."""
        return self.answered.fault


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """Hold one event that was received, and where it came from."""

    number: int
    request: int
    arrived_at: float
    raw_bytes: int
    key: str | None
    sent_at: str | None
    payload: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SeenRejection:
    """Hold one event that was answered 2xx and thrown away, with the reason."""

    request: int
    index: int
    reason: str
    payload: object = field(repr=False)


class Ledger:
    """Keep everything in memory, in order of arrival; safe from any thread."""

    def __init__(self, vendor: str, *, announce: TextIO | None = None) -> None:
        """Keep the requests to *vendor*; write duplicates to *announce*, if given."""
        self._vendor = vendor
        self._announce = announce
        # Guards every list and counter below; waiters are woken after each request.
        self._changed = threading.Condition()
        self._forget()

    def _forget(self) -> None:
        self._requests: list[SeenRequest] = []
        self._events: list[SeenEvent] = []
        self._rejected: list[SeenRejection] = []
        self._first_by_key: dict[str, SeenEvent] = {}
        self._duplicates: Counter[str] = Counter()
        self._changed_duplicates: Counter[str] = Counter()
        self._connections = 0

    def reset(self) -> None:
        """Forget everything."""
        with self._changed:
            self._forget()
            self._changed.notify_all()

    def open_connection(self) -> int:
        """Return the number of a new connection, counted from 1."""
        with self._changed:
            self._connections += 1
            return self._connections

    def record(
        self,
        answer: ApiAnswer,
        fault: Fault | None,
        *,
        connection: int,
        head: Head,
        body_bytes: int,
        keep_body: bool,
    ) -> None:
        """Keep one request; called before its answer leaves, so no reader is early.

        Args:
            answer: what the vendor decided.
            fault: what goes wrong instead; it says whether the events count.
            connection: the number of the connection.
            head: the head of the request.
            body_bytes: the size of the body as it travelled.
            keep_body: whether to keep the decoded body too.
        """
        now = time.time()
        stores = fault is None or fault.store
        accepted = answer.accepted if stores else ()
        answered = Answered(
            status_of(fault, answer.status),
            None if fault is None else type(fault).__name__,
            len(accepted),
        )
        with self._changed:
            number = len(self._requests) + 1
            self._requests.append(
                SeenRequest(
                    number=number,
                    connection=connection,
                    arrived_at=now,
                    head=head,
                    body_bytes=body_bytes,
                    decoded_bytes=len(answer.decoded_body),
                    answered=answered,
                    body=answer.decoded_body if keep_body else None,
                )
            )
            for event in accepted:
                self._keep(event, number, now)
            self._rejected.extend(
                SeenRejection(number, event.index, event.reason, event.payload)
                for event in (answer.rejected if stores else ())
            )
            self._changed.notify_all()

    def _keep(self, event: AcceptedEvent, request: int, now: float) -> None:
        seen = SeenEvent(
            number=len(self._events) + 1,
            request=request,
            arrived_at=now,
            raw_bytes=event.raw_bytes,
            key=event.key,
            sent_at=event.sent_at,
            payload=event.payload,
        )
        self._events.append(seen)
        if event.key is None:
            return
        first = self._first_by_key.setdefault(event.key, seen)
        if first is seen:
            return
        self._duplicates[event.key] += 1
        changed = _canonical(first.payload) != _canonical(event.payload)
        if changed:
            self._changed_duplicates[event.key] += 1
        if self._announce is not None:
            what = "with another payload" if changed else "with the same payload"
            where = f"first in request {first.request}, again in request {request}"
            self._announce.write(f"duplicate {event.key}: {where}, {what}\n")

    @property
    def requests(self) -> list[SeenRequest]:
        """Copy the list of requests."""
        with self._changed:
            return list(self._requests)

    @property
    def records(self) -> list[SeenEvent]:
        """Copy the list of events, copies included."""
        with self._changed:
            return list(self._events)

    @property
    def rejected(self) -> list[SeenRejection]:
        """Copy the list of events that were answered 2xx and thrown away."""
        with self._changed:
            return list(self._rejected)

    @property
    def duplicates(self) -> Counter[str]:
        """Count the surplus copies of each key."""
        with self._changed:
            return self._duplicates.copy()

    @property
    def changed_duplicates(self) -> Counter[str]:
        """Count the surplus copies that differ from the first of their key."""
        with self._changed:
            return self._changed_duplicates.copy()

    def unique_records(self) -> list[SeenEvent]:
        """Return the first event of each key, and every event without one."""
        with self._changed:
            first = self._first_by_key
            return [e for e in self._events if e.key is None or first[e.key] is e]

    def wait_until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until *holds* is true after some request, or *timeout_s* is over."""
        with self._changed:
            return self._changed.wait_for(holds, timeout_s)

    def stats(self) -> dict[str, Any]:
        """Sum up in plain, JSON-able values."""
        with self._changed:
            kinds = Counter(str(e.payload.get("type")) for e in self._events)
            statuses = Counter(
                "none" if r.status is None else str(r.status) for r in self._requests
            )
            return {
                "vendor": self._vendor,
                "connections": self._connections,
                "requests": len(self._requests),
                "by_status": dict(statuses),
                "faults": dict(Counter(r.fault for r in self._requests if r.fault)),
                "body_bytes": sum(r.body_bytes for r in self._requests),
                "decoded_bytes": sum(r.decoded_bytes for r in self._requests),
                "events": len(self._events),
                "unique_events": len(self._events) - self._duplicates.total(),
                "duplicates": self._duplicates.total(),
                "changed_duplicates": self._changed_duplicates.total(),
                "without_key": sum(e.key is None for e in self._events),
                "by_type": dict(kinds),
                "rejected": len(self._rejected),
                "rejected_by_reason": dict(Counter(r.reason for r in self._rejected)),
            }


def _canonical(payload: Mapping[str, Any]) -> str:
    # Not `==`: in Python True equals 1, and a copy that differs so is another payload.
    return json.dumps(payload, sort_keys=True)
