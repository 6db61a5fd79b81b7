"""Mixpanel: events to ``/import``, profiles to ``/engage``, groups to ``/groups``.

What a call becomes is written in `records` and `profiles`, what an answer means in
`answers`, and the words and numbers of Mixpanel stand in `tables`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import attrs

from analytics_sdk._config import Secret, base_url, secret
from analytics_sdk._encode import Encoder, make_encoder
from analytics_sdk.destinations.mixpanel.answers import (
    MAX_EXCERPT,
    read_gateway,
    read_import,
    read_status,
    read_updates,
)
from analytics_sdk.destinations.mixpanel.profiles import (
    ENGAGE,
    GROUPS,
    IMPORT,
    TRACK,
    Record,
)
from analytics_sdk.destinations.mixpanel.records import Mapper
from analytics_sdk.destinations.mixpanel.tables import (
    AHEAD_MS,
    FIRST_TIME_MS,
    MAX_BATCH_BYTES,
    MAX_EVENT_BYTES,
    MAX_RECORDS,
    MAX_UPDATE_BYTES,
)
from analytics_sdk.errors import ConfigError
from analytics_sdk.events import CALL_TYPES, Event
from analytics_sdk.interfaces import (
    HttpRequest,
    HttpResponse,
    Limits,
    Part,
    Reading,
)

HOSTS: Mapping[str, str] = {
    "us": "https://api.mixpanel.com",
    "eu": "https://api-eu.mixpanel.com",
    "in": "https://api-in.mixpanel.com",
}
"""Mixpanel's own hosts, by region; data sent to another region's is not taken."""

ID_MERGES = ("simplified", "original")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_HOUR_MS = 3_600_000
_TIME_AT = len('{"properties":{"time":')
"""Where an event's time stands in its part, so that it can be read at a glance."""


def _token(value: object) -> Secret:
    return secret(value, "token")


def _account(value: object) -> tuple[Secret, Secret] | None:
    if value is None:
        return None
    if not isinstance(value, tuple) or len(value) != 2:
        message = (
            f"service_account: got {type(value).__name__}; "
            "pass its user name and secret as a tuple of two"
        )
        raise ConfigError(message)
    user, password = (secret(each, "service_account") for each in value)
    return user, password


def _project(value: object) -> str | None:
    text = str(value) if type(value) is int else value
    if text is None or (isinstance(text, str) and text.isascii() and text.isdigit()):
        return text
    message = f"project_id: got {type(value).__name__}; pass the project's number"
    raise ConfigError(message)


def _known(value: object, words: Sequence[str], field: str) -> str:
    if not isinstance(value, str) or value not in words:
        kind = type(value).__name__
        raise ConfigError(f"{field}: got {kind}; use one of {', '.join(words)}")
    return value


def _text(value: object, field: str) -> str:
    if not isinstance(value, str) or not value.strip():
        kind = type(value).__name__
        raise ConfigError(f"{field}: got {kind}; pass a str that is not empty")
    return value


def _known_region(value: object) -> str:
    return _known(value, tuple(HOSTS), "region")


def _known_merge(value: object) -> str:
    return _known(value, ID_MERGES, "id_merge")


def _group_key(value: object) -> str:
    return _text(value, "group_key")


def _page_event(value: object) -> str:
    return _text(value, "page_event")


def _screen_event(value: object) -> str:
    return _text(value, "screen_event")


@attrs.frozen(eq=False)
class Mixpanel:
    """Send events, users and groups to a Mixpanel project.

    Args:
        token: The project's token.
        region: Where the project's data lives: ``us``, ``eu`` or ``in``.
        service_account: A service account's user name and secret, to be used for
            events in place of the token; merging in original mode may ask for it.
        project_id: The project's number; a service account needs it.
        id_merge: How the project merges ids: ``simplified`` or ``original``.
        group_key: The property that holds the ids of groups, as set in the project.
        page_event: The name of the event that a page call becomes; ``{name}`` and
            ``{category}`` are filled in.
        screen_event: The same for a screen call.
        host: The base URL of a proxy, in place of the region's.
        name: Its own name, where a client has several.
        allow_http: Whether *host* may be plain http off loopback.
        gzip: Whether events may be compressed; None does so for Mixpanel's own hosts.
            Updates of profiles never are: Mixpanel does not take them.

    Raises:
        ConfigError: A setting cannot be right.
    """

    kind = "Mixpanel"
    aliases = ("Mixpanel (Actions)", "Mixpanel (Legacy)")

    _token: Secret = attrs.field(converter=_token, alias="token", repr=False)
    region: str = attrs.field(default="us", converter=_known_region, kw_only=True)
    _service_account: tuple[Secret, Secret] | None = attrs.field(
        default=None,
        alias="service_account",
        converter=_account,
        kw_only=True,
        repr=False,
    )
    project_id: str | None = attrs.field(default=None, converter=_project, kw_only=True)
    id_merge: str = attrs.field(
        default="simplified", converter=_known_merge, kw_only=True
    )
    group_key: str = attrs.field(
        default="$group_id", converter=_group_key, kw_only=True
    )
    page_event: str = attrs.field(
        default="Viewed {name} Page", converter=_page_event, kw_only=True
    )
    screen_event: str = attrs.field(
        default="Viewed {name} Screen", converter=_screen_event, kw_only=True
    )
    host: str | None = attrs.field(default=None, kw_only=True)
    name: str = attrs.field(default="Mixpanel", kw_only=True)
    allow_http: bool = attrs.field(default=False, kw_only=True)
    gzip: bool | None = attrs.field(default=None, kw_only=True)
    url: str = attrs.field(init=False)
    takes: frozenset[str] = attrs.field(init=False, repr=False)
    limits: Mapping[str, Limits] = attrs.field(init=False, repr=False)
    _mapper: Mapper = attrs.field(init=False, repr=False)
    _encoder: Encoder = attrs.field(init=False, repr=False, factory=make_encoder)

    @url.default
    def _address(self) -> str:
        if self.host is None:
            return HOSTS[self.region]
        return base_url(self.host, allow_http=self.allow_http).removesuffix("/import")

    @takes.default
    def _calls(self) -> frozenset[str]:
        return frozenset(CALL_TYPES) - (set() if self._original else {"alias"})

    @limits.default
    def _bounds(self) -> Mapping[str, Limits]:
        events = Limits(MAX_RECORDS, MAX_BATCH_BYTES, MAX_EVENT_BYTES, len("[]"))
        updates = events._replace(event_bytes=MAX_UPDATE_BYTES)
        bounds = {IMPORT: events, ENGAGE: updates, GROUPS: updates}
        if self._original:
            bounds[TRACK] = events
        return MappingProxyType(bounds)

    @_mapper.default
    def _mapping(self) -> Mapper:
        return Mapper(
            self._token.reveal(),
            original=self._original,
            group_key=self.group_key,
            page_event=self.page_event,
            screen_event=self.screen_event,
        )

    def __attrs_post_init__(self) -> None:
        """Refuse one half of what belongs together."""
        if (self._service_account is None) != (self.project_id is None):
            message = "project_id: a service account needs it, and nothing else does"
            raise ConfigError(message)

    def encode(self, event: Event) -> Sequence[Part]:
        """Turn a call into events and updates; none where it says nothing to keep."""
        user, anonymous, previous = (
            str(event.payload.get(name) or "")
            for name in ("userId", "anonymousId", "previousId")
        )
        key = user or anonymous
        joins = previous or anonymous
        keys = (key, "" if joins == key else joins)
        records = self._mapper.records(event, self._options(event))
        return [self._part(record, keys) for record in records]

    def _part(self, record: Record, keys: tuple[str, str]) -> Part:
        body = b"" if record.refused else self._encoder.encode(record.content)[0]
        return Part(
            record.route,
            body,
            *keys,
            barrier=record.barrier,
            idempotent=record.idempotent,
            refused=record.refused,
        )

    def _options(self, event: Event) -> Mapping[str, Any]:
        """Return what the selector says beside on and off, the strongest key's."""
        chosen = event.selection.integrations
        for key in (self.name, self.kind, *self.aliases):
            if isinstance(options := chosen.get(key), dict):
                return options
        return {}

    def request(
        self, route: str, parts: Sequence[Part], sent_at: datetime, attempt: int
    ) -> HttpRequest:
        """Join the parts in one JSON array."""
        headers = {"Content-Type": "application/json"}
        bodies = [part.body for part in parts]
        if route == IMPORT:
            headers["Authorization"] = f"Basic {self._credentials}"
            bodies = _not_ahead(bodies, sent_at)
            query = "?strict=1"
            if self.project_id is not None:
                query += f"&project_id={self.project_id}"
        else:
            query = "?verbose=1&ip=0"
        return HttpRequest(
            f"{self.url}/{route}{query}",
            headers,
            b"[" + b",".join(bodies) + b"]",
            route == IMPORT and self._compresses,
            all(part.idempotent for part in parts),
        )

    def read(
        self, route: str, response: HttpResponse, parts: Sequence[Part]
    ) -> Reading:
        """Say what the answer means, by the table in `answers`."""
        reading = read_status(response, self._clean)
        reading = read_gateway(response, parts, reading)
        if reading is not None:
            return reading
        read = read_import if route == IMPORT else read_updates
        return read(response, parts, self._clean)

    @property
    def _original(self) -> bool:
        return self.id_merge == "original"

    @property
    def _credentials(self) -> str:
        user, password = self._token.reveal(), ""
        if self._service_account is not None:
            user, password = (each.reveal() for each in self._service_account)
        return base64.b64encode(f"{user}:{password}".encode()).decode()

    @property
    def _compresses(self) -> bool:
        if self.gzip is not None:
            return self.gzip
        own = {urlsplit(host).hostname for host in HOSTS.values()}
        return urlsplit(self.url).hostname in own

    def _clean(self, text: str) -> str:
        """Return the start of *text* as printable ASCII, the keys blotted out."""
        text = " ".join(text.split())
        secrets = (self._token, *(self._service_account or ()))
        for key in (self._credentials, *(each.reveal() for each in secrets)):
            text = text.replace(key, "***")
        shown = text[:MAX_EXCERPT]
        return "".join(each if " " <= each <= "~" else "?" for each in shown)


def _not_ahead(bodies: list[bytes], sent_at: datetime) -> list[bytes]:
    """Return *bodies* with times that Mixpanel takes, not over an hour ahead.

    A time beyond becomes the beginning of the present hour, so that a repeat, which
    Mixpanel knows by its time among other things, is most often the same.
    """
    now_ms = max(FIRST_TIME_MS, (sent_at - _EPOCH) // timedelta(milliseconds=1))
    latest_ms = now_ms + AHEAD_MS
    present = b"%d" % (now_ms - now_ms % _HOUR_MS)
    found = []
    for body in bodies:
        end = body.index(b",", _TIME_AT)
        late = int(body[_TIME_AT:end]) > latest_ms
        found.append(body[:_TIME_AT] + present + body[end:] if late else body)
    return found
