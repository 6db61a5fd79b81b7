"""A small pure destination, and a bench that runs the core by a clock of its own.

The toy keeps no state: what an event becomes is written in the event's properties, and
what an answer means is written in the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from analytics_sdk._config import Delivery
from analytics_sdk._delivery import Core
from analytics_sdk._lanes import Lane
from analytics_sdk._outlet import Outlet, Send
from analytics_sdk._verdict import Now, Reply
from analytics_sdk.errors import Reason
from analytics_sdk.events import CALL_TYPES, Event, Selection
from analytics_sdk.interfaces import (
    AllDelivered,
    HttpRequest,
    HttpResponse,
    Limits,
    Part,
    TransportError,
)
from analytics_sdk.receipts import Outcome, Receipt

PADDING = "="
TAIL = b',"integrations":{}}'
LOST_BEFORE = TransportError(Reason.UNREACHABLE, maybe_sent=False, message="refused")
LOST_AFTER = TransportError(Reason.UNREACHABLE, maybe_sent=True, message="reset")
BAD_TLS = TransportError(Reason.TLS, maybe_sent=False, message="TLS failed")

Server = Callable[[Send], Any]
"""Looks at a request and returns a reading, or a transport error."""


class Toy:
    """A destination that does as its events say.

    The properties of an event are the arguments of its part, apart from ``size``, the
    bytes of the body, which is otherwise the message id.  ``parts`` is a list of such
    properties, one for each part, ``raises`` breaks the encoding, and ``at`` has more
    properties, by the name of the destination that they are for.
    """

    kind = "Toy"
    aliases: tuple[str, ...] = ()
    takes = frozenset(CALL_TYPES)

    def __init__(self, name: str = "Toy", **limits: Limits) -> None:
        """Have one unlimited route, ``main``, unless *limits* names others."""
        self.name = name
        self.limits = limits or {"main": Limits()}

    def encode(self, event: Event) -> Sequence[Part]:
        words = dict(event.payload["properties"])
        words.update(words.pop("at", {}).get(self.name, {}))
        if "raises" in words:
            raise ZeroDivisionError
        return [self._part(event, each) for each in words.get("parts", [words])]

    def _part(self, event: Event, words: dict[str, Any]) -> Part:
        key, joins = (*event.keys, "", "")[:2]
        given = {"route": next(iter(self.limits)), "key": key, "joins": joins, **words}
        size = given.pop("size", 0)
        if "refused" in given:
            given["refused"] = Reason(given["refused"])
        body = event.message_id.ljust(size, PADDING).encode()
        return Part(**{"body": body, **given})

    def request(
        self, route: str, parts: Sequence[Part], sent_at: datetime, attempt: int
    ) -> HttpRequest:
        body = b",".join(part.body for part in parts)
        return HttpRequest(f"https://toy.test/{route}", {}, body)

    def read(self, route: str, response: HttpResponse, parts: Sequence[Part]) -> Any:
        reading: Any = response.headers["reading"]
        if isinstance(reading, Exception):
            raise reading
        return reading


def answer(reading: object) -> Reply:
    """Return the answer that means *reading*; a transport error is one itself."""
    if isinstance(reading, TransportError):
        return reading
    return HttpResponse(200, {"reading": reading})  # type: ignore[dict-item]


def event(
    message_id: str,
    user_id: str = "",
    anonymous_id: str = "",
    *,
    to: Iterable[int] = (0,),
    names: tuple[str, ...] = ("Toy",),
    **words: Any,
) -> Receipt:
    """Return the receipt of an event that has just been called.

    Args:
        message_id: Also the start of each part's body.
        user_id: Left out where it is empty.
        anonymous_id: The same.
        to: The indexes of the chosen destinations among *names*.
        names: Of all destinations.
        words: What the toy does with the event.
    """
    head = {"messageId": message_id, "timestamp": "2026-11-21T12:00:00.000Z"}
    ids = {"userId": user_id, "anonymousId": anonymous_id}
    given = {name: value for name, value in ids.items() if value}
    body = {**head, "type": "track", **given, "event": "E", "properties": words}
    receipt = Receipt()
    receipt._raw = json.dumps(body, separators=(",", ":")).encode()[:-1] + TAIL
    mask = sum(1 << index for index in set(to))
    receipt._selection = Selection(names, mask, {}, TAIL, {})
    receipt._pending = mask
    receipt._outcome = receipt._outcomes = None
    receipt._sent = False
    receipt._home = None
    receipt._born_s = 0.0
    return receipt


def events(count: int, user_id: str = "", **words: Any) -> list[Receipt]:
    """Return the receipts of *count* events alike, called e0, e1 and so on."""
    return [event(f"e{index}", user_id, **words) for index in range(count)]


def ids(parts: Iterable[Part]) -> str:
    """Return the message ids of *parts*, in their order."""
    return " ".join(part.body.decode().rstrip(PADDING) for part in parts)


def word(outcome: Outcome | None) -> str:
    """Return an outcome as reports print it, ``pending`` where there is none."""
    if outcome is None:
        return "pending"
    return f"{outcome.kind}({outcome.reason})" if outcome.reason else str(outcome.kind)


def fates(receipts: Iterable[Receipt]) -> list[str]:
    """Return what became of *receipts*."""
    return [word(receipt.outcome) for receipt in receipts]


class Bench:
    """A core, its clock and its jitter, in the hands of a test.

    Args:
        toys: The destinations; one of the name Toy, where none is given.
        jitter: For every answer.
        keeps: Whether nothing is given up.
        report: Whether outcomes are noted for `on_outcome`.
        settings: Of `Delivery`; no event lingers, unless they say so.
    """

    def __init__(
        self,
        *toys: Toy,
        jitter: float = 0.5,
        keeps: bool = False,
        report: bool = False,
        **settings: Any,
    ) -> None:
        """Start at no time in particular, with nothing to do."""
        delivery = Delivery(**{"linger_s": 0.0, **settings})
        self.core = Core(toys or (Toy(),), delivery, report=report, keeps=keeps)
        self.now = 0.0
        self.jitter = jitter

    @property
    def outlet(self) -> Outlet:
        """The first destination's."""
        return self.core.outlets[0]

    @property
    def lane(self) -> Lane:
        """The first destination's first."""
        return next(iter(self.outlet.lanes.values()))

    def accept(self, *receipts: Receipt) -> list[Receipt]:
        """Take over events that were called now."""
        self.core.accept(receipts, self.now)
        return list(receipts)

    def leave(self) -> list[Send]:
        """Do what the coordinator does in one round; return what leaves now."""
        self.core.tick(self.now)
        while self.core.prepare(100):
            pass
        return self.core.sends(self.now)

    def left(self) -> list[str]:
        """Do the same; return the ids of each request."""
        return [ids(send.parts) for send in self.leave()]

    def pull(self, *receipts: Receipt) -> None:
        """Make events urgent."""
        self.core.pull(receipts)

    def stuck_until_s(self, now: float, receipt: Receipt | None = None) -> float:
        """Return when *receipt*, or the first of all, may be settled; *now* if none."""
        times = self.core.settling(lambda each: receipt in (None, each), now)
        return min(times.values(), default=now)

    def reply(self, send: Send, reading: object) -> None:
        """Answer a request."""
        self.core.replied(send, answer(reading), Now(self.now, self.jitter))

    def run(self, server: Server, *, most: int = 1000) -> list[str]:
        """Let *server* answer all that leaves now; return the ids of each request."""
        log: list[str] = []
        while sends := self.leave():
            for send in sends:
                log.append(ids(send.parts))
                self.reply(send, server(send))
            assert len(log) <= most, log
        return log

    def run_until(self, end_s: float, server: Server) -> list[tuple[float, str]]:
        """Do the same at every time at which the core is due, up to *end_s*."""
        log = [(self.now, sent) for sent in self.run(server)]
        while (due_s := self.core.next_due_s(self.now)) is not None and due_s <= end_s:
            assert due_s > self.now
            self.now = due_s
            log += [(self.now, sent) for sent in self.run(server)]
        self.now = end_s
        return log


def delivering(send: Send) -> AllDelivered:
    """Be a server without a fault."""
    return AllDelivered()


def always(reading: object) -> Server:
    """Be a server with one answer."""
    return lambda _send: reading


def scripted(*readings: object) -> Server:
    """Be a server that gives *readings* in turn, and is without a fault after that."""
    rest = iter(readings)
    return lambda _send: next(rest, AllDelivered())
