from __future__ import annotations

import socket

import pytest

from analytics_sdk.collector.wire import (
    BadRequestError,
    Connection,
    parse_head,
    render,
)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(3)
        theirs.settimeout(3)
        yield Connection(ours, 1), theirs


def read_one(pair, data, max_bytes=100):
    connection, client = pair
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    head = connection.read_head()
    return head and connection.read_body(head, max_bytes=max_bytes)


def test_a_head_is_parsed():
    """Method, path, query and headers come apart; names lose their case."""
    head = parse_head(b"POST /a/b?c=d?e HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nx-two: 2 ")
    assert ("POST", "/a/b", "c=d?e") == (head.method, head.path, head.query)
    assert {"host": "x", "x-two": "1, 2"} == head.headers
    assert head.keep_alive


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\nConnection: close", False),
        (b"GET / HTTP/1.1\r\nConnection: Keep-Alive", True),
        (b"GET / HTTP/1.0", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive", True),
    ],
)
def test_the_client_says_whether_the_connection_stays(head, keep_alive):
    """HTTP/1.1 keeps a connection unless told otherwise, HTTP/1.0 the reverse."""
    assert keep_alive is parse_head(head).keep_alive


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET /",
        b"GET / HTTP/2",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1\r\nno colon",
        b"GET / HTTP/1.1\r\n: empty",
        b"GET / HTTP/1.1\r\n folded: x",
        b"GET / HTTP/1.1\r\nspace : x",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1",
    ],
)
def test_a_malformed_head_is_refused(head):
    """What HTTP/1 does not allow is 400."""
    with pytest.raises(BadRequestError) as caught:
        parse_head(head)
    assert 400 == caught.value.status


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (b"Content-Length: 0\r\n\r\n", b""),
        (b"X: y\r\n\r\n", b""),
        (
            b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            b"hello",
        ),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n", b""),
    ],
)
def test_bodies_are_read_whole(pair, framing, body):
    """Bodies with a length and bodies in chunks are both read to their end."""
    assert body == read_one(pair, b"POST / HTTP/1.1\r\n" + framing)


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        (b"Content-Length: five", 400),
        (b"Content-Length: -1", 400),
        (b"Content-Length: " + b"1" * 5_000, 400),
        (b"Content-Length: 101", 413),
        (b"Transfer-Encoding: gzip, chunked", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 1", 400),
        (b"Transfer-Encoding: chunked\r\n\r\nfive\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n0x1\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n65\r\n", 413),
        (b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 200_000, 400),
    ],
)
def test_broken_framing_is_refused(pair, framing, status):
    """A body whose end cannot be known, or which is too large, is refused."""
    with pytest.raises(BadRequestError) as caught:
        read_one(pair, b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
    assert status == caught.value.status


def test_a_head_without_end_is_refused(pair):
    """A head is read up to a bound, then refused with 431."""
    with pytest.raises(BadRequestError) as caught:
        read_one(pair, b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000)
    assert 431 == caught.value.status


def test_a_closed_connection_has_no_head(pair):
    """A client that closes between requests is no error."""
    assert read_one(pair, b"") is None


def test_a_cut_body_is_a_broken_connection(pair):
    """A client that closes within its body has broken the connection."""
    with pytest.raises(ConnectionError):
        read_one(pair, b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhel")


def test_a_waiting_client_is_told_to_continue(pair):
    """Expect: 100-continue gets its interim answer before the body is read."""
    head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    assert b"ok" == read_one(pair, head + b"ok")
    assert b"HTTP/1.1 100 Continue\r\n\r\n" == pair[1].recv(100)


def test_requests_may_follow_at_once(pair):
    """What was sent after a request is kept for the next one."""
    connection, client = pair
    client.sendall(
        b"POST /1 HTTP/1.1\r\nContent-Length: 1\r\n\r\naGET /2 HTTP/1.1\r\n\r\n"
    )
    head = connection.read_head()
    assert b"a" == connection.read_body(head, max_bytes=1)
    assert connection.wait_readable(0)
    assert "/2" == connection.read_head().path
    assert 2 == connection.exchanges
    assert not connection.wait_readable(0)


def test_an_answer_is_rendered():
    """An answer carries date, length and the fate of the connection."""
    head, body = render(200, (("X", "y"),), b"{}", keep_alive=False, now=0)
    assert [
        b"HTTP/1.1 200 OK",
        b"Date: Thu, 01 Jan 1970 00:00:00 GMT",
        b"Connection: close",
        b"Content-Length: 2",
        b"X: y",
        b"",
        b"",
    ] == head.split(b"\r\n")
    assert b"{}" == body


def test_given_headers_replace_the_usual_ones():
    """A header that is given is not added a second time."""
    head, _ = render(299, (("date", "never"), ("Content-Length", "9")), b"{}")
    assert b"299 Unknown" in head
    assert (1, 1) == (head.lower().count(b"date:"), head.count(b"Content-Length"))


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body(status):
    """204 and 304 carry neither body nor length."""
    head, body = render(status, (), b"ignored")
    assert b"" == body
    assert b"Content-Length" not in head
