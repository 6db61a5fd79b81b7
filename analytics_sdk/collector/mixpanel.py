"""Answer as Mixpanel's ingestion API is documented to answer.

Rules and limits: https://developer.mixpanel.com/reference (import events, track events,
user profiles, group profiles, identity). Where the pages are silent, or differ, the
docstrings say what was chosen and why.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
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
    RejectedEvent,
)

RECORDS_LIMIT = 2_000
BODY_LIMIT_BYTES = 2_097_152
RECORD_LIMIT_BYTES = 1_048_576
INSERT_ID_LIMIT_CHARACTERS = 36
KEYS_LIMIT = 255
DEPTH_LIMIT = 3
EARLIEST_MS = 31_536_000_000
LARGEST_SECONDS = 9_999_999_999

_FORBIDDEN = frozenset(
    {"00000000-0000-0000-0000-000000000000", "anon", "anonymous", "nil", "none", "null"}
    | {"n/a", "na", "undefined", "unknown", "<nil>", "0", "-1", "true", "false", "[]"}
    | {"{}"}
)
_INSERT_ID = re.compile(rf"[A-Za-z0-9-]{{1,{INSERT_ID_LIMIT_CHARACTERS}}}")
_USER_OPERATIONS = frozenset(
    {"$set", "$set_once", "$add", "$append", "$union", "$remove", "$unset", "$delete"}
)
_GROUP_OPERATIONS = _USER_OPERATIONS - {"$add", "$append"}
_MERGE = "$merge"

Check = Callable[[Any], "tuple[str, str] | None"]
"""Returns the field and the message of what is wrong with a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixpanelApi:
    """Speak Mixpanel's protocol, as strictly as ``strict=1`` asks for.

    Args:
        token: the only project token to accept; None accepts any.
        service_account: a service account's user name and secret, accepted for
            ``/import`` beside the token.
        id_field: what a failed record calls the ``$insert_id`` that it names: one page
            of the documentation says so, another ``insert_id``; None leaves it out.
        with_index: whether a failed record names its index.
        zero_means: what a 0 for a request of several updates says: that "none" of them
            was taken (the ingestion pages), or that "some" were not (the identity
            pages).
        verbose: answer JSON bodies with an object, as ``verbose=1`` asks for, and not
            with a bare digit; a form says for itself which it wants.
        latest_ms: reject events after this time; None knows no future.
    """

    token: str | None = field(default=None, repr=False)
    service_account: tuple[str, str] | None = field(default=None, repr=False)
    id_field: Literal["$insert_id", "insert_id"] | None = "$insert_id"
    with_index: bool = True
    zero_means: Literal["none", "some"] = "none"
    verbose: bool = True
    latest_ms: int | None = None

    @property
    def name(self) -> str:
        """Name the vendor in statistics."""
        return "mixpanel"

    @property
    def keeps_bodies(self) -> bool:
        """Keep no bodies: the parsed records say it all."""
        return False

    def receive(self, request: ApiRequest) -> ApiAnswer:
        """Decide the answer to *request* and sort its records."""
        path = request.path.removesuffix("/")
        checks: dict[str, Check] = {
            "/track": self._track_fault,
            "/engage": _user_fault,
            "/groups": _group_fault,
        }
        if path != "/import" and path not in checks:
            return _refusal(404, "Not Found", "no such endpoint")
        if request.method != "POST":
            return _refusal(405, "Method Not Allowed", "only POST is allowed")
        try:
            if path == "/import":
                return self._import(request)
            return self._update(request, checks[path])
        except PayloadError as error:
            status = (
                "Request Entity Too Large" if error.status == 413 else "Bad Request"
            )
            return _refusal(error.status, status, error.message)

    # -- /import -----------------------------------------------------------

    def _import(self, request: ApiRequest) -> ApiAnswer:
        if not self._may_import(request.headers):
            return _refusal(401, "Unauthorized", "Unauthorized")
        data = _records_json(request)[0]
        records, sizes = _listed(data)
        accepted: list[AcceptedEvent] = []
        rejected: list[RejectedEvent] = []
        failed: list[dict[str, object]] = []
        for index, (record, size) in enumerate(zip(records, sizes, strict=True)):
            fault = _too_large(size) or self._event_fault(record)
            if fault is None:
                accepted.append(AcceptedEvent(record, size, _key(record)))
                continue
            failed.append(self._failed(record, index, *fault))
            rejected.append(RejectedEvent(record, f"{fault[0]}: {fault[1]}", index))
        said: dict[str, object] = {"code": 200, "status": "OK"}
        if failed:
            said = {
                "code": 400,
                "status": "Bad Request",
                "error": "some data points in the request failed validation",
                "failed_records": failed,
            }
        said["num_records_imported"] = len(accepted)
        return ApiAnswer(
            400 if failed else 200,
            json.dumps(said).encode(),
            accepted=tuple(accepted),
            rejected=tuple(rejected),
            decoded_body=data,
        )

    def _may_import(self, headers: Mapping[str, str]) -> bool:
        pair = _basic(headers)
        if pair is None:
            return False
        if self.token is None and self.service_account is None:
            return bool(pair[0])
        return pair in ((self.token, ""), self.service_account)

    def _event_fault(self, record: Any) -> tuple[str, str] | None:
        fault = _shape_fault(record)
        if fault is not None or record["event"] == _MERGE:
            return fault
        properties = record["properties"]
        return (
            self._time_fault(properties.get("time"))
            or _distinct_id_fault(properties)
            or _insert_id_fault(properties.get("$insert_id"))
            or _size_fault(properties)
        )

    def _time_fault(self, time: object) -> tuple[str, str] | None:
        if type(time) is not int:
            return "properties.time", "must be specified as seconds since epoch"
        time_ms = time * 1000 if time <= LARGEST_SECONDS else time
        if time_ms < EARLIEST_MS:
            return "properties.time", "must be after 1971-01-01"
        if self.latest_ms is not None and time_ms > self.latest_ms:
            return "properties.time", "must not be in the future"
        return None

    def _failed(
        self, record: Any, index: int, name: str, message: str
    ) -> dict[str, object]:
        failed: dict[str, object] = {"field": name, "message": message}
        if self.with_index:
            failed["index"] = index
        properties = record.get("properties") if isinstance(record, dict) else None
        if self.id_field and isinstance(properties, dict):
            failed[self.id_field] = properties.get("$insert_id", "")
        return failed

    # -- /track, /engage, /groups ------------------------------------------

    def _update(self, request: ApiRequest, check: Check) -> ApiAnswer:
        if "content-encoding" in request.headers and request.path != "/track":
            raise PayloadError(400, "encoding", "Content-Encoding is not supported")
        data, verbose = _records_json(request)
        records, sizes = _listed(data)
        faults = [
            _too_large(size) or check(record)
            for record, size in zip(records, sizes, strict=True)
        ]
        taken = any(fault is None for fault in faults)
        zero = not taken or (self.zero_means == "some" and any(faults))
        accepted: list[AcceptedEvent] = []
        rejected: list[RejectedEvent] = []
        for index, (record, size) in enumerate(zip(records, sizes, strict=True)):
            fault = faults[index]
            if fault is None and not self._knows(record):
                fault = ("token", "unknown")
            if fault is None:
                accepted.append(AcceptedEvent(record, size, None))
            else:
                rejected.append(RejectedEvent(record, f"{fault[0]}: {fault[1]}", index))
        wrong = ", ".join(f"{fault[0]}: {fault[1]}" for fault in faults if fault)
        error = wrong if zero else None
        digit = 0 if zero else 1
        plain = self.verbose if verbose is None else verbose
        said: object = {"status": digit, "error": error} if plain else digit
        return ApiAnswer(
            200,
            json.dumps(said).encode(),
            accepted=tuple(accepted),
            rejected=tuple(rejected),
            decoded_body=data,
        )

    def _knows(self, record: Mapping[str, Any]) -> bool:
        given = record.get("$token") or record.get("properties", {}).get("token")
        return self.token in (None, given)

    def _track_fault(self, record: Any) -> tuple[str, str] | None:
        fault = _shape_fault(record)
        if fault is None and not _is_text(record["properties"].get("token")):
            return "properties.token", "missing"
        return fault


def _records_json(request: ApiRequest) -> tuple[bytes, bool | None]:
    """Return the JSON of a body, and whether a form asks for a verbose answer."""
    data = decode_content(
        request.headers,
        request.body,
        max_bytes=BODY_LIMIT_BYTES,
        too_large_status=413,
    )
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return data, None
    if kind != "application/x-www-form-urlencoded":
        message = "Content-Type must be application/json, or that of a form"
        raise PayloadError(400, "content_type", message)
    form = parse_qs(data.decode("latin-1"))
    text = form.get("data", [""])[0].encode()
    if text[:1] not in (b"{", b"["):
        try:
            text = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            message = "data is neither JSON nor base64"
            raise PayloadError(400, "data", message) from error
    return text, form.get("verbose") == ["1"]


def _listed(data: bytes) -> tuple[Sequence[Any], list[int]]:
    document = parse_json(data)
    records, sizes = (
        (document, measure_items(data))
        if isinstance(document, list)
        else ([document], [len(data)])
    )
    # 413 and not 400: nothing documents the answer, and a client can act on this one.
    if len(records) > RECORDS_LIMIT:
        raise PayloadError(413, "records", f"over {RECORDS_LIMIT} records")
    return records, sizes


def _shape_fault(record: Any) -> tuple[str, str] | None:
    if not isinstance(record, dict):
        return "", "record must be an object"
    if not _is_text(record.get("event")):
        return "event", "missing or empty"
    if not isinstance(record.get("properties"), dict):
        return "properties", "must be an object"
    if record["event"] == _MERGE and not _is_pair(
        record["properties"].get("$distinct_ids")
    ):
        return "properties.$distinct_ids", "must be two ids"
    return None


def _distinct_id_fault(properties: Mapping[str, Any]) -> tuple[str, str] | None:
    distinct_id = properties.get("distinct_id")
    if not isinstance(distinct_id, str):
        return "properties.distinct_id", "missing"
    if distinct_id in _FORBIDDEN:
        return "properties.distinct_id", "is not an id"
    user = properties.get("$user_id", distinct_id)
    if user != distinct_id:
        return "properties.distinct_id", "must equal $user_id"
    return None


def _insert_id_fault(insert_id: object) -> tuple[str, str] | None:
    if not isinstance(insert_id, str) or insert_id in _FORBIDDEN:
        return "properties.$insert_id", "missing or forbidden"
    if not _INSERT_ID.fullmatch(insert_id):
        return "properties.$insert_id", "must be 1 to 36 letters, digits and hyphens"
    return None


def _size_fault(properties: Mapping[str, Any]) -> tuple[str, str] | None:
    if len(properties) >= KEYS_LIMIT:
        return "properties", f"must be fewer than {KEYS_LIMIT}"
    if not _is_small(properties, DEPTH_LIMIT + 1):
        message = f"must nest at most {DEPTH_LIMIT} deep, under {KEYS_LIMIT} each"
        return "properties", message
    return None


def _is_small(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    children = value.values() if isinstance(value, dict) else value
    if levels == 0 or len(value) >= KEYS_LIMIT:
        return False
    return all(_is_small(child, levels - 1) for child in children)


def _too_large(size: int) -> tuple[str, str] | None:
    return ("", "over 1 MB") if size >= RECORD_LIMIT_BYTES else None


def _user_fault(record: Any) -> tuple[str, str] | None:
    return _profile_fault(record, ("$token", "$distinct_id"), _USER_OPERATIONS)


def _group_fault(record: Any) -> tuple[str, str] | None:
    return _profile_fault(
        record, ("$token", "$group_key", "$group_id"), _GROUP_OPERATIONS
    )


def _profile_fault(
    record: Any, names: Sequence[str], operations: frozenset[str]
) -> tuple[str, str] | None:
    if not isinstance(record, dict):
        return "", "record must be an object"
    for name in names:
        if not _is_text(record.get(name)):
            return name, "missing or empty"
    found = operations & record.keys()
    if len(found) != 1:
        return "", "one operation a record"
    (operation,) = found
    return None if _fits(operation, record[operation]) else (operation, "invalid")


def _fits(operation: str, value: object) -> bool:
    if operation == "$delete":
        return True
    if operation == "$unset":
        return isinstance(value, list) and all(map(_is_text, value))
    if not isinstance(value, dict):
        return False
    if operation == "$add":
        return all(type(each) in (int, float) for each in value.values())
    return operation != "$union" or all(type(each) is list for each in value.values())


def _key(record: Mapping[str, Any]) -> str | None:
    """Return what Mixpanel recognises a repeated event by."""
    properties = record["properties"]
    names = ("distinct_id", "time", "$insert_id")
    if any(name not in properties for name in names):
        return None
    return json.dumps([record["event"], *(properties[name] for name in names)])


def _basic(headers: Mapping[str, str]) -> tuple[str, str] | None:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, _, password = decoded.partition(":")
    return user, password


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_text, value))


def _refusal(code: int, status: str, error: str) -> ApiAnswer:
    said = {"code": code, "error": error, "status": status}
    return ApiAnswer(code, json.dumps(said).encode())
