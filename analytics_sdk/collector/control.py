"""Answer the collector's own endpoints, by which another process drives it.

They live under `/_`, are never recorded and meet no fault of a request.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import parse_qs

from analytics_sdk.collector.ledger import Ledger
from analytics_sdk.collector.payloads import PayloadError, parse_json
from analytics_sdk.collector.script import Script
from analytics_sdk.collector.script_json import script_from_json
from analytics_sdk.collector.vendor_api import ApiAnswer
from analytics_sdk.collector.wire import Head

_PAGE_EVENTS = 1_000


def is_control(path: str) -> bool:
    """Tell whether *path* belongs to the collector rather than to a vendor."""
    return path.startswith("/_")


def answer_control(
    head: Head, body: bytes, ledger: Ledger, play: Callable[[Script], None]
) -> ApiAnswer:
    """Answer one request to the collector itself.

    Args:
        head: its head.
        body: its body, as it travelled.
        ledger: what has been seen.
        play: sets a new script.
    """
    try:
        if (head.method, head.path) == ("GET", "/_stats"):
            return _json(200, ledger.stats())
        if (head.method, head.path) == ("GET", "/_events"):
            return _json(200, _events(ledger, head.query))
        if (head.method, head.path) == ("POST", "/_reset"):
            ledger.reset()
            play(Script())
            return _json(200, {"success": True})
        if (head.method, head.path) == ("POST", "/_faults"):
            script = script_from_json(parse_json(body))
            play(script)
            return _json(200, {"success": True, "steps": len(script.steps)})
    except (PayloadError, ValueError) as error:
        return _json(400, {"success": False, "message": str(error)})
    return _json(404, {"success": False, "message": "no such endpoint"})


def _events(ledger: Ledger, query: str) -> dict[str, object]:
    values = parse_qs(query)
    offset = int(values.get("offset", ["0"])[0])
    limit = int(values.get("limit", [str(_PAGE_EVENTS)])[0])
    if offset < 0 or limit < 1:
        message = "offset must be 0 or more, limit 1 or more"
        raise ValueError(message)
    records = ledger.records
    page = records[offset : offset + limit]
    return {
        "offset": offset,
        "next_offset": offset + len(page),
        "total": len(records),
        "events": [
            {
                "number": record.number,
                "request": record.request,
                "arrived_at": record.arrived_at,
                "raw_bytes": record.raw_bytes,
                "key": record.key,
                "sent_at": record.sent_at,
                "payload": record.payload,
            }
            for record in page
        ],
    }


def _json(status: int, document: object) -> ApiAnswer:
    return ApiAnswer(status, json.dumps(document).encode())
