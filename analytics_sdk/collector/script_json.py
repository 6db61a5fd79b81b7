"""Read and write scripts as JSON, so that another process can set them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from analytics_sdk.collector.faults import Fault
from analytics_sdk.collector.presets import PRESETS
from analytics_sdk.collector.script import Condition, Matching, Script, Step

_FAULTS: dict[str, type] = {kind.__name__: kind for kind in get_args(Fault)}
_CONDITIONS: dict[str, type] = {
    kind.__name__: kind for kind in get_args(Condition) if kind is not Matching
}
_BOUNDS = frozenset({"fault", "requests", "for_s", "only"})


def script_from_json(document: object) -> Script:
    """Build a script from parsed JSON.

    Either `{"preset": name, "arguments": {…}}`, or `{"steps": [{"fault": {"kind": …},
    "requests": …, "for_s": …, "only": {"kind": …}}]}`, where the other members of a
    fault or a condition are the fields of its class. Bytes are written as text.

    Raises:
        ValueError: the document does not have that shape; the text says where.
    """
    document = _mapping(document, "script")
    try:
        if "preset" in document:
            return _preset(document)
        steps = document.get("steps")
        if not isinstance(steps, list):
            message = "script needs a list under 'steps', or a 'preset'"
            raise ValueError(message)  # noqa: TRY004 - one error for one bad document
        return Script(tuple(_step(step) for step in steps))
    except TypeError as error:
        message = f"script has a field that does not fit: {error}"
        raise ValueError(message) from error


def script_to_json(script: Script) -> dict[str, object]:
    """Write *script* in the shape that `script_from_json` reads.

    Raises:
        ValueError: a step asks a Python function, which JSON cannot carry.
    """
    return {"steps": [_step_to_json(step) for step in script.steps]}


def _preset(document: Mapping[str, Any]) -> Script:
    build = PRESETS.get(document["preset"])
    if build is None:
        message = f"preset must be one of {sorted(PRESETS)}"
        raise ValueError(message)
    return build(**_mapping(document.get("arguments", {}), "arguments"))


def _step(document: object) -> Step:
    members = _mapping(document, "step")
    unknown = set(members) - _BOUNDS
    if unknown:
        message = f"step has unknown members: {sorted(unknown)}"
        raise ValueError(message)
    only = members.get("only")
    bounds = {
        name: _read(hint, members.get(name), f"step.{name}")
        for name, hint in (("requests", int | None), ("for_s", float | None))
    }
    return Step(
        cast("Fault", _build(_FAULTS, members.get("fault"), "fault")),
        only=only and cast("Condition", _build(_CONDITIONS, only, "only")),
        **cast("dict[str, Any]", bounds),
    )


def _build(kinds: Mapping[str, type], document: object, what: str) -> object:
    members = dict(_mapping(document, what))
    kind = kinds.get(members.pop("kind", ""))
    if kind is None:
        message = f"{what} needs a 'kind', one of {sorted(kinds)}"
        raise ValueError(message)
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    for name, value in members.items():
        if name not in names:
            message = f"{kind.__name__} has no {name!r}, only {sorted(names)}"
            raise ValueError(message)
        members[name] = _read(hints[name], value, f"{kind.__name__}.{name}")
    return kind(**members)


def _read(hint: object, value: object, where: str) -> object:
    """Bring *value* to the type that *hint* asks for, or say that it does not fit."""
    if hint is bytes and isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple((str(name), str(text)) for name, text in value)
    if get_origin(hint) is Literal:
        fits = value in get_args(hint)
    else:
        allowed = get_args(hint) or (hint,)
        fits = type(value) in allowed or (float in allowed and type(value) is int)
    if not fits:
        message = f"{where} does not take this {type(value).__name__}"
        raise ValueError(message)
    return value


def _step_to_json(step: Step) -> dict[str, object]:
    document: dict[str, object] = {"fault": _write(step.fault)}
    if step.requests is not None:
        document["requests"] = step.requests
    if step.for_s is not None:
        document["for_s"] = step.for_s
    if isinstance(step.only, Matching):
        message = "a step with Matching cannot be written as JSON: use WithEvent"
        raise ValueError(message)  # noqa: TRY004 - the value, not its type, is at fault
    if step.only is not None:
        document["only"] = _write(step.only)
    return document


def _write(value: Fault | Condition) -> dict[str, object]:
    document: dict[str, object] = {"kind": type(value).__name__}
    for field in fields(value):
        member = getattr(value, field.name)
        if isinstance(member, bytes):
            member = member.decode("utf-8", "surrogateescape")
        document[field.name] = member
    return document


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        message = f"{what} must be an object, not {type(value).__name__}"
        raise ValueError(message)  # noqa: TRY004 - one error for one bad document
    return value
