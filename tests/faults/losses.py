"""Count what clients lose, and what they say of it: ours and the installed peers.

    python tests/faults/losses.py [--only NAME] [--clients ours,segment] [--markdown]

Each run is a fresh process (`losses_clients.py`) before a recorder on loopback that
understands each vendor's format just enough to find the property `n` of every event.
The peers live in an environment of their own, made on first use in the folder that
ANALYTICS_SDK_LOSSES_VENV names, or in the user's cache. `--markdown` writes what was
run into the tables of docs/losses.md, between its markers; other rows stay.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from analytics_sdk.collector import (  # noqa: E402
    AcceptedEvent,
    ApiAnswer,
    ApiRequest,
    Collector,
    Step,
    faults,
)
from analytics_sdk.collector.payloads import (  # noqa: E402
    PayloadError,
    decode_content,
    parse_json,
)
from tests.faults.losses_clients import CLIENTS, ODD_VALUES, POISON  # noqa: E402

PINS = (
    "segment-analytics-python==2.4.0",
    "amplitude-analytics==1.3.0",
    "mixpanel==5.4.1",
    "posthog==7.91.1",
    "requests==2.34.2",
    "attrs==26.1.0",
    "backoff==2.2.1",
    "typing-extensions==4.16.0",
)
LIMIT_S = 40.0
MIB = 1024 * 1024
PAGE = ROOT / "docs" / "losses.md"
MARKS = ("<!-- losses:begin -->", "<!-- losses:end -->")

ANSWERS = {
    "/v1/batch": {"success": True},
    "/2/httpapi": {"code": 200, "events_ingested": 1},
    "/track": {"status": 1, "error": None},
    "/batch/": {"status": 1},
}
JSON = (("Content-Type", "application/json"),)


class AnyVendor:
    """Speaks as much of each vendor's format as it takes to count events."""

    name = "any"
    keeps_bodies = False

    def receive(self, request: ApiRequest) -> ApiAnswer:
        try:
            data = decode_content(
                request.headers, request.body, max_bytes=64 * MIB, too_large_status=413
            )
            if len(data) > MIB:
                return refusal(413, "too large")
            events = list(events_in(request, data))
        except (PayloadError, KeyError, ValueError) as error:
            return refusal(400, f"unreadable: {type(error).__name__}")
        bad = [at for at, event in enumerate(events) if POISON in json.dumps(event)]
        if bad:
            return refusal(400, "invalid properties", bad)
        path = request.path.partition("?")[0]
        body = json.dumps(ANSWERS.get(path, {})).encode()
        kept = tuple(AcceptedEvent(event, 0, None) for event in events)
        return ApiAnswer(200, body, accepted=kept)


def refusal(status: int, words: str, bad: Iterable[int] = ()) -> ApiAnswer:
    """Refuse in every vendor's words at once; Amplitude alone names the events."""
    return ApiAnswer(status, refusal_body(status, words, bad))


def refusal_body(status: int, words: str, bad: Iterable[int] = ()) -> bytes:
    answer: dict[str, Any] = {"code": status, "error": words, "status": 0}
    answer["success"] = False
    if bad:
        answer["events_with_invalid_fields"] = {"event_properties": list(bad)}
    return json.dumps(answer).encode()


def events_in(request: ApiRequest, data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the properties of each event of a request."""
    if "urlencoded" in request.headers.get("content-type", ""):
        data = parse_qs(data.decode())["data"][0].encode()
    document = parse_json(data)
    if isinstance(document, dict):
        document = document.get("batch") or document.get("events") or []
    if not isinstance(document, list):
        return
    for event in document:
        properties = event.get("properties") or event.get("event_properties") or {}
        if "n" in properties:
            yield properties


class Scenario(NamedTuple):
    """A story that the client plays, and what the server does meanwhile."""

    story: str
    count: int
    script: tuple[Any, ...] = ()


def failing(status: int, **more: Any) -> faults.Status:
    headers = tuple(more.items())
    return faults.Status(status, (*JSON, *headers), refusal_body(status, "trouble"))


SCENARIOS = {
    "exit without flush": Scenario("exit", 530),
    "backlog at exit": Scenario("exit", 1_030, (Step(faults.Healthy(delay_s=0.4)),)),
    "500 for 5 s": Scenario("slow", 100, (Step(failing(500), for_s=5.0),)),
    "429 for 3 s": Scenario(
        "slow", 100, (Step(failing(429, **{"Retry-After": "1"}), for_s=3.0),)
    ),
    "drop before the answer": Scenario(
        "flush", 200, (Step(faults.Drop("after_body"), requests=2),)
    ),
    "drop within the answer": Scenario(
        "flush", 200, (Step(faults.Drop("mid_body", store=True), requests=2),)
    ),
    "hang at flush": Scenario("flush", 100, (Step(faults.Hang()),)),
    "hang at exit": Scenario("exit", 100, (Step(faults.Hang()),)),
    "burst beyond the queue": Scenario("burst", 5_000, (faults.Healthy(delay_s=2.0),)),
    "unserialisable value": Scenario("unserialisable", 20),
    "oversize event": Scenario("oversize", 20),
    "poison 400": Scenario("poison", 50),
    "eight flushes at once": Scenario(
        "threads", 400, (Step(faults.Healthy(delay_s=0.05)),)
    ),
    "odd types": Scenario("odd", len(ODD_VALUES)),
}


@dataclass(frozen=True)
class Loss:
    """One line of the table."""

    scenario: str
    client: str
    offered: int
    delivered: int
    told: int
    silent: int
    duplicates: int
    seconds: float
    note: str = ""


def run(scenario: str, client: str, python: Path) -> Loss:
    """Play *scenario* with *client* in a process of its own, and count."""
    plot = SCENARIOS[scenario]
    with tempfile.TemporaryDirectory() as folder, Collector(AnyVendor()) as recorder:
        recorder.play(*plot.script)
        log = Path(folder) / "log"
        child = Path(__file__).with_name("losses_clients.py")
        command = [python, child, client, plot.story, plot.count, recorder.url, log]
        started = subprocess.Popen(
            [str(word) for word in command],
            env=plain_environment(),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        note = ""
        try:
            _, errors = started.communicate(timeout=LIMIT_S)
            if started.returncode:
                last = errors.decode(errors="replace").strip().splitlines()[-1:]
                note = f"exit status {started.returncode}: {''.join(last)[:80]}"
        except subprocess.TimeoutExpired:
            note = f"killed after {LIMIT_S:.0f} s"
            started.kill()
            started.communicate()
        ended = time.time()
        seen = Counter(event["n"] for event in recorder.events)
        lines = log.read_text().splitlines()
        return judge(scenario, client, lines, seen, ended=ended, note=note)


def judge(
    scenario: str,
    client: str,
    lines: list[str],
    seen: Mapping[int, int],
    *,
    ended: float,
    note: str = "",
) -> Loss:
    """Draw up the line: each event is delivered, or told of, or lost in silence."""
    words = [line.split() for line in lines]
    offered = {int(word[1]) for word in words if word[0] == "O"}
    told = {int(word[1]) for word in words if word[0] == "T"} - seen.keys()
    if any(word[0] == "A" for word in words):
        told = offered - seen.keys()
    begun = next((float(word[1]) for word in words if word[0] == "S"), ended)
    strays = {word[1] for word in words if word[0] == "G"}
    if strays:
        note = f"{note} kept from {', '.join(sorted(strays))}".strip()
    delivered = offered & seen.keys()
    return Loss(
        scenario,
        client,
        len(offered),
        len(delivered),
        len(told),
        len(offered - delivered - told),
        sum(seen.values()) - len(seen),
        round(ended - begun, 1),
        note,
    )


def plain_environment() -> dict[str, str]:
    """Return this process's environment without proxies and settings of clients."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT"}
    }
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def peers_python() -> Path:
    """Return the interpreter that has the peers; made on first use."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    given = os.environ.get("ANALYTICS_SDK_LOSSES_VENV")
    folder = Path(given) if given else cache / "analytics-sdk-server" / "losses-venv"
    python = folder / "bin" / "python"
    stamp = folder / "pins.txt"
    wanted = "\n".join((sys.version, *PINS))
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *PINS]
        subprocess.run(command, check=True)
        stamp.write_text(wanted)
    return python


HEAD = ("client", "offered", "delivered", "told", "silent", "duplicates", "seconds")


def as_markdown(losses: list[Loss]) -> str:
    """Draw the tables: the sums, and a row for each run."""
    lines = []
    present = {loss.client for loss in losses}
    names = [name for name in CLIENTS if name in present]
    lines += ["| client | version | offered | told | **silent** | duplicates |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: |"]
    pins = dict(pin.split("==") for pin in PINS)
    for name in names:
        mine = [loss for loss in losses if loss.client == name]
        sums = [
            sum(getattr(loss, field) for loss in mine)
            for field in ("offered", "told", "silent", "duplicates")
        ]
        package = CLIENTS[name].package
        version = f"`{package}` {pins.get(package, 'of this checkout')}"
        cells = " | ".join(f"{total:,}" for total in sums)
        lines.append(f"| {name} | {version} | {cells} |")
    for scenario in dict.fromkeys(loss.scenario for loss in losses):
        lines += ["", f"### {scenario[0].upper()}{scenario[1:]}", ""]
        lines += [f"| {' | '.join(HEAD)} | |", f"| --- |{' ---: |' * 6} --- |"]
        lines += [row(loss) for loss in losses if loss.scenario == scenario]
    return "\n".join(lines)


def row(loss: Loss) -> str:
    """Draw one run as a row."""
    silent = f"**{loss.silent:,}**" if loss.silent else "0"
    numbers = [f"{loss.offered:,}", f"{loss.delivered:,}", f"{loss.told:,}", silent]
    numbers += [f"{loss.duplicates:,}", f"{loss.seconds:.1f}"]
    return f"| {loss.client} | {' | '.join(numbers)} | {loss.note} |"


def rows_of(table: str) -> Iterator[Loss]:
    """Read back what `as_markdown` has drawn."""
    scenarios = {scenario.lower(): scenario for scenario in SCENARIOS}
    scenario = None
    for line in table.splitlines():
        if line.startswith("### "):
            scenario = scenarios.get(line[4:].strip().lower())
        cells = [cell.strip(" *") for cell in line.split("|")[1:-1]]
        if scenario and len(cells) == len(HEAD) + 1 and cells[0] in CLIENTS:
            *counts, seconds = (cell.replace(",", "") for cell in cells[1:-1])
            numbers = (int(count) for count in counts)
            yield Loss(scenario, cells[0], *numbers, float(seconds), cells[-1])


def write_page(losses: Iterable[Loss], page: Path = PAGE) -> None:
    """Put *losses* in place of their rows between the markers of the page."""
    before, rest = page.read_text(encoding="utf-8").split(MARKS[0])
    table, after = rest.split(MARKS[1])
    found = {(loss.scenario, loss.client): loss for loss in rows_of(table)}
    found |= {(loss.scenario, loss.client): loss for loss in losses}
    places = [(scenario, client) for scenario in SCENARIOS for client in CLIENTS]
    drawn = as_markdown([found[place] for place in places if place in found])
    text = f"{before}{MARKS[0]}\n{drawn}\n{MARKS[1]}{after}"
    page.write_text(text, encoding="utf-8")


def main(words: list[str] | None = None) -> int:
    """Run what is asked for; the status is 1 when ours loses anything in silence."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=SCENARIOS, metavar="NAME")
    parser.add_argument("--clients", default=",".join(CLIENTS))
    parser.add_argument("--markdown", action="store_true")
    asked = parser.parse_args(words)
    names = asked.clients.split(",")
    python = Path(sys.executable) if names == ["ours"] else peers_python()
    losses = []
    for scenario in asked.only or SCENARIOS:
        for name in names:
            losses.append(run(scenario, name, python))
            sys.stdout.write(f"{json.dumps(vars(losses[-1]))}\n")
            sys.stdout.flush()
    if asked.markdown:
        write_page(losses)
    return int(any(loss.silent for loss in losses if loss.client == "ours"))


if __name__ == "__main__":
    sys.exit(main())
