"""The vendors of the demo: how each is connected, given a bad day, and read back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import attrs

from analytics_sdk import Amplitude, Destination, Mixpanel, Segment
from analytics_sdk.cli.purchases import CUSTOMER_ID, ORDER, Arrived

KEY = "demo-key"
PARK_S = 30.0
"""How long Amplitude wants to hear nothing of a user that sends too fast."""

THROTTLED = 3
"""How many users that is on its bad day."""

UNREADABLE = (200, "unreadable")
"""How the client reads a web page where an answer should be."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@attrs.frozen
class Vendor:
    """What the demo knows of one vendor.

    Args:
        connect: Makes its destination, which sends to the collector at a URL.
        recognise: Reads an event as its collector has it.
        preset: The bad day that its collector can play.
        meets: What the client must have read on such a day: statuses, each with a
            word of its meaning, and the problem where it never did.
        poisoned: What the collector says of the poisoned event, where it counts it
            among those that it threw away.
        most: How often at most a client meets a status, if it keeps every pause.
    """

    connect: Callable[[str], Destination]
    recognise: Callable[[Mapping[str, Any]], Arrived]
    preset: str
    meets: Mapping[tuple[int, str], str]
    poisoned: str = ""
    most: Mapping[str, int] = {}


def read_segment(event: Mapping[str, Any]) -> Arrived:
    """Read an event of Segment's, which is also how `JsonLines` writes it.

    Segment recognises a copy by its message id.
    """
    id_ = str(event.get("messageId"))
    properties = event.get("properties") or {}
    return Arrived(
        key=(id_,),
        id=id_,
        user=str(event.get("userId")),
        introduces=event.get("type") == "identify",
        orders=event.get("event") == ORDER,
        day=str(event.get("timestamp"))[:10],
        discs=properties.get("quantity", 0),
        dollars=Decimal(properties.get("revenue", 0)),
    )


def read_amplitude(event: Mapping[str, Any]) -> Arrived:
    """Read an event of Amplitude's; a customer is made known by `$identify`.

    Amplitude recognises a copy by its device, else its user, and its insert id.
    """
    id_ = str(event.get("insert_id"))
    kind = event.get("event_type")
    return Arrived(
        key=(event.get("device_id") or event.get("user_id"), id_),
        id=id_,
        user=str(event.get("user_id")),
        introduces=kind == "$identify",
        orders=kind == ORDER,
        day=_day(event.get("time")),
        discs=(event.get("event_properties") or {}).get("quantity", 0),
        dollars=Decimal(event.get("revenue", 0)),
    )


def read_mixpanel(record: Mapping[str, Any]) -> Arrived:
    """Read an event of Mixpanel's, or the update of a profile.

    Mixpanel recognises a copy of an event by its name, user, time and insert id.  An
    update has no id and no time: to set the same of a profile twice is to set it once.
    """
    if "event" not in record:
        user = str(record.get("$distinct_id"))
        told = tuple(sorted(name for name in record if name != "$token"))
        id_ = CUSTOMER_ID.format(user)
        return Arrived(
            ("profile", user, *told), id_, user, "$set" in record, route="engage"
        )
    properties = record["properties"]
    id_, time = str(properties.get("$insert_id")), properties.get("time")
    return Arrived(
        key=(record["event"], properties.get("distinct_id"), time, id_),
        id=id_,
        user=str(properties.get("distinct_id")),
        orders=record["event"] == ORDER,
        day=_day(time),
        discs=properties.get("quantity", 0),
        dollars=Decimal(properties.get("revenue", 0)),
        route="import",
    )


def _day(time_ms: object) -> str:
    if type(time_ms) is not int:
        return ""
    return f"{_EPOCH + timedelta(milliseconds=time_ms):%Y-%m-%d}"


_WEB_PAGE = {UNREADABLE: "no web page was met"}

VENDORS: Mapping[str, Vendor] = {
    "segment": Vendor(
        lambda url: Segment(KEY, host=url), read_segment, "rough_day", _WEB_PAGE
    ),
    "amplitude": Vendor(
        lambda url: Amplitude(KEY, host=url),
        read_amplitude,
        "amplitude_day",
        {
            **_WEB_PAGE,
            (429, "parked"): "no user was parked",
            (400, "rejected"): "no event was refused by its index",
        },
        most={"429": THROTTLED},
    ),
    "mixpanel": Vendor(
        lambda url: Mixpanel(KEY, host=url),
        read_mixpanel,
        "mixpanel_day",
        {
            **_WEB_PAGE,
            (200, "halved"): "no success with status 0 was met",
            (400, "rejected"): "no event was among the failed records",
        },
        "properties: must nest at most 3 deep, under 255 each",
    ),
}
"""By the names that `--only` takes."""


def bad_day(preset: str, scale: float, throttled: Sequence[str]) -> dict[str, object]:
    """Return the arguments of a preset, for a day of some 30 s.

    Args:
        preset: Its name.
        scale: Multiplies how long the faults last.
        throttled: The users that Amplitude thinks too fast.
    """
    arguments: dict[str, object] = {
        "unavailable_s": 2.0 * scale,
        "unauthorized_s": 10.0 * scale,
        "drops": 1,
    }
    if preset == "rough_day":
        arguments["calm_requests"] = 2
    if preset == "amplitude_day":
        # Amplitude announces no pause; a shorter one has to be, or nobody knew it.
        park_s = min(PARK_S, PARK_S * scale)
        announced = math.ceil(park_s) if scale < 1 else None
        arguments.update(
            throttled=list(throttled), park_s=park_s, retry_after_s=announced
        )
    return arguments


def misreceived(received: Mapping[str, Any], poisoned: str = "") -> Iterator[str]:
    """Say what a collector found wrong with what it got.

    Args:
        received: Its counts.
        poisoned: The reason for which it may have thrown events away.
    """
    for reason, count in received["rejected_by_reason"].items():
        if reason != poisoned:
            yield f"the collector threw {count:,} events away: {reason}"
    if received["changed_duplicates"]:
        count = received["changed_duplicates"]
        yield f"{count:,} duplicates differ from the event they repeat"


def unmet(
    by_status: Mapping[str, int],
    copies: int,
    readings: Mapping[tuple[int, str], int],
    meets: Mapping[tuple[int, str], str],
) -> Iterator[str]:
    """Name the faults that the client never met: then the run has proved little.

    Args:
        by_status: A collector's counts of its answers.
        copies: How many events it has more than once.
        readings: What its answers meant to the client.
        meets: What they should have meant, see `Vendor`.
    """
    for status in ("400", "401", "429", "503"):
        if not by_status.get(status):
            yield f"fault {status} was never met"
    if not by_status.get("none"):
        yield "no connection was dropped"
    if not copies:
        yield "no request was kept whose answer was lost"
    for (code, word), problem in meets.items():
        if not any(code == read and word in said for read, said in readings):
            yield problem


def overmet(by_status: Mapping[str, int], most: Mapping[str, int]) -> Iterator[str]:
    """Name the statuses that only a client meets that does not wait as it should.

    Args:
        by_status: A collector's counts of its answers.
        most: How often they may have been met, see `Vendor`.
    """
    for status, count in most.items():
        if by_status.get(status, 0) > count:
            yield f"fault {status} was met over {count} times: a pause was not kept"


def resold(events: Iterable[Mapping[str, Any]], kinds: Sequence[str]) -> Iterator[str]:
    """Say which events do not forbid Segment to send them on to a vendor again.

    Args:
        events: As Segment's collector has them.
        kinds: The vendors that the client sends to itself, in Segment's words.
    """
    told = [event.get("integrations") or {} for event in events]
    for kind in kinds:
        count = sum(each.get(kind) is not False for each in told)
        if count:
            yield f"{count:,} events let Segment send a second copy to {kind}"
