"""Scripted servers on real sockets: each test says byte by byte what they do."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from analytics_sdk._config import Delivery
from analytics_sdk._transport import Transport

AMBIENT = (
    *(f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)


class Received(NamedTuple):
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


class Peer:
    """The server's end of one connection."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self._rest = b""

    def read_head(self) -> tuple[str, dict[str, str]]:
        while b"\r\n\r\n" not in self._rest:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self._rest += data
        head, self._rest = self._rest.split(b"\r\n\r\n", 1)
        line, *fields = head.decode("latin-1").split("\r\n")
        pairs = (field.split(": ", 1) for field in fields)
        return line, {name.lower(): value for name, value in pairs}

    def read(self) -> Received:
        line, headers = self.read_head()
        length = int(headers.get("content-length", 0))
        while len(self._rest) < length:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self._rest += data
        body, self._rest = self._rest[:length], self._rest[length:]
        received = Received(line, headers, body)
        self.server.requests.append(received)
        return received

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, status: int = 200, body: bytes = b"", *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def drip(self, data: bytes) -> None:
        """Send a byte every 20 ms, until the client has had enough."""
        for byte in data:
            self.send(bytes([byte]))
            self.pause(0.02)

    def pause(self, seconds: float = 5.0) -> None:
        """Do nothing, until the test is over."""
        self.server.over.wait(seconds)

    def reset(self) -> None:
        """Close with RST."""
        linger = struct.pack("ii", 1, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()


Talk = Callable[[Peer], None]


class Server:
    """Talks to each connection by a script, in a thread of its own."""

    def __init__(self, talk: Talk, tls: ssl.SSLContext | None) -> None:
        self.talk = talk
        self.tls = tls
        self.over = threading.Event()
        self.connections = 0
        self.requests: list[Received] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/v1/batch"
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self.over.is_set():
                sock, _ = self.listener.accept()
                sock.settimeout(5)
                self.connections += 1
                self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError, EOFError):
            if self.tls is not None:
                raw, sock = sock, self.tls.wrap_socket(sock, server_side=True)
                raw.close()
            self.talk(Peer(self, sock))
        sock.close()

    def stop_listening(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()  # or it might accept on a descriptor of somebody else
        self.listener.close()

    def close(self) -> None:
        self.over.set()
        self.stop_listening()
        for thread in self._threads:
            thread.join()


Serve = Callable[..., Server]
Make = Callable[..., Transport]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in AMBIENT:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers; they end with their test."""
    servers: list[Server] = []

    def start(talk: Talk, tls: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(talk, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def make(serve: Serve) -> Iterator[Make]:
    """Make transports, closed before the servers wait for their connections to end."""
    made: list[Transport] = []

    def transport(**settings: object) -> Transport:
        settings = {"request_timeout_s": 5.0, **settings}
        made.append(Transport(Delivery(**settings), user_agent="ours/1"))
        return made[-1]

    yield transport
    for each in made:
        each.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make self-signed certificates for a host; key and certificate in one file."""
    folder = tmp_path_factory.mktemp("certificates")

    def made(host: str) -> Path:
        path = folder / f"{host.replace(':', '_')}.pem"
        if not path.exists():
            key = folder / "key.pem"
            command = (
                "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "
                f"-nodes -days 2 -subj /CN=test -addext subjectAltName={host} "
                f"-keyout {key} -out {path}"
            )
            subprocess.run(command.split(), check=True, capture_output=True)
            path.write_bytes(path.read_bytes() + key.read_bytes())
        return path

    return made
