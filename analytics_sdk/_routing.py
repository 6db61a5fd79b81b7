"""Which destinations an event goes to: the ``integrations`` selector, read.

The rules, weakest first; ``docs/selector.md`` has them as a table with sources.

- Without a selector everything is on.
- ``All`` turns on or off what is not named.  It does not reach Segment itself, whose
  own key is ``Segment.io``.
- A key is a destination's kind, or an alias of it, and then means every destination of
  that kind; or it is a name, and then means that one.  A name beats the kind, the kind
  beats its aliases.
- A value is a bool, or an object, which turns on and carries options.  None is as good
  as absent.  Any other value turns its key off: what nobody can read must not send.
- Keys are matched exactly first, then without regard to case, and are passed on in the
  spelling that the vendors know.  Keys of destinations that the client does not have
  are Segment's business and are passed on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from analytics_sdk.errors import ConfigError
from analytics_sdk.events import CALL_TYPES, Selection
from analytics_sdk.interfaces import Destination

ALL = "All"

HUB_KIND = "Segment.io"
"""The kind that passes events on, so that ``All`` speaks of what is behind it
(analytics.js: "All does not apply to Segment.io")."""

MAX_REMEMBERED = 1024
MAX_REMEMBERED_BYTES = 1024

_BOOLS = frozenset({bool})

Answer = tuple[Selection, bool]


class _Target(NamedTuple):
    """What the selector has to know about one destination.

    Args:
        keys: The selector keys that mean it, the strongest first.
        catalogue: What Segment's catalogue calls its vendor; empty where Segment has
            no such destination.
        takes: The call types that it has a use for.
        is_hub: Whether it passes events on, out of reach of ``All``.
    """

    keys: tuple[str, ...]
    catalogue: tuple[str, ...]
    takes: frozenset[str]
    is_hub: bool


def _target(destination: Destination) -> _Target:
    kind, aliases = destination.kind, tuple(destination.aliases)
    is_hub = kind == HUB_KIND
    return _Target(
        keys=tuple(dict.fromkeys((destination.name, kind, *aliases))),
        catalogue=(kind, *aliases) if aliases and not is_hub else (),
        takes=frozenset(destination.takes),
        is_hub=is_hub,
    )


def _checked_names(destinations: Sequence[Destination]) -> tuple[str, ...]:
    names: list[str] = []
    for destination in destinations:
        name: object = destination.name
        if not isinstance(name, str):
            message = f"name: got {type(name).__name__}; pass a str"
            raise ConfigError(message)
        if not name.strip() or name.casefold() == ALL.casefold():
            message = "name: empty, or the selector's word All; give another one"
            raise ConfigError(message)
        if name in names:
            message = f"name: two destinations are named {name}; give one name="
            raise ConfigError(message)
        names.append(name)
    return tuple(names)


def _setting(value: object) -> bool | Mapping[Any, Any]:
    """Return what a key's *value* says; False where it says nothing readable."""
    try:
        return value if isinstance(value, (bool, Mapping)) else False
    except Exception:  # noqa: BLE001  (a lazy object may do anything when looked at)
        return False


def _word(keys: Sequence[str], chosen: Mapping[str, Any]) -> bool | None:
    """Return what the strongest of *keys* says, None where none is named."""
    for key in keys:
        if key in chosen:
            return chosen[key] is not False
    return None


class Router:
    """Reads selectors for one set of destinations.

    The router keeps a bounded memo of selectors that it has seen and is otherwise
    without state.  It is safe on any thread and in signal handlers: the memo is a dict
    of which only single, atomic operations are used.

    Args:
        destinations: The client's destinations; bit *i* of a mask is the i-th.
        encode: Makes JSON of plain data and of option objects, and repairs what JSON
            cannot hold.

    Raises:
        ConfigError: A name is empty, reserved, of another type than str, or used twice.

    Attributes:
        default: The selection of an event without a selector: everything.
    """

    __slots__ = (
        "_encode",
        "_exact",
        "_memo",
        "_names",
        "_spellings",
        "_targets",
        "_unselected",
        "default",
    )

    def __init__(
        self,
        destinations: Sequence[Destination],
        encode: Callable[[object], bytes],
    ) -> None:
        self._encode = encode
        self._names = _checked_names(destinations)
        self._targets = tuple(_target(each) for each in destinations)
        known = [ALL, *(key for target in self._targets for key in target.keys)]
        self._exact = frozenset(known)
        self._spellings = {key.casefold(): key for key in reversed(known)}
        self._memo: dict[tuple[Any, ...], Answer] = {}
        self.default = self._select({})
        self._unselected: Answer = (self.default, True)

    def select(self, integrations: object) -> Answer:
        """Say where an event with this selector goes.

        Nothing that the selector is or holds makes this raise.

        Args:
            integrations: The call's ``integrations``; None stands for no selector.

        Returns:
            The selection, and whether all of the selector could be read.  It is False
            for something else than a mapping, which then counts as no selector, and
            where a key is no str; such a key is left out, the others hold.
        """
        if integrations is None:
            return self._unselected
        if type(integrations) is dict and _BOOLS.issuperset(
            map(type, integrations.values())
        ):
            try:
                known = self._memo.get(tuple(integrations.items()))
            except Exception:  # noqa: BLE001  (a key's own hash or comparison raised)
                known = None
            if known is not None:
                return known
        return self._read(integrations)

    def _read(self, integrations: object) -> Answer:
        try:
            if not isinstance(integrations, Mapping):
                return self.default, False
            items = tuple(integrations.items())
            chosen, readable = self._normalise(items)
            answer = (self._select(chosen), readable)
        except Exception:  # noqa: BLE001  (a caller's mapping may raise anything)
            return self.default, False
        plain = all(type(key) is str and type(value) is bool for key, value in items)
        if plain and len(answer[0].tail) <= MAX_REMEMBERED_BYTES:
            if len(self._memo) >= MAX_REMEMBERED:
                self._memo.clear()
            self._memo[items] = answer
        return answer

    def _normalise(self, items: Sequence[Any]) -> tuple[dict[str, Any], bool]:
        """Return the selector in known spellings and plain data, and if all was read.

        A key in its exact spelling beats the same key in another one.
        """
        named: dict[str, Any] = {}
        respelled: dict[str, Any] = {}
        readable = True
        for key, value in items:
            if not issubclass(type(key), str):
                readable = False
            elif value is not None:
                text = str.__str__(key)
                if text in self._exact:
                    named[text] = _setting(value)
                else:
                    spelling = self._spellings.get(text.casefold(), text)
                    respelled.setdefault(spelling, _setting(value))
        chosen = {**respelled, **named}
        if ALL in chosen:
            chosen[ALL] = chosen[ALL] is True
        return self._with_plain_options(chosen), readable

    def _with_plain_options(self, chosen: dict[str, Any]) -> dict[str, Any]:
        """Replace the caller's option objects by private copies in plain data.

        Options that no encoder can make an object of are dropped; their destination
        stays on.
        """
        options = {key: each for key, each in chosen.items() if type(each) is not bool}
        if not options:
            return chosen
        try:
            plain = json.loads(self._encode(options))
        except Exception:  # noqa: BLE001  (a caller's mapping may raise anything)
            plain = {}
        for key in options:
            copy = plain.get(key)
            chosen[key] = copy if isinstance(copy, dict) else True
        return chosen

    def _select(self, chosen: dict[str, Any]) -> Selection:
        words = [_word(target.keys, chosen) for target in self._targets]
        rest = chosen.get(ALL, True)
        mask = 0
        for bit, (target, word) in enumerate(zip(self._targets, words, strict=True)):
            on = (rest or target.is_hub) if word is None else word
            mask |= on << bit
        tail = b',"integrations":' + self._encode(chosen) + b"}"
        muted = self._mute(chosen, words, mask)
        return Selection(self._names, mask, chosen, tail, muted)

    def _mute(
        self, chosen: Mapping[str, Any], words: Sequence[bool | None], mask: int
    ) -> dict[str, tuple[str, ...]]:
        """Return, by call type, what Segment's cloud must not serve.

        That is what a direct destination serves already, and what the selector turned
        off by another of its names.  Types without any such name are left out.
        """
        reached = [bool(mask >> bit & 1) for bit in range(len(self._targets))]
        pairs = tuple(zip(self._targets, reached, strict=True))
        if not any(target.is_hub and on for target, on in pairs):
            return {}
        off = [
            name
            for target, word in zip(self._targets, words, strict=True)
            if word is False
            for name in target.catalogue
            if chosen.get(name, False) is False
        ]
        muted = {}
        for type_ in CALL_TYPES:
            served = [
                name
                for target, on in pairs
                if on and type_ in target.takes
                for name in target.catalogue
            ]
            if names := tuple(dict.fromkeys((*served, *off))):
                muted[type_] = names
        return muted
