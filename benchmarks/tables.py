"""Rows of measurements become tables, with the budgets beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from benchmarks.harness import Row, describe

BOTH = ("json", "orjson")

CALL = {"json": 1.6, "orjson": 4.0}
CALL_WITH_SELECTOR = {"json": 1.7, "orjson": 4.7}
THROUGHPUT = {"json": 0.75, "orjson": 0.40}
PEER = {"json": 2.0, "orjson": 4.0}
CPU = {"json": 1.4, "orjson": 2.6}
TAIL = 1.5
MEMORY_BYTES = 250
IMPORT = 0.60

NOTHING = "n/a"


class Results:
    """What has been measured, to be asked for by what it is."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def of(self, field: str, **wanted: Any) -> float | None:
        """Return the median of *field* over the rows of exactly this kind."""
        found = [row[field] for row in self.alike(wanted) if field in row]
        return median(found) if found else None

    def ratio(
        self, row: dict[str, Any], to: dict[str, Any], field: str
    ) -> float | None:
        """Return the median ratio of *field*, round by round."""
        pairs = zip(self.alike(row), self.alike(to), strict=False)
        ratios = [
            one[field] / other[field]
            for one, other in pairs
            if field in one and other.get(field)
        ]
        return median(ratios) if ratios else None

    def alike(self, wanted: dict[str, Any]) -> list[Row]:
        """Return the rows of exactly this kind, in the order of their rounds."""
        special = ("per_second", "destinations", "selector", "driver", "serialiser")
        return [
            row
            for row in self.rows
            if all(row.get(key) == value for key, value in wanted.items())
            and all(key in wanted or key not in row for key in special)
        ]


def report(rows: list[Row]) -> str:
    """Return everything that can be said of *rows*, as Markdown tables."""
    results = Results(rows)
    parts = [make(results) for make in (_calls, _deliveries, _memory, _imports)]
    errors = [f"- {describe(row)}: {row['error']}" for row in rows if "error" in row]
    if errors:
        parts.append("Failed:\n" + "\n".join(errors))
    parts.append(_budgets(results))
    busy = [row["busy_cores"] for row in rows if "busy_cores" in row]
    if busy:
        parts.append(f"The machine was busy on {median(busy):.1f} cores (median).")
    return "\n\n".join(part for part in parts if part)


def _table(title: str, heads: list[str], lines: list[list[str]]) -> str:
    if not lines:
        return ""
    every = [heads, *lines]
    widths = [max(len(line[at]) for line in every) for at in range(len(heads))]
    dashes = [("-" * widths[0]), *(f"{'-' * (width - 1)}:" for width in widths[1:])]

    def draw(line: list[str]) -> str:
        cells = [line[0].ljust(widths[0])]
        cells += [
            cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)
        ]
        return f"| {' | '.join(cells)} |"

    return "\n".join([title, "", draw(heads), draw(dashes), *map(draw, lines)])


def _number(value: float | None, form: str = ".2f") -> str:
    return NOTHING if value is None else format(value, form)


def _kinds(rows: list[Row], measure: str) -> Iterator[dict[str, Any]]:
    """Yield each kind of measurement once, in the order of their first runs."""
    keys = ("client", "serialiser", "per_second", "destinations", "selector", "driver")
    seen = []
    for row in rows:
        kind = {key: row[key] for key in keys if key in row}
        if row["measure"] == measure and "error" not in row and kind not in seen:
            seen.append(kind)
            yield {"measure": measure, **kind}


def _name(kind: dict[str, Any]) -> str:
    words = [kind["client"]]
    if "serialiser" in kind:
        words.append(kind["serialiser"])
    if "destinations" in kind:
        words.append(f"{kind['destinations']} destinations")
    if "selector" in kind:
        words.append("selector")
    if "driver" in kind:
        words.append("no worker")
    if "per_second" in kind:
        words.append(f"{kind['per_second']:,}/s")
    return ", ".join(words)


def _calls(results: Results) -> str:
    lines = []
    for kind in _kinds(results.rows, "call"):
        flat = "per_second" not in kind
        ratios = [row["p50_to_ruler"] for row in results.alike(kind)]
        lines.append(
            [
                _name(kind),
                *(
                    _number(median(each[name] for each in ratios)) if flat else NOTHING
                    for name in BOTH
                ),
                *(
                    _number(results.of(field, **kind) / 1000, ".1f")
                    for field in ("p50_ns", "p99_ns", "p999_ns", "max_ns")
                ),
            ]
        )
    heads = ["one call", "÷ json", "÷ orjson", "p50 µs", "p99", "p99.9", "max"]
    return _table("The call, one thread, flat out or so many a second", heads, lines)


def _floor(kind: dict[str, Any]) -> dict[str, Any]:
    serialiser = kind.get("serialiser", "json")
    return {"measure": "throughput", "client": "floor", "serialiser": serialiser}


def _deliveries(results: Results) -> str:
    lines = []
    for kind in _kinds(results.rows, "throughput"):
        floor = _floor(kind)
        lines.append(
            [
                _name(kind),
                _number(results.ratio(kind, floor, "events_per_s")),
                _number(results.ratio(kind, floor, "cpu_s_per_100k")),
                _number(results.of("events_per_s", **kind), ",.0f"),
                _number(results.of("cpu_s_per_100k", **kind)),
                _number(results.of("bytes_per_event", **kind), ".0f"),
                _number(results.of("missing", **kind), ".0f"),
                _number(results.of("twice", **kind), ".0f"),
            ]
        )
    heads = [
        "first call to all delivered",
        "events/s ÷ floor",
        "CPU ÷ floor",
        "events/s",
        "CPU s/100k",
        "bytes/event",
        "missing",
        "twice",
    ]
    return _table("Delivery, one thread calling, Segment's protocol", heads, lines)


def _memory(results: Results) -> str:
    lines = []
    for kind in _kinds(results.rows, "memory"):
        grown = results.of("bytes_per_event", **kind)
        event = results.of("event_bytes", **kind)
        lines.append(
            [
                _name(kind),
                *(_number(each, ",.0f") for each in (grown, event, grown - event)),
            ]
        )
    heads = ["against a hung server", "bytes/event", "serialised", "on top"]
    return _table("Memory of a queued event", heads, lines)


def _imports(results: Results) -> str:
    ruler = results.of("ms", measure="import", client="requests")
    lines = [
        [
            row["client"],
            _number(row["ms"] / ruler),
            _number(row["ms"], ".0f"),
            str(row["modules"]),
        ]
        for row in results.rows
        if row["measure"] == "import" and "ms" in row and ruler
    ]
    heads = ["import", "÷ requests", "ms", "modules"]
    return _table("Import, the least of several runs", heads, lines)


def _budgets(results: Results) -> str:
    lines = []
    for name, limit, found, is_met in _judged(results):
        if found is not None:
            lines.append(
                [name, limit, _number(found), "met" if is_met(found) else "MISSED"]
            )
    return _table("Budgets", ["what", "budget", "measured", "verdict"], lines)


Judged = tuple[str, str, "float | None", Callable[[float], bool]]


def _at_most(name: str, limit: float, found: float | None) -> Judged:
    return name, f"<= {limit:g}", found, lambda value: value <= limit


def _at_least(name: str, limit: float, found: float | None) -> Judged:
    return name, f">= {limit:g}", found, lambda value: value >= limit


def _judged(results: Results) -> Iterator[Judged]:
    for serialiser in BOTH:
        ours = {"client": "ours", "serialiser": serialiser}
        call = {"measure": "call", **ours}
        flow = {"measure": "throughput", **ours}
        yield _at_most(
            f"median call ÷ {serialiser}.dumps",
            CALL[serialiser],
            _to_ruler(results, call, serialiser),
        )
        yield _at_most(
            "... with three destinations",
            CALL[serialiser],
            _to_ruler(results, {**call, "destinations": 3}, serialiser),
        )
        yield _at_most(
            "... with a selector",
            CALL_WITH_SELECTOR[serialiser],
            _to_ruler(results, {**call, "selector": True}, serialiser),
        )
        calm = {**call, "per_second": 2000}
        yield _at_most(
            "p99.9 at 2,000/s ÷ the same with no worker",
            TAIL,
            results.ratio(calm, {**calm, "driver": "inline"}, "p999_ns"),
        )
        yield _at_least(
            f"events/s ÷ floor, {serialiser}",
            THROUGHPUT[serialiser],
            results.ratio(flow, _floor(flow), "events_per_s"),
        )
        yield _at_least(
            "events/s ÷ the fastest peer",
            PEER[serialiser],
            _to_fastest_peer(results, flow),
        )
        yield _at_most(
            "CPU ÷ floor",
            CPU[serialiser],
            results.ratio(flow, _floor(flow), "cpu_s_per_100k"),
        )
        memory = {"measure": "memory", **ours}
        grown = results.of("bytes_per_event", **memory)
        event = results.of("event_bytes", **memory)
        on_top = None if grown is None or event is None else grown - event
        yield _at_most("bytes on top of a queued event", MEMORY_BYTES, on_top)
    least = results.of("ms", measure="import", client="requests")
    for name in ("ours", "ours, with a client"):
        taken = results.of("ms", measure="import", client=name)
        ratio = None if least is None or taken is None else taken / least
        yield _at_most(f"import of {name} ÷ requests", IMPORT, ratio)


def _to_ruler(results: Results, kind: dict[str, Any], ruler: str) -> float | None:
    found = [
        row["p50_to_ruler"][ruler] for row in results.alike(kind) if "p50_ns" in row
    ]
    return median(found) if found else None


def _to_fastest_peer(results: Results, ours: dict[str, Any]) -> float | None:
    mine = results.of("events_per_s", **ours)
    peers = [
        results.of("events_per_s", **kind)
        for kind in _kinds(results.rows, "throughput")
        if kind["client"] not in ("ours", "floor")
    ]
    return mine / max(peers) if mine is not None and peers else None
