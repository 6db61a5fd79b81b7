"""Segment, and servers that speak its protocol: ``POST /v1/batch``.

An event's JSON is what Segment takes, so a request is the events as they are, joined
by commas in an envelope.  Nothing is parsed or encoded twice; where a direct
destination delivers an event, only the last member, ``integrations``, is replaced.

What the answers mean (Segment's HTTP API and the answers that its own libraries retry;
law 8: an answer that no event can cause holds the lane and costs no event)::

    2xx  {"success": true}, {"ok": true}, OK   delivered
    2xx  "ok" or "success" false, or "errors"  bisect: some event was not taken
    2xx  anything else, also nothing           retry, unreadable: not Segment
    3xx                                        hold, redirected; never followed
    400 422 and other 4xx                      bisect: some event is bad
    401 402 403 404 405 and their like         hold, configuration
    408 410 425 429 460                        retry, after Retry-After
    413                                        split
    501 505 511                                hold, configuration: not Segment
    other 5xx                                  retry, after Retry-After
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from urllib.parse import urlsplit

import attrs

from analytics_sdk._config import Secret, base_url, secret
from analytics_sdk._head import read_head
from analytics_sdk.errors import ConfigError, Reason
from analytics_sdk.events import CALL_TYPES, Event
from analytics_sdk.interfaces import (
    AllDelivered,
    Bisect,
    Hold,
    HttpRequest,
    HttpResponse,
    Limits,
    Part,
    Reading,
    RetryBatch,
    Split,
)

ROUTE = "batch"

HOSTS: Mapping[str, str] = {
    "us": "https://api.segment.io",
    "eu": "https://events.eu1.segmentapis.com",
}
"""Segment's own hosts, by region (docs: guides/regional-segment)."""

MAX_EVENTS = 2_500
MAX_BATCH_BYTES = 500_000
MAX_EVENT_BYTES = 32_768
"""Segment's limits (docs: HTTP API); more events get a 200 and are not taken."""

MAX_EXCERPT = 200

TRANSIENT = frozenset({408, 410, 425, 429, 460})
CONFIGURATION = frozenset(
    {401, 402, 403, 404, 405, 406, 407, 411, 414, 415, 417, 421, 426, 428, 431, 451}
    | {501, 505, 511}
)
"""What speaks of the key, the address or the network, and never of one event."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MEMBER = b',"integrations":'
_CACHED_TAIL_BYTES = 512


def _muted_tail(tail: bytes, names: tuple[str, ...]) -> bytes:
    integrations = json.loads(tail[len(_MEMBER) : -1])
    integrations.update(dict.fromkeys(names, False))
    return _MEMBER + json.dumps(integrations, separators=(",", ":")).encode() + b"}"


_cached_muted_tail = functools.lru_cache(maxsize=256)(_muted_tail)


def mute(raw: bytes, tail: bytes, names: tuple[str, ...]) -> bytes:
    """Return the event *raw* with *names* turned off in its ``integrations``.

    Args:
        raw: The encoded event; it stays as it is.
        tail: Its last member and closing brace.  An event with another end is
            returned unchanged: a second copy is a smaller fault than a broken event.
        names: What Segment's cloud must not serve, in the catalogue's words.
    """
    if not raw.endswith(tail):
        return raw
    short = len(tail) <= _CACHED_TAIL_BYTES
    make = _cached_muted_tail if short else _muted_tail
    return raw[: -len(tail)] + make(tail, names)


def _secret_key(value: object) -> Secret:
    return secret(value, "write_key")


def _known_region(value: object) -> str:
    if not isinstance(value, str) or value not in HOSTS:
        message = f"region: got {type(value).__name__}; use one of {', '.join(HOSTS)}"
        raise ConfigError(message)
    return value


@attrs.frozen(eq=False)
class Segment:
    """Send events to Segment, or to a server that speaks its protocol.

    Segment answers 200 for an unknown write key, a wrong region and events without
    ids: a delivered event is one that Segment *accepted for processing*.

    Args:
        write_key: The source's write key.
        region: Where the workspace lives: ``us`` or ``eu``.
        host: The base URL of a proxy or of another server, in place of the region's;
            a trailing ``/v1`` or ``/v1/batch`` is understood.
        name: Its own name, where a client has several.
        suppress_direct: Whether Segment's cloud is told to send no second copy of
            what a direct destination of the same client delivers.
        allow_http: Whether *host* may be plain http off loopback.
        gzip: Whether bodies may be compressed; None does so for Segment's own hosts.

    Raises:
        ConfigError: The key, the region or the host cannot be right.
    """

    kind = "Segment.io"
    aliases = ("Segment",)
    takes = frozenset(CALL_TYPES)
    verbatim = True
    """Its parts are the events as they are, so that their size can be judged early."""

    _write_key: Secret = attrs.field(
        alias="write_key", converter=_secret_key, repr=False
    )
    region: str = attrs.field(default="us", converter=_known_region, kw_only=True)
    host: str | None = attrs.field(default=None, kw_only=True)
    name: str = attrs.field(default="Segment.io", kw_only=True)
    suppress_direct: bool = attrs.field(default=True, kw_only=True)
    allow_http: bool = attrs.field(default=False, kw_only=True)
    gzip: bool | None = attrs.field(default=None, kw_only=True)
    url: str = attrs.field(init=False)
    limits: Mapping[str, Limits] = attrs.field(init=False, repr=False)

    @url.default
    def _address(self) -> str:
        if self.host is None:
            return HOSTS[self.region] + "/v1/batch"
        base = base_url(self.host, allow_http=self.allow_http)
        return base.removesuffix("/v1/batch").removesuffix("/v1") + "/v1/batch"

    @limits.default
    def _bounds(self) -> Mapping[str, Limits]:
        return {
            ROUTE: Limits(
                events=MAX_EVENTS,
                batch_bytes=MAX_BATCH_BYTES,
                event_bytes=MAX_EVENT_BYTES,
                envelope_bytes=sum(map(len, self._envelope(_EPOCH))),
            )
        }

    def encode(self, event: Event) -> Sequence[Part]:
        """Return the event as it is, but for what a direct destination serves."""
        head = read_head(event.raw)
        key, joins = (*head.keys, "", "")[:2]
        body = event.raw
        selection = event.selection
        if self.suppress_direct and (names := selection.muted.get(head.type)):
            body = mute(body, selection.tail, names)
        refused = Reason.TOO_LARGE if len(body) > MAX_EVENT_BYTES else None
        barrier = head.type == "alias"
        part = Part(ROUTE, body, key, joins, barrier, refused=refused)
        return (part,)

    def request(
        self, route: str, parts: Sequence[Part], sent_at: datetime, attempt: int
    ) -> HttpRequest:
        """Join the events in one body; *sent_at* is new in every attempt.

        The key goes into the header and into the body: servers of the protocol
        differ in which of the two they read.
        """
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Basic {self._credentials}",
        }
        if attempt > 1:
            headers["X-Retry-Count"] = str(attempt - 1)
        bodies = [part.body for part in parts] or [b""]
        start, end = self._envelope(sent_at)
        bodies[0] = start + bodies[0]
        bodies[-1] += end
        return HttpRequest(self.url, headers, b",".join(bodies), self._compresses)

    def read(
        self, route: str, response: HttpResponse, parts: Sequence[Part]
    ) -> Reading:
        """Say what the answer means, by the table at the top of this module."""
        status, after_s = response.status, response.retry_after_s
        excerpt = self._excerpt(response.body)
        if 200 <= status < 300:
            reading = _read_success(response.body, after_s, excerpt)
        elif 300 <= status < 400:
            target = self._excerpt(_location(response.headers))
            reading = Hold(Reason.REDIRECTED, after_s, target)
        elif status in CONFIGURATION:
            reading = Hold(Reason.CONFIGURATION, after_s, excerpt)
        elif status == 413:
            reading = Split(excerpt)
        elif status in TRANSIENT or 500 <= status < 600:
            limited = status == 429
            reason = Reason.RATE_LIMITED if limited else Reason.SERVER_ERROR
            reading = RetryBatch(reason, after_s, excerpt)
        elif 400 <= status < 500:
            reading = Bisect(excerpt)
        else:
            reading = RetryBatch(Reason.UNREADABLE, after_s, excerpt)
        return reading

    @property
    def _credentials(self) -> str:
        pair = f"{self._write_key.reveal()}:"
        return base64.b64encode(pair.encode()).decode()

    @property
    def _compresses(self) -> bool:
        if self.gzip is not None:
            return self.gzip
        own = {urlsplit(host).hostname for host in HOSTS.values()}
        return urlsplit(self.url).hostname in own

    def _envelope(self, sent_at: datetime) -> tuple[bytes, bytes]:
        """Return what stands before and behind the events."""
        utc = sent_at.astimezone(timezone.utc).replace(tzinfo=None)
        instant = f'"{utc.isoformat(timespec="milliseconds")}Z"'
        key = json.dumps(self._write_key.reveal())
        end = f'],"sentAt":{instant},"writeKey":{key}}}'
        return b'{"batch":[', end.encode()

    def _excerpt(self, body: bytes) -> str:
        """Return the start of *body* as printable ASCII, the key blotted out."""
        text = " ".join(body.decode("ascii", "replace").split())
        for key in (self._credentials, self._write_key.reveal()):
            text = text.replace(key, "***")
        shown = text[:MAX_EXCERPT]
        return "".join(each if " " <= each <= "~" else "?" for each in shown)


def _read_success(body: bytes, after_s: float | None, excerpt: str) -> Reading:
    """Tell a success from an answer that only looks like one by its status.

    Segment and Hightouch say ``success``, Jitsu ``ok`` and ``errors`` (behind a 200),
    RudderStack the bare text ``OK``.
    """
    if body.strip().upper() == b"OK":
        return AllDelivered()
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        said = [answer[name] for name in ("success", "ok") if name in answer]
        if any(each is False for each in said) or answer.get("errors"):
            return Bisect(excerpt)
        if any(each is True for each in said):
            return AllDelivered()
    return RetryBatch(Reason.UNREADABLE, after_s, excerpt)


def _location(headers: Mapping[str, str]) -> bytes:
    """Return where a redirect points, without the query, which may hold secrets."""
    target = headers.get("location", "")
    return target.partition("#")[0].partition("?")[0].encode("ascii", "replace")
