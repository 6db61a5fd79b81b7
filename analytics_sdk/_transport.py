"""The way out: one request in, one answer or one `TransportError` back.

Nothing raises, nothing retries but for the two repairs below, nothing follows a
redirect, and no wait outlives the deadline.  What a failure means:

======================================  =================  ===========
what happened                           reason             maybe_sent
======================================  =================  ===========
header with line breaks and the like    configuration      no
address or proxy setting unusable       configuration      no
host name has no address                unreachable        no
no connection, or not in time           unreachable        no
proxy unreachable or refusing           unreachable        no
TLS handshake broken off                unreachable        no
certificate or TLS version not right    tls                no
bundle of authorities unreadable        tls                no
connection lost, nothing sent yet       unreachable        no
connection lost, no answer              unreachable        yes (1)
time ran out while sending or waiting   unreachable        yes
connection lost within the answer       unreachable        yes
answer shorter than it says             unreadable         yes
answer is not HTTP, or broken chunks    unreadable         yes
flood of headers or interim answers     unreadable         yes
success before the request was whole    unreadable         yes
anything unforeseen                     bug                yes
======================================  =================  ===========

(1) On a connection that was kept from before, this mostly means that the server had
closed it meanwhile; it is tried once more on a fresh one, within the same deadline.

A 415 to a compressed body is answered by sending it uncompressed; the host gets no
compressed ones from then on.  Every other answer is handed on, redirects included.
"""

from __future__ import annotations

import errno
import gzip
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from analytics_sdk import _clock, _retry
from analytics_sdk._config import Delivery
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import (
    HttpRequest,
    HttpResponse,
    Request,
    TransportError,
    WriteRequest,
)

if TYPE_CHECKING:
    from analytics_sdk import _exchange, _wire

BODY_BYTES = 64 * 1024
GZIP_BYTES = 1024
"""Below this size, compression saves no packet."""

_GZIP_LEVEL = 6
_HEADERS = 64
_HEADER_CHARS = 1024
_FILE_FLAGS = (
    os.O_WRONLY
    | os.O_APPEND
    | os.O_CREAT
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe that nobody reads must not hold us up
)


class Transport:
    """One sender's way out, with its own connections and open files.

    Owned by one thread and one process.  After a fork the child must not use or close
    its parent's: it keeps a reference, so that nothing is finalised, and makes a new
    one.

    Args:
        settings: Time limits, compression, proxies and trust.
        user_agent: What to call ourselves where a request does not say it.
    """

    def __init__(self, settings: Delivery, *, user_agent: str) -> None:
        """Open nothing: requests is imported and connections are made when used."""
        self._settings = settings
        self._user_agent = user_agent
        self._exchange: _exchange.Exchange | None = None
        self._adapter: _wire.Adapter | None = None
        self._uncompressed: set[str] = set()
        self._files: dict[str, _AppendedFile] = {}
        self.opening = False
        """True during imports and OpenSSL's start: a fork would inherit their locks."""

    def send(
        self, request: Request, *, timeout_s: float | None = None
    ) -> HttpResponse | TransportError:
        """Carry *request* out, and return what came of it.

        Args:
            request: What to post or to write.
            timeout_s: How long it may take by the wall clock, where that is less than
                the setting.
        """
        limit_s = self._settings.request_timeout_s
        if timeout_s is not None:
            limit_s = min(limit_s, timeout_s)
        try:
            if isinstance(request, WriteRequest):
                return self._write(request)
            return self._post(request, _clock.monotonic() + limit_s)
        except Exception as error:  # noqa: BLE001 - a sender must outlive any bug
            message = f"unexpected {type(error).__name__}"
            return TransportError(Reason.BUG, maybe_sent=True, message=message)

    def close(self) -> None:
        """Close the connections and files; idempotent, and it does not wait."""
        if self._adapter is not None:
            self._adapter.close()
        for file in self._files.values():
            file.close()
        self._files.clear()

    def let_go(self) -> None:
        """In a forked child: close inherited descriptors, and nothing but them.

        The parent's connections and files stay as they are; no lock is taken, and
        what is left of the objects finds nothing to close later.
        """
        if self._exchange is not None:
            self._exchange.let_go()
        for file in self._files.values():
            file.close()

    def _post(
        self, request: HttpRequest, deadline_s: float
    ) -> HttpResponse | TransportError:
        """Post, and repair what a second attempt at once can repair."""
        headers = {
            "User-Agent": self._user_agent,
            "Accept-Encoding": "identity",
            **request.headers,
        }
        if not all(map(_is_header, headers.items())):
            return _unsendable("a header holds line breaks or is not ASCII")
        try:
            host = urlsplit(request.url).netloc
        except ValueError:
            return _unsendable("the address is unusable")
        if (
            not request.gzip
            or self._settings.gzip is False
            or len(request.body) < GZIP_BYTES
            or host in self._uncompressed
        ):
            return self._exchange_once(request, headers, deadline_s)
        packed = gzip.compress(request.body, _GZIP_LEVEL, mtime=0)
        marked = {**headers, "Content-Encoding": "gzip"}
        answer = self._exchange_once(request._replace(body=packed), marked, deadline_s)
        if isinstance(answer, HttpResponse) and answer.status == 415:
            self._uncompressed.add(host)
            return self._exchange_once(request, headers, deadline_s)
        return answer

    def _exchange_once(
        self, request: HttpRequest, headers: Mapping[str, str], deadline_s: float
    ) -> HttpResponse | TransportError:
        """Send one body; once more where a kept connection turns out to be stale."""
        answer = self._attempt(request.url, headers, request.body, deadline_s)
        if (
            isinstance(answer, TransportError)
            and answer.reason is Reason.UNREACHABLE
            and self._exchange is not None
            and self._exchange.stale
            and (request.idempotent or not answer.maybe_sent)
        ):
            maybe_sent = answer.maybe_sent
            answer = self._attempt(request.url, headers, request.body, deadline_s)
            if isinstance(answer, TransportError) and maybe_sent:
                return answer._replace(maybe_sent=True)
        return answer

    def _attempt(
        self, url: str, headers: Mapping[str, str], body: bytes, deadline_s: float
    ) -> HttpResponse | TransportError:
        """Make one attempt on one connection."""
        self.opening = self._adapter is None
        try:
            from requests import PreparedRequest

            from analytics_sdk import _exchange, _wire

            if self._exchange is None or self._adapter is None:
                self._exchange = _exchange.Exchange(self._settings.connect_timeout_s)
                self._adapter = _wire.Adapter(self._exchange, self._settings.ca_file)
        finally:
            self.opening = False
        exchange = self._exchange
        exchange.begin(deadline_s)
        prepared = PreparedRequest()
        prepared.method = "POST"
        prepared.url = url
        prepared.body = body
        prepared.headers = {**headers, "Content-Length": str(len(body))}  # type: ignore[assignment]
        try:
            proxy = _wire.proxy_for(url, self._settings)
            raw = self._adapter.send(
                prepared,
                stream=True,
                timeout=exchange.left_s(),
                proxies={urlsplit(url).scheme: proxy} if proxy else {},
            ).raw
            try:
                answer = _read(raw)
            finally:
                raw.close()  # where more was to come, the connection goes with it
        except Exception as error:  # noqa: BLE001 - classified, with its bugs
            return _exchange.failure(exchange, error)
        if exchange.cut and answer.status < 300:
            message = "an answer of success came before the request was whole"
            return TransportError(Reason.UNREADABLE, True, message)  # noqa: FBT003
        return answer

    def _write(self, request: WriteRequest) -> HttpResponse | TransportError:
        """Append to a file or to standard output."""
        file: _AppendedFile | None = None
        try:
            if request.path is None:
                if sys.stdout is None or sys.stdout.closed:
                    message = "there is no standard output"
                    return TransportError(Reason.UNREACHABLE, False, message)  # noqa: FBT003
                _print(request.body)
            else:
                file = self._files.get(request.path)
                if file is None:
                    file = self._files[request.path] = _AppendedFile(request.path)
                file.append(request.body)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, type(error).__name__)
            written = file.written if file is not None else len(request.body)
            message = f"writing failed ({name})"
            return TransportError(Reason.UNREACHABLE, written > 0, message)
        return HttpResponse(200)


def _unsendable(message: str) -> TransportError:
    return TransportError(Reason.CONFIGURATION, maybe_sent=False, message=message)


def _is_header(item: tuple[str, str]) -> bool:
    """Say whether a header can be sent as it is."""
    name, value = item
    return (
        all(text.isascii() and text.isprintable() for text in item)
        and name != ""
        and not any(mark in name for mark in " :")
        and value == value.strip()
    )


def _read(raw: Any) -> HttpResponse:
    """Read an answer up to the caps, decoding nothing."""
    headers: dict[str, str] = {}
    for name, value in raw.headers.iteritems():
        if len(headers) < _HEADERS:
            headers.setdefault(name.lower()[:_HEADER_CHARS], value[:_HEADER_CHARS])
    body = bytearray()
    while len(body) < BODY_BYTES:
        chunk = raw.read(BODY_BYTES - len(body), decode_content=False)
        if not chunk:
            break
        body += chunk
    after_s = _retry.retry_after_s(headers, _clock.utc_now())
    return HttpResponse(raw.status, headers, bytes(body), after_s)


def _print(body: bytes) -> None:
    """Write to standard output, which may know only text."""
    stream = sys.stdout
    stream.flush()  # what the application printed comes first
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(body.decode("utf-8", "replace"))
    else:
        buffer.write(body)
        buffer.flush()
    stream.flush()


class _AppendedFile:
    """A file that stays open between writes, and is followed when it is rotated.

    Attributes:
        written: Bytes of the last body that are in the file.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        self._torn = False
        self.written = 0

    def append(self, body: bytes) -> None:
        """Append *body*; a disk that fills up may leave a part of it."""
        self.written = 0
        self._open()
        if self._torn:
            self._write(b"\n")  # or the rest of a line would spoil the next one
            self._torn = False
        view = memoryview(body)
        while self.written < len(body):
            try:
                self.written += self._write(view[self.written :])
            except OSError:
                self._torn = self.written > 0
                raise

    def close(self) -> None:
        """Close it; idempotent."""
        if self._identity is not None:
            self._identity = None
            os.close(self._descriptor)

    def _write(self, data: bytes | memoryview) -> int:
        return os.write(self._descriptor, data)

    def _open(self) -> None:
        """Open the file where it is not open, or where another took its name."""
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._identity:
            self.close()
            self._torn = False
            self._descriptor = os.open(self._path, _FILE_FLAGS, 0o600)
            opened = os.fstat(self._descriptor)
            self._identity = (opened.st_dev, opened.st_ino)
