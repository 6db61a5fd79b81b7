"""The clients under test, each behind the same few methods.

The peers are set up as their documents allow for the greatest throughput of this event:
a queue that holds the whole run, large batches, two threads. Their calls are given what
ours are given, no more. To add one: write a class, name it in `CLIENTS`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

ROOM = 500_000
"""Events that every client's queue has room for: none may refuse any."""


class Client(Protocol):
    """What a measurement needs of a client."""

    track: Callable[[str, str, dict[str, Any]], Any]
    """The client's own call where its order of arguments is this one."""

    def finish(self) -> None:
        """Deliver everything, and end."""


class Ours:
    """This library; without orjson where *serialiser* is ``json``."""

    def __init__(self, port: int, setting: dict[str, Any]) -> None:
        if setting.get("serialiser", "json") == "json":
            sys.modules["orjson"] = None  # as if it were not installed
        from analytics_sdk import Client as OurClient
        from analytics_sdk import Delivery, Segment

        host = f"http://127.0.0.1:{port}"
        names = ["Segment.io", "second", "third"][: setting.get("destinations", 1)]
        self._client = OurClient(
            *(Segment("key", host=host, name=name) for name in names),
            delivery=Delivery(
                max_bytes=ROOM * 1024,
                driver=setting.get("driver", "threads"),
                exit_timeout_s=60.0,
            ),
        )
        self.track = self._client.track
        if setting.get("selector"):
            selector = {"All": False, "Amplitude": True}
            self.track = partial(self._client.track, integrations=selector)

    def finish(self) -> None:
        self._client.close(60.0)


class SegmentPeer:
    """segment-analytics-python."""

    def __init__(self, port: int, setting: dict[str, Any]) -> None:
        from segment.analytics.client import Client as TheirClient

        self._client = TheirClient(
            "key",
            host=f"http://127.0.0.1:{port}",
            max_queue_size=ROOM,
            upload_size=500,
            thread=2,
        )
        self.track = self._client.track

    def finish(self) -> None:
        self._client.shutdown()


class PostHogPeer:
    """posthog."""

    def __init__(self, port: int, setting: dict[str, Any]) -> None:
        from posthog import Posthog

        self._client = Posthog(
            "key",
            host=f"http://127.0.0.1:{port}",
            max_queue_size=ROOM,
            flush_at=1000,
            flush_interval=0.5,
            thread=2,
        )
        capture = self._client.capture
        self.track = lambda user_id, event, properties: capture(
            event, distinct_id=user_id, properties=properties
        )

    def finish(self) -> None:
        self._client.shutdown()


PEERS: dict[str, type[Client]] = {"segment": SegmentPeer, "posthog": PostHogPeer}
CLIENTS: dict[str, type[Client]] = {"ours": Ours, **PEERS}
MODULES = {"segment": "segment.analytics", "posthog": "posthog"}
"""What an application imports to use a peer."""
