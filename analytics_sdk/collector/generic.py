"""Record whatever arrives, on any path: the far end of a webhook."""

from __future__ import annotations

from dataclasses import dataclass

from analytics_sdk.collector.payloads import (
    PayloadError,
    decode_content,
    measure_items,
    parse_json,
)
from analytics_sdk.collector.vendor_api import AcceptedEvent, ApiAnswer, ApiRequest

_BODY_LIMIT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class GenericApi:
    """Answer 200 to every request and keep its body.

    A JSON object counts as one event and each object of a JSON list as one; anything
    else is kept as a body only.

    Args:
        key_field: the field by which two copies of an event are told to be the same.
    """

    key_field: str = "messageId"

    @property
    def name(self) -> str:
        """Name the vendor in statistics."""
        return "generic"

    @property
    def keeps_bodies(self) -> bool:
        """Keep bodies: they are all there is to look at."""
        return True

    def receive(self, request: ApiRequest) -> ApiAnswer:
        """Accept *request* unless its content encoding is damaged or too large."""
        try:
            data = decode_content(
                request.headers,
                request.body,
                max_bytes=_BODY_LIMIT_BYTES,
                too_large_status=413,
            )
        except PayloadError as error:
            return ApiAnswer(error.status, error.message.encode())
        return ApiAnswer(200, b"{}", accepted=self._events(data), decoded_body=data)

    def _events(self, data: bytes) -> tuple[AcceptedEvent, ...]:
        try:
            document = parse_json(data)
        except PayloadError:
            return ()
        if isinstance(document, list):
            items, sizes = document, measure_items(data)
        else:
            items, sizes = [document], [len(data.strip())]
        return tuple(
            AcceptedEvent(item, size, self._key(item))
            for item, size in zip(items, sizes, strict=True)
            if isinstance(item, dict)
        )

    def _key(self, item: dict[str, object]) -> str | None:
        key = item.get(self.key_field)
        return key if isinstance(key, str) else None
