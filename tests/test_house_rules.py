"""What the house asks of every file and no tool checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import analytics_sdk

PACKAGE = Path(analytics_sdk.__file__).parent
TESTS = Path(__file__).parent
ROOT = TESTS.parent

MOST_LINES = 400
MOST_PARAMETERS = 8
EXCUSE = "longer than 400 lines because"

# Scenarios with real servers, processes and browsers may have to wait for them.
MAY_SLEEP = {"browser", "faults", "ground", "servers"}

SEGMENT_ORDER = "one of the six calls, with the arguments of Segment's library"
MORE_PARAMETERS = {
    "_client.Client.group": SEGMENT_ORDER,
    "_client.Client.page": SEGMENT_ORDER,
    "_client.Client.screen": SEGMENT_ORDER,
    "_client.Client.track": SEGMENT_ORDER,
    "_config.Delivery": "the one home of every delivery setting, all with a default",
    "destinations.amplitude.__init__.Amplitude": "the vendor's own settings",
    "destinations.mixpanel.__init__.Mixpanel": "the vendor's own settings",
    "_stats.Stats": "made in one place, read by name: one field a figure",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_without_docstring(tree: ast.AST) -> Iterator[str]:
    """Name the test functions that make no claim."""
    for node in ast.walk(tree):
        if not isinstance(node, Function) or not node.name.startswith("test"):
            continue
        if not (ast.get_docstring(node) or "").strip():
            yield f"{node.name}, line {node.lineno}"


def sleeps(tree: ast.AST) -> Iterator[str]:
    """Name the calls that wait for time to pass; `sleep(0)` only yields."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        yields = [0] == [getattr(each, "value", None) for each in node.args]
        if called == "sleep" and not yields:
            yield f"line {node.lineno}"


def too_long(source: str) -> bool:
    """Tell a module over the limit that does not say why."""
    excuse = ast.get_docstring(ast.parse(source)) or ""
    return len(source.splitlines()) > MOST_LINES and EXCUSE not in " ".join(
        excuse.split()
    )


def count_parameters(node: Function) -> int:
    """Count what a caller may pass by name; `self` and `cls` are not passed."""
    arguments = node.args
    names = [
        each.arg
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    ]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def count_fields(node: ast.ClassDef) -> int:
    """Count the constructor's parameters of an attrs class or a dataclass."""
    generated = any(
        re.search(r"\b(define|frozen|mutable|dataclass)\b", ast.unparse(each))
        for each in node.decorator_list
    )
    return generated * sum(
        isinstance(line, ast.AnnAssign)
        and "ClassVar" not in ast.unparse(line.annotation)
        and "init=False" not in ast.unparse(line)
        for line in node.body
    )


def many_parameters(tree: ast.AST, prefix: str) -> Iterator[str]:
    """Name the functions and constructors with more parameters than the limit."""
    for node in ast.iter_child_nodes(tree):
        name = f"{prefix}.{getattr(node, 'name', '')}"
        if isinstance(node, Function):
            if count_parameters(node) > MOST_PARAMETERS:
                yield name
        elif isinstance(node, ast.ClassDef):
            if count_fields(node) > MOST_PARAMETERS:
                yield name
            yield from many_parameters(node, name)


def modules(folder: Path) -> Iterator[tuple[str, str]]:
    """Give every module below *folder*: its path from there, and its source."""
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")


def test_every_test_makes_a_claim():
    """Every test function has a docstring that says what holds."""
    silent = [
        f"{path}: {name}"
        for path, source in modules(TESTS)
        for name in functions_without_docstring(ast.parse(source))
    ]
    assert [] == silent


def test_unit_tests_do_not_sleep():
    """Only tests of real servers, processes and browsers wait for time to pass."""
    waiting = [
        f"{path}: {line}"
        for path, source in modules(TESTS)
        if path.split("/")[0] not in MAY_SLEEP
        for line in sleeps(ast.parse(source))
    ]
    assert [] == waiting


def test_modules_are_short_or_say_why():
    """A module has at most 400 lines, or its docstring gives the reason."""
    long = [path for path, source in modules(PACKAGE) if too_long(source)]
    assert [] == long


def test_parameters_are_few_or_reasoned():
    """Functions and constructors take at most eight parameters, but for the list."""
    many = [
        name
        for path, source in modules(PACKAGE)
        for name in many_parameters(
            ast.parse(source), path.removesuffix(".py").replace("/", ".")
        )
    ]
    assert sorted(MORE_PARAMETERS) == sorted(many)


def test_pure_half_is_the_same_everywhere():
    """What import-linter keeps pure is what must be covered by every branch."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(
        each
        for each in project["tool"]["importlinter"]["contracts"]
        if each["type"] == "forbidden"
    )
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    covered = re.search(r"^PURE := (.*)$", makefile, re.MULTILINE)
    assert covered is not None
    assert contract["source_modules"] == [
        f"analytics_sdk.{name}" for name in covered[1].split()
    ]


def test_missing_docstring_is_found():
    """The rule on claims sees functions, coroutines and methods."""
    tree = ast.parse(
        "def test_a(): pass\n"
        "async def test_b(): pass\n"
        "class TestC:\n"
        "    def test_d(self): '''It holds.'''\n"
        "    def test_e(self): ''' '''\n"
        "def other(): pass\n"
    )
    assert ["test_a, line 1", "test_b, line 2", "test_e, line 5"] == sorted(
        functions_without_docstring(tree)
    )


def test_sleep_is_found():
    """The rule on sleeps sees each spelling and lets a bare yield pass."""
    tree = ast.parse("time.sleep(1)\nsleep(pause)\nasyncio.sleep(0.1)\nsleep(0)\n")
    assert ["line 1", "line 2", "line 3"] == list(sleeps(tree))


def test_long_module_is_found():
    """The rule on length counts lines and takes the written reason."""
    body = "\n" * MOST_LINES
    assert too_long(f'"""A module."""{body}x = 1\n')
    assert not too_long(f'"""A module, {EXCUSE} it is one table."""{body}x = 1\n')
    assert not too_long('"""A module."""\n')


def test_many_parameters_are_found():
    """The rule on parameters sees functions, methods and generated constructors."""
    nine = ", ".join(f"p{index}" for index in range(9))
    fields = "\n".join(f"    f{index}: int" for index in range(9))
    tree = ast.parse(
        f"def plain({nine}): pass\n"
        f"def eight({nine[4:]}): pass\n"
        "class Thing:\n"
        f"    def method(self, *, {nine}): pass\n"
        f"    def fine(self, {nine[4:]}): pass\n"
        f"@attrs.frozen(kw_only=True)\nclass Record:\n{fields}\n"
        f"class NoRecord:\n{fields}\n"
    )
    assert ["m.plain", "m.Thing.method", "m.Record"] == list(many_parameters(tree, "m"))
