"""Settings: frozen, all defaulted, checked when they are made.

Reading the environment is somebody else's work; here a mapping of strings becomes
settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from analytics_sdk.errors import ConfigError

MIB = 1024 * 1024
OVERFLOWS = ("drop_newest", "drop_oldest", "block")
DRIVERS = ("threads", "inline")
REPORTS = ("failures", "all")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_LONGEST = 1e9
"""The largest number of seconds: some thirty years."""

_Attribute = Any


def _bad(name: str, value: object, remedy: str) -> ConfigError:
    return ConfigError(f"{name}: got {type(value).__name__}; {remedy}")


def _positive(instance: object, attribute: _Attribute, value: object) -> None:
    """Hold *attribute* to a finite number above zero, in human bounds."""
    del instance
    if type(value) not in (int, float) or not 0 < value <= _LONGEST:  # type: ignore[operator]
        raise _bad(attribute.name, value, "pass a finite number above 0")


def _not_negative(instance: object, attribute: _Attribute, value: object) -> None:
    """Hold *attribute* to a finite number of at least zero."""
    if type(value) not in (int, float) or value != 0:
        _positive(instance, attribute, value)


def _whole(instance: object, attribute: _Attribute, value: object) -> None:
    """Hold *attribute* to a whole number of at least one."""
    del instance
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _bad(attribute.name, value, "pass a whole number of at least 1")


def _flag_or_none(instance: object, attribute: _Attribute, value: Any) -> None:
    """Hold *attribute* to True, False or None."""
    del instance
    if type(value) not in (bool, type(None)):
        raise _bad(attribute.name, value, "pass True, False or None")


def _text_or_none(instance: object, attribute: _Attribute, value: Any) -> None:
    """Hold *attribute* to text or None."""
    del instance
    if value is not None and (not isinstance(value, str) or not value):
        raise _bad(attribute.name, value, "pass a path as a str that is not empty")


def _texts_or_none(instance: object, attribute: _Attribute, value: Any) -> None:
    """Hold *attribute* to a mapping of text to text, or None."""
    del instance
    if value is None:
        return
    if not isinstance(value, Mapping) or not all(
        isinstance(each, str) for pair in value.items() for each in pair
    ):
        raise _bad(attribute.name, value, "pass a dict of scheme to address")


def _one_of(*words: str) -> Any:
    def check(instance: object, attribute: _Attribute, value: object) -> None:
        del instance
        if value not in words:
            raise _bad(attribute.name, value, f"use one of {', '.join(words)}")

    return check


@attrs.frozen(kw_only=True)
class Delivery:
    """How events are held, batched, sent and given up on.

    Args:
        max_bytes: Most bytes of unsettled events, over all destinations; an event
            counts once.
        max_event_bytes: Most bytes of one encoded event.
        overflow: What happens when *max_bytes* is reached: ``drop_newest`` refuses
            the event, ``drop_oldest`` evicts waiting ones, ``block`` waits.
        block_timeout_s: With ``overflow="block"``: how long a call may wait.
        linger_s: How long an event may wait for company before its batch leaves.
        parallel_uploads: Requests in flight for one destination.
        connect_timeout_s: For the connection, TLS included.
        request_timeout_s: For one whole request, by the wall clock.
        give_up_after_s: In memory: how long an event is retried; the clock stands
            still while its destination waits for a configuration error's mending.
        exit_timeout_s: How long the end of the process may wait for delivery.
        gzip: Whether bodies from 1 KB are compressed; None does so for the vendors'
            own hosts only.
        proxies: Proxy addresses by scheme, in place of the environment's.
        ca_file: A bundle of certificate authorities, in place of the default one.
        driver: ``threads``, or ``inline`` for runtimes without threads: then only
            flush, close and wait deliver.
        report: Whether `on_outcome` hears of ``failures`` or of ``all``.
    """

    max_bytes: int = attrs.field(default=32 * MIB, validator=_whole)
    max_event_bytes: int = attrs.field(default=1 * MIB, validator=_whole)
    overflow: str = attrs.field(default="drop_newest", validator=_one_of(*OVERFLOWS))
    block_timeout_s: float = attrs.field(default=0.5, validator=_not_negative)
    linger_s: float = attrs.field(default=1.0, validator=_not_negative)
    parallel_uploads: int = attrs.field(default=1, validator=_whole)
    connect_timeout_s: float = attrs.field(default=3.0, validator=_positive)
    request_timeout_s: float = attrs.field(default=15.0, validator=_positive)
    give_up_after_s: float = attrs.field(default=900.0, validator=_positive)
    exit_timeout_s: float = attrs.field(default=5.0, validator=_not_negative)
    gzip: bool | None = attrs.field(default=None, validator=_flag_or_none)
    proxies: Mapping[str, str] | None = attrs.field(
        default=None, repr=False, validator=_texts_or_none
    )
    ca_file: str | None = attrs.field(default=None, validator=_text_or_none)
    driver: str = attrs.field(default="threads", validator=_one_of(*DRIVERS))
    report: str = attrs.field(default="failures", validator=_one_of(*REPORTS))


@attrs.frozen
class Memory:
    """Keep waiting events in memory: SIGKILL, or a crash, loses them."""


class Secret:
    """A key that shows itself to nobody by accident.

    It appears as ``…`` and its last four characters, refuses to be pickled, and is
    revealed by `reveal` alone.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Keep *value*."""
        self._value = value

    def __repr__(self) -> str:
        """Show the last four characters of long keys, nothing of short ones."""
        shown = self._value[-4:] if len(self._value) >= 12 else ""
        return f"<Secret …{shown}>"

    def __eq__(self, other: object) -> bool:
        """Compare by value."""
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        """Hash by value."""
        return hash((Secret, self._value))

    def __reduce__(self) -> str:
        """Refuse: a pickle travels further than a key should."""
        message = "a Secret cannot be pickled; pass the key itself to the constructor"
        raise TypeError(message)

    def reveal(self) -> str:
        """Return the key."""
        return self._value


def secret(value: object, field: str) -> Secret:
    """Return a key as a `Secret`.

    Raises:
        ConfigError: *value* is not text, is empty, or holds white space or control
            characters.
    """
    if not isinstance(value, str):
        raise _bad(field, value, "pass the key as a str")
    text = value.strip()
    if not text:
        message = f"{field}: empty; pass the key, or use Client(enabled=False)"
        raise ConfigError(message)
    if not text.isascii() or not text.isprintable() or " " in text:
        message = f"{field}: holds characters that no key has; copy it again"
        raise ConfigError(message)
    return Secret(text)


def base_url(value: object, *, allow_http: bool = False) -> str:
    """Return a host setting as a base URL without a trailing slash.

    Plain http is for loopback addresses, unless *allow_http* says otherwise.

    Args:
        value: ``https://host[:port][/path]``; a bare host means https.
        allow_http: Whether keys and personal data may travel unencrypted.

    Raises:
        ConfigError: *value* is no such address.
    """
    if not isinstance(value, str):
        raise _bad("host", value, "pass a URL as a str")
    text = value.strip().rstrip("/")
    if ":/" not in text:
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    odd = not text.isascii() or not text.isprintable() or " " in text
    if not host or odd or port == 0 or parts.netloc.endswith(":"):
        message = "host: not an address; use https://host[:port][/path]"
        raise ConfigError(message)
    if "@" in parts.netloc or "?" in text or "#" in text:
        message = "host: leave out user names, queries and fragments"
        raise ConfigError(message)
    if parts.scheme == "http":
        if host not in LOOPBACK and not allow_http:
            message = "host: plain http is for loopback; use https or allow_http=True"
            raise ConfigError(message)
    elif parts.scheme != "https":
        message = "host: use https://"
        raise ConfigError(message)
    return text
