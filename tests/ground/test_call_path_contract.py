"""What a call may run, held by reading the code: the tests that hang find the rest."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from analytics_sdk import (
    _clock,
    _context,
    _encode,
    _enrich,
    _intake,
    _ledger,
    _repair,
    _routing,
    events,
    plugins,
    receipts,
)
from analytics_sdk._client import Client, _make_driver
from analytics_sdk._coordinator import Coordinator
from analytics_sdk._inline import Inline
from analytics_sdk._threads import Threads
from analytics_sdk.buffers.memory import MemoryBuffer, Tally

LOCKING = {"logging", "warnings", "threading", "multiprocessing", "concurrent"}
"""Modules made of locks."""

LOCKS = {
    "Lock",
    "RLock",
    "Condition",
    "Event",
    "Semaphore",
    "BoundedSemaphore",
    "Barrier",
    "Queue",
    "LifoQueue",
    "PriorityQueue",
    "allocate_lock",
    "acquire",
    "print",
    "open",
    "warn",
    "getLogger",
    "_log",
    "contextmanager",
    "join",
    "wait",
    "import_module",
}
"""Names of locks, and of what takes one."""

MODULES = (
    _clock,
    _context,
    _encode,
    _enrich,
    _intake,
    _ledger,
    _repair,
    _routing,
    events,
    plugins,
    receipts,
)
"""Rooms that a call passes through; all of what they hold is looked at."""

CALLED: tuple[Callable[..., Any] | type, ...] = (
    *(
        getattr(Client, name)
        for name in ("identify", "track", "page", "screen", "group", "alias", "_call")
    ),
    _make_driver,
    Tally,
    MemoryBuffer,
    Threads.start,
    Inline.start,
    Inline.__init__,
    Coordinator.post,
    Coordinator.ring,
    Coordinator.urge,
    Coordinator.sweep,
)
"""What a call uses of rooms that do other things too."""

ALLOWED = {
    "_inline.Inline.__init__": {"allocate_lock"},  # made, and never taken by a call
    "_clock": {"join"},  # of strings
    "_context": {"contextmanager"},  # of `context()`, which is no call
    "_encode": {"join"},
    "_enrich": {"join"},
    "_intake": {"join"},
    "_repair": {"join"},
    "_routing": {"join"},
    "events": {"join"},
    "plugins": {"join"},
    "receipts": {"join", "wait"},  # waiting is what the caller asked for
}
LAZY = {
    "memory.MemoryBuffer": {"queue"},  # looked up late, for gevent; it is loaded
    "_encode": {"orjson"},  # by `make_encoder`, when a client is made
    "plugins": {"hashlib", "hmac"},  # when a plugin is made
}


def name_of(thing: Any) -> str:
    if isinstance(thing, ModuleType):
        return thing.__name__.removeprefix("analytics_sdk.")
    return f"{thing.__module__.rpartition('.')[2]}.{thing.__qualname__}"


def tree_of(thing: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(thing)))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def imports_of_functions(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from imports(node)


def names(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return found


@pytest.mark.parametrize("thing", [*MODULES, *CALLED], ids=name_of)
def test_no_lock_is_in_reach(thing):
    """No code of a call's way names a lock, the log or a warning."""
    name, tree = name_of(thing), tree_of(thing)
    assert set() == {each.partition(".")[0] for each in imports(tree)} & LOCKING
    assert ALLOWED.get(name, set()) >= names(tree) & LOCKS


@pytest.mark.parametrize("thing", [*MODULES, *CALLED], ids=name_of)
def test_no_call_imports(thing):
    """No function of a call's way imports anything: an import takes locks."""
    found = set(imports_of_functions(tree_of(thing)))
    assert LAZY.get(name_of(thing), set()) >= found


@pytest.mark.parametrize(
    "name", ["_client", "_intake", "_process", "_driver", "_inline", "_threads"]
)
def test_calls_reach_no_more_than_was_looked_at(name):
    """The rooms of a call import, when they are loaded, no lock but these."""
    module = __import__(f"analytics_sdk.{name}", fromlist=["_"])
    found = {each.partition(".")[0] for each in imports(tree_of(module))} & LOCKING
    assert {
        "_driver": {"logging"},
        "_process": {"logging"},  # while a client is made, which is no call
        "_threads": {"logging", "threading"},
    }.get(name, set()) >= found


@pytest.mark.parametrize(
    "source",
    [
        "import logging",
        "from threading import Event",
        "def f(): self.lock.acquire()",
        "x = Condition()",
        "def f(): queue.Queue()",
        "def f(): _log.warning('x')",
    ],
)
def test_lock_would_be_found(source):
    """The reader of code sees each way to a lock."""
    tree = ast.parse(source)
    assert set(imports(tree)) & LOCKING or names(tree) & LOCKS


def test_late_import_would_be_found():
    """The reader of code tells imports of functions from those of modules."""
    tree = ast.parse("import a\ndef f():\n    import b\n    from c import d\n")
    assert {"b", "c"} == set(imports_of_functions(tree))
