"""Segment-spec calls as Amplitude events: what reads the tables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from analytics_sdk.destinations.amplitude.tables import (
    ADVERTISING_IDS,
    CAMPAIGN,
    CENT,
    CONTEXT,
    INGESTION,
    NAMELESS,
    NUMBERS,
    OPERATIONS,
    OPTIONS,
    PLAN,
    PLATFORMS,
    REFUSED_IDS,
    REMOTE,
    REVENUE,
    SECONDS,
    UNSET,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)
_PLAIN_NUMBER = re.compile(r"-?\d{1,300}(?:\.\d+)?", re.ASCII)
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)


def _by_member(paths: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for path, key in paths.items():
        member, _, inner = path.partition(".")
        found.setdefault(member, {})[inner] = key
    return found


_CONTEXT_BY_MEMBER = _by_member(CONTEXT)


class Mapper(NamedTuple):
    """Turns calls into events by one set of settings.

    Args:
        min_id_length: Shorter ids count as none, as they do at Amplitude.
        group_type: What a group call's group is, where the call does not say so.
        templates: What page and screen events are called, by the call's type.
    """

    min_id_length: int
    group_type: str
    templates: Mapping[str, str]

    def events(
        self, payload: Mapping[str, Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return the Amplitude events of a call; none where it has no usable id.

        Args:
            payload: Any call but an alias, as plain data.
            options: The selector's, for this destination.
        """
        context = _mapping(payload.get("context"))
        device = _mapping(context.get("device"))
        who: dict[str, Any] = {}
        if user_id := self.usable(payload.get("userId")):
            who["user_id"] = user_id
        if device_id := (
            self.usable(device.get("id")) or self.usable(payload.get("anonymousId"))
        ):
            who["device_id"] = device_id
        if not who:
            return []
        common = {
            **who,
            **_time(payload),
            "insert_id": payload["messageId"],
            **_event_options(options),
            **read_context(context),
        }
        kind = payload["type"]
        if kind == "group":
            return self._group(payload, options, common)
        traits = _mapping(payload.get("traits")) if kind == "identify" else {}
        properties = operate(traits, options, _mapping(context.get("campaign")))
        if kind == "identify":
            mapped = {"event_type": "$identify", **common}
        else:
            mapped = self._occurrence(kind, payload, common)
        if properties:
            mapped["user_properties"] = properties
        return [mapped]

    def mapping(
        self, payload: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Return what an alias asks of the User Mapping API, None without usable ids.

        Args:
            payload: An alias, as plain data.
            options: The selector's, for this destination.
        """
        previous = self.usable(payload.get("previousId"))
        user = self.usable(payload.get("userId"))
        if not previous or not user:
            return None
        if options.get("unmap") is True:
            return {"user_id": previous, "unmap": True}
        return {"user_id": previous, "global_user_id": user}

    def usable(self, value: object) -> str:
        """Return an id that Amplitude takes, and nothing for any other."""
        text = _text(value)
        if text in REFUSED_IDS or len(text) < self.min_id_length:
            return ""
        return text

    def _occurrence(
        self, kind: str, payload: Mapping[str, Any], common: dict[str, Any]
    ) -> dict[str, Any]:
        """Return a track, page or screen call as an event with properties."""
        properties = _mapping(payload.get("properties"))
        if kind == "track":
            name = payload["event"]
        else:
            name = self._title(kind, payload, properties)
            given = {key: payload.get(key) for key in ("name", "category")}
            named = {key: value for key, value in given.items() if value}
            properties = {**named, **properties}
        mapped = {"event_type": name, **common, **revenue_of(properties)}
        if properties:
            mapped["event_properties"] = properties
        return mapped

    def _title(
        self, kind: str, payload: Mapping[str, Any], properties: Mapping[str, Any]
    ) -> str:
        """Return what a page or screen event is called."""
        name = _text(payload.get("name")) or _text(properties.get("name"))
        category = _text(payload.get("category"))
        if not name and not category:
            return NAMELESS[kind]
        template = self.templates[kind]
        if "{category" not in template:
            name = name or category
        return " ".join(template.format(name=name, category=category).split())

    def _group(
        self,
        payload: Mapping[str, Any],
        options: Mapping[str, Any],
        common: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Put the user into the group, then set the group's own properties."""
        group_type = _text(options.get("group_type")) or self.group_type
        group_id = payload["groupId"]
        member = {
            "event_type": "$identify",
            **common,
            "groups": {**common.get("groups", {}), group_type: group_id},
            "user_properties": {"$set": {group_type: group_id}},
        }
        properties = operate(_mapping(payload.get("traits")), options, {})
        if not properties:
            return [member]
        group = {
            "event_type": "$groupidentify",
            **common,
            "insert_id": f"{payload['messageId']}-1",
            "groups": {group_type: group_id},
            "group_properties": properties,
        }
        return [member, group]


def read_context(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event keys that the context gives, of the types they must have."""
    found: dict[str, Any] = {}
    for member, value in context.items():
        inside = _CONTEXT_BY_MEMBER.get(member)
        if inside is None:
            continue
        for name, key in inside.items():
            raw = _mapping(value).get(name) if name else value
            read = _number(raw) if key in NUMBERS else _text(raw)
            if read not in (None, "", REMOTE):
                found[key] = read
    device = _mapping(context.get("device"))
    if device:
        found.update(_read_device(device))
    library = _mapping(context.get("library"))
    parts = (_text(library.get("name")), _text(library.get("version")))
    if parts[0]:
        found["library"] = "/".join(filter(None, parts))
    return found


def _read_device(device: Mapping[str, Any]) -> dict[str, str]:
    kind = _text(device.get("type"))
    system = kind.lower()
    found = {}
    if kind:
        found["platform"] = PLATFORMS.get(system, kind)
    advertising = _text(device.get("advertisingId"))
    if advertising and system in ADVERTISING_IDS:
        found[ADVERTISING_IDS[system]] = advertising
    vendor = _text(device.get("id"))
    if vendor and system == "ios":
        found["idfv"] = vendor
    return found


def revenue_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event keys that count money; none for events without ``revenue``.

    A price alone is no sale: it stands on a viewed product as well.  Price and
    quantity go along only where they come to the revenue, since Amplitude counts
    their product in place of it.
    """
    revenue = _number(properties.get("revenue"))
    if revenue is None:
        return {}
    found: dict[str, Any] = {"revenue": revenue}
    price = _number(properties.get("price"))
    quantity = _number(properties.get("quantity"))
    if price is not None and quantity is not None:
        whole = int(quantity)
        if quantity == whole and abs(price * whole - revenue) < CENT:
            found.update(price=price, quantity=whole)
    for key, names in REVENUE.items():
        if text := next(
            filter(None, (_text(properties.get(name)) for name in names)), ""
        ):
            found[key] = text.upper() if key == "currency" else text
    return found


def operate(
    traits: Mapping[str, Any],
    options: Mapping[str, Any],
    campaign: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Return operations on properties, each property in one of them at most.

    The selector's operations come first, so that a trait that one of them names is
    not set as well; then the traits, then the campaign.
    """
    utm = {
        key: value
        for name, key in CAMPAIGN.items()
        if (value := _text(campaign.get(name)))
    }
    layers = [(each, _operands(each, options.get(each))) for each in OPERATIONS]
    layers += [
        ("$set", traits),
        ("$set", utm),
        ("$setOnce", {f"initial_{key}": value for key, value in utm.items()}),
    ]
    found: dict[str, dict[str, Any]] = {}
    taken: set[str] = set()
    for operation, values in layers:
        fresh = {key: value for key, value in values.items() if key not in taken}
        if fresh:
            found.setdefault(operation, {}).update(fresh)
            taken.update(fresh)
    return found


def _operands(operation: str, value: object) -> Mapping[str, Any]:
    """Return an operation's properties and values; ``$unset`` takes names as well."""
    if operation != "$unset":
        return _mapping(value)
    names: Iterable[object] = (value,) if isinstance(value, str) else ()
    if isinstance(value, (list, dict)):
        names = value
    return {name: UNSET for name in names if isinstance(name, str)}


def _event_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event keys that the selector's options give."""
    found: dict[str, Any] = {}
    if not options:
        return found
    given = {
        key: next((options[name] for name in names if name in options), None)
        for key, names in OPTIONS.items()
    }
    read = {
        "session_id": _session_id(given["session_id"]),
        "event_id": _whole(given["event_id"]),
        "groups": _groups(given["groups"]) or None,
        "$skip_user_properties_sync": given["$skip_user_properties_sync"] is True
        or None,
        "plan": _texts(given["plan"], PLAN) or None,
        "ingestion_metadata": _texts(given["ingestion_metadata"], INGESTION) or None,
    }
    return {key: value for key, value in read.items() if value is not None}


def _session_id(value: object) -> int | None:
    """Return a session's start in milliseconds: a number, digits or an ISO time."""
    number = _whole(value)
    if number is None:
        return _milliseconds(value)
    return number * 1000 if number in SECONDS else number


def _groups(value: object) -> dict[str, str | list[str]]:
    found: dict[str, str | list[str]] = {}
    for kind, names in _mapping(value).items():
        if isinstance(names, list):
            texts = [text for each in names if (text := _text(each))]
            if texts:
                found[kind] = texts
        elif text := _text(names):
            found[kind] = text
    return found


def _texts(value: object, names: Iterable[str]) -> dict[str, str]:
    members = _mapping(value)
    return {name: text for name in names if (text := _text(members.get(name)))}


def _time(payload: Mapping[str, Any]) -> dict[str, int]:
    time = _milliseconds(payload.get("timestamp"))
    return {} if time is None else {"time": time}


def _milliseconds(value: object) -> int | None:
    """Return an ISO time as milliseconds since 1970; None where it is none."""
    if not isinstance(value, str):
        return None
    text = value[:-1] + "+00:00" if value.endswith(("Z", "z")) else value
    try:
        when = datetime.fromisoformat(text)
        when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
        return (when - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        return None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    """Return text, and numbers as text; nothing for anything else."""
    if isinstance(value, str):
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if number else ""


def _number(value: object) -> int | float | None:
    """Return a finite number, also one that stands in text, as a Decimal may."""
    if isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if math.isfinite(value) else None


def _whole(value: object) -> int | None:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole else None  # type: ignore[return-value]
