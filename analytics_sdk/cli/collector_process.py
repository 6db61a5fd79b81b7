"""A collector in a process of its own, so that it shares no lock with the client."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from decimal import Decimal
from http.client import HTTPConnection
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

_PAGE_EVENTS = 2_000
_REQUEST_TIMEOUT_S = 30.0
_END_S = 5.0


class CollectorProcess:
    """Starts ``analytics-sdk collector`` as a child and asks it over HTTP.

    The child ends with `close`, and by itself when its parent is gone: then its
    standard input closes.

    Args:
        vendor: Whose protocol it speaks.
        key: The only key that it accepts.
    """

    def __init__(self, vendor: str, key: str) -> None:
        """Keep the settings; entering the context starts the child."""
        self._arguments = ("--vendor", vendor, "--strict", "--key", key)
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> CollectorProcess:  # noqa: PYI034 - `typing.Self` needs 3.11
        """Start the child and wait until it listens.

        Raises:
            RuntimeError: It ended before it did.
        """
        command = [sys.executable, "-m", "analytics_sdk", "collector", "--child"]
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            [*command, "--port", "0", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = _line_of(self._process).strip()
        if not self.url:
            self.close()
            message = "the collector's process ended before it listened"
            raise RuntimeError(message)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the child."""
        self.close()

    def close(self) -> None:
        """End the child, by force if it does not go; safe to call again."""
        process, self._process = self._process, None
        if process is None:
            return
        with process:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def stats(self) -> Mapping[str, Any]:
        """Return the collector's own counts."""
        return self._ask("GET", "/_stats")

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the payloads received, copies included, fractions as `Decimal`."""
        at, total = 0, 1
        while at < total:
            page = self._ask("GET", f"/_events?offset={at}&limit={_PAGE_EVENTS}")
            for record in page["events"]:
                yield record["payload"]
            at, total = page["next_offset"], page["total"]

    def play(self, preset: str, **arguments: object) -> None:
        """Let the collector misbehave as *preset* says."""
        self._ask("POST", "/_faults", {"preset": preset, "arguments": arguments})

    def _ask(self, method: str, path: str, document: object = None) -> dict[str, Any]:
        address = urlsplit(self.url).netloc
        with closing(HTTPConnection(address, timeout=_REQUEST_TIMEOUT_S)) as connection:
            body = None if document is None else json.dumps(document)
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read()
        if answer.status != 200:
            message = f"the collector answered {answer.status} to {path}"
            raise RuntimeError(message)
        parsed: dict[str, Any] = json.loads(text, parse_float=Decimal)
        return parsed


def _line_of(process: subprocess.Popen[str]) -> str:
    return "" if process.stdout is None else process.stdout.readline()
