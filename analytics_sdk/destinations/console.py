"""Standard output as a destination: see the events while you develop."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import MappingProxyType

import attrs

from analytics_sdk.errors import Reason
from analytics_sdk.events import CALL_TYPES, Event
from analytics_sdk.interfaces import (
    AllDelivered,
    HttpResponse,
    Limits,
    Part,
    Reading,
    RetryBatch,
    WriteRequest,
)

ROUTE = "lines"


@attrs.frozen(kw_only=True, eq=False)
class Console:
    """Print every event on a line of its own, as compact JSON.

    Args:
        name: Its own name, where a client has several.
    """

    kind = "Console"
    aliases = ()
    takes = frozenset(CALL_TYPES)
    verbatim = True
    """Its parts are the events as they are, so that their size can be judged early."""
    orders = "all"
    """An urgent event brings along all that was called before it, whoever's it is."""
    limits = MappingProxyType(
        {ROUTE: Limits(events=1_000, batch_bytes=4_194_304, envelope_bytes=1)}
    )

    name: str = "Console"

    def encode(self, event: Event) -> Sequence[Part]:
        """Return the event as it is; one key for all keeps the calls' order."""
        return (Part(ROUTE, event.raw, self.name),)

    def request(
        self, route: str, parts: Sequence[Part], sent_at: datetime, attempt: int
    ) -> WriteRequest:
        """Return the lines to print, each with its line feed."""
        return WriteRequest(None, b"\n".join([part.body for part in parts]) + b"\n")

    def read(
        self, route: str, response: HttpResponse, parts: Sequence[Part]
    ) -> Reading:
        """Take 200 for printed; whatever else happened, print the lines again."""
        if response.status == 200:
            return AllDelivered()
        return RetryBatch(Reason.SERVER_ERROR, response.retry_after_s)
