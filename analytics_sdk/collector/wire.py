"""Read requests from a socket and write answers to it, byte by byte under control.

`http.server` is not used: a fault must be able to stop between any two bytes, leave a
body unread, or send what no HTTP library would let through.
"""

from __future__ import annotations

import re
import select
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus

_HEAD_LIMIT_BYTES = 64 * 1024
_PIECE_BYTES = 64 * 1024
_DRAIN_S = 1.0
_NO_BODY_STATUSES = frozenset({204, 304})
_DECIMAL = re.compile(r"[0-9]{1,18}")
_HEXADECIMAL = re.compile(rb"[0-9A-Fa-f]{1,16}")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class BadRequestError(Exception):
    """Say which status a request deserves that cannot be understood."""

    def __init__(self, status: int, reason: str) -> None:
        """Keep the *status* to answer before hanging up."""
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """Hold the head of a request; header names are lower-case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    keep_alive: bool


class Connection:
    """Wrap one accepted socket; used by the thread that serves it."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        """Take over *sock*, plain or TLS; *number* names it in the log."""
        self.sock = sock
        self.number = number
        self.exchanges = 0
        self._received = bytearray()

    def read_head(self) -> Head | None:
        """Read one head, or return None when the client has closed.

        Raises:
            BadRequestError: what came is not an HTTP/1 head.
            OSError: the connection broke or was idle for too long.
        """
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if len(self._received) > _HEAD_LIMIT_BYTES:
                raise BadRequestError(431, "head is too large")
            if not self._receive():
                return None
        raw = bytes(self._received[:end])
        del self._received[: end + 4]
        self.exchanges += 1
        return parse_head(raw)

    def read_body(self, head: Head, *, max_bytes: int) -> bytes:
        """Read the body that *head* announces.

        Raises:
            BadRequestError: it is over *max_bytes* or its framing is broken.
            OSError: the connection broke.
        """
        if head.headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "transfer-encoding" in head.headers:
            return self._read_chunks(head, max_bytes)
        length = head.headers.get("content-length", "0")
        if not _DECIMAL.fullmatch(length):
            raise BadRequestError(400, "Content-Length is not a number")
        return self._read_exactly(_bounded(int(length), max_bytes))

    def read_some(self, max_bytes: int) -> None:
        """Read and forget up to *max_bytes* of what has been sent."""
        while len(self._received) < max_bytes and self._receive():
            pass

    def _read_chunks(self, head: Head, max_bytes: int) -> bytes:
        coding = head.headers["transfer-encoding"].lower()
        if coding != "chunked" or "content-length" in head.headers:
            raise BadRequestError(400, "Transfer-Encoding is not just chunked")
        body = bytearray()
        while True:
            size_text = self._read_line().partition(b";")[0].strip()
            if not _HEXADECIMAL.fullmatch(size_text):
                raise BadRequestError(400, "chunk size is not a number")
            size = int(size_text, 16)
            if size == 0:
                while self._read_line():
                    pass
                return bytes(body)
            _bounded(len(body) + size, max_bytes)
            body += self._read_exactly(size)
            if self._read_line():
                raise BadRequestError(400, "chunk is longer than its size")

    def _read_line(self) -> bytes:
        while (end := self._received.find(b"\r\n")) < 0:
            if len(self._received) > _HEAD_LIMIT_BYTES:
                raise BadRequestError(400, "line is too long")
            self._require()
        line = bytes(self._received[:end])
        del self._received[: end + 2]
        return line

    def _read_exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._require()
        body = bytes(self._received[:size])
        del self._received[:size]
        return body

    def _require(self) -> None:
        if not self._receive():
            message = "client closed before its request was complete"
            raise ConnectionError(message)

    def _receive(self) -> bool:
        piece = self.sock.recv(_PIECE_BYTES)
        self._received += piece
        return bool(piece)

    def wait_readable(self, timeout_s: float) -> bool:
        """Tell whether the client sends (or closes) within *timeout_s*."""
        if self._received:
            return True
        readable, _, _ = select.select([self.sock], [], [], timeout_s)
        return bool(readable)

    def send(self, data: bytes) -> None:
        """Send all of *data*."""
        self.sock.sendall(data)

    def shut_sending(self) -> None:
        """Send FIN and keep on receiving."""
        self.sock.shutdown(socket.SHUT_WR)

    def interrupt(self) -> None:
        """Wake whoever waits on this connection, from another thread."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End with FIN even if the client is still sending.

        Closing a socket with unread bytes makes the kernel send RST, which can destroy
        an answer on its way; so what still comes is read and forgotten, for a second.
        """
        with suppress(OSError):
            self.shut_sending()
            deadline = time.monotonic() + _DRAIN_S
            while (left_s := deadline - time.monotonic()) > 0:
                self.sock.settimeout(left_s)
                if not self.sock.recv(_PIECE_BYTES):
                    break
        self.sock.close()

    def reset(self) -> None:
        """End with RST, throwing away what is unsent."""
        with suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.sock.close()


def parse_head(raw: bytes) -> Head:
    """Parse the request line and the headers, without the empty line.

    Raises:
        BadRequestError: it is not an HTTP/1 head.
    """
    lines = raw.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in {"HTTP/1.1", "HTTP/1.0"}:
        raise BadRequestError(400, "request line is malformed")
    method, target, version = words
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequestError(400, "header line is malformed")
        name, value = name.lower(), value.strip()
        if name in headers:
            if name == "content-length":
                raise BadRequestError(400, "Content-Length is given twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    path, _, query = target.partition("?")
    wish = headers.get("connection", "").lower()
    keep_alive = wish == "keep-alive" if version == "HTTP/1.0" else wish != "close"
    return Head(method, path, query, headers, keep_alive)


def render(
    status: int,
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
    *,
    keep_alive: bool = True,
    now: float | None = None,
    framed: bool = True,
) -> tuple[bytes, bytes]:
    """Return the bytes of an answer's head and body.

    Args:
        status: the status code, known to the standard or not.
        headers: replace those of the same name that would be added.
        body: left out where the status allows none.
        keep_alive: whether to announce that the connection stays.
        now: the Date to give, in seconds of the epoch; None means the present.
        framed: whether to add Content-Length.
    """
    if status in _NO_BODY_STATUSES:
        body = b""
    given = {name.lower() for name, _ in headers}
    added = [
        ("Date", formatdate(time.time() if now is None else now, usegmt=True)),
        ("Connection", "keep-alive" if keep_alive else "close"),
    ]
    if framed and status not in _NO_BODY_STATUSES:
        added.append(("Content-Length", str(len(body))))
    lines = [f"HTTP/1.1 {status} {_phrase(status)}"]
    lines += [f"{n}: {v}" for n, v in added if n.lower() not in given]
    lines += [f"{n}: {v}" for n, v in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _bounded(size: int, max_bytes: int) -> int:
    if size > max_bytes:
        raise BadRequestError(413, "body is too large for the collector")
    return size
