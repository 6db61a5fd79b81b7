"""What programs of these tests need: a client, children, and a limit for everything.

A test starts a program in a process of its own, for what it does to itself (forking,
ending, signals, patching) must not be done to the test run.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from analytics_sdk import Client, Delivery, Segment

KEY = "canary-write-key-4471"
HUNG = "hung"


def make(url: str, *, on_outcome: Any = None, **delivery: Any) -> Client:
    """Make a client of the collector at *url*; nothing lingers, unless told to."""
    settings = Delivery(**{"linger_s": 0.05, **delivery})
    return Client(Segment(KEY, host=url), delivery=settings, on_outcome=on_outcome)


def fork(child: Callable[[], object]) -> int:
    """Fork; the child calls *child* and ends with 0, with 3 where that is false."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = 0 if child() else 3
    except BaseException:  # noqa: BLE001 - a child must never return to the parent's code
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def reap(pids: Iterable[int], limit_s: float = 7.0) -> list[object]:
    """Wait for children; return what each ended with, `HUNG` where it did not.

    One that hangs shows its stacks.
    """
    end_s = time.monotonic() + limit_s
    found: list[object] = []
    for pid in pids:
        status = _wait(pid, end_s)
        if status is None:
            os.kill(pid, signal.SIGABRT)
            os.waitpid(pid, 0)
        found.append(HUNG if status is None else os.waitstatus_to_exitcode(status))
    return found


def _wait(pid: int, end_s: float) -> int | None:
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > end_s:
            return None
        pause(0.005)


def pause(seconds: float) -> None:
    """Let time pass, in a program that has nothing to wait for."""
    getattr(time, "sleep")(seconds)  # noqa: B009 - a process cannot be told of a change


def until(holds: Callable[[], object], limit_s: float = 8.0) -> bool:
    """Wait until *holds* is true; False where it is not in time."""
    end_s = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end_s:
            return False
        pause(0.005)
    return True
