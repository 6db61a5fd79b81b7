"""Which connection a request takes, whom it trusts, and what it takes from outside."""

from __future__ import annotations

import queue
import select
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress

import pytest
import requests

from analytics_sdk import _clock
from analytics_sdk._exchange import Exchange, Stage
from analytics_sdk._transport import Transport
from analytics_sdk._wire import IDLE_S, PlainConnection, SecureSocket, Shelf, TlsContext
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import HttpRequest, HttpResponse, TransportError

LIMIT_S = 0.3


def post(url: str, transport: Transport, **headers) -> HttpResponse | TransportError:
    """Send one small request."""
    return transport.send(HttpRequest(url, headers, b"{}"))


def check_failed(answer, reason, maybe_sent, words="") -> None:
    """Compare a failure; its message must name neither address nor secret."""
    assert isinstance(answer, TransportError)
    assert (reason, maybe_sent) == (answer.reason, answer.maybe_sent), answer.message
    assert words in answer.message
    assert not any(part in answer.message for part in ("127.0.0.1", "hush", "invalid"))


def obliging(peer) -> None:
    """Answer every request of the connection."""
    while True:
        peer.read()
        peer.answer(200)


def wait_until_readable(transport: Transport) -> None:
    """Wait until the peer's FIN has arrived at a kept connection."""
    pools = transport._adapter.poolmanager.pools
    (pool,) = [pools[key] for key in pools.keys()]  # noqa: SIM118 - no mapping
    connection = pool.pool.get()
    pool.pool.put(connection)
    assert select.select([connection.sock], [], [], 5)[0]


# Keeping connections


def test_connection_is_kept(serve, make):
    """Requests that follow each other use one connection."""
    server, transport = serve(obliging), make()
    for _ in range(3):
        assert 200 == post(server.url, transport).status
    assert 1 == server.connections


def test_connection_closed_meanwhile_is_noticed(serve, make):
    """A connection that the server closed after its answer is not used again."""

    def talk(peer):
        peer.read()
        peer.answer(200)

    server, transport = serve(talk), make()
    post(server.url, transport)
    wait_until_readable(transport)
    assert 200 == post(server.url, transport).status
    assert (2, 2) == (server.connections, len(server.requests))


@pytest.mark.parametrize("how", ["hang up", "reset"])
def test_stale_connection_is_replaced_once(serve, make, how):
    """A kept connection that dies under a request is replaced by a fresh one."""

    def talk(peer):
        peer.read()
        peer.answer(200)
        if server.connections == 1:
            peer.read()
            if how == "reset":
                peer.reset()

    server = serve(talk)
    transport = make()
    post(server.url, transport)
    assert 200 == post(server.url, transport).status
    assert (2, 3) == (server.connections, len(server.requests))


def test_second_failure_is_final_and_keeps_the_doubt(serve, make):
    """When the fresh connection fails too, the first attempt may still have arrived."""

    def talk(peer):
        peer.read()
        peer.answer(200)
        peer.read()
        server.stop_listening()

    server, transport = serve(talk), make()
    post(server.url, transport)
    answer = post(server.url, transport)
    check_failed(answer, Reason.UNREACHABLE, True, "ECONNREFUSED")


def test_fresh_connection_that_dies_is_not_replaced(serve, make):
    """There is one replacement, however the fresh connection ends."""

    def talk(peer):
        peer.read()
        if server.connections == 1:
            peer.answer(200)
            peer.read()

    server = serve(talk)
    transport = make()
    post(server.url, transport)
    check_failed(post(server.url, transport), Reason.UNREACHABLE, True)
    assert (2, 3) == (server.connections, len(server.requests))


def test_silence_on_a_kept_connection_is_not_repeated(serve, make):
    """A deadline that passes is final, on a kept connection as well."""

    def talk(peer):
        peer.read()
        peer.answer(200)
        peer.read()
        peer.pause()

    server, transport = serve(talk), make(request_timeout_s=LIMIT_S)
    post(server.url, transport)
    check_failed(post(server.url, transport), Reason.UNREACHABLE, True, "time ran out")
    assert (1, 2) == (server.connections, len(server.requests))


def test_answer_that_breaks_off_is_not_repeated(serve, make):
    """Once a kept connection has answered a byte, the server was there: no repeat."""

    def talk(peer):
        peer.read()
        peer.answer(200)
        peer.read()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        peer.pause(0.05)
        peer.reset()

    server, transport = serve(talk), make()
    post(server.url, transport)
    check_failed(post(server.url, transport), Reason.UNREACHABLE, True, "failed")
    assert (1, 2) == (server.connections, len(server.requests))


def test_stalled_sending_is_not_repeated(serve, make):
    """Time that ran out while sending on a kept connection is no stale connection."""

    def talk(peer):
        peer.read()
        peer.answer(200)
        peer.pause()

    server, transport = serve(talk), make(request_timeout_s=LIMIT_S)
    post(server.url, transport)
    answer = transport.send(HttpRequest(server.url, {}, b"x" * 8_000_000))
    check_failed(answer, Reason.UNREACHABLE, True, "time ran out")
    assert 1 == server.connections


@pytest.mark.parametrize(("idle_s", "connections"), [(IDLE_S - 1, 1), (IDLE_S + 1, 2)])
def test_idle_connection_is_dropped(serve, make, monkeypatch, idle_s, connections):
    """After 20 s without a request a connection is replaced before it is used."""
    server, transport = serve(obliging), make()
    post(server.url, transport)
    later = _clock.monotonic
    monkeypatch.setattr(_clock, "monotonic", lambda: later() + idle_s)
    assert 200 == post(server.url, transport).status
    assert connections == server.connections


def test_every_connection_asks_for_the_address(serve, make, monkeypatch):
    """The address is looked up anew, so that a host that moved is found."""

    def talk(peer):
        peer.read()
        peer.answer(200, b"", "Connection: close")

    server, transport, asked = serve(talk), make(), []
    lookup = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *a, **k: asked.append(a) or lookup(*a, **k)
    )
    for _ in range(2):
        assert 200 == post(server.url, transport).status
    assert [("127.0.0.1", server.port)] * 2 == asked


def test_all_addresses_are_tried(serve, make, monkeypatch):
    """An address that refuses is no reason to give the host up."""
    server = serve(obliging)
    closed = serve(obliging)
    closed.stop_listening()
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        for port in (closed.port, server.port)
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert 200 == post(server.url, make()).status


def test_silent_address_leaves_time_for_the_next(serve, make, monkeypatch):
    """An address that drops packets takes its share of the time to connect, no more."""
    server = serve(obliging)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            for address in (full.getsockname(), ("127.0.0.1", server.port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert 200 == post(server.url, make(connect_timeout_s=LIMIT_S)).status


def test_time_to_connect_does_not_bound_the_answer(serve, make):
    """Once connected, an answer may take longer than connecting may."""

    def talk(peer):
        peer.read()
        peer.pause(LIMIT_S)
        peer.answer(200)

    assert 200 == post(serve(talk).url, make(connect_timeout_s=LIMIT_S / 2)).status


def test_connecting_is_not_counted_as_sending():
    """What a proxy was told to open the way is no part of the request."""
    exchange = Exchange(1.0)
    exchange.begin(_clock.monotonic() + 5)
    exchange.connecting()
    exchange.sent = 99
    exchange.took(39)
    exchange.connected()
    assert (0, 0) == (exchange.sent, exchange.received)


def test_peer_that_vanishes_is_noticed(serve):
    """Keep-alive probes start after 45 s, where the system knows them."""
    exchange = Exchange(1.0)
    exchange.begin(_clock.monotonic() + 5)
    connection = PlainConnection(
        "127.0.0.1", serve(obliging).port, exchange=exchange, socket_options=[(0, 0, 0)]
    )
    connection.connect()
    sock = connection.sock
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if sys.platform == "linux":
        names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        assert [45, 10, 6, 45_000] == [
            sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names
        ]
    connection.close()


def test_close_does_not_wait_for_the_garbage_collector(serve, make):
    """Whoever still refers to a connection, close() ends it."""
    ended = threading.Event()

    def talk(peer):
        with suppress(EOFError):
            obliging(peer)
        ended.set()

    server, transport = serve(talk), make()
    post(server.url, transport)
    (held,) = transport._adapter._pools
    transport.close()
    assert ended.wait(5)
    assert held.pool is None


def test_connections_are_shelved_without_a_lock():
    """The last connection comes first; empty or full, it says so as a queue does."""
    shelf = Shelf(2)
    shelf.put("one")
    shelf.put("two")
    with pytest.raises(queue.Full):
        shelf.put("three")
    assert ["two", "one"] == [shelf.get(), shelf.get()]
    with pytest.raises(queue.Empty):
        shelf.get()


def test_close_is_idempotent(serve, make):
    """A closed transport holds no connection; closing it again changes nothing."""
    server, transport = serve(obliging), make()
    transport.close()
    post(server.url, transport)
    transport.close()
    transport.close()
    server.close()
    assert 1 == server.connections


# Trust


def tls_server(serve, path, talk=obliging, version=None):
    """Serve TLS with the certificate at *path*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    if version is not None:
        context.maximum_version = version
    return serve(talk, context)


@pytest.fixture
def pem(require, certificate):
    """Make certificates, where openssl is there to do it."""
    require("openssl", "install the openssl program")
    return certificate


def test_trusted_host_is_spoken_to(serve, make, pem, monkeypatch, tmp_path):
    """With *ca_file*, TLS works; no key log is written, even where one is asked for."""
    log = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    path = pem("IP:127.0.0.1")
    server, transport = tls_server(serve, path), make(ca_file=str(path))
    for _ in range(2):
        assert 200 == post(server.url, transport).status
    assert 1 == server.connections
    assert not log.exists()


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_environment_names_the_default_bundle(serve, make, pem, monkeypatch, name):
    """Without *ca_file*, the bundle that the environment names is the default."""
    path = pem("IP:127.0.0.1")
    monkeypatch.setenv(name, str(path))
    assert 200 == post(tls_server(serve, path).url, make()).status


def test_ca_file_may_be_a_directory(serve, make, pem, tmp_path):
    """A directory of authorities is read as one: an empty one trusts nobody."""
    server = tls_server(serve, pem("IP:127.0.0.1"))
    answer = post(server.url, make(ca_file=str(tmp_path)))
    check_failed(answer, Reason.TLS, False)


def test_unknown_authority_is_refused(serve, make, pem):
    """A certificate that nobody we trust has signed: not a byte is sent."""
    server = tls_server(serve, pem("IP:127.0.0.1"))
    check_failed(post(server.url, make()), Reason.TLS, False, "self")
    assert [] == server.requests


def test_certificate_of_another_host_is_refused(serve, make, pem):
    """A trusted certificate for another name does not do, and no name is told."""
    path = pem("DNS:elsewhere.test")
    server = tls_server(serve, path)
    answer = post(server.url, make(ca_file=str(path)))
    check_failed(answer, Reason.TLS, False, "another host")
    assert "elsewhere" not in answer.message


def test_outdated_protocol_is_refused(serve, make, pem):
    """TLS 1.1 is not spoken."""
    path = pem("IP:127.0.0.1")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        server = tls_server(serve, path, version=ssl.TLSVersion.TLSv1_1)
    check_failed(post(server.url, make(ca_file=str(path))), Reason.TLS, False)


def test_plain_server_is_no_tls(serve, make):
    """A server that speaks plain HTTP where TLS belongs is told as such."""

    def talk(peer):
        peer.sock.recv(1)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    url = serve(talk).url.replace("http:", "https:")
    check_failed(post(url, make()), Reason.TLS, False, "TLS failed")


@pytest.mark.parametrize("setting", ["connect_timeout_s", "request_timeout_s"])
def test_silent_handshake_ends_in_time(serve, make, setting):
    """A handshake that nobody answers ends with the shorter of both limits."""
    url = serve(lambda peer: peer.pause()).url.replace("http:", "https:")
    began_s = time.monotonic()
    answer = post(url, make(**{setting: LIMIT_S}))
    assert time.monotonic() - began_s < LIMIT_S * 1.1 + 0.2
    check_failed(answer, Reason.UNREACHABLE, False, "shaking hands")


@pytest.mark.parametrize("words", ["shaking hands", ""])
def test_handshake_that_breaks_off_was_not_sent(serve, make, words):
    """A connection lost in or before the handshake is the network's fault."""

    def talk(peer):
        if words:
            peer.sock.recv(1)
        peer.reset()

    url = serve(talk).url.replace("http:", "https:")
    check_failed(post(url, make()), Reason.UNREACHABLE, False, words)


def test_socket_that_fails_before_the_handshake_is_closed():
    """CPython drops a TLS socket that lost its peer early; the descriptor is freed."""
    exchange = Exchange(1.0)
    exchange.begin(_clock.monotonic() + 5)
    exchange.stage = Stage.TLS
    sock = SecureSocket.__new__(SecureSocket)
    socket.socket.__init__(sock)
    sock._context = TlsContext.of(exchange, None)
    sock._sslobj = None
    with pytest.raises(OSError, match="not connected"):
        sock.recv(1)
    assert -1 == sock.fileno()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_unreadable_bundle_is_named(serve, make, tmp_path, content):
    """A *ca_file* that is missing or holds no certificate is a matter of trust."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    url = serve(obliging).url.replace("http:", "https:")
    transport = make(ca_file=str(path))
    for _ in range(2):
        answer = post(url, transport)
        check_failed(answer, Reason.TLS, False, "authorities cannot be read")


def test_slow_answer_over_tls_ends_in_time(serve, make, pem):
    """The deadline holds beneath TLS as well."""

    def talk(peer):
        peer.read()
        peer.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 500)

    path = pem("IP:127.0.0.1")
    server = tls_server(serve, path, talk)
    transport = make(ca_file=str(path), request_timeout_s=LIMIT_S)
    began_s = time.monotonic()
    answer = post(server.url, transport)
    assert time.monotonic() - began_s < LIMIT_S * 1.1 + 0.2
    check_failed(answer, Reason.UNREACHABLE, True, "time ran out")


def test_early_refusal_is_heard_over_tls(serve, make, pem):
    """A 413 that comes while 5 MB are still under way is read over TLS too."""

    def talk(peer):
        peer.read_head()
        peer.answer(413)
        peer.pause()

    path = pem("IP:127.0.0.1")
    server = tls_server(serve, path, talk)
    transport = make(ca_file=str(path), request_timeout_s=1.0)
    answer = transport.send(HttpRequest(server.url, {}, b"x" * 5_000_000))
    assert 413 == answer.status


def test_large_body_arrives_over_tls(serve, make, pem):
    """A body of many records arrives as it was."""
    path = pem("IP:127.0.0.1")
    server = tls_server(serve, path)
    body = bytes(range(256)) * 4000
    answer = make(ca_file=str(path)).send(HttpRequest(server.url, {}, body))
    assert 200 == answer.status
    assert body == server.requests[0].body


# Proxies and the rest of the environment


def forward(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side ends."""
    while True:
        for ready in select.select([one, other], [], [], 5)[0]:
            data = ready.recv(65536)
            if not data:
                return
            (other if ready is one else one).sendall(data)


def proxying(peer) -> None:
    """Be a proxy: CONNECT for a tunnel, all else is passed on and answered."""
    line, headers = peer.read_head()
    peer.server.seen.append((line, headers.get("proxy-authorization")))
    method, target, _ = line.split(" ")
    if method == "CONNECT":
        host, port = target.split(":")
        with suppress(OSError), socket.create_connection((host, int(port))) as upstream:
            peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            forward(peer.sock, upstream)
    else:
        peer.answer(200, b"by the proxy")


@pytest.fixture
def proxy(serve):
    """Run a proxy on loopback that notes what it is asked for."""
    server = serve(proxying)
    server.seen = []
    server.address = f"http://user:hush@127.0.0.1:{server.port}"
    return server


HUSH = requests.auth._basic_auth_str("user", "hush")


def test_https_goes_through_a_tunnel(serve, make, pem, proxy):
    """With a proxy, TLS is spoken to the host; the password is for the proxy alone."""
    path = pem("IP:127.0.0.1")
    server = tls_server(serve, path)
    transport = make(ca_file=str(path), proxies={"https": proxy.address})
    for _ in range(2):
        assert 200 == post(server.url, transport, Authorization="ours").status
    assert [(f"CONNECT 127.0.0.1:{server.port} HTTP/1.0", HUSH)] == [
        (line.replace("1.1", "1.0"), password) for line, password in proxy.seen
    ]
    assert "proxy-authorization" not in server.requests[0].headers
    assert "ours" == server.requests[0].headers["authorization"]


def test_http_is_forwarded(make, proxy):
    """A plain request asks the proxy for the whole address."""
    transport = make(proxies={"http": proxy.address})
    answer = post("http://somewhere.invalid/v1", transport)
    assert b"by the proxy" == answer.body
    assert [("POST http://somewhere.invalid/v1 HTTP/1.1", HUSH)] == proxy.seen


def test_environment_names_the_proxy(make, proxy, monkeypatch):
    """Without the setting, the environment decides; an empty setting overrules it."""
    monkeypatch.setenv("http_proxy", proxy.address)
    url = "http://somewhere.invalid/v1"
    assert 200 == post(url, make()).status
    check_failed(post(url, make(proxies={})), Reason.UNREACHABLE, False, "looking up")
    assert 1 == len(proxy.seen)


def test_no_proxy_goes_by_labels(make, proxy, monkeypatch):
    """NO_PROXY exempts a domain and what is below it, not what ends alike."""
    monkeypatch.setenv("http_proxy", proxy.address)
    monkeypatch.setenv("no_proxy", "example.invalid")
    transport = make()
    for host, through in (
        ("example.invalid", False),
        ("api.example.invalid", False),
        ("evil-example.invalid", True),
    ):
        answer = post(f"http://{host}/", transport)
        assert through is isinstance(answer, HttpResponse)


def test_loopback_is_not_proxied_by_the_environment(serve, make, proxy, monkeypatch):
    """An unencrypted body for this machine does not leave it through a proxy."""
    monkeypatch.setenv("http_proxy", proxy.address)
    server = serve(obliging)
    assert 200 == post(server.url, make()).status
    assert ([], 1) == (proxy.seen, len(server.requests))


def test_proxy_that_refuses_was_not_sent(serve, make):
    """A proxy that answers CONNECT with 407 has seen nothing of the request."""

    def talk(peer):
        peer.read_head()
        peer.answer(407)

    proxies = {"https": f"http://user:hush@127.0.0.1:{serve(talk).port}"}
    answer = post("https://somewhere.invalid/", make(proxies=proxies))
    check_failed(answer, Reason.UNREACHABLE, False, "the proxy refused")


def test_slow_proxy_ends_in_time(serve, make):
    """A proxy that answers CONNECT a byte at a time ends with the time to connect."""

    def talk(peer):
        peer.read_head()
        peer.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 500)

    proxies = {"https": f"http://127.0.0.1:{serve(talk).port}"}
    began_s = time.monotonic()
    transport = make(proxies=proxies, connect_timeout_s=LIMIT_S)
    answer = post("https://somewhere.invalid/", transport)
    assert time.monotonic() - began_s < LIMIT_S * 1.1 + 0.2
    check_failed(answer, Reason.UNREACHABLE, False, "time ran out while connecting")


def test_missing_proxy_was_not_sent(serve, make, proxy):
    """A proxy that is down: nothing is sent around it."""
    server = serve(obliging)
    proxy.stop_listening()
    answer = post(server.url, make(proxies={"http": proxy.address}))
    check_failed(answer, Reason.UNREACHABLE, False, "ECONNREFUSED")
    assert 0 == server.connections


def test_proxy_of_another_kind_is_a_setting_to_mend(make):
    """A proxy address that cannot be used is named as a matter of configuration."""
    transport = make(proxies={"https": "http://"})
    answer = post("https://somewhere.invalid/", transport)
    check_failed(answer, Reason.CONFIGURATION, False, "unusable")


def test_tunnel_to_an_https_proxy(serve, make, pem):
    """TLS inside TLS works: the proxy sees the CONNECT, the host the request."""
    path = pem("IP:127.0.0.1")

    def talk(peer):
        line, _ = peer.read_head()
        port = int(line.split(" ")[1].split(":")[1])
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as up:
            peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
            forward(peer.sock, up)

    server, outer = tls_server(serve, path), tls_server(serve, path, talk)
    proxies = {"https": f"https://127.0.0.1:{outer.port}"}
    answer = post(server.url, make(ca_file=str(path), proxies=proxies))
    assert 200 == answer.status, answer
    assert (1, 1) == (outer.connections, len(server.requests))


@pytest.mark.parametrize("headers", [{"Authorization": "ours"}, {}])
def test_netrc_is_never_used(serve, make, monkeypatch, tmp_path, headers):
    """A password in ~/.netrc neither replaces our key nor is sent without one."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password theirs\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    server = serve(obliging)
    assert requests.utils.get_netrc_auth(server.url) == ("somebody", "theirs")
    post(server.url, make(), **headers)
    assert headers.get("Authorization") == server.requests[0].headers.get(
        "authorization"
    )


def test_cookies_are_not_kept(serve, make):
    """A cookie that a server sets is not sent back."""

    def talk(peer):
        while True:
            peer.read()
            peer.answer(200, b"", "Set-Cookie: id=1; Path=/")

    server, transport = serve(talk), make()
    for _ in range(2):
        post(server.url, transport)
    assert "cookie" not in server.requests[1].headers
