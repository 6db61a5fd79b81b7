"""The floor: the least that any client can do with the same events.

One thread builds an event, serialises it and appends it to a batch; full batches go
through a raw socket. No queue, no ids, no receipts, no retries.
"""

from __future__ import annotations

import json
import socket
from typing import Any

BATCH_BYTES = 490_000
_HEAD = (
    "POST /v1/batch HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
)


class Floor:
    """Has the methods of a client, so that the same loop measures both."""

    def __init__(self, port: int, setting: dict[str, Any]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._batch: list[bytes] = []
        self._bytes = 0
        self._dumps = _json_bytes
        if setting.get("serialiser") == "orjson":
            import orjson

            self._dumps = orjson.dumps

    def track(self, user_id: str, name: str, properties: dict[str, Any]) -> None:
        event = self._dumps(
            {
                "messageId": "01234567-89ab-7cde-8f01-23456789abcd",
                "timestamp": "2026-11-21T09:30:00.123Z",
                "type": "track",
                "userId": user_id,
                "event": name,
                "properties": properties,
            }
        )
        self._batch.append(event)
        self._bytes += len(event) + 1
        if self._bytes >= BATCH_BYTES:
            self._send()

    def finish(self) -> None:
        if self._batch:
            self._send()

    def _send(self) -> None:
        body = b'{"batch":[' + b",".join(self._batch) + b"]}"
        self._batch, self._bytes = [], 0
        self._socket.sendall(_HEAD.format(len(body)).encode() + body)
        answer = self._socket.recv(4096)
        if not answer.startswith(b"HTTP/1.1 200 "):
            message = "the sink did not take a batch"
            raise RuntimeError(message)


def _json_bytes(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()
