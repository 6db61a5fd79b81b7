"""A server in a process of its own that takes every body and counts later.

It is no bottleneck for what is measured: a thread for each connection reads a body in
large pieces and answers at once; bodies are parsed only when the harness asks. With
``--hang`` it keeps what arrives and never answers.

The harness talks to it through its standard input (``clear``, ``count``), and it ends
when that is closed, so it never outlives the harness.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import subprocess
import sys
import threading
from typing import Any

from typing_extensions import Self

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n"
    b'{"success":true,"status":1}'
)


class Sink:
    """The sink's process, as the harness sees it."""

    def __init__(self, *, hang: bool = False) -> None:
        command = [sys.executable, "-m", "benchmarks.sink", *["--hang"] * hang]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = int(self._read()["port"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def clear(self) -> None:
        self._ask("clear")

    def count(self) -> dict[str, Any]:
        """Say what has arrived: requests, bytes, events, and different events."""
        return self._ask("count")

    def _ask(self, word: str) -> dict[str, Any]:
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        return json.loads(self._process.stdout.readline())


def serve(connection: socket.socket, bodies: list[bytes], *, hang: bool) -> None:
    """Read requests from *connection* until it is closed."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    waiting = b""
    while True:
        while (end := waiting.find(b"\r\n\r\n")) < 0:
            piece = connection.recv(1 << 16)
            if not piece:
                return
            waiting += piece
        head, rest = waiting[:end], waiting[end + 4 :]
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0
        body = bytearray(max(length, len(rest)))
        body[: len(rest)] = rest
        view, at = memoryview(body), len(rest)
        while at < length:
            taken = connection.recv_into(view[at:length])
            if not taken:
                return
            at += taken
        bodies.append(bytes(view[:length]))
        waiting = bytes(view[length:])
        if not hang:
            connection.sendall(_ANSWER)


def summary(bodies: list[bytes]) -> dict[str, Any]:
    """Parse what has arrived; an event is known by its property ``n``."""
    plain = [
        gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body for body in bodies
    ]
    batches = [json.loads(body).get("batch", []) for body in plain if body[:1] == b"{"]
    numbers = [event["properties"]["n"] for batch in batches for event in batch]
    return {
        "requests": len(bodies),
        "bytes": sum(map(len, plain)),
        "events": len(numbers),
        "different": len(set(numbers)),
    }


def main() -> None:
    hang = "--hang" in sys.argv
    bodies: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(
                target=serve, args=(connection, bodies), kwargs={"hang": hang}
            ).start()

    threading.Thread(target=accept).start()
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    for line in sys.stdin:
        answer = {}
        if line.strip() == "clear":
            bodies.clear()
        else:
            answer = summary(bodies)
        print(json.dumps(answer), flush=True)
    os._exit(0)  # its threads wait for connections that never end


if __name__ == "__main__":
    main()
