"""Say when faults happen: steps, conditions, and the state of a script being played."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from analytics_sdk.collector.faults import Fault, Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Hold what is known of a request when a script is asked about it.

    *body* is decoded and *events* are parsed; both are empty while only the head is in.
    *exchange* counts the requests of this connection from 1.
    """

    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    exchange: int = 1
    body: bytes = field(default=b"", repr=False)
    events: tuple[object, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class OnPath:
    """Hold for requests to *path*."""

    path: str
    needs_body: ClassVar[bool] = False

    def matches(self, request: Received) -> bool:
        """Compare the path without its query."""
        return request.path == self.path


@dataclass(frozen=True, slots=True)
class Reused:
    """Hold for connections that have served a request before: pooled, not fresh."""

    needs_body: ClassVar[bool] = False

    def matches(self, request: Received) -> bool:
        """Look at the place of the request in its connection."""
        return request.exchange > 1


@dataclass(frozen=True, slots=True)
class WithEvent:
    """Hold for requests with an event whose dotted *name* has *value*.

    `WithEvent("messageId", "m-1")` finds one event, `WithEvent("event", "Paid")` all of
    a name, `WithEvent("properties.poison", True)` the marked ones.
    """

    name: str
    value: str | int | float | bool | None
    needs_body: ClassVar[bool] = True

    def matches(self, request: Received) -> bool:
        """Look at every event of the request."""
        return any(self._holds(event) for event in request.events)

    def _holds(self, event: object) -> bool:
        for key in self.name.split("."):
            if not isinstance(event, Mapping) or key not in event:
                return False
            event = event[key]
        return type(event) is type(self.value) and event == self.value


@dataclass(frozen=True, slots=True)
class LargerThan:
    """Hold for requests whose decoded body is over *body_bytes*."""

    body_bytes: int
    needs_body: ClassVar[bool] = True

    def matches(self, request: Received) -> bool:
        """Compare the size of the body."""
        return len(request.body) > self.body_bytes


@dataclass(frozen=True, slots=True)
class Matching:
    """Hold for requests that *predicate* likes; inside one process only."""

    predicate: Callable[[Received], bool]
    needs_body: ClassVar[bool] = True

    def matches(self, request: Received) -> bool:
        """Ask the predicate."""
        return self.predicate(request)


Condition = OnPath | Reused | WithEvent | LargerThan | Matching


@dataclass(frozen=True, slots=True)
class Step:
    """Apply *fault* for a while.

    Args:
        fault: what goes wrong.
        requests: end after so many requests.
        for_s: end so long after the first request that met this step, so that a step is
            never over before anybody has seen it.
        only: leave other requests to the steps that follow.

    With neither *requests* nor *for_s* the step lasts for ever; with both, the first to
    be reached ends it.

    Raises:
        ValueError: a bound is not positive, or *only* looks at a body which *fault*
            never reads.
    """

    fault: Fault
    requests: int | None = None
    for_s: float | None = None
    only: Condition | None = None

    def __post_init__(self) -> None:
        """Refuse a step that could never act."""
        if self.requests is not None and self.requests < 1:
            message = "requests must be at least 1; leave it out for no bound"
            raise ValueError(message)
        if self.for_s is not None and not self.for_s > 0:
            message = "for_s must be positive; leave it out for no bound"
            raise ValueError(message)
        if self.only and self.only.needs_body and self.fault.phase < Phase.BODY:
            kind = type(self.fault).__name__
            message = f"{kind} acts before the body is read: use OnPath or Reused"
            raise ValueError(message)
        if self.only and self.fault.phase is Phase.ACCEPT:
            message = "a fault at accept meets connections, not requests: drop only"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Script:
    """Hold steps; the first that is not over and likes the request acts.

    Steps without a condition therefore run one after another, and a step with one
    stands beside those that follow it. After the last step the server is healthy.
    """

    steps: tuple[Step, ...] = ()

    @classmethod
    def of(cls, steps: Iterable[Step | Fault]) -> Script:
        """Build a script; a bare fault stands for one request."""
        return cls(
            tuple(
                step if isinstance(step, Step) else Step(step, requests=1)
                for step in steps
            )
        )


class Playback:
    """Keep count of how far a script has got; safe to ask from any thread."""

    def __init__(self, script: Script) -> None:
        """Start *script* at its beginning."""
        self._steps = script.steps
        # The lock guards the two lists below, which every connection's thread changes.
        self._lock = threading.Lock()
        self._taken = [0] * len(self._steps)
        self._first_at: list[float | None] = [None] * len(self._steps)

    def pick(self, phase: Phase, request: Received, *, now: float) -> Fault | None:
        """Return the fault to act out now, counting it, or None to go on.

        A step that acts later than *phase* holds the place until its moment; one whose
        condition cannot be judged yet lets those behind it go first.

        Args:
            phase: how far the exchange has got.
            request: what is known of it.
            now: monotonic seconds.
        """
        with self._lock:
            for index, step in enumerate(self._steps):
                if self._is_over(index, now) or not _likes(step, phase, request):
                    continue
                if step.fault.phase > phase:
                    return None
                self._taken[index] += 1
                if self._first_at[index] is None:
                    self._first_at[index] = now
                return step.fault
        return None

    def is_over(self, *, now: float) -> bool:
        """Tell whether every step is over."""
        with self._lock:
            return all(self._is_over(index, now) for index in range(len(self._steps)))

    def _is_over(self, index: int, now: float) -> bool:
        step, first_at = self._steps[index], self._first_at[index]
        if step.requests is not None and self._taken[index] >= step.requests:
            return True
        return (
            step.for_s is not None
            and first_at is not None
            and now - first_at >= step.for_s
        )


def _likes(step: Step, phase: Phase, request: Received) -> bool:
    if step.only is None:
        return True
    if phase is Phase.ACCEPT or (step.only.needs_body and phase < Phase.BODY):
        return False
    return step.only.matches(request)
