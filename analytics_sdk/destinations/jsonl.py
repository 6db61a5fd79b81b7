"""A file as a destination: one event a line, to keep, to load, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePath
from types import MappingProxyType

import attrs

from analytics_sdk.errors import ConfigError, Reason
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


def _checked_path(value: object) -> str:
    if not isinstance(value, (str, PurePath)):
        message = f"path: got {type(value).__name__}; pass a str or a Path"
        raise ConfigError(message)
    if not str(value) or "\0" in str(value):
        message = "path: empty, or holds a null character; name a file"
        raise ConfigError(message)
    return str(PurePath(value))


@attrs.frozen(eq=False)
class JsonLines:
    """Append every event to a file, on a line of its own, as compact JSON.

    Args:
        path: The file.  A relative path counts from the directory that the process is
            in when it writes, so a program that changes its directory gives an
            absolute one.
        name: Its own name, where a client has several.

    Raises:
        ConfigError: *path* is empty or no path.
    """

    kind = "JsonLines"
    aliases = ()
    takes = frozenset(CALL_TYPES)
    verbatim = True
    """Its parts are the events as they are, so that their size can be judged early."""
    orders = "all"
    """An urgent event brings along all that was called before it, whoever's it is."""
    limits = MappingProxyType(
        {ROUTE: Limits(events=1_000, batch_bytes=4_194_304, envelope_bytes=1)}
    )

    path: str = attrs.field(converter=_checked_path)
    name: str = attrs.field(default="JsonLines", kw_only=True)

    def encode(self, event: Event) -> Sequence[Part]:
        """Return the event as it is; one key for all keeps the calls' order."""
        return (Part(ROUTE, event.raw, self.name),)

    def request(
        self, route: str, parts: Sequence[Part], sent_at: datetime, attempt: int
    ) -> WriteRequest:
        """Return the lines to append, each with its line feed."""
        body = b"\n".join([part.body for part in parts]) + b"\n"
        return WriteRequest(self.path, body)

    def read(
        self, route: str, response: HttpResponse, parts: Sequence[Part]
    ) -> Reading:
        """Take 200 for written; whatever else happened, write the lines again."""
        if response.status == 200:
            return AllDelivered()
        return RetryBatch(Reason.SERVER_ERROR, response.retry_after_s)
