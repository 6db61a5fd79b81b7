"""A destination that counts: what is asked of it, and what its answers meant."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from analytics_sdk import _clock
from analytics_sdk.events import Event
from analytics_sdk.interfaces import (
    AllDelivered,
    Bisect,
    Delivered,
    Destination,
    Hold,
    HttpResponse,
    Limits,
    Part,
    PartResult,
    Parts,
    Reading,
    Rejected,
    Request,
    RetryBatch,
)

PARKED_S = 1.0
"""From this wait on a part is parked, and not just sent again."""


class Metered:
    """Wraps a destination and counts what passes; for demonstrations.

    Requests are made by several senders where a destination has several routes, so
    their counters have a lock; answers are read by one thread.

    Attributes:
        requests: Requests made.
        bytes: Their bodies, before compression.
        retried: Events in requests that were not the first attempt.
        readings: What the answers meant, counted by status and meaning.
        answered_at_s: Monotonic seconds of the last answer.
    """

    def __init__(self, destination: Destination) -> None:
        """Wrap *destination*."""
        self._inner = destination
        self.requests = self.bytes = self.retried = 0
        self.readings: Counter[tuple[int, str]] = Counter()
        self.answered_at_s = 0.0
        # Guards the three counters of requests.
        self._lock = threading.Lock()

    @property
    def kind(self) -> str:
        """That of the wrapped destination, as for all that follow."""
        return self._inner.kind

    @property
    def name(self) -> str:
        """See `kind`."""
        return self._inner.name

    @property
    def aliases(self) -> tuple[str, ...]:
        """See `kind`."""
        return self._inner.aliases

    @property
    def takes(self) -> frozenset[str]:
        """See `kind`."""
        return self._inner.takes

    @property
    def limits(self) -> Mapping[str, Limits]:
        """See `kind`."""
        return self._inner.limits

    def encode(self, event: Event) -> Sequence[Part]:
        """See `kind`."""
        return self._inner.encode(event)

    def request(
        self, route: str, parts: Sequence[Part], sent_at: datetime, attempt: int
    ) -> Request:
        """Count the request."""
        request = self._inner.request(route, parts, sent_at, attempt)
        with self._lock:
            self.requests += 1
            self.bytes += len(request.body)
            if attempt > 1:
                self.retried += len(parts)
        return request

    def read(
        self, route: str, response: HttpResponse, parts: Sequence[Part]
    ) -> Reading:
        """Count what the answer means."""
        reading = self._inner.read(route, response, parts)
        self.readings[response.status, _meaning(reading)] += 1
        self.answered_at_s = _clock.monotonic()
        return reading


def _meaning(reading: Reading) -> str:
    """Return what the client does because of *reading*, in words."""
    if isinstance(reading, AllDelivered):
        return "delivered"
    if isinstance(reading, RetryBatch):
        return f"sent again ({reading.reason})"
    if isinstance(reading, Hold):
        return f"destination on hold ({reading.reason})"
    if isinstance(reading, Bisect):
        return "halved to find the bad event"
    if isinstance(reading, Parts):
        words = sorted({_fate(result) for result in reading.results})
        return f"each by itself: {', '.join(words)}"
    return "split"


def _fate(result: PartResult) -> str:
    if isinstance(result, Delivered):
        return "delivered"
    if isinstance(result, Rejected):
        return "rejected"
    parked = result.after_s is not None and result.after_s >= PARKED_S
    return "parked" if parked else "sent again"
