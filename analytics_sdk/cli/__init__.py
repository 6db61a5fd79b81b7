"""The command line: ``analytics-sdk demo`` and ``analytics-sdk collector``.

Only the parser is loaded at the start; each command loads what it needs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

_AddParser: TypeAlias = Callable[..., argparse.ArgumentParser]

VENDORS = ("segment", "amplitude", "mixpanel")
DESTINATIONS = (*VENDORS, "jsonl")
"""Where the demo can send, as `--only` names it."""

INTERRUPTED = 130
"""What a program answers that ^C has ended, as shells count it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that *argv* names, the process's arguments by default.

    Args:
        argv: Arguments without the program's name.

    Returns:
        The exit status: 0 when all went well, 1 when the command failed, 130 after ^C.
    """
    options = _parser().parse_args(argv)
    try:
        if options.command == "demo":
            from analytics_sdk.cli.demo import run_demo

            return run_demo(options)
        from analytics_sdk.cli.collector import run_collector

        return run_collector(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has read enough (`| head`); what is left goes nowhere,
        # so that Python's last flush does not fail on it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    from analytics_sdk import __version__

    parser = argparse.ArgumentParser(
        prog="analytics-sdk",
        description="Customer events to every analytics vendor, each with a receipt.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    _add_demo(commands.add_parser, "demo")
    _add_collector(commands.add_parser, "collector")
    return parser


def _add_demo(add: _AddParser, name: str) -> None:
    summary = "replay real purchases to four destinations and check the totals"
    parser = add(
        name,
        help=summary,
        description=f"{summary.capitalize()}. Exits 0 only when every total matches.",
    )
    parser.add_argument(
        "--faults",
        action="store_true",
        help="give every vendor's server a rough day: 503, 429, dropped connections, "
        "400, a web page, 401",
    )
    parser.add_argument(
        "--only",
        type=_destinations,
        default=DESTINATIONS,
        metavar="NAMES",
        help=f"send to these, of {','.join(DESTINATIONS)} (default: to all)",
    )
    parser.add_argument(
        "--scale",
        type=_positive,
        default=1.0,
        metavar="X",
        help="multiply how long the 503s (2 s), the 401s (10 s) and, below 1, "
        "Amplitude's pause for fast users (30 s) last by X",
    )
    parser.add_argument(
        "--threads",
        type=_thread_count,
        default=4,
        metavar="N",
        help="threads that call at once (default 4)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object"
    )


def _add_collector(add: _AddParser, name: str) -> None:
    summary = "run a local server that speaks a vendor's protocol"
    parser = add(
        name,
        help=summary,
        description=f"{summary.capitalize()} and print what it gets, until ^C.",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=8765,
        help="port on 127.0.0.1 (default 8765; 0 picks a free one)",
    )
    parser.add_argument(
        "--vendor",
        choices=VENDORS,
        default=VENDORS[0],
        help=f"whose protocol (default {VENDORS[0]})",
    )
    parser.add_argument(
        "--key",
        "--write-key",
        metavar="KEY",
        help="the only write key, API key or token to accept (default: any)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse what the real service would silently discard",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="print whole events, and each request"
    )
    # The demo's own collector: it prints its address alone and ends with its parent.
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)


def _thread_count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 64:
        message = "use 1 to 64 threads"
        raise argparse.ArgumentTypeError(message)
    return count


def _destinations(text: str) -> tuple[str, ...]:
    names = text.split(",")
    if not set(names) <= set(DESTINATIONS):
        message = f"use some of {','.join(DESTINATIONS)}, with commas between them"
        raise argparse.ArgumentTypeError(message)
    return tuple(name for name in DESTINATIONS if name in names)


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65_535:
        message = "use a port from 0 to 65535"
        raise argparse.ArgumentTypeError(message)
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number <= 10:
        message = "use a number above 0, at most 10"
        raise argparse.ArgumentTypeError(message)
    return number
