"""What requests and urllib3 must be told: one deadline, and a full account.

A timeout of requests bounds each ``recv``, not the exchange: a server that sends a
byte a second keeps a request with ``timeout=2`` busy for as long as it likes.  Here
the sockets themselves know the deadline and ask for the time that is left before each
system call, so connecting, the TLS handshake, the proxy's answer, sending, headers and
body all end in time without a thread that watches.  The lookup of the host name alone
cannot be interrupted: there the resolver's own limit holds.

The sockets also count what they carry, for the account that is the `Exchange`.

Imported with the first upload, because importing requests is expensive.
"""

from __future__ import annotations

import os
import queue
import socket
import ssl
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import (  # type: ignore[attr-defined]
    getproxies_environment,
    proxy_bypass_environment,
)

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError
from urllib3.util.wait import wait_for_read

from analytics_sdk import _clock
from analytics_sdk._config import LOOPBACK, Delivery
from analytics_sdk._exchange import Exchange, Stage

IDLE_S = 20.0
"""Servers and balancers close idle connections from about here on without a word."""

_HOSTS = 64
_SEND_BYTES = 64 * 1024
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
_KEEP_ALIVE = tuple(
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 45),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 6),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 45_000),  # in milliseconds
    )
    if hasattr(socket, name)
)


class PlainSocket(socket.socket):
    """A socket whose every call ends at the deadline of its exchange."""

    exchange: Exchange

    def recv(self, *args: Any, **kwargs: Any) -> bytes:
        """Receive, for as long as there is time."""
        self.settimeout(self.exchange.left_s())
        data = super().recv(*args, **kwargs)
        self.exchange.took(len(data))
        return data

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """Receive, for as long as there is time."""
        self.settimeout(self.exchange.left_s())
        return self.exchange.took(super().recv_into(*args, **kwargs))

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of *data*, or as much as the peer takes before it answers.

        A server may answer early, say 413, and read no further.  Then this raises
        `BrokenPipeError`, after which urllib3 goes on to read that answer.
        """
        exchange = self.exchange
        view = memoryview(data).cast("B")
        try:
            while view:
                self.settimeout(exchange.left_to_send_s())
                count = super().send(view[:_SEND_BYTES], flags)
                exchange.sent += count
                view = view[count:]
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            exchange.cut = True
            raise BrokenPipeError from None
        except TimeoutError:
            exchange.cut = True
            if wait_for_read(self, timeout=0):
                raise BrokenPipeError from None
            raise


class SecureSocket(PlainSocket, ssl.SSLSocket):
    """The same over TLS; made by a `TlsContext` only, which knows the exchange."""

    @property
    def exchange(self) -> Exchange:  # type: ignore[override]
        """The exchange of the context."""
        return cast("TlsContext", self.context).exchange

    def recv(self, *args: Any, **kwargs: Any) -> bytes:
        """Receive; where a reset forestalls the handshake, see to the descriptor."""
        try:
            return super().recv(*args, **kwargs)
        except OSError:
            if self.exchange.stage is Stage.TLS:
                self.close()  # CPython asks a socket that lost its peer, and drops it
            raise

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002
        """Shake hands, for as long as there is time."""
        self.settimeout(self.exchange.left_s())
        super().do_handshake(block)


class TlsContext(ssl.SSLContext):
    """Verifies hosts against one bundle of authorities, read at the first handshake.

    It is not made by `ssl.create_default_context`, which would write the session keys
    to the file that the environment variable ``SSLKEYLOGFILE`` names.
    """

    sslsocket_class = SecureSocket
    exchange: Exchange
    bundle: str | None

    @classmethod
    def of(cls, exchange: Exchange, ca_file: str | None) -> TlsContext:
        """Return a context that trusts *ca_file*, else the default bundle.

        The default is what ``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE``,
        ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` names, the first one that is set, else
        the bundle of requests.
        """
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.exchange = exchange
        named = (ca_file, *map(os.environ.get, _BUNDLES), DEFAULT_CA_BUNDLE_PATH)
        context.bundle = next(path for path in named if path)
        return context

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Wrap a socket, once the authorities are known."""
        self._trust()
        return super().wrap_socket(*args, **kwargs)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Do the same for TLS inside TLS, to a host behind an https proxy."""
        self._trust()
        return super().wrap_bio(*args, **kwargs)

    def _trust(self) -> None:
        bundle = self.bundle
        if bundle is not None:
            self.exchange.stage = Stage.TRUST
            is_directory = Path(bundle).is_dir()
            self.load_verify_locations(
                **{"capath" if is_directory else "cafile": bundle}
            )
            self.bundle = None
        self.exchange.stage = Stage.TLS


class PlainConnection(HTTPConnection):
    """A connection that keeps the account of its exchange."""

    def __init__(self, *args: Any, exchange: Exchange, **kwargs: Any) -> None:
        """Belong to *exchange*."""
        super().__init__(*args, **kwargs)
        self._exchange = exchange
        self._used_s = _clock.monotonic()

    @property
    def is_connected(self) -> bool:
        """Whether it can be used again: urllib3 asks before it does so."""
        idle_s = _clock.monotonic() - self._used_s
        return idle_s <= IDLE_S and super().is_connected

    def connect(self) -> None:
        """Connect, through the proxy and the TLS handshake where there are such."""
        self._exchange.connecting()
        super().connect()
        self._exchange.connected()
        kept = [each for each in self._exchange.open if each.sock is not None]
        self._exchange.open = [*kept, self]

    def _new_conn(self) -> socket.socket:
        """Try the addresses of the host, sharing the time that is left among them."""
        exchange = self._exchange
        exchange.stage = Stage.LOOKUP
        failure: OSError | None = None
        try:
            host = self._dns_host.strip("[]")
            found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            # Names that cannot be encoded are unknown ones, too.
            raise NewConnectionError(self, "no address") from socket.gaierror(error)
        exchange.stage = Stage.CONNECT
        for tried, (family, kind, protocol, _, address) in enumerate(found):
            sock = PlainSocket(family, kind, protocol)
            try:
                self._prepare(sock)
                sock.settimeout(exchange.left_s() / (len(found) - tried))
                sock.connect(address)
                return sock
            except OSError as error:
                sock.close()
                failure = error
        try:
            raise NewConnectionError(self, "no connection") from failure
        finally:
            failure = None  # its traceback refers to this frame: a cycle

    def _prepare(self, sock: PlainSocket) -> None:
        sock.exchange = self._exchange
        for option in (*(self.socket_options or ()), *_KEEP_ALIVE):
            try:
                sock.setsockopt(*option)
            except OSError:  # some sandboxes know only some of them
                continue

    def getresponse(self) -> Any:
        """Read the head of the answer."""
        response = super().getresponse()
        self._used_s = _clock.monotonic()
        if self._exchange.cut and self.sock is not None:
            # The server still waits for the rest of the body, so the next request
            # would be read as that.  The response keeps the socket open for itself.
            self.sock.close()
            self.sock = None
        return response


class SecureConnection(PlainConnection, HTTPSConnection):
    """The same over TLS."""


class Shelf:
    """Where a pool keeps its connections: a queue without a lock.

    One thread uses it, so it needs none.  A pool is closed by a finaliser when the
    process ends, in a forked child too: there a lock that another thread held during
    the fork would never open.
    """

    def __init__(self, maxsize: int) -> None:
        """Hold up to *maxsize* connections."""
        self._maxsize = maxsize
        self._kept: list[Any] = []

    def get(self, block: bool = False, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
        """Take the last one."""
        if not self._kept:
            raise queue.Empty
        return self._kept.pop()

    def put(self, item: Any, block: bool = False, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002
        """Keep *item*."""
        if len(self._kept) == self._maxsize:
            raise queue.Full
        self._kept.append(item)


class PlainPool(HTTPConnectionPool):
    """The connections to one host."""

    QueueCls = Shelf  # type: ignore[assignment]


class SecurePool(HTTPSConnectionPool):
    """The same over TLS."""

    QueueCls = Shelf  # type: ignore[assignment]


class Adapter(HTTPAdapter):
    """The adapter of requests, on our connections, with our trust.

    It is used without a `requests.Session`.  Given a redirect, a session reads and
    decodes the whole body even where it is told not to follow, which a hostile host
    can make arbitrarily large; it takes a password from ``~/.netrc``; it keeps
    cookies; and it costs a third more CPU for each upload.
    """

    def __init__(self, exchange: Exchange, ca_file: str | None) -> None:
        """Make connections that belong to *exchange*."""
        self._exchange = exchange
        self._tls = TlsContext.of(exchange, ca_file)
        self._pools: list[PlainPool | SecurePool] = []
        super().__init__(pool_connections=_HOSTS, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool of direct connections."""
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self._make_pools_of(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the pool of connections through *proxy*."""
        tls = {"ssl_context": self._tls, "proxy_ssl_context": self._tls}
        manager = super().proxy_manager_for(proxy, **tls, **kwargs)
        self._make_pools_of(manager)
        return manager

    def close(self) -> None:
        """Close the connections now, and not when the garbage is collected."""
        super().close()
        for pool in self._pools:
            pool.close()
        self._pools.clear()

    def _make_pools_of(self, manager: Any) -> None:
        """Have *manager* make pools of our connections."""
        kinds = {
            "http": (PlainPool, PlainConnection),
            "https": (SecurePool, SecureConnection),
        }

        def make(scheme: str, *args: Any, **kwargs: Any) -> Any:
            pool_class, connection_class = kinds[scheme]
            pool: Any = pool_class(*args, **kwargs)
            pool.ConnectionCls = partial(connection_class, exchange=self._exchange)
            self._pools.append(pool)
            return pool

        manager.pool_classes_by_scheme = {kind: partial(make, kind) for kind in kinds}

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Leave the trust to our context."""

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """Hand on the raw answer; its cookies are not even parsed."""
        response = Response()
        response.raw = resp
        return response


def proxy_for(url: str, settings: Delivery) -> str | None:
    """Return the proxy that *url* is reached through.

    The setting replaces the environment altogether.  The environment's ``NO_PROXY``
    names whole labels: ``example.com`` is not ``evil-example.com``.  Its proxies are
    never used for this machine's own addresses: a body that travels unencrypted
    because it goes no further would leave the machine in clear.
    """
    if settings.proxies is not None:
        return select_proxy(url, dict(settings.proxies))
    proxies = getproxies_environment()
    host = urlsplit(url).hostname or ""
    if host in LOOPBACK or proxy_bypass_environment(host, proxies):
        return None
    return select_proxy(url, proxies)
