"""One client, one story, in a process of its own: what `losses.py` starts and times.

    python losses_clients.py CLIENT STORY URL LOG

Everything that the application offers, and everything that it is told of, goes to LOG
at once, a line each, so that it is there however the process ends: `S time` (begun),
`O n` (offered), `T n how` (told that event n is lost), `A error` (an exception out of
flush or close: told of everything that has not arrived), `F seconds` (a flush), `G
host` (a connection that was refused because it was not to loopback).
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

LOOPBACK = ("127.0.0.1", "::1", "localhost")
BURST_QUEUE = 1_000
BURST_QUEUE_BYTES = 400_000
POISON = "poison-marker"


class Log:
    """Append-only lines, written at once."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def say(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


def stay_on_loopback(log: Log) -> None:
    """Refuse every connection and look-up that would leave this machine."""

    def check(host: object) -> None:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name not in LOOPBACK:
            log.say("G", name)
            raise ConnectionRefusedError(name)

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                check(address[0])
            return real(self, address)

        return connect

    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
        check(host or "127.0.0.1")
        return look_up(host, *rest, **named)

    socket.socket.connect = guarded(socket.socket.connect)
    socket.socket.connect_ex = guarded(socket.socket.connect_ex)
    socket.getaddrinfo = getaddrinfo


class Subject:
    """A client under test, and how it speaks to its caller."""

    package: ClassVar[str]

    def __init__(self, url: str, log: Log, *, small: bool) -> None:
        """Start it; *small* asks for a queue of about a thousand events."""
        self.log = log
        self.start(url, small=small)

    def start(self, url: str, *, small: bool) -> None:
        raise NotImplementedError

    def track(self, n: int, properties: dict[str, Any]) -> object:
        """Offer one event; False or None where the return value means refusal."""
        raise NotImplementedError

    def flush(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def offer(self, n: int, **properties: Any) -> None:
        """Offer event *n*, and note what the caller is told."""
        self.log.say("O", n)
        try:
            taken = self.track(n, {"n": n, **properties})
        except Exception as error:  # noqa: BLE001 - peers raise what they like
            self.told(n, f"raised-{type(error).__name__}")
            return
        if taken is None or taken is False:
            self.told(n, "returned")

    def told(self, n: object, how: str) -> None:
        self.log.say("T", n, how)

    def told_batch(self, batch: Iterable[dict[str, Any]]) -> None:
        for message in batch:
            self.told(message["properties"]["n"], "callback")


class Ours(Subject):
    package = "analytics-sdk-server"

    def start(self, url: str, *, small: bool) -> None:
        from analytics_sdk import Client, Delivery, Segment

        settings = {"max_bytes": BURST_QUEUE_BYTES} if small else {}
        self.client = Client(
            Segment("key", host=url),
            delivery=Delivery(**settings),
            on_outcome=self.hear,
        )

    def hear(self, settled: Any) -> None:
        self.told(settled.message_id.partition("-")[2], "on_outcome")

    def track(self, n: int, properties: dict[str, Any]) -> object:
        receipt = self.client.track(
            f"user-{n % 50}", "Offered", properties, message_id=f"n-{n}"
        )
        return receipt.accepted

    def flush(self) -> None:
        self.client.flush()

    def close(self) -> None:
        self.client.close()


class Segment(Subject):
    package = "segment-analytics-python"

    def start(self, url: str, *, small: bool) -> None:
        from segment.analytics.client import Client

        settings = {"max_queue_size": BURST_QUEUE} if small else {}

        def on_error(error: Exception, batch: list[Any]) -> None:
            self.told_batch(batch)

        self.client = Client("key", host=url, on_error=on_error, **settings)

    def track(self, n: int, properties: dict[str, Any]) -> object:
        return self.client.track(f"user-{n % 50}", "Offered", properties)[0]

    def flush(self) -> None:
        self.client.flush()

    def close(self) -> None:
        self.client.shutdown()


class Amplitude(Subject):
    package = "amplitude-analytics"

    def start(self, url: str, *, small: bool) -> None:
        from amplitude import Amplitude as Client
        from amplitude import BaseEvent, Config

        def callback(event: Any, code: int, message: str | None = None) -> None:
            n = (event.event_properties or {}).get("n")
            if code != 200 and n is not None:
                self.told(n, f"callback-{code}")

        self.event = BaseEvent
        config = Config(callback=callback, server_url=f"{url}/2/httpapi")
        self.client = Client("key", config)

    def track(self, n: int, properties: dict[str, Any]) -> object:
        self.client.track(
            self.event("Offered", user_id=f"user-{n % 50}", event_properties=properties)
        )
        return True

    def flush(self) -> None:
        for future in self.client.flush():
            if future is not None:
                future.result()

    def close(self) -> None:
        self.client.shutdown()


class Mixpanel(Subject):
    package = "mixpanel"

    def start(self, url: str, *, small: bool) -> None:
        import mixpanel

        self.consumer = mixpanel.BufferedConsumer(events_url=f"{url}/track")
        session = self.consumer._consumer._session
        session.mount("http://", session.get_adapter("https://there"))
        self.client = mixpanel.Mixpanel("token", consumer=self.consumer)
        self.error = mixpanel.MixpanelException

    def track(self, n: int, properties: dict[str, Any]) -> object:
        try:
            self.client.track(f"user-{n % 50}", "Offered", properties)
        except self.error:
            self.told_buffer()
        return True

    def told_buffer(self) -> None:
        """Take the exception as a word on everything that is still buffered."""
        self.told_batch(map(json.loads, self.consumer._buffers["events"]))

    def flush(self) -> None:
        try:
            self.consumer.flush()
        except self.error:
            self.told_buffer()

    close = flush


class PostHog(Subject):
    package = "posthog"

    def start(self, url: str, *, small: bool) -> None:
        import posthog.request
        from posthog import Posthog

        session = posthog.request._session
        session.mount("http://", session.get_adapter("https://there"))
        settings = {"max_queue_size": BURST_QUEUE} if small else {}

        def on_error(error: Exception, batch: list[Any]) -> None:
            self.told_batch(batch)

        self.client = Posthog("key", host=url, on_error=on_error, **settings)

    def track(self, n: int, properties: dict[str, Any]) -> object:
        return self.client.capture(
            "Offered", distinct_id=f"user-{n % 50}", properties=properties
        )

    def flush(self) -> None:
        self.client.flush()

    def close(self) -> None:
        self.client.shutdown()


CLIENTS: dict[str, type[Subject]] = {
    "ours": Ours,
    "segment": Segment,
    "amplitude": Amplitude,
    "mixpanel": Mixpanel,
    "posthog": PostHog,
}


class Colour(Enum):
    RED = "red"


ODD_VALUES: tuple[object, ...] = (
    datetime(2026, 11, 21, 9, 30),  # noqa: DTZ001 - a naive one is the point
    datetime(2026, 11, 21, 9, 30, tzinfo=timezone.utc),
    date(2026, 11, 21),
    timedelta(seconds=90),
    Decimal("19.90"),
    Decimal("NaN"),
    UUID(int=7),
    {"a", "b"},
    b"\xff\x00",
    float("nan"),
    float("inf"),
    10**400,
    "\ud800 alone",
    Colour.RED,
    (1, 2),
    {1: "an int for a key"},
    {("a", "b"): "a tuple for a key"},
    Path("/tmp"),
    range(3),
    print,
)


def finish(subject: Subject) -> None:
    """Flush and close, as an application that ends in order."""
    started_s = time.monotonic()
    attempt(subject, subject.flush)
    subject.log.say("F", f"{time.monotonic() - started_s:.2f}")
    attempt(subject, subject.close)


def attempt(subject: Subject, act: Callable[[], None]) -> None:
    """Do it, and note what it raises, as a careful application would."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 - peers raise what they like
        subject.log.say("A", type(error).__name__)


def offer_and_exit(subject: Subject, count: int) -> None:
    for n in range(count):
        subject.offer(n)


def offer_and_flush(subject: Subject, count: int) -> None:
    offer_and_exit(subject, count)
    finish(subject)


def offer_slowly(subject: Subject, count: int) -> None:
    for n in range(count):
        subject.offer(n)
        time.sleep(0.01)
    finish(subject)


def offer_special(subject: Subject, count: int, **special: object) -> None:
    for n in range(count):
        subject.offer(n, **(special if n == count // 2 else {}))
    finish(subject)


def offer_unserialisable(subject: Subject, count: int) -> None:
    offer_special(subject, count, thing=object())


def offer_oversize(subject: Subject, count: int) -> None:
    offer_special(subject, count, text="x" * 1_500_000)


def offer_poison(subject: Subject, count: int) -> None:
    offer_special(subject, count, mark=POISON)


def offer_odd(subject: Subject, count: int) -> None:
    for n in range(count):
        subject.offer(n, odd=ODD_VALUES[n % len(ODD_VALUES)])
    finish(subject)


def offer_from_threads(subject: Subject, count: int) -> None:
    def work(start: int) -> None:
        for n in range(start, start + count // 8):
            subject.offer(n)
        attempt(subject, subject.flush)

    starts = range(0, count, count // 8)
    threads = [threading.Thread(target=work, args=(start,)) for start in starts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    finish(subject)


STORIES: dict[str, Callable[[Subject, int], None]] = {
    "exit": offer_and_exit,
    "flush": offer_and_flush,
    "slow": offer_slowly,
    "burst": offer_and_flush,
    "unserialisable": offer_unserialisable,
    "oversize": offer_oversize,
    "poison": offer_poison,
    "threads": offer_from_threads,
    "odd": offer_odd,
}


def main(client: str, story: str, count: str, url: str, path: str) -> None:
    log = Log(path)
    stay_on_loopback(log)
    subject = CLIENTS[client](url, log, small=story == "burst")
    log.say("S", time.time())
    STORIES[story](subject, int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
