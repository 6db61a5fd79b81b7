"""Each fault once, seen from the client's side of a real socket."""

from __future__ import annotations

import gzip
import json
import ssl
import time
from dataclasses import fields
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http.client import (
    BadStatusLine,
    HTTPException,
    IncompleteRead,
    LineTooLong,
    RemoteDisconnected,
)
from pathlib import Path
from typing import get_args

import pytest

from analytics_sdk.collector import Collector, Matching, Reused, Step, WithEvent
from analytics_sdk.collector.faults import (
    BrokenChunks,
    Drop,
    EarlyAnswer,
    Endless,
    Fault,
    Garbage,
    GzipBomb,
    HalfClose,
    Hang,
    Healthy,
    HugeHeader,
    IdleClose,
    Slow,
    Status,
    captive_portal,
    empty_success,
    rate_limited,
    redirect,
    status_of,
    unavailable,
)
from analytics_sdk.collector.sabotage import act_out

SUCCESS = b'{"success": true}'
BATCH = {"batch": []}
DOCUMENT = Path(__file__).parents[2] / "docs" / "collector.md"


def request_bytes(body=b'{"batch": []}', length=None):
    size = len(body) if length is None else length
    head = f"POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + body


def read_all(sock):
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (unavailable(), (503, {}, b"upstream is unavailable")),
        (unavailable(500), (500, {}, b"upstream is unavailable")),
        (rate_limited("7"), (429, {"retry-after": "7"}, b"")),
        (rate_limited("soon"), (429, {"retry-after": "soon"}, b"")),
        (rate_limited(), (429, {"retry-after": None}, b"")),
        (Status(400, body=b"why"), (400, {}, b"why")),
        (Status(401), (401, {}, b"")),
        (Status(403), (403, {}, b"")),
        (Status(404), (404, {}, b"")),
        (Status(413), (413, {}, b"")),
        (Status(415), (415, {}, b"")),
        (redirect("http://x/"), (307, {"location": "http://x/"}, b"")),
        (redirect("/", 301), (301, {"location": "/"}, b"")),
        (Status(204, body=b"ignored"), (204, {"content-length": None}, b"")),
        (Status(207, body=b"[]"), (207, {}, b"[]")),
        (empty_success(), (200, {"content-length": "0"}, b"")),
        (captive_portal(), (200, {"content-type": "text/html"}, captive_portal().body)),
        (Healthy(), (200, {"content-type": "application/json"}, SUCCESS)),
        (HugeHeader(40_000), (200, {"x-padding-0": "x" * 40_000}, SUCCESS)),
    ],
    ids=str,
)
def test_whole_answers(collector, client, fault, expected):
    """A fault that answers whole sends just that, and keeps the connection."""
    status, headers, body = expected
    collector.play(fault)
    reply = client.request("POST", "/v1/batch", BATCH)
    assert (status, body) == (reply.status, reply.body)
    assert headers == {name: reply.headers.get(name) for name in headers}
    assert SUCCESS == client.request("POST", "/v1/batch", BATCH).body
    assert [status, 200] == [request.status for request in collector.requests]
    assert [1, 1] == [request.connection for request in collector.requests]
    assert [type(fault).__name__, None] == [r.fault for r in collector.requests]


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (None, 400),
        (Healthy(), 400),
        (Slow(), 400),
        (HugeHeader(), 400),
        (IdleClose(), 400),
        (Status(503), 503),
        (EarlyAnswer(413), 413),
        (BrokenChunks(), 200),
        (Endless(), 200),
        (GzipBomb(), 200),
        (Garbage(), None),
        (Hang(), None),
        (HalfClose(), None),
        (Drop("mid_body"), None),
    ],
    ids=str,
)
def test_the_log_tells_the_status_that_was_sent(fault, status):
    """The vendor's own status, the fault's, or none where no answer was whole."""
    assert status == status_of(fault, 400)


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize(
    "kind", [Status, Drop, BrokenChunks, HalfClose, GzipBomb, Endless, Slow]
)
def test_events_count_only_if_stored(collector, client, make_track, kind, store):
    """The events of a faulted request are kept if the fault says so, else not."""
    settings = {
        Status: {"status": 503},
        Drop: {"at": "after_body"},
        HalfClose: {"for_s": 0.01},
        GzipBomb: {"expanded_bytes": 1000},
        Endless: {"limit_bytes": 10},
        Slow: {"pause_s": 0},
    }
    collector.play(kind(store=store, **settings.get(kind, {})))
    try:
        client.post(make_track())
    except (HTTPException, OSError):
        client.http.close()
    assert int(store) == len(collector.events)
    client.post(make_track())
    assert int(store) == collector.duplicates["m-1"]


def test_retry_after_may_be_a_date(collector, client, make_track):
    """The date is as far ahead of the answer's own Date as asked, whatever the skew."""
    fault = Status(429, retry_after_date_s=30, clock_skew_s=3600)
    collector.play(fault)
    headers = client.post(make_track()).headers
    date = parsedate_to_datetime(headers["date"])
    assert timedelta(seconds=30) == parsedate_to_datetime(headers["retry-after"]) - date
    assert 3500 < date.timestamp() - time.time() < 3700


@pytest.mark.parametrize("moment", ["before_body", "after_body"])
@pytest.mark.parametrize("reset", [False, True])
def test_dropped_unanswered(collector, client, make_track, moment, reset):
    """The connection ends without a byte of answer, by FIN or by RST."""
    collector.play(Drop(moment, reset=reset))
    with pytest.raises(ConnectionResetError) as caught:
        client.post(make_track())
    # RemoteDisconnected, which means FIN, is a ConnectionResetError too.
    assert reset is not isinstance(caught.value, RemoteDisconnected)
    assert [] == collector.events


def test_dropped_before_the_body_is_read(collector, raw):
    """The drop comes although the client has sent only the head."""
    collector.play(Drop("before_body", reset=True))
    sock = raw(collector)
    sock.sendall(request_bytes(b"", length=1000))
    with pytest.raises(ConnectionResetError):
        sock.recv(1)
    assert (0, None) == (collector.requests[0].body_bytes, collector.requests[0].status)


@pytest.mark.parametrize("reset", [False, True])
def test_dropped_at_accept(collector, raw, reset):
    """The connection ends before anything is read, and costs no request."""
    collector.play(Drop("accept", reset=reset))
    if reset:
        # The reset may come before the client has even returned from connecting.
        with pytest.raises(ConnectionResetError):
            raw(collector).recv(1)
    else:
        assert b"" == raw(collector).recv(1)
    assert [] == collector.requests
    assert 1 == collector.stats()["connections"]


def test_cut_within_the_head(collector, raw):
    """The answer stops in the middle of its head."""
    collector.play(Drop("mid_head"))
    sock = raw(collector)
    sock.sendall(request_bytes())
    answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in answer


def test_truncated(collector, client, make_track):
    """Content-Length promises more than is sent."""
    collector.play(Drop("mid_body"))
    with pytest.raises(IncompleteRead) as caught:
        client.post(make_track())
    assert SUCCESS.startswith(caught.value.partial)
    assert 0 < len(caught.value.partial) < len(SUCCESS)


def test_reset_within_the_answer(collector, raw):
    """The answer begins, and then the connection is reset."""
    collector.play(Drop("mid_body", reset=True))
    sock = raw(collector)
    sock.sendall(request_bytes())
    with pytest.raises(ConnectionResetError):
        read_all(sock)


@pytest.mark.parametrize("moment", ["accept", "before_body", "after_body"])
def test_hangs(collector, raw, moment):
    """Nothing is answered while it hangs; then the connection is closed."""
    collector.play(Hang(moment, for_s=0.1))
    sock = raw(collector)
    sock.sendall(request_bytes())
    sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        sock.recv(1)
    sock.settimeout(3)
    assert b"" == sock.recv(1)


@pytest.mark.parametrize(
    ("part", "least", "most"), [("body", 0.01, 17), ("head", 0.001, 200)]
)
def test_slow_bytes(collector, raw, part, least, most):
    """The slow part arrives byte by byte with pauses, and is a whole answer."""
    collector.play(Slow(least, part))
    sock = raw(collector)
    started = time.monotonic()
    sock.sendall(request_bytes())
    answer = b""
    pieces = []
    while not answer.endswith(SUCCESS):
        pieces.append(sock.recv(65536))
        answer += pieces[-1]
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(pieces) > 10
    assert time.monotonic() - started >= least * min(most, len(pieces))


def test_all_can_be_slow(collector, raw):
    """By default head and body both crawl."""
    collector.play(Slow(0.0005))
    sock = raw(collector)
    sock.sendall(request_bytes())
    assert b"H" == sock.recv(1)
    assert 10 > len(sock.recv(65536))


def test_garbage(collector, client, make_track):
    """The answer is not HTTP."""
    collector.play(Garbage())
    with pytest.raises(BadStatusLine):
        client.post(make_track())


def test_garbage_instead_of_a_handshake(raw):
    """Garbage at accept makes a TLS handshake fail, whatever the certificate."""
    with Collector(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as collector:
        collector.play(Garbage(b"220 mail.example.com ESMTP\r\n", at="accept"))
        with (
            pytest.raises(ssl.SSLError, match=r"(?i)wrong.version|record"),
            ssl.create_default_context().wrap_socket(
                raw(collector), server_hostname="127.0.0.1"
            ),
        ):
            pass


@pytest.mark.parametrize(
    ("how", "sent"),
    [("size", b"oops\r\n" + SUCCESS), ("cut", b"11\r\n" + SUCCESS)],
)
def test_broken_chunks(collector, raw, how, sent):
    """A chunked answer has a size that is no number, or no last chunk."""
    collector.play(BrokenChunks(how))
    sock = raw(collector)
    sock.sendall(request_bytes())
    head, _, body = read_all(sock).partition(b"\r\n\r\n")
    assert b"\r\nTransfer-Encoding: chunked" in head
    assert b"Content-Length" not in head
    assert sent + b"\r\n" == body


def test_endless_body(collector, raw):
    """The body of unknown length goes on to its bound, looking like a success."""
    collector.play(Endless(limit_bytes=200_000))
    sock = raw(collector)
    sock.sendall(request_bytes())
    head, _, body = read_all(sock).partition(b"\r\n\r\n")
    assert b"Content-Length" not in head
    assert body.startswith(b'{"success": true')
    assert 200_000 < len(body) < 200_100


def test_endless_body_ends_with_its_reader(collector, client, make_track):
    """A client that hangs up on an endless body frees the server's thread."""
    collector.play(Endless(limit_bytes=10**12))
    client.http.request("POST", "/v1/batch", json.dumps({"batch": [make_track()]}))
    answer = client.http.getresponse()
    assert 1000 == len(answer.read(1000))
    answer.close()
    client.http.close()
    started = time.monotonic()
    collector.close()
    assert time.monotonic() - started < 1


def test_gzip_bomb(collector, client, make_track):
    """A small answer inflates about a thousandfold, though nobody asked for gzip."""
    collector.play(GzipBomb(expanded_bytes=1_000_000))
    reply = client.post(make_track(), Accept_Encoding="identity")
    assert "gzip" == reply.headers["content-encoding"]
    assert len(reply.body) < 2_000
    inflated = gzip.decompress(reply.body)
    assert 1_000_000 < len(inflated) < 1_000_100
    assert json.loads(inflated)["success"] is True


@pytest.mark.parametrize("fault", [HugeHeader(), HugeHeader(10, lines=200)], ids=str)
def test_huge_headers(collector, client, make_track, fault):
    """A header too long, or too many of them, make a careful client give up."""
    collector.play(fault)
    with pytest.raises((LineTooLong, HTTPException)):
        client.post(make_track())


def test_half_close(collector, raw):
    """The server stops sending but still receives."""
    collector.play(HalfClose(for_s=60))
    sock = raw(collector)
    sock.sendall(request_bytes())
    assert b"" == sock.recv(1)
    for _ in range(3):
        sock.sendall(b"still taken")


@pytest.mark.parametrize("reset", [True, False])
def test_early_answer(collector, raw, reset):
    """The answer comes while the body is still being written, then the end."""
    collector.play(EarlyAnswer(413, b"too large", read_bytes=1_000_000, reset=reset))
    sock = raw(collector)
    try:
        sock.sendall(request_bytes(bytes(8_000_000)))
    except ConnectionError:
        assert reset
    answer = sock.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"too large")
    assert (413, 0) == (collector.requests[0].status, collector.requests[0].body_bytes)


def test_early_answer_has_time_to_travel(collector, raw):
    """The end comes only when the answer has had its time."""
    collector.play(EarlyAnswer(grace_s=0.2))
    sock = raw(collector)
    sock.sendall(request_bytes(length=1000))
    assert sock.recv(65536).startswith(b"HTTP/1.1 413 ")
    sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        sock.recv(1)


def test_nobody_acts_out_what_is_no_fault():
    """A fault that nobody knows is an error, not a healthy answer."""
    with pytest.raises(TypeError, match="nobody knows"):
        act_out("earthquake", None)


def test_closed_while_idle(collector, client, make_track):
    """A healthy answer, and then the kept connection is gone without notice."""
    collector.play(IdleClose(after_s=0.02))
    reply = client.post(make_track())
    assert (200, "keep-alive") == (reply.status, reply.headers["connection"])
    assert b"" == client.http.sock.recv(1)
    assert 1 == len(collector.events)


def test_closed_at_once_after_the_answer(collector, client, make_track):
    """With no delay the close follows the answer at once, still unannounced."""
    collector.play(IdleClose(reset=True))
    assert "keep-alive" == client.post(make_track()).headers["connection"]
    with pytest.raises(ConnectionResetError):
        client.http.sock.recv(1)


def test_a_request_in_time_saves_the_connection(collector, client, make_track):
    """A request that comes before the idle time is over is served."""
    collector.play(IdleClose(after_s=3))
    assert [200, 200] == [client.post(make_track()).status for _ in range(2)]
    assert [1, 1] == [request.connection for request in collector.requests]


def test_delayed_health(collector, client, make_track):
    """A healthy answer may be late."""
    collector.play(Healthy(delay_s=0.1))
    started = time.monotonic()
    assert 200 == client.post(make_track()).status
    assert time.monotonic() - started >= 0.1


def test_poison(collector, client, make_track):
    """Only the batch with the marked event is refused, wherever it stands in it."""
    poison = WithEvent("properties.poison", value=True)
    collector.play(Step(Status(400), only=poison))
    assert 200 == client.post(make_track("a")).status
    assert 400 == client.post(make_track("b"), make_track("c", poison=True)).status
    assert 200 == client.post(make_track("b")).status
    assert ["a", "b"] == [event["messageId"] for event in collector.events]


def test_stale_pooled_connection(collector, client, make_track):
    """Only a connection that has served before is dropped: a fresh one goes through."""
    collector.play(Step(Drop("before_body"), only=Reused()))
    assert 200 == client.post(make_track()).status
    with pytest.raises(RemoteDisconnected):
        client.post(make_track())
    assert 200 == client.post(make_track()).status


def test_conditions_see_the_decoded_body(collector, client, make_track):
    """A condition looks at the body after gzip is undone."""
    collector.play(Step(Status(418), only=Matching(lambda r: b"Paid" in r.body)))
    body = gzip.compress(json.dumps({"batch": [make_track()]}).encode())
    reply = client.request("POST", "/v1/batch", body, Content_Encoding="gzip")
    assert 418 == reply.status


def test_every_fault_is_documented():
    """The reference names each kind of fault and each of its settings."""
    text = DOCUMENT.read_text(encoding="utf-8")
    table = {row.split("`")[0]: row for row in text.split("\n| `")}
    for kind in get_args(Fault):
        row, names = table[kind.__name__], [field.name for field in fields(kind)]
        missing = [name for name in names if f"`{name}" not in row]
        assert [] == missing, kind.__name__
