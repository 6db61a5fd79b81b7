"""Answer as Amplitude's HTTP V2, Batch Event Upload and User Mapping APIs do.

Rules and limits: https://amplitude.com/docs/apis/analytics/http-v2,
https://amplitude.com/docs/apis/analytics/batch-event-upload and
https://amplitude.com/docs/apis/analytics/user-mapping. Where they are silent the
docstrings say what was chosen and why.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from analytics_sdk.collector.payloads import (
    PayloadError,
    decode_content,
    measure_items,
    parse_json,
)
from analytics_sdk.collector.vendor_api import (
    AcceptedEvent,
    ApiAnswer,
    ApiRequest,
)

BATCH_LIMIT_EVENTS = 2_000
BODY_LIMIT_BYTES: Mapping[str, int] = {
    "/2/httpapi": 1_000_000,
    "/batch": 20_000_000,
    "/usermap": 1_000_000,
}
MIN_ID_LENGTH = 5
NESTING_LIMIT = 40

REFUSED_IDS = frozenset(
    {"anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown", ""}
    | {"00000000-0000-0000-0000-000000000000", "{}", "lmy47d", "0", "-1"}
)
RESERVED_EVENTS = frozenset(
    {
        "[Amplitude] Start Session",
        "[Amplitude] End Session",
        "[Amplitude] Revenue",
        "[Amplitude] Revenue (Verified)",
        "[Amplitude] Revenue (Unverified)",
        "[Amplitude] Merged User",
    }
)

_TEXTS = frozenset(
    {"user_id", "device_id", "event_type", "user_agent", "app_version", "version_name"}
    | {"platform", "os_name", "os_version", "device_brand", "device_manufacturer"}
    | {"device_model", "carrier", "country", "region", "city", "dma", "language"}
    | {"productId", "revenueType", "currency", "ip", "idfa", "idfv", "adid"}
    | {"android_id", "android_app_set_id", "insert_id", "partner_id", "library"}
)
_WHOLES = frozenset({"time", "event_id", "session_id", "quantity"})
_NUMBERS = frozenset({"price", "revenue", "location_lat", "location_lng"})
_OBJECTS = frozenset(
    {"event_properties", "user_properties", "groups", "group_properties"}
    | {"plan", "ingestion_metadata"}
)
_KNOWN = (
    _TEXTS | _WHOLES | _NUMBERS | _OBJECTS | frozenset({"$skip_user_properties_sync"})
)
_IDS = ("user_id", "device_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class AmplitudeApi:
    """Speak Amplitude's protocol.

    A request with one bad event is refused as a whole, and nothing of it is kept: so
    Amplitude's libraries understand it, while the documentation does not say.

    Args:
        api_key: the only key to accept; None accepts any.
        strict: refuse unknown event keys too, and events without an insert id, which
            Amplitude takes and then cannot deduplicate.
        names_all: name every bad event, as the Batch API's page shows it; False names
            the first one for each field only, as the HTTP V2 page words it.
        keeps_rest: keep the good events of a refused request all the same, which a
            client cannot know: its repeats are then duplicates.
        throttled: the user and device ids that send too fast: they get 429, and may be
            added and removed at any time.
        over_quota: the ids that have used up their daily quota.
        silenced: the device ids whose events are refused for good.
        retry_after_s: announced with each 429; None announces nothing, as Amplitude.
    """

    api_key: str | None = field(default=None, repr=False)
    strict: bool = False
    names_all: bool = True
    keeps_rest: bool = False
    throttled: Collection[str] = field(default_factory=set)
    over_quota: Collection[str] = field(default_factory=set)
    silenced: Collection[str] = field(default_factory=set)
    retry_after_s: int | None = None

    @property
    def name(self) -> str:
        """Name the vendor in statistics."""
        return "amplitude"

    @property
    def keeps_bodies(self) -> bool:
        """Keep no bodies: the parsed events say it all."""
        return False

    def receive(self, request: ApiRequest) -> ApiAnswer:
        """Decide the answer to *request* and sort its events."""
        limit_bytes = BODY_LIMIT_BYTES.get(request.path)
        if limit_bytes is None:
            return _answer(404, {"error": "Not found"})
        if request.method != "POST":
            return _answer(405, {"error": "Only POST is allowed"})
        try:
            data = decode_content(
                request.headers,
                request.body,
                max_bytes=limit_bytes,
                too_large_status=413,
            )
            if request.path == "/usermap":
                return self._map_users(request.headers, data)
            return self._ingest(request.headers, data)
        except PayloadError as error:
            return _answer(error.status, {"error": error.message})

    def _ingest(self, headers: Mapping[str, str], data: bytes) -> ApiAnswer:
        if _media_type(headers) != "application/json":
            raise PayloadError(400, "", "Content-Type must be application/json")
        document = parse_json(data)
        if not isinstance(document, dict):
            raise PayloadError(400, "", "Invalid JSON request body")
        if refusal := self._refuse_key(document.get("api_key")):
            return refusal
        events = document.get("events")
        if not isinstance(events, list):
            return _missing("events")
        if len(events) > BATCH_LIMIT_EVENTS:
            return _answer(413, {"error": "Payload too large"})
        uploaded = document.get("client_upload_time")
        accepted = [
            AcceptedEvent(event, size, _key(event), uploaded)
            for event, size in zip(events, measure_items(data, "events"), strict=True)
            if isinstance(event, dict)
        ]
        shortest = _shortest_id(document.get("options"))
        refused = self._refuse_events(events, shortest) or self._refuse_senders(events)
        if refused is not None:
            answer, named = refused
            kept = [
                each
                for at, each in enumerate(accepted)
                if at not in named and not self._bars(each.payload)
            ]
            return ApiAnswer(
                answer.status,
                answer.body,
                answer.headers,
                accepted=tuple(kept) if self.keeps_rest else (),
                decoded_body=data,
            )
        success = {"events_ingested": len(events), "payload_size_bytes": len(data)}
        return _answer(200, success, tuple(accepted), data)

    def _bars(self, event: Mapping[str, Any]) -> bool:
        """Tell whether the sender of an event may not send now, or not any more."""
        barred = {*self.throttled, *self.over_quota, *self.silenced}
        return any(event.get(name) in barred for name in _IDS)

    def _refuse_key(self, key: object) -> ApiAnswer | None:
        if not isinstance(key, str) or not key:
            return _missing("api_key")
        if self.api_key is not None and key != self.api_key:
            return _answer(400, {"error": f"Invalid API key: {key}"})
        return None

    def _refuse_events(
        self, events: list[object], shortest: int
    ) -> tuple[ApiAnswer, set[int]] | None:
        """Return the answer to events that are wrong, and where they stand."""
        found: dict[str, dict[str, list[int]]] = {}
        named: set[int] = set()
        for index, event in enumerate(events):
            for kind, name in _event_faults(event, shortest, strict=self.strict):
                named.add(index)
                indexes = found.setdefault(kind, {}).setdefault(name, [])
                if self.names_all or not indexes:
                    indexes.append(index)
        if not found:
            return None
        error = "Invalid field values on some events"
        if "events_with_missing_fields" in found:
            error = "Request missing required field"
        return _answer(400, {"error": error, **found}), named

    def _refuse_senders(self, events: list[Any]) -> tuple[ApiAnswer, set[int]] | None:
        """Return the answer to users and devices that may not send, and where."""
        silenced = _senders(events, "device_id", self.silenced)
        if silenced:
            answer: dict[str, Any] = {
                "error": "Events silenced for device_id",
                "silenced_devices": sorted(set(silenced.values())),
                "silenced_events": sorted(silenced),
            }
            return _answer(400, answer), set(silenced)
        answer = {
            "error": "Too many requests for some devices and users",
            "eps_threshold": 30,
        }
        fast: set[int] = set()
        spent: set[int] = set()
        for name, word in (("user_id", "users"), ("device_id", "devices")):
            throttled = _senders(events, name, self.throttled)
            exceeded = _senders(events, name, self.over_quota)
            answer[f"throttled_{word}"] = _counts(throttled)
            answer[f"exceeded_daily_quota_{word}"] = _counts(exceeded)
            fast.update(throttled)
            spent.update(exceeded)
        if not fast and not spent:
            return None
        refusal = _answer(429, {**answer, "throttled_events": sorted(fast)})
        if self.retry_after_s is not None:
            wait = ("Retry-After", str(self.retry_after_s))
            refusal = ApiAnswer(429, refusal.body, (*refusal.headers, wait))
        return refusal, fast | spent

    def _map_users(self, headers: Mapping[str, str], data: bytes) -> ApiAnswer:
        if _media_type(headers) != "application/x-www-form-urlencoded":
            raise PayloadError(400, "", "the body must be a form")
        form = parse_qs(data.decode("ascii", "replace"), keep_blank_values=True)
        if refusal := self._refuse_key(form.get("api_key", [""])[0]):
            return refusal
        text = form.get("mapping", [""])[0]
        document = parse_json(text.encode())
        mappings: list[Any] = document if isinstance(document, list) else [document]
        if len(mappings) > BATCH_LIMIT_EVENTS:
            return _answer(413, {"error": "Payload too large"})
        if not all(map(_is_mapping, mappings)):
            return _answer(400, {"error": "Invalid mapping"})
        accepted = tuple(
            AcceptedEvent(each, len(json.dumps(each)), _mapping_key(each))
            for each in mappings
        )
        return _answer(200, {}, accepted, data)


def _shortest_id(options: object) -> int:
    """Return the length from which on an id is one, as the request asks for it."""
    asked = options.get("min_id_length") if isinstance(options, dict) else None
    return asked if isinstance(asked, int) else MIN_ID_LENGTH


def _event_faults(
    event: object, shortest: int, *, strict: bool
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with an event: the answer's map, and the field in it."""
    if not isinstance(event, dict):
        yield "events_with_invalid_fields", "event"
        return
    kind = event.get("event_type")
    if kind in (None, ""):
        yield "events_with_missing_fields", "event_type"
    elif isinstance(kind, str) and kind in RESERVED_EVENTS:
        yield "events_with_invalid_fields", "event_type"
    yield from _id_faults(event, shortest)
    for name, value in event.items():
        if not _fits(name, value) or (strict and name not in _KNOWN):
            yield "events_with_invalid_fields", name
    for name in ("user_properties", "group_properties"):
        if _mixes(event.get(name)):
            yield "events_with_invalid_fields", name
    if strict and not event.get("insert_id"):
        yield "events_with_missing_fields", "insert_id"


def _id_faults(event: Mapping[str, Any], shortest: int) -> Iterator[tuple[str, str]]:
    ids = {name: event[name] for name in _IDS if isinstance(event.get(name), str)}
    for name, value in ids.items():
        if value in REFUSED_IDS:
            yield "events_with_invalid_fields", name
    short = [name for name, value in ids.items() if len(value) < shortest]
    if event.get("event_type") != "$groupidentify" and len(short) == len(ids):
        # Too short an id is taken off the event; without any id it cannot stay.
        if short:
            yield "events_with_invalid_id_lengths", short[0]
        else:
            yield "events_with_missing_fields", "user_id"


def _fits(name: str, value: object) -> bool:
    """Tell whether a key that Amplitude knows holds what it must."""
    if value is None:
        return True
    plain = not isinstance(value, bool)
    if name in _TEXTS:
        fits = isinstance(value, str) and (name != "currency" or _is_currency(value))
    elif name in _WHOLES:
        fits = plain and isinstance(value, int)
    elif name in _NUMBERS:
        fits = plain and isinstance(value, int | float)
    elif name in _OBJECTS:
        fits = isinstance(value, dict) and _depth(value) <= NESTING_LIMIT
    else:
        fits = name != "$skip_user_properties_sync" or not plain
    return fits


def _is_currency(value: str) -> bool:
    return len(value) == 3 and value.isascii() and value.isalpha() and value.isupper()


def _depth(value: object) -> int:
    level: list[Any] = [value]
    deep = 0
    while level:
        deep += 1
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
    return deep


def _mixes(properties: object) -> bool:
    """Tell whether operations stand beside plain properties, which no request may."""
    if not isinstance(properties, dict):
        return False
    return len({name.startswith("$") for name in properties}) > 1


def _senders(events: list[Any], name: str, wanted: Collection[str]) -> dict[int, str]:
    """Return, by index, the ids of *events* that are among *wanted*."""
    ids = ((index, event.get(name)) for index, event in enumerate(events))
    return {index: each for index, each in ids if each in wanted}


def _counts(senders: Mapping[int, str]) -> dict[str, int]:
    ids = list(senders.values())
    return {each: ids.count(each) for each in dict.fromkeys(ids)}


def _key(event: Mapping[str, Any]) -> str | None:
    """Return what Amplitude deduplicates by: the device, else the user, and the id."""
    insert_id = event.get("insert_id")
    if not isinstance(insert_id, str):
        return None
    return f"{event.get('device_id') or event.get('user_id')}/{insert_id}"


def _is_mapping(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("user_id"), str):
        return False
    return value.get("unmap") is True or isinstance(value.get("global_user_id"), str)


def _mapping_key(mapping: Mapping[str, Any]) -> str:
    return f"usermap/{mapping['user_id']}/{mapping.get('global_user_id')}"


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _missing(name: str) -> ApiAnswer:
    answer = {"error": "Request missing required field", "missing_field": name}
    return _answer(400, answer)


def _answer(
    status: int,
    members: Mapping[str, Any],
    accepted: tuple[AcceptedEvent, ...] = (),
    data: bytes = b"",
) -> ApiAnswer:
    body = json.dumps({"code": status, **members}).encode()
    return ApiAnswer(status, body, accepted=accepted, decoded_body=data)
