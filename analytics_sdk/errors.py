"""What can go wrong, as exceptions and as reasons.

The exceptions form one tree::

    AnalyticsError
    ├── ConfigError     (ValueError)    a setting is wrong; raised by constructors only
    └── RefusedError    (ValueError)    with ``strict=True``: the call was refused
        ├── QueueFullError              … because the memory bound is reached
        └── ClosedError                 … because the client is closed

Without ``strict=True`` no call raises: the same facts arrive as a `Reason` in the
event's receipt.  Messages name the field, the type and the remedy, never the value,
which may be personal data.
"""

from __future__ import annotations

from enum import Enum


class AnalyticsError(Exception):
    """The base of every exception that this library raises on purpose."""


class ConfigError(AnalyticsError, ValueError):
    """A setting is wrong: raised while a client or destination is being made."""


class Reason(str, Enum):
    """Why an event ended, or waits, as it does; `remedy` says what to do about it."""

    remedy: str

    __hash__ = str.__hash__  # in C: counting must not be interrupted half-way

    def __new__(cls, value: str, remedy: str) -> Reason:  # noqa: PYI034 - it is final
        """Make a member that is its own text and knows its *remedy*."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.remedy = remedy
        return member

    def __str__(self) -> str:
        """Return the bare reason, as it appears in reports."""
        return str(self.value)

    # refused, by us at the call
    NO_ID = "no_id", "give the call a user_id or an anonymous_id"
    NO_NAME = "no_name", "give track() an event name, group() a group_id"
    BAD_ARGUMENT = "bad_argument", "pass the type that the message names"
    BAD_MESSAGE_ID = "bad_message_id", "use 1 to 100 printable characters"
    TOO_LARGE = "too_large", "send less data in one event"
    QUEUE_FULL = "queue_full", "raise Delivery(max_bytes=...) or find what blocks"
    CLOSED = "closed", "make the calls before close()"

    # skipped, on purpose
    SELECTOR = "selector", "the integrations selector turned the destination off"
    CONSENT = "consent", "the user did not consent to this destination"
    SAMPLED = "sampled", "sampling left the event out"
    PLUGIN_DROP = "plugin_drop", "a plugin returned None for the event"
    PLUGIN_ERROR = "plugin_error", "a plugin raised; mend the plugin"
    DISABLED = "disabled", "the client was made with enabled=False"
    NOT_TAKEN = "not_taken", "the destination has no such call"

    # rejected, by the vendor
    INVALID = "invalid", "read the excerpt: the vendor says what it will not take"
    QUOTA = "quota", "the vendor's quota for this user or device is used up"

    # waiting, or given up on after waiting
    RATE_LIMITED = "rate_limited", "the vendor asked us to slow down"
    SERVER_ERROR = "server_error", "the vendor has trouble; we try again"
    UNREACHABLE = "unreachable", "check DNS, network, proxy and the host setting"
    TLS = "tls", "check the CA bundle (ca_file=) and the host's certificate"
    UNREADABLE = "unreadable", "something answers in the vendor's place: check host"
    CONFIGURATION = "configuration", "check key, region and host of the destination"
    REDIRECTED = "redirected", "the host redirects; set host= to where it points"
    SUSPECTED_CONFIGURATION = (
        "configuration?",
        "every event alone is refused: check key, region and host",
    )

    # lost or evicted
    EXPIRED = "expired", "the vendor was away longer than give_up_after_s"
    EXIT = "exit", "call flush() or close() before the process ends"
    MAYBE_SENT = "maybe_sent", "an answer was lost and a repeat would count twice"
    OLDEST = "oldest", "dropped for newer events: overflow='drop_oldest'"
    HELD_SHARE = "held_share", "a destination on hold may keep half the memory"
    BUG = "bug", "report it: this library met a state it does not know"


class RefusedError(AnalyticsError, ValueError):
    """With ``strict=True``: the call was refused, and *reason* says why."""

    def __init__(self, reason: Reason, message: str) -> None:
        """Keep *reason* beside *message*, which names field, type and remedy."""
        super().__init__(message)
        self.reason = reason


class QueueFullError(RefusedError):
    """The memory bound is reached and the overflow policy drops the newest event."""


class ClosedError(RefusedError):
    """The client is closed: nothing more is accepted."""
