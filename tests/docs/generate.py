"""Write the tables of the documentation that come from the code.

``python -m tests.docs.generate`` rewrites what stands between the markers
``<!-- generated: name -->`` and ``<!-- end -->``; a test compares.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs

from analytics_sdk import (
    Client,
    Delivery,
    DestinationStats,
    FlushReport,
    Outcome,
    OutcomeKind,
    Reason,
    Stats,
)
from tests.docs import answers

ROOT = Path(__file__).parents[2]
PAGES = ("docs/delivery.md", "docs/reference/settings.md", "docs/reference/reports.md")

_MARKED = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_ARGUMENT = re.compile(r"^ {4}(\w+): (.+(?:\n {6,}.+)*)", re.MULTILINE)

MEANINGS = {
    OutcomeKind.DELIVERED: "the vendor has said that it took this event",
    OutcomeKind.SKIPPED: "left out on purpose",
    OutcomeKind.REFUSED: "by us: it cannot, or must not, be sent",
    OutcomeKind.REJECTED: "by the vendor, for good",
    OutcomeKind.DEAD_LETTERED: "given up on, and kept in a dead-letter store (later)",
    OutcomeKind.EVICTED: "dropped to make room",
    OutcomeKind.LOST: "given up on, with nowhere to keep it",
    OutcomeKind.QUEUED: "waits for its request, or for the answer",
    OutcomeKind.STORED: "waits in a journal (later)",
    OutcomeKind.HELD: "waits: its destination is on hold",
    OutcomeKind.ELSEWHERE: "another process has it: this one is a forked child",
}

NUMBERS = (
    ("_retry.BASE_S", "first back-off interval, in seconds; it doubles"),
    ("_retry.CAP_S", "longest back-off interval"),
    ("_retry.PROBE_BASE_S", "base of the waits between probes; they double"),
    ("_retry.PROBE_CAP_S", "longest wait between probes"),
    ("_retry.LONGEST_S", "longest wait that `Retry-After` can ask for"),
    ("_config.Delivery.give_up_after_s", "give-up time in memory"),
    ("_patience.BREAKER_FAILURES", "failures in a row that make the next try a probe"),
    ("_verdict.SUSPECTS", "events refused alone that end a search, nothing delivered"),
    ("_verdict.DOUBT", "of these, how many make us doubt the configuration"),
    ("_verdict.TRUST", "refused alone in a row that do so after a success"),
    ("_verdict.CAP_GROWTH", "growth, per success, of a limit learned from a 413"),
    ("_delivery.SOLE_SHARE", "share of the memory for one destination on hold"),
    ("_transport.BODY_BYTES", "most bytes read of an answer's body"),
    ("_transport.GZIP_BYTES", "smallest body that is compressed"),
    ("_wire.IDLE_S", "seconds after which an idle connection is not used again"),
    ("_threads.MOST_SENDERS", "most sender threads of a client"),
    ("_workers.MOST_CALLBACKS", "most outcomes that wait for `on_outcome`"),
    ("_ledger.EVENT_OVERHEAD_BYTES", "charged for an event beside its own bytes"),
)


def table(headings: str, rows: Iterable[Iterable[str]]) -> str:
    """Write *rows* as a Markdown table; *headings* are separated by bars."""
    columns = [heading.strip() for heading in headings.split("|")]
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def arguments(documented: Any) -> dict[str, str]:
    """Return the ``Args:`` of a docstring, each on one line, in Markdown."""
    found = inspect.getdoc(documented) or ""
    section = found.partition("Args:\n")[2].partition("\n\n")[0]
    return {name: _markdown(text) for name, text in _ARGUMENT.findall(section)}


def _markdown(text: str) -> str:
    text = re.sub(r"\s+", " ", text).replace("``", "`").replace("|", "\\|")
    return text.rstrip(".")


def _outcomes() -> Iterator[tuple[str, ...]]:
    for kind in OutcomeKind:
        outcome = Outcome(kind)
        final, bad = ("yes" if fact else "no" for fact in _facts(outcome))
        yield (f"`{kind}`", final, bad, MEANINGS[kind])


def _facts(outcome: Outcome) -> tuple[bool, bool]:
    return outcome.terminal, outcome.failure


def _numbers() -> Iterator[tuple[str, ...]]:
    for path, meaning in NUMBERS:
        module, *names = path.split(".")
        value: Any = import_module(f"analytics_sdk.{module}")
        for name in names:
            value = getattr(value() if isinstance(value, type) else value, name)
        yield (meaning, f"{value:,g}" if value < 1e6 else f"{value:,}", f"`{path}`")


def _default(value: object) -> str:
    if value is attrs.NOTHING or value is inspect.Parameter.empty:
        return ""
    if type(value) is int and value % 1024 == 0:
        return f"`{value}` ({value // 1024**2} MiB)"
    return f"`{json.dumps(value) if isinstance(value, str) else repr(value)}`"


def _delivery() -> Iterator[tuple[str, ...]]:
    texts = arguments(Delivery)
    for field in attrs.fields(Delivery):
        yield (f"`{field.name}`", _default(field.default), texts[field.name])


def _client() -> Iterator[tuple[str, ...]]:
    texts = arguments(Client)
    for name, parameter in inspect.signature(Client).parameters.items():
        yield (f"`{name}`", _default(parameter.default), texts[name])


def _fields(record: type) -> Callable[[], str]:
    def render() -> str:
        texts = arguments(record)
        rows = ((f"`{each.name}`", texts[each.name]) for each in attrs.fields(record))
        return table("field | meaning", rows)

    return render


_BATCH = "two events in the request | an event alone"
TABLES: dict[str, Callable[[], str]] = {
    "success": lambda: table(
        f"body behind a 2xx | reading | {_BATCH}", answers.success_rows()
    ),
    "statuses": lambda: table(f"status | reading | {_BATCH}", answers.status_rows()),
    "failures": lambda: table(
        "what happened | maybe sent | two events in the request",
        answers.transport_rows(),
    ),
    "waits": lambda: table(
        "answer | shortest waits, in seconds | longest waits", answers.wait_rows()
    ),
    "outcomes": lambda: table("outcome | final | failure | meaning", _outcomes()),
    "reasons": lambda: table(
        "reason | what to do", ((f"`{each}`", each.remedy) for each in Reason)
    ),
    "numbers": lambda: table("what | value | where", _numbers()),
    "client": lambda: table("argument | default | meaning", _client()),
    "delivery": lambda: table("field | default | meaning", _delivery()),
    "outcome": _fields(Outcome),
    "flush-report": _fields(FlushReport),
    "stats": _fields(Stats),
    "destination-stats": _fields(DestinationStats),
}


def regenerate(text: str) -> str:
    """Return a page with its generated tables written anew."""

    def write(found: re.Match[str]) -> str:
        return f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}"

    return _MARKED.sub(write, text)


def main() -> None:
    """Rewrite the pages whose tables have changed."""
    for page in PAGES:
        path = ROOT / page
        old = path.read_text(encoding="utf-8")
        new = regenerate(old)
        if new != old:
            path.write_text(new, encoding="utf-8")
            sys.stdout.write(f"{page}: rewritten\n")


if __name__ == "__main__":
    main()
