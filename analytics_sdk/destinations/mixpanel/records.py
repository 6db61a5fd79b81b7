"""What a call becomes: events for ``/import``, updates for ``/engage`` and ``/groups``.

Mixpanel merges a user's ids in one of two ways, fixed for a project.  In *simplified*
mode an event carries ``$device_id`` and ``$user_id``, and the first event with both
links them.  In *original* mode it carries a ``distinct_id`` alone, and events of their
own link two of them, for good.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from analytics_sdk.destinations.mixpanel.profiles import (
    ENGAGE,
    GROUPS,
    IMPORT,
    TRACK,
    Record,
    renamed,
    updates,
    user_profile,
    without_reserved,
)
from analytics_sdk.destinations.mixpanel.tables import (
    CONTEXT,
    CONTEXT_SCALARS,
    DEVICE_PREFIX,
    DROPPED_PROPERTIES,
    FIRST_TIME_MS,
    FORBIDDEN_IDS,
    GROUP_TRAITS,
    IDENTITY_EVENTS,
    INSERT_ID_LENGTH,
    MODIFIERS,
    PROPERTY_PREFIX,
    RENAMED_PROPERTIES,
)
from analytics_sdk.errors import Reason
from analytics_sdk.events import Event

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_INSERT_ID = re.compile(rf"[A-Za-z0-9-]{{1,{INSERT_ID_LENGTH}}}")
_UUID4 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    re.IGNORECASE,
)
_FIELD = re.compile(r"\{(name|category)\}")
_SERVER_SIDE = "0"
"""In the place of an address: do not look up where the request came from."""


class Mapper:
    """Maps calls to records, by the settings of one destination.

    Args:
        token: The project's token: an update names its project itself.
        original: Whether the project merges ids in original mode.
        group_key: The property that holds the ids of groups.
        page_event: The name of the event that a page call becomes.
        screen_event: The same for a screen call.
    """

    def __init__(
        self,
        token: str,
        *,
        original: bool,
        group_key: str,
        page_event: str,
        screen_event: str,
    ) -> None:
        """Keep the settings."""
        self._token = token
        self._original = original
        self._group_key = group_key
        self._views = {"page": page_event, "screen": screen_event}

    def records(self, event: Event, options: Mapping[str, Any]) -> Iterator[Record]:
        """Yield what *event* becomes, in the order in which it must be sent.

        Args:
            event: Any call.
            options: What the selector says to this destination.
        """
        payload, type_ = event.payload, event.type
        user, device = self._ids(payload)
        if type_ == "alias":
            yield from self._alias(user, str(payload.get("previousId") or ""))
        elif not user and not device:
            yield Record(IMPORT, {}, refused=Reason.NO_ID)
        elif type_ == "identify":
            yield from self._identify(payload, user, device, options)
        elif type_ == "group":
            yield from self._group(payload, user, options)
        else:
            yield self._event(payload, type_, user, device)

    # -- ids ---------------------------------------------------------------

    def _ids(self, payload: Mapping[str, Any]) -> tuple[str, str]:
        """Return the user's id and the anonymous one; "" for what is none.

        A user id that Mixpanel forbids makes the anonymous one useless too: the call
        speaks of somebody, and it is not known of whom.
        """
        user = str(payload.get("userId") or "")
        device = str(payload.get("anonymousId") or "")
        if user and self._forbids(user):
            return "", ""
        return user, "" if device in FORBIDDEN_IDS else device

    def _forbids(self, user: str) -> bool:
        looks_anonymous = not self._original and user.startswith(DEVICE_PREFIX)
        return looks_anonymous or user in FORBIDDEN_IDS

    def _distinct_id(self, user: str, device: str) -> str:
        if user or self._original:
            return user or device
        return DEVICE_PREFIX + device

    # -- events ------------------------------------------------------------

    def _event(
        self, payload: Mapping[str, Any], type_: str, user: str, device: str
    ) -> Record:
        own = payload.get("properties") or {}
        context = payload.get("context") or {}
        if type_ == "track":
            name = str(payload.get("event") or "")
        else:
            own = {**_view(payload), **own}
            name = _view_name(self._views[type_], own)
            context = {**context, "page": {**own, **_section(context, "page")}}
        if name in IDENTITY_EVENTS:
            return Record(IMPORT, {}, refused=Reason.BAD_ARGUMENT)
        properties = self._stamp(payload, self._distinct_id(user, device))
        if not self._original:
            if device:
                properties["$device_id"] = device
            if user:
                properties["$user_id"] = user
        properties["ip"] = 0
        properties.update(_from_context(context))
        if group := context.get("groupId"):
            properties[self._group_key] = group
        properties.update(
            without_reserved(
                own, RENAMED_PROPERTIES, DROPPED_PROPERTIES, PROPERTY_PREFIX
            )
        )
        return Record(IMPORT, {"properties": properties, "event": name})

    def _stamp(self, payload: Mapping[str, Any], distinct_id: str) -> dict[str, Any]:
        """Return what every imported event needs; the time comes first.

        Mixpanel knows a repeated event by its name and these three.
        """
        return {
            "time": time_ms(str(payload["timestamp"])),
            "distinct_id": distinct_id,
            "$insert_id": insert_id(str(payload["messageId"])),
        }

    # -- identity ----------------------------------------------------------

    def _alias(self, user: str, previous: str) -> Iterator[Record]:
        if not self._original:
            return
        if not user or previous in FORBIDDEN_IDS:
            yield Record(TRACK, {}, barrier=True, refused=Reason.NO_ID)
            return
        properties = {"distinct_id": previous, "alias": user, "token": self._token}
        content = {"event": "$create_alias", "properties": properties}
        yield Record(TRACK, content, barrier=True)

    def _link(self, payload: Mapping[str, Any], user: str, device: str) -> Record:
        """Return the event that makes *device* and *user* one.

        ``$identify`` takes an anonymous id only in the form of a UUID of version 4;
        any two ids can be merged by ``$merge``.
        """
        properties = self._stamp(payload, user)
        properties["token"] = self._token
        if _UUID4.fullmatch(device):
            name = "$identify"
            properties.update({"$identified_id": user, "$anon_id": device})
        else:
            name = "$merge"
            properties["$distinct_ids"] = [user, device]
        return Record(IMPORT, {"properties": properties, "event": name}, barrier=True)

    # -- profiles ----------------------------------------------------------

    def _identify(
        self,
        payload: Mapping[str, Any],
        user: str,
        device: str,
        options: Mapping[str, Any],
    ) -> Iterator[Record]:
        if self._original and user and device and user != device:
            yield self._link(payload, user, device)
        properties, modifiers = user_profile(payload.get("traits") or {})
        given = {name: options[name] for name in MODIFIERS if name in options}
        frame = {
            "$token": self._token,
            "$distinct_id": self._distinct_id(user, device),
            "$ip": str((payload.get("context") or {}).get("ip") or _SERVER_SIDE),
            **modifiers,
            **given,
        }
        yield from updates(ENGAGE, frame, properties, options)

    def _group(
        self, payload: Mapping[str, Any], user: str, options: Mapping[str, Any]
    ) -> Iterator[Record]:
        group = payload.get("groupId")
        frame = {
            "$token": self._token,
            "$group_key": self._group_key,
            "$group_id": group,
        }
        properties = renamed(payload.get("traits") or {}, GROUP_TRAITS)
        yield from updates(GROUPS, frame, properties, options)
        if user and not options.get("$delete"):
            member = {
                "$token": self._token,
                "$distinct_id": user,
                "$ip": _SERVER_SIDE,
                "$ignore_time": True,
            }
            union = {"$union": {self._group_key: [group]}}
            yield Record(ENGAGE, {**member, **union})


def insert_id(message_id: str) -> str:
    """Return *message_id* where it fits, else 36 characters that it always makes."""
    if _INSERT_ID.fullmatch(message_id) and message_id not in FORBIDDEN_IDS:
        return message_id
    digest = hashlib.sha256(message_id.encode("utf-8", "replace"))
    return digest.hexdigest()[:INSERT_ID_LENGTH]


def time_ms(timestamp: str) -> int:
    """Return an event's time in milliseconds, not before Mixpanel's first.

    What lies too far ahead cannot be seen here, without a clock: see `request`.
    """
    moment = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(FIRST_TIME_MS, (moment - _EPOCH) // timedelta(milliseconds=1))


def _from_context(context: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in context.items():
        if name in CONTEXT_SCALARS:
            yield CONTEXT_SCALARS[name], value
        elif name in CONTEXT and isinstance(value, dict):
            for member, target in CONTEXT[name].items():
                if member in value:
                    yield target, value[member]


def _section(context: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = context.get(name)
    return found if isinstance(found, dict) else {}


def _view(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {key: payload[key] for key in ("name", "category") if payload.get(key)}


def _view_name(template: str, properties: Mapping[str, Any]) -> str:
    """Return *template* filled in; a field that nobody gave leaves no gap."""
    filled = _FIELD.sub(lambda field: str(properties.get(field[1]) or ""), template)
    return " ".join(filled.split())
