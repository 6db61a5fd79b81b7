"""Rigs that end with their test, a clock that leaps, and certificates."""

from __future__ import annotations

import json
import logging
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analytics_sdk import _clock
from tests.faults.rig import Rig

AMBIENT = (
    *(f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)
JITTER = 0.005


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in AMBIENT:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


@pytest.fixture(autouse=True)
def _short_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw short waits; how they grow is a question for tests of the retry rules."""
    monkeypatch.setattr(_clock, "jitter", lambda: JITTER)


class LeapingClock:
    """The client's clock, which can skip what nobody wants to wait for."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead_s

    def leap(self, seconds: float) -> None:
        """Let *seconds* pass at once; only while no request is in flight."""
        self._ahead_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> LeapingClock:
    leaping = LeapingClock()
    monkeypatch.setattr(_clock, "monotonic", leaping.monotonic)
    return leaping


@pytest.fixture
def make_rig(_short_draws: None) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(*faults: Any, **settings: Any) -> Rig:
        rigs.append(Rig(*faults, **settings))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.end()


class Distant:
    """A collector in a process of its own, whose memory is not ours."""

    code = """if True:
        from analytics_sdk.collector import Collector
        with Collector() as collector:
            print(collector.url, flush=True)
            input()
    """

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().strip()

    def ask(self, path: str, given: object = None) -> Any:
        body = None if given is None else json.dumps(given).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/{path}", body, timeout=5) as answer:
            return json.loads(answer.read() or b"null")

    def end(self) -> None:
        self.process.communicate("\n", timeout=5)


@pytest.fixture
def distant(_plain_environment: None) -> Iterator[Distant]:
    running = Distant()
    yield running
    running.end()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make a self-signed certificate for a host, with its key in the same file."""
    folder = tmp_path_factory.mktemp("certificates")

    def made(names: str) -> Path:
        path = folder / f"{names.replace(':', '-')}.pem"
        if not path.exists():
            key, public = folder / "key.pem", folder / "public.pem"
            command = [
                *("openssl", "req", "-x509", "-nodes", "-days", "2"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-subj", "/CN=collector", "-addext", f"subjectAltName={names}"),
                *("-keyout", str(key), "-out", str(public)),
            ]
            subprocess.run(command, check=True, capture_output=True)
            path.write_bytes(public.read_bytes() + key.read_bytes())
        return path

    return made


@pytest.fixture
def serve_tls() -> Callable[[Path], ssl.SSLContext]:
    """Make a server's context from such a file."""

    def context(path: Path) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(path)
        return made

    return context
