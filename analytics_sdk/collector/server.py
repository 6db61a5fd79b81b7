"""Serve a vendor's API on loopback: accept, read, ask vendor and script, answer."""

from __future__ import annotations

import ipaddress
import selectors
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, TextIO

from analytics_sdk.collector.amplitude import AmplitudeApi
from analytics_sdk.collector.control import answer_control, is_control
from analytics_sdk.collector.faults import Fault, Phase
from analytics_sdk.collector.generic import GenericApi
from analytics_sdk.collector.ledger import (
    Ledger,
    SeenEvent,
    SeenRejection,
    SeenRequest,
)
from analytics_sdk.collector.mixpanel import MixpanelApi
from analytics_sdk.collector.sabotage import Stage, act_out
from analytics_sdk.collector.script import Playback, Received, Script, Step
from analytics_sdk.collector.segment import SegmentApi
from analytics_sdk.collector.vendor_api import ApiAnswer, ApiRequest, VendorApi
from analytics_sdk.collector.wire import BadRequestError, Connection, Head, render

_BACKLOG = 128
_BODY_LIMIT_BYTES = 64 * 1024 * 1024
_CLOSE_S = 2.0


class Collector:
    """Run a local server that speaks a vendor's format and keeps what it gets.

    Nothing is bound and no thread runs until `start()` or `with`. Requests are served
    one thread a connection; everything here may be called from any thread.

    Args:
        vendor: "segment", "amplitude", "mixpanel", "generic" (which records any
            request), or an API of your own.
        script: faults to play from the start; see `play`.
        host: a loopback address to bind.
        port: 0 picks a free one.
        tls: serve HTTPS with this context.
        idle_timeout_s: hang up on a connection that sends nothing for so long.
        verbose: write a line for each duplicate to *output*.
        output: where to; None means standard error.

    Raises:
        ValueError: *vendor* is no known name, or *host* is not loopback.
    """

    def __init__(
        self,
        vendor: Literal["segment", "amplitude", "mixpanel", "generic"]
        | VendorApi = "segment",
        *,
        script: Script | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        idle_timeout_s: float = 60.0,
        verbose: bool = False,
        output: TextIO | None = None,
    ) -> None:
        """Keep the settings; `start` does the work."""
        self._vendor = _vendor_named(vendor) if isinstance(vendor, str) else vendor
        if not ipaddress.ip_address(host).is_loopback:
            message = "host must be a loopback address such as 127.0.0.1 or ::1"
            raise ValueError(message)
        self._host = host
        self._port = port
        self._tls = tls
        self._idle_timeout_s = idle_timeout_s
        announce = (output or sys.stderr) if verbose else None
        self._ledger = Ledger(self._vendor.name, announce=announce)
        self._stop = threading.Event()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        # Guards the two fields below: connections come and go in their own threads.
        self._lock = threading.Lock()
        self._live: dict[threading.Thread, Connection] = {}
        self._playback = Playback(script or Script())

    def start(self) -> Collector:
        """Bind and begin to serve.

        Raises:
            RuntimeError: it was started before; a closed collector stays closed.
            OSError: the port is taken.
        """
        if self._listener is not None:
            message = "a collector starts once: make a new one"
            raise RuntimeError(message)
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._listener = socket.create_server(
            (self._host, self._port), family=family, backlog=_BACKLOG
        )
        self._port = self._listener.getsockname()[1]
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._acceptor = threading.Thread(
            target=self._accept_all,
            args=(self._listener,),
            name="collector-accept",
            daemon=True,
        )
        self._acceptor.start()
        return self

    def close(self) -> None:
        """Stop serving and end every wait and connection; safe to call again."""
        self._stop.set()
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is None:
            return
        self._wake_writer.close()
        acceptor.join(_CLOSE_S)
        deadline = time.monotonic() + _CLOSE_S
        with self._lock:
            live = list(self._live.items())
        for _, connection in live:
            connection.interrupt()
        for thread, _ in live:
            thread.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Collector:  # noqa: PYI034 - `typing.Self` needs 3.11
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    @property
    def port(self) -> int:
        """Return the port, known once started."""
        return self._port

    @property
    def url(self) -> str:
        """Return the base address, without a slash at the end."""
        scheme = "https" if self._tls else "http"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}"

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return the payloads of all events received, copies included."""
        return [record.payload for record in self._ledger.records]

    @property
    def records(self) -> list[SeenEvent]:
        """Return the events with their sizes, times and requests."""
        return self._ledger.records

    @property
    def rejected(self) -> list[SeenRejection]:
        """Return the events that were answered 2xx and thrown away."""
        return self._ledger.rejected

    @property
    def requests(self) -> list[SeenRequest]:
        """Return the log of requests, faulted ones included."""
        return self._ledger.requests

    @property
    def duplicates(self) -> Counter[str]:
        """Count the surplus copies of each message id."""
        return self._ledger.duplicates

    @property
    def changed_duplicates(self) -> Counter[str]:
        """Count the surplus copies whose payload differs from the first."""
        return self._ledger.changed_duplicates

    def unique_events(self) -> list[dict[str, Any]]:
        """Return the payloads as a deduplicating vendor would keep them."""
        return [record.payload for record in self._ledger.unique_records()]

    def stats(self) -> dict[str, Any]:
        """Sum up in plain, JSON-able values."""
        return self._ledger.stats()

    def wait_until(
        self, holds: Callable[[Collector], bool], timeout_s: float = 5.0
    ) -> bool:
        """Wait until *holds* is true after some request, or *timeout_s* is over."""
        return self._ledger.wait_until(lambda: holds(self), timeout_s)

    def reset(self) -> None:
        """Forget what was seen and be healthy."""
        self._ledger.reset()
        self.play()

    def play(self, *steps: Script | Step | Fault) -> None:
        """Replace the script.

        Args:
            steps: one `Script`, or steps; a bare fault stands for one request. Nothing
                at all makes the server healthy.
        """
        script = Script.of(
            part
            for step in steps
            for part in (step.steps if isinstance(step, Script) else (step,))
        )
        with self._lock:
            self._playback = Playback(script)

    def script_is_over(self) -> bool:
        """Tell whether every step of the script is over."""
        with self._lock:
            playback = self._playback
        return playback.is_over(now=time.monotonic())

    def _pick(self, phase: Phase, received: Received) -> Fault | None:
        with self._lock:
            playback = self._playback
        return playback.pick(phase, received, now=time.monotonic())

    def _accept_all(self, listener: socket.socket) -> None:
        with selectors.DefaultSelector() as selector, listener, self._wake_reader:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while not self._stop.is_set():
                selector.select()
                if self._stop.is_set():
                    return
                with suppress(OSError):
                    self._start_connection(listener.accept()[0])

    def _start_connection(self, sock: socket.socket) -> None:
        connection = Connection(sock, self._ledger.open_connection())
        thread = threading.Thread(
            target=self._serve_connection,
            args=(connection,),
            name=f"collector-{connection.number}",
            daemon=True,
        )
        with self._lock:
            self._live[thread] = connection
        thread.start()

    def _serve_connection(self, connection: Connection) -> None:
        try:
            # A client that breaks off is an ordinary event here, never an error.
            with suppress(OSError):
                self._converse(connection)
        finally:
            with suppress(OSError):
                connection.close()
            with self._lock:
                del self._live[threading.current_thread()]

    def _converse(self, connection: Connection) -> None:
        connection.sock.settimeout(self._idle_timeout_s)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fault = self._pick(Phase.ACCEPT, Received())
        if fault is not None:
            stage = Stage(connection, ApiAnswer(200), keep_alive=False, stop=self._stop)
            act_out(fault, stage)
            return
        if self._tls is not None:
            # The handshake comes second, so that `close` can interrupt it.
            secure = self._tls.wrap_socket(
                connection.sock, server_side=True, do_handshake_on_connect=False
            )
            connection.sock = secure
            secure.do_handshake()
        alive = True
        while alive and not self._stop.is_set():
            try:
                head = connection.read_head()
                if head is None:
                    return
                alive = self._exchange(connection, head)
            except BadRequestError as error:
                head_bytes, body = render(
                    error.status, (), str(error).encode(), keep_alive=False
                )
                connection.send(head_bytes + body)
                return

    def _exchange(self, connection: Connection, head: Head) -> bool:
        """Serve one request; return whether the connection lives on."""
        if is_control(head.path):
            body = connection.read_body(head, max_bytes=_BODY_LIMIT_BYTES)
            answer = answer_control(head, body, self._ledger, self.play)
            stage = Stage(connection, answer, head.keep_alive, self._stop)
            stage.send_answer()
            return head.keep_alive
        received = Received(
            path=head.path, headers=head.headers, exchange=connection.exchanges
        )
        fault = self._pick(Phase.HEAD, received)
        if fault is not None:
            answer = ApiAnswer(200, b'{"success": true}')
            self._record(connection, head, b"", answer, fault)
            stage = Stage(connection, answer, head.keep_alive, self._stop)
            return act_out(fault, stage)
        body = connection.read_body(head, max_bytes=_BODY_LIMIT_BYTES)
        answer = self._vendor.receive(
            ApiRequest(head.method, head.path, head.headers, body)
        )
        fault = self._pick(Phase.BODY, _with_body(received, answer))
        self._record(connection, head, body, answer, fault)
        stage = Stage(connection, answer, head.keep_alive, self._stop)
        if fault is not None:
            return act_out(fault, stage)
        stage.send_answer()
        return head.keep_alive

    def _record(
        self,
        connection: Connection,
        head: Head,
        body: bytes,
        answer: ApiAnswer,
        fault: Fault | None,
    ) -> None:
        self._ledger.record(
            answer,
            fault,
            connection=connection.number,
            head=head,
            body_bytes=len(body),
            keep_body=self._vendor.keeps_bodies,
        )


def _with_body(received: Received, answer: ApiAnswer) -> Received:
    payloads: list[object] = [event.payload for event in answer.accepted]
    payloads += [event.payload for event in answer.rejected]
    return Received(
        path=received.path,
        headers=received.headers,
        exchange=received.exchange,
        body=answer.decoded_body,
        events=tuple(payloads),
    )


def _vendor_named(name: str) -> VendorApi:
    if name == "segment":
        return SegmentApi()
    if name == "amplitude":
        return AmplitudeApi()
    if name == "mixpanel":
        return MixpanelApi()
    if name == "generic":
        return GenericApi()
    message = (
        "vendor must be 'segment', 'amplitude', 'mixpanel', 'generic' or an object "
        "with VendorApi's methods"
    )
    raise ValueError(message)
