"""``analytics-sdk collector``: run the local collector and print what it gets."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from analytics_sdk.collector import (
    AmplitudeApi,
    Collector,
    MixpanelApi,
    SeenEvent,
    SeenRequest,
    SegmentApi,
    VendorApi,
)

_LOOK_EVERY_S = 0.5
_NAMES = {"track": "event", "group": "groupId", "alias": "previousId"}
_OPERATIONS = frozenset(
    {"$set", "$set_once", "$add", "$append", "$union", "$remove", "$unset", "$delete"}
)
_USERS = ("userId", "anonymousId", "user_id", "device_id", "$distinct_id", "$group_id")


def run_collector(options: argparse.Namespace) -> int:
    """Serve until ^C; return the exit status."""
    vendor = _vendor(options.vendor, options.key, strict=options.strict)
    collector = Collector(vendor, port=options.port)
    try:
        collector.start()
    except OSError as error:
        print(f"port {options.port} cannot be used: {error}", file=sys.stderr)
        return 1
    try:
        if options.child:
            print(collector.url, flush=True)
            sys.stdin.buffer.read()
        else:
            print(f"Collecting at {collector.url} until ^C.", flush=True)
            _print_arrivals(collector, verbose=options.verbose)
    except KeyboardInterrupt:
        if not options.child:
            print(_summary(collector.stats()))
    finally:
        collector.close()
    return 0


def _vendor(name: str, key: str | None, *, strict: bool) -> VendorApi:
    if name == "amplitude":
        return AmplitudeApi(api_key=key, strict=strict)
    if name == "mixpanel":
        return MixpanelApi(token=key)
    return SegmentApi(write_key=key, strict=strict)


def _print_arrivals(collector: Collector, *, verbose: bool) -> None:
    """Print each event, duplicate and rejection as it comes, until interrupted."""
    printed = _Printed()
    while True:
        collector.wait_until(printed.is_behind, _LOOK_EVERY_S)
        for line in printed.news(collector, verbose=verbose):
            print(line, flush=True)


class _Printed:
    """What has been printed so far, so that only news is."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._requests = self._events = self._rejected = 0
        self._latest: SeenRequest | None = None
        self._first: dict[str, SeenEvent] = {}

    def is_behind(self, collector: Collector) -> bool:
        """Tell whether *collector* has seen a request of which nothing is printed."""
        requests = collector.requests
        # By identity: after a reset there may again be as many.
        return bool(requests) and requests[-1] is not self._latest

    def news(self, collector: Collector, *, verbose: bool) -> Iterator[str]:
        """Yield a line for whatever came since the last time."""
        # Events last: none of them can then belong to a request not yet seen here.
        requests, rejected = collector.requests, collector.rejected
        records = collector.records
        latest = requests[: self._requests][-1:]
        if self._latest is not None and (not latest or latest[0] is not self._latest):
            self._forget()
        if verbose:
            for request in requests[self._requests :]:
                status = request.status or "no answer"
                fault = f", fault {request.fault}" if request.fault else ""
                yield (
                    f"request {request.number}: {request.method} {request.path}, "
                    f"{request.body_bytes:,} bytes, {status}{fault}"
                )
        for record in records[self._events :]:
            yield self._line(record, verbose=verbose)
        for refused in rejected[self._rejected :]:
            yield f"rejected {refused.reason}: event {refused.index} of its request"
        self._requests = len(requests)
        self._latest = requests[-1] if requests else None
        self._events, self._rejected = len(records), len(rejected)

    def _line(self, record: SeenEvent, *, verbose: bool) -> str:
        line = json.dumps(record.payload) if verbose else _describe(record.payload)
        if record.key is None:
            return line
        first = self._first.setdefault(record.key, record)
        if first is record:
            return line
        return f"duplicate, first in request {first.request}: {line}"


def _describe(payload: dict[str, Any]) -> str:
    """Return an event of any vendor as one short line."""
    properties = payload.get("properties") or {}
    if "type" in payload:
        kind, id_ = str(payload["type"]), payload.get("messageId")
        name = payload.get(_NAMES.get(kind, "name")) or ""
    elif "event_type" in payload:
        kind, name, id_ = "event", payload["event_type"], payload.get("insert_id")
    elif "event" in payload:
        kind, name, id_ = "event", payload["event"], properties.get("$insert_id")
    else:
        kind, id_ = "update", None
        name = ", ".join(each for each in payload if each in _OPERATIONS)
    user = next(filter(None, map(payload.get, _USERS)), properties.get("distinct_id"))
    return f"{kind:<8} {name!s:<24} {user!s:<16} {id_ or ''}".rstrip()


def _summary(stats: dict[str, Any]) -> str:
    return (
        f"\n{stats['events']:,} events in {stats['requests']:,} requests, "
        f"{stats['duplicates']:,} duplicates, {stats['rejected']:,} rejected."
    )
