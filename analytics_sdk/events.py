"""The six calls, and the frozen event that each of them becomes.

A *call* is what the application said: one of six attrs classes after the Segment
Spec, validated and normalised.  An `Event` is that call encoded: Segment-spec JSON as
UTF-8 bytes, which is at once the snapshot, the record and the Segment upload.

The layout of an encoded event is fixed, so that parts of it can be read and replaced
without parsing the rest::

    {"messageId":"…","timestamp":"…","type":"…", …, "context":{…},"integrations":{…}}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import attrs

from analytics_sdk.errors import Reason, RefusedError

if TYPE_CHECKING:
    from uuid import UUID

MAX_MESSAGE_ID_LENGTH = 100
"""Segment's limit (docs: guides/duplicate-data)."""

CALL_TYPES = ("identify", "track", "page", "screen", "group", "alias")

Id: TypeAlias = "str | int | UUID"
"""What a user, anonymous or group id may be; it travels as text."""


def _refuse(reason: Reason, field: str, value: object, remedy: str) -> RefusedError:
    message = f"{field}: got {type(value).__name__}; {remedy}"
    return RefusedError(reason, message)


def checked_id(value: object, field: str) -> str | None:
    """Return an id as text, None when it is absent or empty.

    Args:
        value: A str, int (0 too) or UUID; a bool is a mistake, not an id.
        field: The argument's name, for the message.

    Raises:
        RefusedError: *value* is of another type.
    """
    kind = type(value)
    if issubclass(kind, str):
        return str.__str__(value) or None
    if value is None:
        return None
    if issubclass(kind, int) and kind is not bool:
        try:
            return int.__repr__(value)
        except ValueError:
            raise _refuse(Reason.BAD_ARGUMENT, field, value, "it is too long") from None
    if any(
        base.__module__ == "uuid" and base.__name__ == "UUID" for base in kind.__mro__
    ):
        return str(value)
    raise _refuse(Reason.BAD_ARGUMENT, field, value, "pass a str, an int or a UUID")


def checked_text(value: object, field: str) -> str | None:
    """Return *value* when it is text or None; an Enum of text counts as its text.

    Raises:
        RefusedError: *value* is of another type.
    """
    if value is None:
        return None
    if issubclass(type(value), str):
        return str.__str__(value)
    raise _refuse(Reason.BAD_ARGUMENT, field, value, "pass a str")


def checked_mapping(value: object, field: str) -> Mapping[Any, Any] | None:
    """Return *value* when it is a mapping or None; nothing of it is looked at.

    Raises:
        RefusedError: *value* is of another type.
    """
    if value is None or issubclass(type(value), Mapping):
        return value  # type: ignore[return-value]
    raise _refuse(Reason.BAD_ARGUMENT, field, value, "pass a dict or another Mapping")


def checked_message_id(value: object) -> str | None:
    """Return a usable message id, None when it is absent.

    Raises:
        RefusedError: *value* is not text of 1 to 100 printable characters.
    """
    if value is None:
        return None
    text = checked_id(value, "message_id") or ""
    if not text or len(text) > MAX_MESSAGE_ID_LENGTH or not text.isprintable():
        remedy = f"use 1 to {MAX_MESSAGE_ID_LENGTH} printable characters"
        raise _refuse(Reason.BAD_MESSAGE_ID, "message_id", value, remedy)
    return text


def _or_empty(value: Mapping[Any, Any] | None) -> Mapping[Any, Any]:
    """Return *value*, of which nothing is asked, or an empty dict for None."""
    return {} if value is None else value


def _id_field(name: str) -> Any:
    return attrs.field(default=None, converter=lambda value: checked_id(value, name))


def _text_field(name: str) -> Any:
    return attrs.field(default=None, converter=lambda value: checked_text(value, name))


def _mapping_field(name: str) -> Any:
    return attrs.field(
        default=None, converter=lambda value: checked_mapping(value, name)
    )


def _checked_timestamp(value: object) -> datetime | None:
    if value is None:
        return value
    remedy = "pass a datetime (naive ones count as UTC)"
    if not issubclass(type(value), datetime):
        raise _refuse(Reason.BAD_ARGUMENT, "timestamp", value, remedy)
    if type(value.year) is not int:  # type: ignore[attr-defined]
        raise _refuse(Reason.BAD_ARGUMENT, "timestamp", value, "this one is no time")
    return value  # type: ignore[return-value]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Call:
    """What every call can carry (Segment Spec: common fields)."""

    type: ClassVar[str] = ""
    usage: ClassVar[str] = ""
    """The call as it should be made, for messages."""

    user_id: str | None = _id_field("user_id")
    anonymous_id: str | None = _id_field("anonymous_id")
    context: Mapping[Any, Any] | None = _mapping_field("context")
    timestamp: datetime | None = attrs.field(default=None, converter=_checked_timestamp)
    message_id: str | None = attrs.field(default=None, converter=checked_message_id)

    def fields(self) -> tuple[tuple[str, object], ...]:
        """Return the members of this type of call, by their names on the wire."""
        raise NotImplementedError

    def check(self) -> None:
        """Refuse a call that the spec does not allow.

        Raises:
            RefusedError: An id or a name is missing.
        """
        if self.user_id is None and self.anonymous_id is None:
            message = "user_id, anonymous_id: both are missing; give one of them"
            raise RefusedError(Reason.NO_ID, message)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Identify(Call):
    """Say who a user is (Segment Spec: identify)."""

    type: ClassVar[str] = "identify"
    usage: ClassVar[str] = "identify(user_id, traits)"
    traits: Mapping[Any, Any] | None = _mapping_field("traits")

    def fields(self) -> tuple[tuple[str, object], ...]:
        """Return the traits."""
        return (("traits", _or_empty(self.traits)),)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Track(Call):
    """Say what a user did (Segment Spec: track)."""

    type: ClassVar[str] = "track"
    usage: ClassVar[str] = "track(user_id, event, properties)"
    event: str | None = _text_field("event")
    properties: Mapping[Any, Any] | None = _mapping_field("properties")

    def fields(self) -> tuple[tuple[str, object], ...]:
        """Return the event's name and properties."""
        return (("event", self.event), ("properties", _or_empty(self.properties)))

    def check(self) -> None:
        """Refuse a track call without ids or without a name."""
        Call.check(self)
        if not self.event:
            message = "event: missing; give what the user did a name"
            raise RefusedError(Reason.NO_NAME, message)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Page(Call):
    """Say which page a user saw (Segment Spec: page)."""

    type: ClassVar[str] = "page"
    usage: ClassVar[str] = "page(user_id, category, name, properties)"
    category: str | None = _text_field("category")
    name: str | None = _text_field("name")
    properties: Mapping[Any, Any] | None = _mapping_field("properties")

    def fields(self) -> tuple[tuple[str, object], ...]:
        """Return category and name where given, and the properties."""
        named = (("category", self.category), ("name", self.name))
        given = tuple(pair for pair in named if pair[1] is not None)
        return (*given, ("properties", _or_empty(self.properties)))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Screen(Page):
    """Say which screen of an app a user saw (Segment Spec: screen)."""

    type: ClassVar[str] = "screen"
    usage: ClassVar[str] = "screen(user_id, category, name, properties)"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Group(Call):
    """Say which group a user belongs to (Segment Spec: group)."""

    type: ClassVar[str] = "group"
    usage: ClassVar[str] = "group(user_id, group_id, traits)"
    group_id: str | None = _id_field("group_id")
    traits: Mapping[Any, Any] | None = _mapping_field("traits")

    def fields(self) -> tuple[tuple[str, object], ...]:
        """Return the group's id and traits."""
        return (("groupId", self.group_id), ("traits", _or_empty(self.traits)))

    def check(self) -> None:
        """Refuse a group call without ids or without a group id."""
        Call.check(self)
        if self.group_id is None:
            message = "group_id: missing; give the group's id"
            raise RefusedError(Reason.NO_NAME, message)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Alias(Call):
    """Say that one id is another one's continuation (Segment Spec: alias)."""

    type: ClassVar[str] = "alias"
    usage: ClassVar[str] = "alias(previous_id, user_id)"
    previous_id: str | None = _id_field("previous_id")

    def fields(self) -> tuple[tuple[str, object], ...]:
        """Return the id that the user had before."""
        return (("previousId", self.previous_id),)

    def check(self) -> None:
        """Refuse an alias call that lacks one of its two ids."""
        if self.user_id is None or self.previous_id is None:
            message = "previous_id, user_id: one is missing; give both"
            raise RefusedError(Reason.NO_ID, message)


class Selection:
    """Which destinations the selector chose for an event; shared by many events.

    Attributes:
        names: The names of all destinations of the client, by their bit in *mask*.
        mask: A bit for each destination that gets the event.
        tail: The last member of the encoded event and its closing brace.
        integrations: The selector, normalised, as it stands in *tail*.
        muted: By call type: the Segment catalogue names that a direct destination
            serves, so that Segment's cloud must not serve them as well.
    """

    __slots__ = ("integrations", "mask", "muted", "names", "tail")

    def __init__(
        self,
        names: tuple[str, ...],
        mask: int,
        integrations: Mapping[str, Any],
        tail: bytes,
        muted: Mapping[str, tuple[str, ...]],
    ) -> None:
        """Keep what the router computed; nothing is copied."""
        self.names = names
        self.mask = mask
        self.integrations = integrations
        self.tail = tail
        self.muted = muted


class Event:
    """One call, frozen: its canonical JSON, and views of it decoded on demand.

    Args:
        raw: The encoded event, in the layout that the module describes.
        selection: Where it goes; what the selector said.
        decode: Parses JSON bytes; the client passes its own codec's.
    """

    __slots__ = ("_decode", "_payload", "raw", "selection")

    def __init__(
        self,
        raw: bytes,
        selection: Selection,
        decode: Callable[[bytes], Any] = json.loads,
    ) -> None:
        """Keep the bytes; decode nothing yet."""
        self.raw = raw
        self.selection = selection
        self._decode = decode
        self._payload: dict[str, Any] | None = None

    @property
    def payload(self) -> dict[str, Any]:
        """The event as plain data, decoded once; treat it as read-only."""
        if self._payload is None:
            self._payload = self._decode(self.raw)
        return self._payload

    @property
    def type(self) -> str:
        """The call's type: one of `CALL_TYPES`."""
        return str(self.payload["type"])

    @property
    def message_id(self) -> str:
        """The id that every copy of the event carries."""
        return str(self.payload["messageId"])

    @property
    def user_id(self) -> str | None:
        """The user's id, where the call gave one."""
        return self.payload.get("userId")

    @property
    def anonymous_id(self) -> str | None:
        """The anonymous id, where the call gave one."""
        return self.payload.get("anonymousId")

    @property
    def keys(self) -> tuple[str, ...]:
        """The user keys whose order the event keeps: one, or two where it joins two.

        A key is the user's id, else the anonymous one.  A call with both joins them,
        and an alias joins the previous id to the new one.
        """
        payload = self.payload
        found = [payload.get(name) for name in ("userId", "anonymousId", "previousId")]
        return tuple(dict.fromkeys(key for key in found if key))
