from __future__ import annotations

import gzip
import io
import json
import socket
import ssl
import subprocess
import threading

import pytest

from analytics_sdk.collector import ApiAnswer, Collector, Script, SegmentApi, Step
from analytics_sdk.collector.faults import Hang, unavailable


@pytest.fixture
def certificate(tmp_path, require):
    require("openssl", "apt-get install openssl")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
    command += " -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    command += f" -keyout {key} -out {cert}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key


def test_what_is_posted_is_kept(collector, client, make_track):
    """A posted batch is answered as Segment answers, and its events are kept."""
    reply = client.post(make_track("m-1"), make_track("m-2"))
    assert (200, b'{"success": true}') == (reply.status, reply.body)
    assert [make_track("m-1"), make_track("m-2")] == collector.events
    (request,) = collector.requests
    assert ("POST", "/v1/batch", 200) == (request.method, request.path, request.status)
    assert f"127.0.0.1:{collector.port}" == request.headers["host"]


def test_sizes_are_logged_before_and_after_gzip(collector, client, make_track):
    """The log tells the size of a body as it travelled and decoded."""
    plain = json.dumps({"batch": [make_track()]}).encode()
    packed = gzip.compress(plain)
    client.request("POST", "/v1/batch", packed, Content_Encoding="gzip")
    (request,) = collector.requests
    assert len(packed) == request.body_bytes
    assert len(plain) == request.decoded_bytes
    assert [make_track()] == collector.events


def test_a_connection_is_kept(collector, client, connect, make_track):
    """Requests of one client share a connection; another client has its own."""
    client.post(make_track())
    client.post(make_track())
    connect(collector).post(make_track())
    assert [1, 1, 2] == [request.connection for request in collector.requests]
    assert ("segment", 2) == (
        collector.stats()["vendor"],
        collector.stats()["connections"],
    )


def test_a_connection_is_closed_on_request(collector, client, make_track):
    """A client that asks for it gets `Connection: close`, and the close."""
    reply = client.post(make_track(), Connection="close")
    assert "close" == reply.headers["connection"]
    client.post(make_track())
    assert [1, 2] == [request.connection for request in collector.requests]


def test_copies_are_seen(collector, client, make_track):
    """A repeated message id is kept, counted, and left out of the unique events."""
    client.post(make_track("m-1"))
    client.post(make_track("m-1"), make_track("m-2"))
    client.post(make_track("m-2", amount=1))
    assert {"m-1": 1, "m-2": 1} == collector.duplicates
    assert {"m-2": 1} == collector.changed_duplicates
    assert [make_track("m-1"), make_track("m-2")] == collector.unique_events()
    assert [1, 2, 2, 3] == [record.request for record in collector.records]


def test_rejections_are_kept(collector, client, make_track):
    """What Segment would discard in silence is kept with its reason."""
    client.post({"type": "track"}, make_track())
    (rejected,) = collector.rejected
    assert ("no_user_anon_id", 0) == (rejected.reason, rejected.index)


def test_duplicates_are_printed_when_asked(connect, make_track):
    """A verbose collector writes a line for each duplicate."""
    output = io.StringIO()
    with Collector(verbose=True, output=output) as collector:
        connect(collector).post(make_track("m-1"), make_track("m-1"))
    assert output.getvalue().startswith("duplicate m-1: ")


def test_many_clients_are_served_at_once(collector, connect, make_track):
    """Clients in many threads lose nothing and are not mixed up."""
    clients = [connect(collector) for _ in range(8)]

    def run(number):
        for turn in range(10):
            clients[number].post(make_track(f"{number}-{turn}"))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 80 == len(collector.unique_events()) == len(collector.events)
    assert list(range(1, 81)) == [request.number for request in collector.requests]


def test_a_recorder_takes_anything(connect):
    """The generic vendor answers 200 to any path and keeps the body."""
    with Collector("generic") as collector:
        client = connect(collector)
        assert 200 == client.request("PUT", "/hook?x=1", b"text").status
        assert 200 == client.request("POST", "/other", {"messageId": "m"}).status
        assert [b"text", b'{"messageId": "m"}'] == [
            request.body for request in collector.requests
        ]
        assert "x=1" == collector.requests[0].head.query
        assert "generic" == collector.stats()["vendor"]
        assert [{"messageId": "m"}] == collector.events


def test_segment_keeps_no_bodies(collector, client, make_track):
    """For a vendor whose events are parsed, bodies are not kept a second time."""
    client.post(make_track())
    assert collector.requests[0].body is None


def test_an_api_of_your_own_plugs_in(connect):
    """Any object with the three members of VendorApi can be the vendor."""

    class Teapot:
        name = "teapot"
        keeps_bodies = False

        def receive(self, request):
            return ApiAnswer(418, request.body.upper())

    with Collector(Teapot()) as collector:
        reply = connect(collector).request("POST", "/", b"tea")
        assert (418, b"TEA") == (reply.status, reply.body)


def test_settings_of_the_vendor_hold(connect, make_track):
    """A configured vendor object is used as it is."""
    with Collector(SegmentApi(write_key="k", unknown_key="401")) as collector:
        assert 401 == connect(collector).post(make_track()).status


def test_a_script_may_be_given_from_the_start(connect, make_track):
    """A script handed to the constructor plays from the first request."""
    script = Script((Step(unavailable(), requests=1),))
    with Collector(script=script) as collector:
        client = connect(collector)
        assert [503, 200] == [client.post(make_track()).status for _ in range(2)]


def test_what_is_not_http_is_refused(collector, raw):
    """A malformed request gets 400 and the end of its connection."""
    sock = raw(collector)
    sock.sendall(b"hello\r\n\r\n")
    assert sock.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert [] == collector.requests


def test_an_idle_connection_is_ended(raw):
    """A connection that sends nothing is hung up after the idle time."""
    with Collector(idle_timeout_s=0.05) as collector:
        assert b"" == raw(collector).recv(1)


def test_it_speaks_tls(certificate, make_track):
    """With a context it serves HTTPS under a certificate that clients verify."""
    cert, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    trusting = ssl.create_default_context(cafile=cert)
    body = json.dumps({"batch": [make_track()]}).encode()
    head = f"POST /v1/batch HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with Collector(tls=context) as collector:
        assert f"https://127.0.0.1:{collector.port}" == collector.url
        address = ("127.0.0.1", collector.port)
        with (
            socket.create_connection(address, timeout=3) as plain,
            trusting.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
        ):
            sock.sendall(head + body)
            assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK")
        assert [make_track()] == collector.events


def test_a_refused_certificate_costs_one_connection(certificate, raw):
    """A client that breaks off the handshake does not disturb the server."""
    cert, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with Collector(tls=context) as collector:
        for _ in range(2):
            with (
                pytest.raises(ssl.SSLCertVerificationError),
                ssl.create_default_context().wrap_socket(
                    raw(collector), server_hostname="127.0.0.1"
                ),
            ):
                pass


def test_close_interrupts_a_handshake(certificate, raw):
    """A client that never begins its TLS handshake does not delay the close."""
    cert, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    before = set(threading.enumerate())
    with Collector(tls=context) as collector:
        raw(collector)
        while not collector.stats()["connections"]:
            threading.Event().wait(0.001)
    assert set() == set(threading.enumerate()) - before


def test_waiting_sees_the_request_arrive(collector, client, make_track):
    """`wait_until` returns when its wish comes true, and False when it does not."""
    assert not collector.wait_until(lambda seen: bool(seen.events), 0.01)
    thread = threading.Thread(target=client.post, args=(make_track(),))
    thread.start()
    assert collector.wait_until(lambda seen: len(seen.events) == 1)
    thread.join()


def test_reset_forgets_and_heals(collector, client, make_track):
    """After a reset nothing was seen and nothing goes wrong."""
    collector.play(Step(unavailable()))
    assert 503 == client.post(make_track()).status
    collector.reset()
    assert [] == collector.requests
    assert 200 == client.post(make_track()).status


def test_nothing_runs_before_the_start():
    """Making a collector binds no port and starts no thread."""
    before = set(threading.enumerate())
    collector = Collector()
    assert 0 == collector.port
    assert set() == set(threading.enumerate()) - before
    collector.close()


def test_close_ends_everything(connect, make_track):
    """Closing frees the port, ends idle connections and hangs, and may be repeated."""
    before = set(threading.enumerate())
    collector = Collector(script=Script.of([Hang()])).start()
    client, idle = connect(collector), connect(collector)
    idle.http.connect()

    def hang():
        with pytest.raises(OSError, match=r"closed|reset"):
            client.post()

    hanging = threading.Thread(target=hang)
    hanging.start()
    assert collector.wait_until(lambda seen: len(seen.requests) == 1)
    collector.close()
    collector.close()
    hanging.join()
    assert set() == set(threading.enumerate()) - before
    with pytest.raises(ConnectionRefusedError):
        connect(collector).http.connect()


def test_a_collector_starts_once():
    """Starting a second time is an error that says what to do."""
    with Collector() as collector, pytest.raises(RuntimeError, match="make a new one"):
        collector.start()


def test_it_serves_ipv6_loopback(make_track):
    """On ::1 it serves as well, and the address is written in brackets."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with Collector(host="::1") as collector:
        assert f"http://[::1]:{collector.port}" == collector.url
        socket.create_connection(("::1", collector.port), timeout=3).close()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"host": "0.0.0.0"}, "loopback"),
        ({"host": "192.0.2.1"}, "loopback"),
        ({"vendor": "acme"}, "vendor must be"),
    ],
)
def test_bad_settings_are_refused(arguments, reason):
    """Other hosts than loopback and unknown vendors are errors at once."""
    with pytest.raises(ValueError, match=reason):
        Collector(**arguments)
