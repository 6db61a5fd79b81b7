"""Answer as Segment's HTTP tracking API is documented to answer.

Rules and limits: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/
(endpoints, authentication, errors) and https://segment.com/docs/connections/spec/common/
(fields). Where the documentation is silent the docstrings say what was chosen and why.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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
    RejectedEvent,
)

EVENT_LIMIT_BYTES = 32_768
BODY_LIMIT_BYTES = 500_000
BATCH_LIMIT_EVENTS = 2_500
MESSAGE_ID_LIMIT_CHARACTERS = 100

_KINDS = ("identify", "track", "page", "screen", "group", "alias")
_SINGLE_PATHS = {f"/v1/{kind}": kind for kind in _KINDS}
# The last two are older names of the first, still answered.
_BATCH_PATHS = frozenset({"/v1/batch", "/v1/import", "/v1/b"})
_REQUIRED_TEXT = {
    "track": ("event", "no_event_name"),
    "group": ("groupId", "no_group_id"),
    "alias": ("previousId", "no_previous_id"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentApi:
    """Speak Segment's protocol, politely (as the real one) or strictly (for tests).

    The real service answers 200 to nearly everything and discards what it cannot use;
    the collector then keeps it in `rejected`. With *strict* such a request is answered
    400 instead and names the index of the first bad event, and nothing of it is kept.

    Args:
        write_key: the only key to accept; None accepts any, and none at all.
        unknown_key: what a wrong or missing key gets when *write_key* is set: "accept"
            answers 200 and discards the events, as Segment does; "401" refuses. None
            means "401" with *strict* and "accept" without.
        strict: refuse instead of silently discarding.
    """

    write_key: str | None = field(default=None, repr=False)
    unknown_key: Literal["accept", "401"] | None = None
    strict: bool = False

    @property
    def name(self) -> str:
        """Name the vendor in statistics."""
        return "segment"

    @property
    def keeps_bodies(self) -> bool:
        """Keep no bodies: the parsed events say it all."""
        return False

    def receive(self, request: ApiRequest) -> ApiAnswer:
        """Decide the answer to *request* and sort its events."""
        kind = _SINGLE_PATHS.get(request.path)
        if kind is None and request.path not in _BATCH_PATHS:
            return _refusal(404, "not_found", "no such endpoint")
        if request.method != "POST":
            answer = _refusal(405, "method", "only POST is allowed")
            return ApiAnswer(
                answer.status, answer.body, (*answer.headers, ("Allow", "POST"))
            )
        try:
            return self._receive(request, kind)
        except PayloadError as error:
            return _refusal(error.status, error.code, error.message)

    def _receive(self, request: ApiRequest, kind: str | None) -> ApiAnswer:
        if self.strict and not _is_json(request.headers):
            raise PayloadError(
                400, "content_type", "Content-Type must be application/json"
            )
        # 400, not 413: the documentation lists an oversized request under 400. It does
        # not say whether the limit is meant before or after gzip; every official
        # library counts before compressing, so that is the reading held here.
        data = decode_content(
            request.headers,
            request.body,
            max_bytes=BODY_LIMIT_BYTES,
            too_large_status=400,
        )
        document = parse_json(data)
        if not isinstance(document, dict):
            raise PayloadError(400, "invalid_request", "body must be a JSON object")
        if kind is None:
            items, sizes = _batch_items(document, data)
        else:
            items, sizes = [_single_item(document, kind)], [len(data.strip())]
        for index, size in enumerate(sizes):
            if size > EVENT_LIMIT_BYTES:
                message = f"event is over {EVENT_LIMIT_BYTES} bytes"
                return _refusal(400, "event_too_large", message, data=data, index=index)
        if not self._knows_key(request.headers, document):
            return self._unknown_key(items, data)
        if len(items) > BATCH_LIMIT_EVENTS:
            return self._discard(items, "too_many_events", data)
        return self._sort(items, sizes, document.get("sentAt"), data)

    def _sort(
        self, items: list[object], sizes: list[int], sent_at: object, data: bytes
    ) -> ApiAnswer:
        accepted: list[AcceptedEvent] = []
        rejected: list[RejectedEvent] = []
        moment = sent_at if isinstance(sent_at, str) else None
        for index, (item, size) in enumerate(zip(items, sizes, strict=True)):
            reason = self._reason_to_reject(item)
            if isinstance(item, dict) and reason is None:
                key = item.get("messageId")
                accepted.append(AcceptedEvent(item, size, key, moment))
            else:
                rejected.append(RejectedEvent(item, reason or "not_an_object", index))
        if rejected and self.strict:
            first = rejected[0]
            return _refusal(
                400, first.reason, "event is invalid", data=data, index=first.index
            )
        return _success(tuple(accepted), tuple(rejected), data)

    def _reason_to_reject(self, item: object) -> str | None:
        if not isinstance(item, dict):
            return "not_an_object"
        kind = item.get("type")
        if kind not in _KINDS:
            return "unknown_type"
        owners = ("userId",) if kind == "alias" else ("userId", "anonymousId")
        present = [item[name] for name in owners if item.get(name) is not None]
        if not present:
            return "no_user_anon_id"
        if not all(_is_text(value) for value in present):
            return "id_is_not_text"
        required = _REQUIRED_TEXT.get(kind)
        if required is not None and not _is_text(item.get(required[0])):
            return required[1]
        return self._message_id_fault(item.get("messageId"))

    def _message_id_fault(self, message_id: object) -> str | None:
        # The service assigns an id where one is missing, and then cannot deduplicate:
        # no client should rely on that, so *strict* does not let it pass.
        if message_id is None:
            return "no_message_id" if self.strict else None
        if not _is_text(message_id):
            return "message_id_is_not_text"
        if len(str(message_id)) > MESSAGE_ID_LIMIT_CHARACTERS:
            return "message_id_too_long"
        return None

    def _knows_key(
        self, headers: Mapping[str, str], document: Mapping[str, Any]
    ) -> bool:
        if self.write_key is None:
            return True
        presented = [_basic_user(headers), document.get("writeKey")]
        keys = [key for key in presented if key is not None]
        # Two keys that disagree are a client's mistake, whichever of them is right.
        return bool(keys) and all(key == self.write_key for key in keys)

    def _unknown_key(self, items: list[object], data: bytes) -> ApiAnswer:
        policy = self.unknown_key or ("401" if self.strict else "accept")
        if policy == "401":
            return _refusal(401, "unknown_write_key", "write key is unknown")
        return _discarded(items, "unknown_write_key", data)

    def _discard(self, items: list[object], reason: str, data: bytes) -> ApiAnswer:
        if self.strict:
            message = f"batch is over {BATCH_LIMIT_EVENTS} events"
            return _refusal(400, reason, message, data=data, index=BATCH_LIMIT_EVENTS)
        return _discarded(items, reason, data)


def _batch_items(
    document: Mapping[str, Any], data: bytes
) -> tuple[list[object], list[int]]:
    batch = document.get("batch")
    if not isinstance(batch, list):
        raise PayloadError(400, "invalid_request", "batch must be a list")
    shared = {
        name: value
        for name in ("context", "integrations")
        if isinstance(value := document.get(name), dict)
    }
    return [_merge(shared, item) for item in batch], measure_items(data, "batch")


def _merge(shared: Mapping[str, dict[str, Any]], item: object) -> object:
    if not shared or not isinstance(item, dict):
        return item
    merged = dict(item)
    for name, value in shared.items():
        own = item.get(name)
        merged[name] = {**value, **own} if isinstance(own, dict) else dict(value)
    return merged


def _single_item(document: Mapping[str, Any], kind: str) -> dict[str, Any]:
    item = {**document, "type": kind}
    for name in ("writeKey", "sentAt"):
        item.pop(name, None)
    return item


def _is_json(headers: Mapping[str, str]) -> bool:
    media_type = headers.get("content-type", "").partition(";")[0]
    return media_type.strip().lower() == "application/json"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _basic_user(headers: Mapping[str, str]) -> str | None:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return decoded.partition(":")[0]


def _success(
    accepted: tuple[AcceptedEvent, ...],
    rejected: tuple[RejectedEvent, ...],
    data: bytes,
) -> ApiAnswer:
    return ApiAnswer(
        200,
        b'{"success": true}',
        accepted=accepted,
        rejected=rejected,
        decoded_body=data,
    )


def _discarded(items: list[object], reason: str, data: bytes) -> ApiAnswer:
    rejected = (RejectedEvent(item, reason, i) for i, item in enumerate(items))
    return _success((), tuple(rejected), data)


def _refusal(
    status: int, code: str, message: str, *, data: bytes = b"", index: int | None = None
) -> ApiAnswer:
    answer: dict[str, object] = {"success": False, "code": code, "message": message}
    if index is not None:
        answer["index"] = index
    return ApiAnswer(status, json.dumps(answer).encode(), decoded_body=data)
