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
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from analytics_sdk import _clock

_WIPE_ON_FORK = 18
"""``MADV_WIPEONFORK`` of Linux 4.14, for Pythons that do not name it."""

_LAZY = ("requests", "backoff", "encodings.idna")
"""What the client's threads import while they work, the look-up of hosts included."""

_FORK_S = 2.0
_POLL_S = 0.001


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

    def retire(self, timeout_s: float, *, close: bool) -> None:
        """Begin to deliver, and with *close* to end; return at once."""

    def leave(self, timeout_s: float, *, close: bool) -> object:
        """Deliver what can be delivered in time; with *close*, lose the rest."""

    def is_opening(self) -> bool:
        """True while a thread of its own holds locks that no child may inherit."""

    def let_go(self) -> None:
        """In a forked child: give up what was inherited, without taking a lock."""


_residents: dict[int, Resident] = {}
"""Drivers that have not ended, by identity; single dict operations, no lock."""

_exit_timeouts_s: dict[int, float] = {}
"""How long each of them may keep the process from ending."""

_graveyard: list[object] = []
"""What a forked child has inherited: kept for ever, so that nothing is finalised."""

_hooked: dict[str, object] = {}
_said: dict[str, object] = {}
_spent_s: dict[str, float] = {}
"""What the process's end has been kept waiting: its hooks share one time-out."""


def watch_process() -> None:
    """Hook into this process's end and its forks, once; at the first client.

    At its making, not at its first event: what the application registers with atexit
    later then runs earlier, and may still add events, even the first one.
    """
    token = object()
    if _hooked.setdefault("process", token) is token:
        atexit.register(_at_exit)
        _register_with_threading()
        _look_at_uwsgi()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=_before_fork, after_in_child=_after_fork_in_child
            )


def move_in(resident: Resident, exit_timeout_s: float) -> None:
    """Enter a driver, so that forks and the process's end find it.

    Args:
        resident: Made by this process.
        exit_timeout_s: How long it may keep the process from ending.
    """
    _exit_timeouts_s[id(resident)] = exit_timeout_s
    _residents[id(resident)] = resident
    _register_with_multiprocessing()


def move_out(resident: Resident) -> None:
    """Forget a driver that has ended."""
    _residents.pop(id(resident), None)
    _exit_timeouts_s.pop(id(resident), None)


def residents() -> list[Resident]:
    """Return the drivers of this process that have not ended."""
    return [resident for resident in list(_residents.values()) if resident.page[0]]


def is_said(what: str) -> bool:
    """Return whether this was asked before: some things are said once in a process."""
    token = object()
    return _said.setdefault(what, token) is not token


def bury(resident: Resident) -> None:
    """In a forked child: keep an inherited driver from ever being used or finalised."""
    if _residents.pop(id(resident), None) is not None or resident not in _graveyard:
        _graveyard.append(resident)
        resident.let_go()


def inherited() -> int:
    """Return how many drivers of its ancestors this process keeps buried."""
    return len(_graveyard)


# -- forks -------------------------------------------------------------------------


def _before_fork() -> None:
    """Let our threads finish what would leave the child with locks held for ever.

    The import system has such locks, and OpenSSL while it starts.
    """
    end_s = _clock.monotonic() + _FORK_S
    for resident in residents():
        while resident.is_opening() or any(map(_is_being_imported, _LAZY)):
            if _clock.monotonic() > end_s:
                return
            _clock.sleep(_POLL_S)


def _is_being_imported(name: str) -> bool:
    importlib: Any = sys.modules.get("_frozen_importlib")
    return name in getattr(importlib, "_module_locks", ())


def _after_fork_in_child() -> None:
    _spent_s.clear()
    for resident in list(_residents.values()):
        try:
            bury(resident)
        except BaseException:  # noqa: BLE001, S112 - a fork must not fail
            continue


# -- the end -----------------------------------------------------------------------


def _leave_all(*, close: bool) -> None:
    """Let all drivers deliver, all at once, within one time-out together."""
    began_s = _clock.monotonic()
    spent_s = _spent_s.get("exit", 0.0)
    leaving = [
        (resident, _exit_timeouts_s.get(id(resident), 0.0) - spent_s)
        for resident in residents()
    ]
    for resident, left_s in leaving:
        resident.retire(max(left_s, 0.0), close=close)
    for resident, left_s in leaving:
        left_s -= _clock.monotonic() - began_s  # noqa: PLW2901 - what is left of it
        resident.leave(max(left_s, 0.0), close=close)
    _spent_s["exit"] = spent_s + _clock.monotonic() - began_s


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


def forks_later() -> bool:
    """True in uWSGI's master while it loads the application.

    It forks in C.  Where a thread of the master waits for the interpreter just then,
    the worker hangs for good in the interpreter's own lock, so none may be started.
    """
    uwsgi: Any = sys.modules.get("uwsgi")
    return hasattr(uwsgi, "opt") and not (uwsgi.worker_id() or uwsgi.mule_id())


def _look_at_uwsgi() -> None:
    """Warn where uWSGI runs no threads: nothing is delivered between requests."""
    options: Any = getattr(sys.modules.get("uwsgi"), "opt", None)
    names = {
        each.decode() if isinstance(each, bytes) else each for each in options or ()
    }
    if options is None or names & {"enable-threads", "threads"}:
        return
    import logging

    logging.getLogger("analytics_sdk").warning(
        "analytics_sdk: uWSGI runs no threads, so events wait for flush() or the "
        "worker's end: use --enable-threads and --py-call-uwsgi-fork-hooks"
    )


# -- signals -----------------------------------------------------------------------


_ENDING = tuple(
    number
    for number in (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))
    if number is not None
)

_handlers: dict[int, Callable[[int, FrameType | None], object] | None] = {}
"""What handled a signal before us; None where it ended the process."""


def install_signal_handlers(*numbers: int) -> None:
    """Deliver when a signal comes that would end the process without its hooks.

    Args:
        numbers: SIGTERM and SIGHUP by default; signals that are ignored, or handled
            outside Python, are left alone.

    Raises:
        ValueError: This is not the main thread, which alone may do this.
    """
    for number in numbers or _ENDING:
        found = signal.getsignal(number)
        if found is _on_signal or found is None or found is signal.SIG_IGN:
            continue
        _handlers[number] = found if callable(found) else None
        signal.signal(number, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    """Deliver, then do what would have been done without us.

    Another handler may let the process live, so that nothing is closed for it.
    """
    handler = _handlers.get(number)
    if handler is not None:
        spent_s = dict(_spent_s)
        _leave_all(close=False)
        _spent_s.update({"exit": 0.0, **spent_s})
        handler(number, frame)
        return
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    _leave_all(close=True)
    os.kill(os.getpid(), number)
