"""What traits and operations become: updates of Mixpanel's user and group profiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from analytics_sdk.destinations.mixpanel.tables import (
    ADDRESS,
    DROPPED_TRAITS,
    GROUP_OPERATIONS,
    GROUP_TRAITS,
    MODIFIERS,
    NOT_IDEMPOTENT,
    RENAMED_TRAITS,
    TRAIT_PREFIX,
    TRAITS,
    USER_OPERATIONS,
)
from analytics_sdk.errors import Reason

IMPORT = "import"
TRACK = "track"
ENGAGE = "engage"
GROUPS = "groups"


class Record(NamedTuple):
    """One record of a request, not yet encoded.

    Args:
        route: The endpoint.
        content: The record; of no interest where it is refused.
        barrier: Whether it links two ids.
        idempotent: Whether a repeat does no harm.
        refused: Why Mixpanel must not get it.
    """

    route: str
    content: Mapping[str, Any]
    barrier: bool = False
    idempotent: bool = True
    refused: Reason | None = None


def user_profile(traits: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return profile properties, and what stands beside them in an update."""
    left = dict(traits)
    modifiers = {}
    place = (left.get("latitude"), left.get("longitude"))
    if all(map(_is_number, place)):
        modifiers = {"$latitude": place[0], "$longitude": place[1]}
        del left["latitude"], left["longitude"]
    found: dict[str, Any] = {}
    address = left.get("address")
    if isinstance(address, dict):
        address = {**address}
        _take_country(address, found)
        rest = {name: address[name] for name in address if name not in ADDRESS}
        found.update(
            {ADDRESS[name]: address[name] for name in address if name in ADDRESS}
        )
        left["address"] = rest
        if not rest:
            del left["address"]
    _take_country(left, found)
    found.update(renamed(left, TRAITS))
    names = (found.get("$first_name"), found.get("$last_name"))
    if "$name" not in found and all(isinstance(name, str) for name in names):
        found["$name"] = f"{names[0]} {names[1]}"
    return found, modifiers


def _take_country(source: dict[str, Any], found: dict[str, Any]) -> None:
    """Move a country's code from *source*; a country's name is no code and stays."""
    country = source.get("country")
    if isinstance(country, str) and len(country) == 2:
        found["$country_code"] = source.pop("country")


def renamed(traits: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return *traits* under Mixpanel's names; what has that name already wins."""
    found: dict[str, Any] = {}
    for name, value in traits.items():
        if name in names:
            found.setdefault(names[name], value)
    own = {name: value for name, value in traits.items() if name not in names}
    found.update(without_reserved(own, RENAMED_TRAITS, DROPPED_TRAITS, TRAIT_PREFIX))
    return found


def without_reserved(
    given: Mapping[str, Any],
    moved: frozenset[str],
    dropped: frozenset[str],
    prefix: str,
) -> dict[str, Any]:
    """Return *given* without *dropped* names, and *moved* ones behind *prefix*."""
    return {
        prefix + name if name in moved else name: value
        for name, value in given.items()
        if name not in dropped
    }


def updates(
    route: str,
    frame: Mapping[str, Any],
    properties: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Iterator[Record]:
    """Yield an update for each operation: Mixpanel reads one from a record.

    An operation that cannot be meant is refused here, because Mixpanel would not
    say which update of a request was bad.  A deletion leaves nothing else to do.
    """
    known = USER_OPERATIONS if route == ENGAGE else GROUP_OPERATIONS
    for name in options:
        if name[:1] == "$" and name not in known and name not in MODIFIERS:
            yield Record(route, {}, refused=Reason.BAD_ARGUMENT)
    if options.get("$delete"):
        yield Record(route, {**frame, "$delete": ""})
        return
    names = TRAITS if route == ENGAGE else GROUP_TRAITS
    for operation in known[:-1]:
        value = options.get(operation)
        if operation == "$set" and isinstance(value, dict | None):
            value = {**properties, **(value or {})} or None
        if value is None:
            continue
        argument = _argument(operation, value, names)
        if argument is None:
            yield Record(route, {}, refused=Reason.BAD_ARGUMENT)
        elif argument:
            idempotent = operation not in NOT_IDEMPOTENT
            content = {**frame, operation: argument}
            yield Record(route, content, idempotent=idempotent)


def _argument(
    operation: str, value: object, names: Mapping[str, str]
) -> dict[str, Any] | list[str] | None:
    """Return what *operation* takes, None where *value* is nothing like it."""
    if operation == "$unset":
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or any(
            type(each) is not str for each in listed
        ):
            return None
        return [names.get(name, name) for name in listed]
    if not isinstance(value, dict):
        return None
    if operation == "$add" and not all(map(_is_number, value.values())):
        return None
    if operation == "$union":
        value = {
            name: each if isinstance(each, list) else [each]
            for name, each in value.items()
        }
    return renamed(value, names)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
