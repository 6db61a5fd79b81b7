"""What a server can do to a request, and what the sender hears of it."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics_sdk._transport import BODY_BYTES, Transport
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import HttpRequest, HttpResponse, TransportError

KEY = "Basic c2VjcmV0LWtleTo="
LIMIT_S = 0.3
MIB = 1024 * 1024


def post(
    server, transport, body=b"{}", *, url=None, compress=False, **kwargs
) -> HttpResponse | TransportError:
    """Send one request with a key in it."""
    request = HttpRequest(
        url or server.url, {"Authorization": KEY}, body, gzip=compress
    )
    return transport.send(request, **kwargs)


def check_failed(answer, reason, maybe_sent, words="") -> None:
    """Compare a failure; its message must name neither address nor key."""
    assert isinstance(answer, TransportError)
    assert (reason, maybe_sent) == (answer.reason, answer.maybe_sent), answer.message
    assert words in answer.message
    assert not any(part in answer.message for part in ("127.0.0.1", "c2Vj", "invalid"))


def obliging(peer) -> None:
    """Answer every request of the connection."""
    while True:
        peer.read()
        peer.answer(200, b'{"success":true}')


def test_answer_arrives_whole(serve, make):
    """Status, lower-case headers, body and the wait asked for reach the caller."""

    def talk(peer):
        peer.read()
        peer.answer(429, b"slow down", "Retry-After: 7", "X-Thing: 1")

    answer = post(serve(talk), make())
    assert isinstance(answer, HttpResponse)
    assert (429, b"slow down", 7.0) == (
        answer.status,
        answer.body,
        answer.retry_after_s,
    )
    assert {
        "content-length": "9",
        "retry-after": "7",
        "x-thing": "1",
    } == answer.headers


def test_request_is_a_plain_post(serve, make):
    """Our headers and body arrive as they are; no compressed answer is asked for."""
    server = serve(obliging)
    post(server, make(), b"body")
    (request,) = server.requests
    assert "POST /v1/batch HTTP/1.1" == request.line
    assert b"body" == request.body
    assert {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": "ours/1",
        "accept-encoding": "identity",
        "authorization": KEY,
        "content-length": "4",
    } == request.headers


def test_user_agent_of_the_request_wins(serve, make):
    """A destination may call itself something else."""
    server = serve(obliging)
    request = HttpRequest(server.url, {"User-Agent": "theirs/2"}, b"")
    make().send(request)
    assert "theirs/2" == server.requests[0].headers["user-agent"]


def test_refused_connection_was_not_sent(serve, make):
    """Nobody listens: nothing can have arrived."""
    server = serve(obliging)
    server.stop_listening()
    answer = post(server, make())
    check_failed(answer, Reason.UNREACHABLE, False, "ECONNREFUSED")


def test_unknown_host_was_not_sent(make):
    """A name that has no address is told apart from a server that is down."""
    answer = post(None, make(), url="https://nowhere.invalid/v1")
    check_failed(answer, Reason.UNREACHABLE, False, "looking up")


@pytest.mark.parametrize(
    "url", ["http://[::1/v1", "ftp://127.0.0.1/v1", "https://" + "a" * 70 + ".test/"]
)
def test_unusable_address_is_no_bug(make, url):
    """An address that cannot be used never was, and nothing is raised."""
    answer = post(None, make(), url=url)
    assert answer.reason in (Reason.CONFIGURATION, Reason.UNREACHABLE)
    assert answer.maybe_sent is False


def test_connecting_has_its_own_limit(make):
    """A host that drops packets costs *connect_timeout_s*, not the whole time."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        began_s = time.monotonic()
        answer = post(None, make(connect_timeout_s=LIMIT_S), url=url)
    assert time.monotonic() - began_s < LIMIT_S * 1.1 + 0.1
    check_failed(answer, Reason.UNREACHABLE, False, "time ran out while connecting")


def drip_head(peer):
    """Send a header line for ever, a byte at a time."""
    peer.read()
    peer.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 500)


def drip_body(peer):
    """Send a body for ever, a byte at a time."""
    peer.read()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    peer.drip(b"a" * 500)


def drip_chunks(peer):
    """Send a chunk size for ever, a byte at a time."""
    peer.read()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.drip(b"0" * 500)


def drip_interim(peer):
    """Send interim answers for ever."""
    peer.read()
    peer.drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)


def say_nothing(peer):
    """Take the request, and never answer."""
    peer.read()
    peer.pause()


def stop_reading(peer):
    """Never take the request off the wire."""
    peer.pause()


@pytest.mark.parametrize(
    "talk",
    [drip_head, drip_body, drip_chunks, drip_interim, say_nothing, stop_reading],
)
def test_no_exchange_outlives_its_deadline(serve, make, talk):
    """However slow a server is, the whole exchange ends within 10 % of its limit."""
    body = b"x" * 8 * MIB if talk is stop_reading else b"{}"
    server, transport = serve(talk), make(request_timeout_s=LIMIT_S)
    transport.send(HttpRequest("http://127.0.0.1:1/", {}, b""))  # imports requests
    began_s = time.monotonic()
    answer = post(server, transport, body)
    assert time.monotonic() - began_s < LIMIT_S * 1.1 + 0.1
    check_failed(answer, Reason.UNREACHABLE, True, "time ran out")


def test_caller_may_shorten_the_deadline(serve, make):
    """At the exit there is less time than the setting allows, or none at all."""
    server, transport = serve(say_nothing), make()
    began_s = time.monotonic()
    answer = post(server, transport, timeout_s=LIMIT_S)
    check_failed(answer, Reason.UNREACHABLE, True, "time ran out")
    assert time.monotonic() - began_s < 1.0
    answer = post(server, transport, timeout_s=0.0)
    check_failed(answer, Reason.UNREACHABLE, False, "time ran out")
    assert 1 == len(server.requests)


def truncated(peer):
    """Announce 100 bytes and send 2."""
    peer.read()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok")


def broken_chunk(peer):
    """Send a chunk size that is no number."""
    peer.read()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok")


def no_http(peer):
    """Speak another protocol."""
    peer.read()
    peer.send(b"SSH-2.0-OpenSSH_9.9\r\n")


def many_headers(peer):
    """Send more headers than anybody has."""
    peer.read()
    peer.send(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n")


def large_headers(peer):
    """Send headers of half a megabyte."""
    peer.read()
    peer.send(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 60_000 + b"\r\n")
    peer.send((b"X: " + b"y" * 60_000 + b"\r\n") * 8 + b"\r\n")


def interim_flood(peer):
    """Send interim answers without end, and fast."""
    peer.read()
    while True:
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


@pytest.mark.parametrize(
    "talk",
    [truncated, broken_chunk, no_http, many_headers, large_headers, interim_flood],
)
def test_unreadable_answer_may_have_been_sent(serve, make, talk):
    """An answer that cannot be read whole proves nothing, except that we were heard."""
    check_failed(post(serve(talk), make()), Reason.UNREADABLE, True)


def hang_up(peer):
    """Close in good order, without an answer."""
    peer.read()


def reset(peer):
    """Close with RST, without an answer."""
    peer.read()
    peer.reset()


def reset_within(peer):
    """Close with RST in the middle of the answer."""
    peer.read()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    peer.pause(0.05)
    peer.reset()


@pytest.mark.parametrize("talk", [hang_up, reset, reset_within])
def test_lost_connection_may_have_been_sent(serve, make, talk):
    """On a connection of its own, a request is not sent a second time at once."""
    server = serve(talk)
    check_failed(post(server, make()), Reason.UNREACHABLE, True, "failed")
    assert 1 == server.connections


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(serve, make, status):
    """A redirect is an answer like another; where it points to hears nothing."""
    other = serve(obliging)

    def talk(peer):
        peer.read()
        peer.answer(status, b"moved", f"Location: {other.url}")

    answer = post(serve(talk), make())
    assert (status, b"moved", other.url) == (
        answer.status,
        answer.body,
        answer.headers["location"],
    )
    assert 0 == other.connections


def test_body_is_cut_at_the_cap(serve, make):
    """Of an endless body 64 KiB are read; then the connection is closed."""
    block = b"x" * 65536

    def talk(peer):
        peer.read()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.send(block)

    server, transport = serve(talk), make()
    assert BODY_BYTES == len(post(server, transport).body)
    assert BODY_BYTES == len(post(server, transport).body)
    assert 2 == server.connections


def test_body_of_exactly_the_cap_keeps_its_connection(serve, make):
    """A body that just fits is whole, so the connection serves the next request."""

    def talk(peer):
        while True:
            peer.read()
            peer.answer(200, b"x" * BODY_BYTES)

    server, transport = serve(talk), make()
    for _ in range(2):
        assert BODY_BYTES == len(post(server, transport).body)
    assert 1 == server.connections


@pytest.mark.parametrize("head", ["200 OK", "302 Found\r\nLocation: http://x.invalid/"])
def test_compression_bomb_stays_packed(serve, make, head):
    """A packed body of 64 MiB is handed on as it came, at less than 2 MiB of memory."""
    bomb = gzip.compress(bytes(64 * MIB))
    fields = f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}"
    whole = f"HTTP/1.1 {head}\r\n{fields}\r\n\r\n".encode() + bomb

    def talk(peer):
        while True:
            peer.read()
            peer.send(whole)

    server, transport = serve(talk), make()
    post(server, transport)
    tracemalloc.start()
    tracemalloc.reset_peak()
    before_bytes, _ = tracemalloc.get_traced_memory()
    try:
        answer = post(server, transport)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bomb[:BODY_BYTES] == answer.body
    assert peak_bytes - before_bytes < 2 * MIB


def test_headers_are_capped(serve, make):
    """Of the headers 64 are kept, each cut to 1,024 characters, the first of a name."""
    fields = [f"X-{number}: {number}" for number in range(90)]

    def talk(peer):
        peer.read()
        peer.answer(200, b"", "Retry-After: 1", "Retry-After: 2", *fields)

    answer = post(serve(talk), make())
    assert (64, 1.0) == (len(answer.headers), answer.retry_after_s)

    def long(peer):
        peer.read()
        peer.answer(200, b"", "X-Long: " + "y" * 5000)

    assert "y" * 1024 == post(serve(long), make()).headers["x-long"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]),
    st.binary(max_size=200),
)
def test_no_answer_raises(serve, make, start, rest):
    """Whatever bytes come back, the sender gets an answer or a failure, never a bug."""

    def talk(peer):
        peer.read()
        peer.send(start + rest)

    server, transport = serve(talk), make()
    answer = post(server, transport)
    transport.close()
    server.close()
    assert isinstance(answer, (HttpResponse, TransportError))
    assert Reason.BUG is not getattr(answer, "reason", None)


def early(peer):
    """Refuse a large body when it has hardly begun, and close."""
    peer.read_head()
    peer.answer(413, b"too large", "Connection: close")


def early_and_deaf(peer):
    """Refuse a large body when it has hardly begun, and neither read nor close."""
    peer.read_head()
    peer.answer(413, b"too large")
    peer.pause()


@pytest.mark.parametrize("talk", [early, early_and_deaf])
def test_early_refusal_is_heard_while_sending(serve, make, talk):
    """A 413 that comes while 5 MB are under way is read, not lost in the reset."""
    server, transport = serve(talk), make(request_timeout_s=1.0)
    for connections in (1, 2):
        answer = post(server, transport, b"x" * 5 * MIB)
        assert (413, b"too large") == (answer.status, answer.body)
        assert connections == server.connections


def test_early_success_is_not_believed(serve, make):
    """A 200 to a request that was not sent whole is no delivery."""

    def talk(peer):
        peer.read_head()
        peer.answer(200, b'{"success":true}')
        peer.pause()

    answer = post(serve(talk), make(request_timeout_s=0.5), b"x" * 5 * MIB)
    check_failed(answer, Reason.UNREADABLE, True, "before the request was whole")


@pytest.mark.parametrize(
    "header",
    [
        *(("X", value) for value in ("a\r\nY: b", "a\nb", "é", " a", "a\0")),
        *((name, "a") for name in ("X\r\n", "", "X y", "X:")),
    ],
)
def test_header_injection_is_refused(serve, make, header):
    """A header that would end early, or say something else, is never sent."""
    server = serve(obliging)
    answer = make().send(HttpRequest(server.url, dict([header]), b"{}"))
    check_failed(answer, Reason.CONFIGURATION, False, "header")
    assert 0 == server.connections


def test_our_own_bug_is_an_answer_too(serve, make):
    """What nobody foresaw is reported by its type, as possibly sent."""
    request = HttpRequest(serve(obliging).url, {}, None)  # type: ignore[arg-type]
    check_failed(make().send(request), Reason.BUG, True, "TypeError")


BODY = b'{"batch":[' + b'"event",' * 500 + b'""]}'


def test_large_bodies_are_compressed_alike_each_time(serve, make):
    """From 1 KB a body is packed, without the time, and can be unpacked."""
    server, transport = serve(obliging), make()
    for _ in range(2):
        post(server, transport, BODY, compress=True)
    first, second = server.requests
    assert "gzip" == first.headers["content-encoding"]
    assert BODY == gzip.decompress(first.body)
    assert first.body == second.body
    assert len(first.body) < len(BODY) / 10
    assert bytes(4) == first.body[4:8]


@pytest.mark.parametrize(
    ("setting", "compress", "size"),
    [(False, True, 5000), (None, False, 5000), (True, False, 5000), (None, True, 1023)],
)
def test_bodies_that_stay_as_they_are(serve, make, setting, compress, size):
    """Small bodies, and those kept plain by setting or destination, are not packed."""
    server = serve(obliging)
    post(server, make(gzip=setting), b"x" * size, compress=compress)
    (request,) = server.requests
    assert "content-encoding" not in request.headers
    assert b"x" * size == request.body


def test_refused_compression_is_remembered_by_host(serve, make):
    """A 415 to a packed body is met by a plain one; that host gets no other."""

    def talk(peer):
        while True:
            packed = "content-encoding" in peer.read().headers
            peer.answer(415 if packed else 200)

    server, other, transport = serve(talk), serve(obliging), make()
    for each in (server, server, other):
        assert 200 == post(each, transport, BODY, compress=True).status
    assert [True, False, False] == [
        "content-encoding" in request.headers for request in server.requests
    ]
    assert "content-encoding" in other.requests[0].headers


def test_plain_415_is_handed_on(serve, make):
    """A body that was not packed is not sent again."""

    def talk(peer):
        peer.read()
        peer.answer(415)

    server = serve(talk)
    assert 415 == post(server, make(), BODY).status
    assert 1 == len(server.requests)


def test_importing_requests_waits_for_the_first_upload(make, tmp_path: Path):
    """Making a transport, and writing files, needs neither requests nor its time."""
    script = (
        "import sys; from analytics_sdk._transport import Transport;"
        "from analytics_sdk._config import Delivery;"
        "from analytics_sdk.interfaces import WriteRequest;"
        "transport = Transport(Delivery(), user_agent='x');"
        f"transport.send(WriteRequest({str(tmp_path / 'f')!r}, b'x'));"
        "heavy = {'requests', 'urllib3', 'ssl', 'backoff'} & set(sys.modules);"
        "sys.exit(' '.join(heavy) or None)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert (0, "") == (ran.returncode, ran.stderr)
    assert isinstance(make(), Transport)
