"""A collector on a free port, and clients that speak to it over real sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any, NamedTuple

import pytest

from analytics_sdk.collector import Collector

SUCCESS = b'{"success": true}'


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """Keep one connection open, as a pooled HTTP client does."""

    def __init__(self, collector: Collector) -> None:
        self.http = HTTPConnection("127.0.0.1", collector.port, timeout=3)

    def request(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> Reply:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.http.request(method, path, data, named)
        answer = self.http.getresponse()
        body = answer.read()
        lower = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, lower, body)

    def post(self, *events: dict[str, Any], **headers: str) -> Reply:
        return self.request("POST", "/v1/batch", {"batch": events}, **headers)


def track(message_id: str = "m-1", **properties: object) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "Paid",
        "userId": "u-1",
        "messageId": message_id,
        "properties": properties,
    }


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
def make_track() -> Callable[..., dict[str, Any]]:
    return track


@pytest.fixture
def connect() -> Iterator[Callable[[Collector], Client]]:
    with ExitStack() as stack:

        def open_client(collector: Collector) -> Client:
            client = Client(collector)
            stack.callback(client.http.close)
            return client

        yield open_client


@pytest.fixture
def client(collector, connect) -> Client:
    return connect(collector)


@pytest.fixture
def raw() -> Iterator[Callable[[Collector], socket.socket]]:
    with ExitStack() as stack:

        def open_socket(collector: Collector) -> socket.socket:
            address = ("127.0.0.1", collector.port)
            return stack.enter_context(socket.create_connection(address, timeout=3))

        yield open_socket
