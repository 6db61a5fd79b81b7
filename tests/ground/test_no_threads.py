from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from tests.ground.conftest import PATHS, SITE, run_program, told

pytestmark = pytest.mark.timeout(40)

NO_THREADS = """
import threading
def start(self):
    raise RuntimeError("can't start new thread")
{how}
"""

START = NO_THREADS.format(how="threading.Thread.start = start")
MAKING = NO_THREADS.format(
    how="""
class Thread(threading.Thread):
    def __init__(self, *args, daemon=None, **given):
        if daemon:
            raise RuntimeError("daemon threads are disabled in this (sub)interpreter")
        super().__init__(*args, **given)
threading.Thread = Thread
"""
)


@pytest.fixture(params=[START, MAKING], ids=["at the start", "at the making"])
def no_threads(request):
    return request.param


def test_calls_are_as_ever(run, collector, no_threads):
    """Where no thread can start, calls do not raise, and flush, wait, close deliver."""
    run(
        no_threads
        + """
import asyncio
client = make(URL)
first = client.track("u", "First")
assert first.outcome is None
assert client.flush(5) and first.outcome.kind.value == "delivered"
assert client.track("u", "Second").wait(5).kind.value == "delivered"

async def main():
    assert (await client.track("u", "Third")).kind.value == "delivered"
    client.track("u", "Fourth")
    assert await client.aflush(5)

asyncio.run(main())
client.track("u", "Fifth")
assert client.close()
"""
    )
    assert sorted(["First", "Second", "Third", "Fourth", "Fifth"]) == told(collector)


def test_end_delivers(run, collector, no_threads):
    """Where no thread can start, the end of the program delivers."""
    run(
        no_threads
        + 'client = make(URL)\nfor n in range(500): client.track("u", "Paid")\n'
    )
    assert 500 == len(collector.events)


def test_callbacks_without_threads(run, no_threads):
    """Outcomes are told on the thread that flushes."""
    ran = run(
        no_threads
        + """
client = make(URL, on_outcome=lambda settled: print(settled.message_id), report="all")
client.track("u", "Paid", message_id="mine")
client.close(5)
"""
    )
    assert "mine\n" == ran.out


def test_memory_stays_bounded(run, no_threads):
    """Where nobody flushes, the queue is bounded as ever, and calls are refused."""
    run(
        no_threads
        + """
client = make(URL, max_bytes=2**20, exit_timeout_s=0.0)
receipts = [client.track("u", "Paid", {"text": "x" * 1_000}) for _ in range(2_000)]
assert client.stats().queued_bytes <= 2**20
assert client.stats().refused["queue_full"] > 500
"""
    )


def test_threads_that_run_out_later(run, collector):
    """Where only the senders cannot start, the coordinator sends by itself."""
    run(
        """
import threading
real = threading.Thread.start
def start(self):
    if self.name != "analytics_sdk":
        raise RuntimeError("can't start new thread")
    real(self)
threading.Thread.start = start
client = make(URL, on_outcome=print, report="all")
client.track("u", "First")
assert client.flush(5)
assert client.track("u", "Second").wait(5).kind.value == "delivered"
client.close()
"""
    )
    assert ["First", "Second"] == told(collector)


SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        print("none")
        sys.exit()
inside = '''
import sys
sys.path[:] = {path!r}
from analytics_sdk import Client, Delivery, Segment
client = Client(Segment("key", host={url!r}), delivery=Delivery(linger_s=60))
receipt = client.track("u", "First")
assert client.flush(5), client.flush(5)
client.track("u", "Second")
'''.format(path=sys.path, url=URL)
ident = interpreters.create()
found = getattr(interpreters, "exec", None) or interpreters.run_string
error = found(ident, inside)
assert error is None, error
interpreters.destroy(ident)
"""


CONTROL = (
    SUBINTERPRETER.partition("inside =")[0]
    + """
for _ in range(3):
    ident = interpreters.create()
    found = getattr(interpreters, "exec", None) or interpreters.run_string
    found(ident, f"import sys; sys.path[:] = {sys.path!r}; import requests")
    interpreters.destroy(ident)
"""
)


def test_subinterpreter(run, collector, python):
    """In an interpreter without daemon threads, flush and the end deliver."""
    control = run_program(CONTROL, **python)
    if control.code:
        pytest.skip("requests alone brings this Python down in a second interpreter")
    ran = run(SUBINTERPRETER, **python)
    if ran.out == "none\n":
        pytest.skip("this Python has no interpreters to make")
    assert ["First", "Second"] == told(collector)


# -- uWSGI -------------------------------------------------------------------------

APP = """
import os
from analytics_sdk import Client, Delivery, Segment

client = Client(Segment("key", host={url!r}), delivery=Delivery(linger_s=0.05))
client.track("master", "Imported")
if {flushes}:
    client.flush(5)

def application(environ, start_response):
    start_response("200 OK", [])
    path = environ["PATH_INFO"]
    if path == "/stats":
        return [repr((os.getpid(), client.stats().queued_events)).encode()]
    receipt = client.track(f"worker", "Request")
    if path == "/flush":
        return [str(client.flush(3, receipts=[receipt]).counts).encode()]
    return [b"ok"]
"""

FLAGS = {
    "default": (),
    "threads": ("--enable-threads",),
    "fork hooks": ("--enable-threads", "--py-call-uwsgi-fork-hooks"),
    "osafterfork": ("--enable-threads", "--py-call-osafterfork"),
    "lazy apps": ("--enable-threads", "--lazy-apps"),
    "lazy, no threads": ("--lazy-apps",),
}


class Uwsgi:
    """A server with two workers."""

    def __init__(self, app: Path, flags: tuple[str, ...], log: Path) -> None:
        command = [
            *("uwsgi", "--plugin", "python3", "--http-socket", "127.0.0.1:0"),
            *("--master", "--processes", "2", "--die-on-term", "--need-app"),
            *("--wsgi-file", str(app), "--worker-reload-mercy", "12", *flags),
        ]
        self.log = log
        path = ":".join((*PATHS, SITE))
        env = {"PYTHONPATH": path, "PATH": os.environ["PATH"], "PYTHONWARNINGS": "i"}
        with log.open("w") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, env=env, start_new_session=True
            )
        self.port = self._find_port()

    def _find_port(self) -> int:
        end_s = time.monotonic() + 10
        while time.monotonic() < end_s:
            text = self.log.read_text()
            if "spawned uWSGI worker 2" in text:
                for line in text.splitlines():
                    if "bound to TCP address 127.0.0.1:" in line:
                        return int(line.split("127.0.0.1:")[1].split()[0])
            self.process.poll()
        raise AssertionError(self.log.read_text())

    def ask(self, path: str) -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=8) as answer:
            return str(answer.read().decode())

    def stop(self) -> float:
        began_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(5)
            raise
        return time.monotonic() - began_s


@pytest.mark.slow
@pytest.mark.parametrize("flags", FLAGS)
def test_uwsgi(require, collector, tmp_path, flags):
    """Each request of each worker is delivered, at a flush or as the server ends."""
    require("uwsgi", "apt-get install uwsgi uwsgi-plugin-python3")
    app = tmp_path / "app.py"
    app.write_text(APP.format(url=collector.url, flushes=False))
    server = Uwsgi(app, FLAGS[flags], tmp_path / "log")
    try:
        assert "{'delivered': 1}" == server.ask("/flush")
        # Lazy workers unload OpenSSL before Python ends: nothing may be left for then.
        path = "/flush" if "--lazy-apps" in FLAGS[flags] else "/"
        assert 20 == len([server.ask(path) for _ in range(20)])
        assert "{'delivered': 1}" == server.ask("/flush")
    finally:
        took_s = server.stop()
    log = (tmp_path / "log").read_text()
    found = told(collector)
    assert 22 == found.count("Request"), log
    without = "--enable-threads" not in FLAGS[flags]
    assert without == ("--enable-threads and" in log)
    # The master starts no thread before it forks, and runs no exit hook.
    assert ("--lazy-apps" in FLAGS[flags]) == ("Imported" in found), log
    assert not collector.duplicates
    assert took_s < 10
    assert "Traceback" not in log


@pytest.mark.slow
def test_uwsgi_master(require, collector, tmp_path):
    """What the master is given before it forks is delivered by its own flush."""
    require("uwsgi", "apt-get install uwsgi uwsgi-plugin-python3")
    app = tmp_path / "app.py"
    app.write_text(APP.format(url=collector.url, flushes=True))
    server = Uwsgi(app, FLAGS["threads"], tmp_path / "log")
    try:
        assert "{'delivered': 1}" == server.ask("/flush")
    finally:
        server.stop()
    assert ["Imported", "Request"] == told(collector)
