"""Amplitude: HTTP V2 (``/2/httpapi``) or Batch Event Upload (``/batch``).

A call becomes one event, a group call two, by one documented mapping; an alias goes to
the User Mapping API (``/usermap``), a form with JSON in it, in order with the rest.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, ClassVar
from urllib.parse import quote_plus, urlsplit

import attrs

from analytics_sdk._config import Secret, base_url, secret
from analytics_sdk._encode import Encoder, make_encoder
from analytics_sdk.destinations.amplitude.answers import (
    MAX_EXCERPT,
    parse,
    read_events,
    read_mapping,
)
from analytics_sdk.destinations.amplitude.mapping import Mapper
from analytics_sdk.errors import ConfigError, Reason
from analytics_sdk.events import CALL_TYPES, Event
from analytics_sdk.interfaces import (
    Hold,
    HttpRequest,
    HttpResponse,
    Limits,
    Part,
    Reading,
)

EVENTS = "events"
USERMAP = "usermap"
"""The routes: one for events of every kind, one for aliases."""

PATHS: Mapping[str, str] = {"http_v2": "/2/httpapi", "batch": "/batch"}

HOSTS: Mapping[str, str] = {
    "us": "https://api2.amplitude.com",
    "eu": "https://api.eu.amplitude.com",
}
"""Where events go, by region (HTTP V2 API: regions)."""

USERMAP_HOSTS: Mapping[str, str] = {
    "us": "https://api.amplitude.com",
    "eu": "https://api.eu.amplitude.com",
}
"""Where aliases go, by region (User Mapping API: regions)."""

MAX_EVENTS = 2_000
MAX_BATCH_BYTES: Mapping[str, int] = {"http_v2": 1_000_000, "batch": 20_000_000}
MAX_USERMAP_BYTES = 1_000_000
"""Amplitude's limits of a request (HTTP V2, Batch Event Upload, User Mapping APIs)."""

PARK_S: Mapping[str, float] = {"http_v2": 30.0, "batch": 15.0}
"""How long Amplitude asks to leave a user or device alone that sends too fast."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_JSON = {"Content-Type": "application/json"}


@functools.cache
def _encoder() -> Encoder:
    """Return the fastest encoder there is, made when the first event needs it."""
    return make_encoder()


def _secret_key(value: object) -> Secret:
    return secret(value, "api_key")


def _bad(field: str, value: object, remedy: str) -> ConfigError:
    return ConfigError(f"{field}: got {type(value).__name__}; {remedy}")


def _word(field: str, value: object, words: Mapping[str, str]) -> str:
    if not isinstance(value, str) or value not in words:
        raise _bad(field, value, f"use one of {', '.join(words)}")
    return value


def _region(value: object) -> str:
    return _word("region", value, HOSTS)


def _endpoint(value: object) -> str:
    return _word("endpoint", value, PATHS)


def _length(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _bad("min_id_length", value, "pass a whole number of at least 1")
    return value


def _filled(field: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _bad(field, value, "pass a str that is not empty")
    return value


def _group_type(value: object) -> str:
    return _filled("group_type", value)


def _template(field: str, value: object) -> str:
    template = _filled(field, value)
    try:
        template.format(name="", category="")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        remedy = "use {name}, {category} and plain text only"
        raise _bad(field, value, remedy) from None
    return template


def _page_template(value: object) -> str:
    return _template("page_template", value)


def _screen_template(value: object) -> str:
    return _template("screen_template", value)


@attrs.frozen(eq=False)
class Amplitude:
    """Send events to Amplitude.

    A delivered event is one that Amplitude counted as ingested.  It recognises a
    repeated message id for seven days on the same device, so that a retry or a
    webhook's second delivery counts once.

    Args:
        api_key: The project's API key.
        region: Where the project lives: ``us`` or ``eu``.
        endpoint: ``http_v2``, or ``batch`` for back-fills: larger requests, higher
            limits for each user, shown later.
        host: The base URL of a proxy, in place of the region's hosts; ``/2/httpapi``
            or ``/batch`` at its end is understood.
        name: Its own name, where a client has several.
        min_id_length: The shortest id that counts as one; Amplitude's own default, 5,
            would throw away the ids of most databases.
        group_type: What group calls are about: ``company``, say.
        page_template: What page events are called, of ``{name}`` and ``{category}``.
        screen_template: The same of screen events.
        allow_http: Whether *host* may be plain http off loopback.
        gzip: Whether bodies may be compressed; None does so for Amplitude's own
            hosts, since proxies have broken on it.

    Raises:
        ConfigError: A setting cannot be right; the message names it.
    """

    kind: ClassVar[str] = "Amplitude"
    aliases: ClassVar[tuple[str, ...]] = ("Actions Amplitude", "Amplitude (Actions)")
    takes: ClassVar[frozenset[str]] = frozenset(CALL_TYPES)

    _api_key: Secret = attrs.field(alias="api_key", converter=_secret_key, repr=False)
    region: str = attrs.field(default="us", converter=_region, kw_only=True)
    endpoint: str = attrs.field(default="http_v2", converter=_endpoint, kw_only=True)
    host: str | None = attrs.field(default=None, kw_only=True)
    name: str = attrs.field(default="Amplitude", kw_only=True)
    min_id_length: int = attrs.field(default=1, converter=_length, kw_only=True)
    group_type: str = attrs.field(default="group", converter=_group_type, kw_only=True)
    page_template: str = attrs.field(
        default="Viewed {name} Page",
        converter=_page_template,
        kw_only=True,
    )
    screen_template: str = attrs.field(
        default="Viewed {name} Screen",
        converter=_screen_template,
        kw_only=True,
    )
    allow_http: bool = attrs.field(default=False, kw_only=True)
    gzip: bool | None = attrs.field(default=None, kw_only=True)
    urls: Mapping[str, str] = attrs.field(init=False, repr=False)
    limits: Mapping[str, Limits] = attrs.field(init=False, repr=False)
    _mapper: Mapper = attrs.field(init=False, repr=False)

    @urls.default
    def _addresses(self) -> Mapping[str, str]:
        path = PATHS[self.endpoint]
        if self.host is None:
            usermap = USERMAP_HOSTS[self.region]
            return {EVENTS: HOSTS[self.region] + path, USERMAP: f"{usermap}/usermap"}
        base = base_url(self.host, allow_http=self.allow_http)
        for known in PATHS.values():
            base = base.removesuffix(known)
        return {EVENTS: base + path, USERMAP: f"{base}/usermap"}

    @limits.default
    def _bounds(self) -> Mapping[str, Limits]:
        envelope, form = (
            len(self.request(route, (), _EPOCH, 1).body) for route in (EVENTS, USERMAP)
        )
        return {
            EVENTS: Limits(
                events=MAX_EVENTS,
                batch_bytes=MAX_BATCH_BYTES[self.endpoint],
                envelope_bytes=envelope,
            ),
            USERMAP: Limits(
                events=MAX_EVENTS,
                batch_bytes=MAX_USERMAP_BYTES,
                envelope_bytes=form,
                separator_bytes=len(quote_plus(",")),
            ),
        }

    @_mapper.default
    def _mapping(self) -> Mapper:
        templates = {"page": self.page_template, "screen": self.screen_template}
        return Mapper(self.min_id_length, self.group_type, templates)

    def encode(self, event: Event) -> Sequence[Part]:
        """Return the event as Amplitude's, refused where no id of it is usable."""
        payload = event.payload
        options = self._options(event)
        if payload["type"] == "alias":
            return (self._encode_alias(payload, options),)
        key, joins = (*event.keys, "", "")[:2]
        mapped = self._mapper.events(payload, options)
        if not mapped:
            return (Part(EVENTS, b"", key, joins, refused=Reason.NO_ID),)
        encode = _encoder().encode
        return [Part(EVENTS, encode(each)[0], key, joins) for each in mapped]

    def _encode_alias(
        self, payload: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Part:
        """Return an alias as it stands in a form: percent-encoded."""
        user, previous = payload.get("userId") or "", payload.get("previousId") or ""
        joins = "" if previous == user else previous
        mapped = self._mapper.mapping(payload, options)
        if mapped is None:
            return Part(USERMAP, b"", user, joins, refused=Reason.NO_ID)
        body = quote_plus(_encoder().encode(mapped)[0]).encode()
        return Part(USERMAP, body, user, joins, barrier=True)

    def _options(self, event: Event) -> Mapping[str, Any]:
        """Return what the selector has to say to this destination."""
        integrations = event.selection.integrations
        for key in (self.name, self.kind, *self.aliases):
            options = integrations.get(key)
            if isinstance(options, dict):
                return options
        return {}

    def request(
        self, route: str, parts: Sequence[Part], sent_at: datetime, attempt: int
    ) -> HttpRequest:
        """Join the parts in one body; *sent_at* is new in every attempt."""
        bodies = [part.body for part in parts]
        key = self._api_key.reveal()
        if route == USERMAP:
            comma, left, right = (quote_plus(each).encode() for each in ",[]")
            mapping = left + comma.join(bodies) + right
            form = f"api_key={quote_plus(key)}&mapping=".encode() + mapping
            return HttpRequest(self.urls[route], dict(_FORM), form)
        utc = sent_at.astimezone(timezone.utc).replace(tzinfo=None)
        end = (
            f'],"options":{{"min_id_length":{self.min_id_length}}},'
            f'"client_upload_time":"{utc.isoformat(timespec="milliseconds")}Z"}}'
        )
        start = f'{{"api_key":{json.dumps(key)},"events":['
        body = start.encode() + b",".join(bodies) + end.encode()
        return HttpRequest(self.urls[route], dict(_JSON), body, self._compresses)

    def read(
        self, route: str, response: HttpResponse, parts: Sequence[Part]
    ) -> Reading:
        """Say what the answer means, by the table in ``docs/amplitude.md``."""
        if 300 <= response.status < 400:
            # Without the query, which may hold secrets.
            target = response.headers.get("location", "").partition("#")[0]
            words = self._excerpt(target.partition("?")[0])
            return Hold(Reason.REDIRECTED, response.retry_after_s, words)
        answer = parse(response, self._excerpt)
        if route == USERMAP:
            return read_mapping(answer)
        return read_events(answer, parts, PARK_S[self.endpoint])

    @property
    def _compresses(self) -> bool:
        if self.gzip is not None:
            return self.gzip
        own = {urlsplit(host).hostname for host in HOSTS.values()}
        return urlsplit(self.urls[EVENTS]).hostname in own

    def _excerpt(self, text: str) -> str:
        """Return the start of *text* as printable ASCII, the key blotted out."""
        key = self._api_key.reveal()
        words = " ".join(text.split()).replace(key, "***")[:MAX_EXCERPT]
        return "".join(each if " " <= each <= "~" else "?" for each in words)
