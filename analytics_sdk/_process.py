"""What a process does to a client: it forks, it ends, it gets signals.

One file owns all of it.  A fork is noticed twice: by a page of memory that the kernel
wipes in the child (or by the process id, where there is no such page), looked at by
every call, because uWSGI runs no hooks; and by a hook, which lets go of what the child
has inherited at once.  The parent keeps its queue, the child starts empty.  What the
child inherits is never used nor finalised, for finalisers take locks that a thread of
the parent may have held: it goes to a graveyard.
"""

from __future__ import annotations

import atexit
import mmap
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

from analytics_sdk import _clock

_WIPE_ON_FORK = 18
"""``MADV_WIPEONFORK`` of Linux 4.14, for Pythons that do not name it."""


class Page(Protocol):
    """Something whose first item is true in the process that made it alone."""

    def __getitem__(self, index: int, /) -> int: ...


class _PidPage:
    """A page for systems that cannot wipe one: it compares process ids."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int, /) -> int:
        return self._pid == os.getpid()


def make_page() -> Page:
    """Return a page that tells this process from its children."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except (AttributeError, OSError, ValueError):
        return _PidPage()
    page[0] = 1
    return page


class Resident(Protocol):
    """What lives in a process until it has ended: a driver."""

    page: Page

    def leave(self, timeout_s: float, *, close: bool) -> object:
        """Deliver what can be delivered in time; with *close*, lose the rest."""

    def let_go(self) -> None:
        """In a forked child: give up what was inherited, without taking a lock."""


_residents: dict[int, Resident] = {}
"""Drivers that have not ended, by identity; single dict operations, no lock."""

_graveyard: list[object] = []
"""What a forked child has inherited: kept for ever, so that nothing is finalised."""

_hooked: dict[str, int] = {}
_exit_deadline: dict[str, float] = {}


def move_in(resident: Resident, exit_timeout_s: float) -> None:
    """Enter a driver, so that forks and the process's end find it.

    Args:
        resident: Made by this process.
        exit_timeout_s: How long it may keep the process from ending.
    """
    _residents[id(resident)] = resident
    _deadlines[id(resident)] = exit_timeout_s
    if _hooked.setdefault("atexit", id(resident)) == id(resident):
        atexit.register(_at_exit)
        _register_with_threading()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork_in_child)
    _register_with_multiprocessing()


_deadlines: dict[int, float] = {}


def move_out(resident: Resident) -> None:
    """Forget a driver that has ended."""
    _residents.pop(id(resident), None)
    _deadlines.pop(id(resident), None)


def bury(resident: Resident) -> None:
    """In a forked child: keep an inherited driver from ever being used or finalised."""
    if _residents.pop(id(resident), None) is not None or resident not in _graveyard:
        _graveyard.append(resident)
        resident.let_go()


def inherited() -> int:
    """Return how many drivers of its ancestors this process keeps buried."""
    return len(_graveyard)


def _after_fork_in_child() -> None:
    _exit_deadline.clear()
    for resident in list(_residents.values()):
        try:
            bury(resident)
        except BaseException:  # noqa: BLE001, S112 - a fork must not fail
            continue


def _leave_all(*, close: bool) -> None:
    """Let all drivers deliver; together they keep the process for one time-out."""
    for key, resident in list(_residents.items()):
        if not resident.page[0]:
            continue
        limit_s = _deadlines.get(key, 0.0)
        now = _clock.monotonic()
        end_s = _exit_deadline.setdefault("end", now + limit_s)
        resident.leave(max(min(limit_s, end_s - now), 0.0), close=close)


def _at_exit() -> None:
    _leave_all(close=True)


def _before_threads_are_joined() -> None:
    """Deliver early: some servers run no other hook; threads may still add events."""
    _leave_all(close=False)


def _register_with_threading() -> None:
    threading: Any = sys.modules.get("threading")
    register: Callable[..., Any] | None = getattr(threading, "_register_atexit", None)
    if register is not None:
        try:
            register(_before_threads_are_joined)
        except RuntimeError:
            return


def _register_with_multiprocessing() -> None:
    """In a child of multiprocessing, which runs no atexit: use its own finalisers."""
    util: Any = sys.modules.get("multiprocessing.util")
    process: Any = sys.modules.get("multiprocessing.process")
    if util is None or process is None or process.parent_process() is None:
        return
    if _hooked.get("multiprocessing") != os.getpid():
        _hooked["multiprocessing"] = os.getpid()
        util.Finalize(None, _at_exit, exitpriority=10)
