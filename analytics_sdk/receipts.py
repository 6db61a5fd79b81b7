"""What became of an event: outcomes, receipts, reports.

A receipt is also the queue item: one object travels from the call to the last
answer, so it is slotted, has no ``__init__`` work to do on the hot path, and owns no
lock.  Whoever waits sends a message to the client's driver and waits on a queue of
its own.

Who writes what: the calling thread fills a receipt before it enters the queue; from
then on only the client's coordinator writes to it, the outcome before the word that
nothing is pending.  Readers on any thread may look at any time.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from enum import Enum
from typing import Any, Protocol

import attrs

from analytics_sdk.errors import Reason
from analytics_sdk.events import Selection


class OutcomeKind(str, Enum):
    """How an event ended at a destination, or where it is now."""

    DELIVERED = "delivered"
    SKIPPED = "skipped"
    REFUSED = "refused"
    REJECTED = "rejected"
    DEAD_LETTERED = "dead_lettered"
    EVICTED = "evicted"
    LOST = "lost"
    QUEUED = "queued"
    STORED = "stored"
    HELD = "held"
    ELSEWHERE = "elsewhere"

    __hash__ = str.__hash__  # in C: counting must not be interrupted half-way

    def __str__(self) -> str:
        """Return the bare word, as it appears in reports."""
        return str(self.value)


_WORST_FIRST = (
    OutcomeKind.LOST,
    OutcomeKind.EVICTED,
    OutcomeKind.DEAD_LETTERED,
    OutcomeKind.REJECTED,
    OutcomeKind.REFUSED,
    OutcomeKind.DELIVERED,
    OutcomeKind.SKIPPED,
)
_BADNESS = {kind: rank for rank, kind in enumerate(reversed(_WORST_FIRST))}


@attrs.frozen
class Outcome:
    """What happened to one event at one destination, or where it is now.

    Args:
        kind: The word for it.
        reason: Why; None where the word says it all (``delivered``).
        excerpt: The start of the vendor's answer, at most 200 characters; where we
            refused, what was wrong.
        resumes_in_s: For ``held``: seconds until the destination is tried again.
    """

    kind: OutcomeKind
    reason: Reason | None = None
    excerpt: str = ""
    resumes_in_s: float | None = None

    def __str__(self) -> str:
        """Return the word and its reason, as in ``rejected(invalid)``."""
        return f"{self.kind}({self.reason})" if self.reason else str(self.kind)

    @property
    def terminal(self) -> bool:
        """True when nothing more will happen to the event there."""
        return self.kind in _BADNESS

    @property
    def failure(self) -> bool:
        """True when the event is known not to be at the vendor against our wish."""
        return self.terminal and self.kind not in (
            OutcomeKind.DELIVERED,
            OutcomeKind.SKIPPED,
        )


DELIVERED = Outcome(OutcomeKind.DELIVERED)
QUEUED = Outcome(OutcomeKind.QUEUED)
ELSEWHERE = Outcome(OutcomeKind.ELSEWHERE)
DESELECTED = Outcome(OutcomeKind.SKIPPED, Reason.SELECTOR)


def worst(outcomes: Mapping[str, Outcome]) -> Outcome:
    """Return the outcome that its owner should know first.

    Args:
        outcomes: Terminal outcomes by destination; at least one.
    """
    return max(outcomes.values(), key=lambda outcome: _BADNESS[outcome.kind])


class Home(Protocol):
    """What a receipt asks of the driver that carries its event."""

    def wait(self, receipt: Receipt, timeout_s: float | None) -> Outcome | None:
        """Block until *receipt* is settled; None when *timeout_s* passes first."""

    def wait_async(self, receipt: Receipt) -> Generator[Any, None, Outcome]:
        """Suspend the running task until *receipt* is settled."""

    def whereabouts(self, receipt: Receipt) -> Mapping[str, Outcome]:
        """Return where an unsettled receipt's event is, by destination."""


_ID_START = len('{"messageId":"')
_ID_END = b'","timestamp":"'
_OWN_ID_END = _ID_START + 36
"""Where an id ends that we have minted: a UUID, which needs no escapes."""


def message_id_of(raw: bytes) -> str:
    """Return the message id that an encoded event starts with."""
    if raw.startswith(_ID_END, _OWN_ID_END):
        plain = raw[_ID_START:_OWN_ID_END]
        if b"\\" not in plain:
            return plain.decode()
    quoted = raw[_ID_START - 1 : raw.index(_ID_END, _ID_START) + 1]
    return str(json.loads(quoted))


class Receipt:
    """The answer to one call: what became, or will become, of its event.

    A receipt has no truth value, for "true" could mean accepted, delivered, or not
    lost; ask for what you mean.
    """

    __slots__ = (
        "__weakref__",
        "_born_s",
        "_epoch",
        "_home",
        "_outcome",
        "_outcomes",
        "_pending",
        "_raw",
        "_selection",
        "_sent",
    )

    _raw: bytes | str
    """The encoded event; its message id alone once everything is settled."""
    _selection: Selection
    """Which destinations the event goes to."""
    _pending: int
    """A bit for each destination that has not settled the event."""
    _outcomes: dict[str, Outcome] | None
    """Outcomes so far, by destination; None while the one word will do."""
    _outcome: Outcome | None
    """The final outcome, None until all destinations have settled."""
    _home: Home | None
    _epoch: Any
    """The books of its time; the coordinator's own."""
    _born_s: float
    """Monotonic seconds when the event was taken from the intake."""
    _sent: int
    """How many of its requests have left, but for those that surely did not arrive."""

    def __bool__(self) -> bool:
        """Refuse: "true" could mean accepted, delivered, or not lost."""
        message = "a receipt has no truth value; use .accepted or .outcome"
        raise TypeError(message)

    def __repr__(self) -> str:
        """Show how far the event is, and nothing of its data."""
        outcome = self._outcome
        word = "pending" if outcome is None else str(outcome.kind)
        return f"<Receipt {word}>"

    @property
    def message_id(self) -> str:
        """The id that every copy of the event carries, here and at the vendors."""
        raw = self._raw
        return raw if isinstance(raw, str) else message_id_of(raw)

    @property
    def accepted(self) -> bool:
        """True unless the call itself refused the event."""
        outcome = self._outcome
        if outcome is None or self._home is not None:
            return True
        return outcome.kind is not OutcomeKind.REFUSED

    @property
    def outcome(self) -> Outcome | None:
        """The final outcome, the worst over all destinations; None until then."""
        return self._outcome

    @property
    def by_destination(self) -> Mapping[str, Outcome]:
        """What happened at, or where the event waits for, each destination."""
        outcome, outcomes = self._outcome, self._outcomes or {}
        answer = {}
        for index, name in enumerate(self._selection.names):
            if not self._selection.mask >> index & 1:
                answer[name] = DESELECTED
            elif outcome is not None:
                answer[name] = outcomes.get(name, outcome)
            else:
                answer[name] = outcomes.get(name, QUEUED)
        if outcome is None and self._home is not None:
            answer.update(self._home.whereabouts(self))
        return answer

    @property
    def sent(self) -> str:
        """Whether a vendor may have the event: ``no``, ``maybe`` or ``yes``."""
        known = [self._outcome, *(self._outcomes or {}).values()]
        arrived = (OutcomeKind.DELIVERED, OutcomeKind.REJECTED)
        if any(outcome and outcome.kind in arrived for outcome in known):
            return "yes"
        return "maybe" if self._sent else "no"

    def wait(self, timeout: float | None = None) -> Outcome | None:
        """Wait for the final outcome; meanwhile the event counts as urgent.

        Args:
            timeout: Seconds; None waits as long as it takes.

        Returns:
            The outcome, or None when *timeout* passed first.  In a forked child the
            answer is ``elsewhere`` at once: the parent has the event.
        """
        if self._outcome is not None or self._home is None:
            return self._outcome
        return self._home.wait(self, timeout)

    def __await__(self) -> Generator[Any, None, Outcome]:
        """Wait for the final outcome without blocking the event loop."""
        if self._outcome is not None or self._home is None:
            return self._outcome or ELSEWHERE
        return (yield from self._home.wait_async(self))

    def _settle(self, bit: int, name: str, outcome: Outcome) -> bool:
        """Note the *outcome* at one destination; True when it was the last.

        Called by the coordinator only.
        """
        pending = self._pending & ~bit
        if self._outcomes is None and pending:
            self._outcomes = {}
        if self._outcomes is not None:
            self._outcomes[name] = outcome
            outcome = worst(self._outcomes)
        if pending:
            self._pending = pending
            return False
        self._outcome = outcome
        self._pending = 0
        self._raw = self.message_id
        return True


@attrs.frozen
class Settled:
    """One final outcome, as `on_outcome` is told of it."""

    message_id: str
    destination: str
    outcome: Outcome
    reason: Reason | None


@attrs.frozen
class FlushReport:
    """What a flush achieved for the events in its scope.

    It is true when each of them is delivered, skipped, or stored at the configured
    durability, and false when the flush could not find out.  A plain flush reports on
    what was accepted since the last one that left nothing pending.

    Args:
        counts: Events by outcome word, over all destinations.
        by_destination: The same for each destination.
        pending: Events that are not settled everywhere.
        held: Of those, the ones that can be settled nowhere before the deadline:
            everything that they wait for is on hold beyond it.
        stored: Of those, the ones that are stored at the configured durability.
        holds: For each destination on hold: why, and for how long still.
        elapsed_s: How long the flush took.
        note: Why the flush could not wait, where it could not.
    """

    counts: Mapping[str, int]
    by_destination: Mapping[str, Mapping[str, int]]
    pending: int
    held: int
    stored: int
    holds: Mapping[str, Outcome]
    elapsed_s: float
    note: str = ""

    def __bool__(self) -> bool:
        """Return whether everything in scope is where it should be."""
        good = {OutcomeKind.DELIVERED.value, OutcomeKind.SKIPPED.value}
        settled = self.pending == self.stored and good.issuperset(self.counts)
        return settled and not self.note
