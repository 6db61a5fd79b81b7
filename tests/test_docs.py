"""The documentation is true: its code runs, its tables, links and names are right.

Pages are run from top to bottom as a reader would run them, with two changes: Segment's
own hosts are a collector on this machine, and ``client`` and ``collector`` exist from
the start, for pages that do not make their own.  A ``text`` block right below a Python
block is what the block prints.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from analytics_sdk import Client, Segment, _defaults, _environment
from analytics_sdk.collector import Collector
from analytics_sdk.destinations import segment
from analytics_sdk.errors import Reason
from analytics_sdk.receipts import OutcomeKind
from tests.docs import generate

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAPERS = [*PAGES, ROOT / "CONTRIBUTING.md"]

_FENCE = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)\s#]*)(?:#([^)\s]*))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```\n", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A Python block of a page, and what it should print, where the page says so."""

    line: int
    code: str
    printed: str | None


def blocks(text: str) -> Iterator[Block]:
    """Yield the Python blocks of a page, in order."""
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("code"))
        yield Block(line, found["code"], found["printed"])


def run(block: Block, page: str, names: dict[str, object]) -> str:
    """Run a block in *names* and return what it printed."""
    printed = io.StringIO()
    code = compile("\n" * block.line + block.code, page, "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


def lines(text: str) -> list[str]:
    """Return the lines of *text* without white space at their ends."""
    return [line.rstrip() for line in text.splitlines()]


def named(path: Path) -> str:
    """Return the name of a page for test ids."""
    return path.relative_to(ROOT).as_posix()


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    headings = _HEADING.findall(_CODE.sub("", text))
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


@pytest.fixture
def vendor(monkeypatch, tmp_path):
    """Give a collector in the place of Segment's hosts, and a folder to write in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANALYTICS_SDK_SEGMENT_WRITE_KEY", "")
    monkeypatch.setattr(_defaults, "_default", {})
    with Collector() as collector:
        for region in segment.HOSTS:
            monkeypatch.setitem(segment.HOSTS, region, collector.url)
        yield collector


@pytest.mark.parametrize(
    "page", [each for each in PAGES if list(blocks(each.read_text("utf-8")))], ids=named
)
def test_python_blocks_run(page, vendor):
    """Every Python block runs, and prints what the page says it prints."""
    names = {"__name__": "page", "collector": vendor}
    names["client"] = Client(Segment("WRITE_KEY"))
    try:
        for block in blocks(page.read_text("utf-8")):
            printed = run(block, named(page), names)
            if block.printed is not None:
                assert lines(block.printed) == lines(printed), f"line {block.line}"
    finally:
        for value in names.values():
            if isinstance(value, Client):
                value.close(timeout=0.1)


@pytest.mark.parametrize("page", generate.PAGES)
def test_generated_tables_are_what_the_code_does(page):
    """The tables in the pages are those that the code writes now.

    Where they differ: ``python -m tests.docs.generate``, and read the change.
    """
    text = (ROOT / page).read_text("utf-8")
    assert generate.regenerate(text).splitlines() == text.splitlines()


def test_every_table_has_its_page():
    """No table is written for nobody, and no page asks for one that there is not."""
    asked = [
        name
        for page in generate.PAGES
        for name in re.findall(
            r"generated: ([a-z-]+)", (ROOT / page).read_text("utf-8")
        )
    ]
    assert sorted(generate.TABLES) == sorted(asked)


def test_tables_name_every_word():
    """Outcomes, reasons and settings without a row cannot slip in."""
    assert set(OutcomeKind) == set(generate.MEANINGS)
    assert len(Reason) == generate.TABLES["reasons"]().count("\n") - 2
    assert all(each.remedy for each in Reason)


@pytest.mark.parametrize("page", PAPERS, ids=named)
def test_links_between_pages_resolve(page):
    """A link to a file of ours leads to a file, one to a heading to a heading."""
    broken = []
    for target, anchor in _LINK.findall(_CODE.sub("", page.read_text("utf-8"))):
        there = (page.parent / target) if target else page
        if not there.exists():
            broken.append(target)
        elif anchor and anchor not in anchors(there.read_text("utf-8")):
            broken.append(f"{target}#{anchor}")
    assert [] == broken


def test_commands_exist():
    """Every `make` target that a page names is one of the Makefile's."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    wanted = {
        target
        for page in PAPERS
        for target in re.findall(r"`make ([a-z-]+)", page.read_text("utf-8"))
    }
    assert {"demo", "test"} <= wanted <= targets


def test_proofs_exist():
    """Every test that a page calls a proof is there, and makes its claim."""
    missing = [
        f"{path}::{name}"
        for page in PAGES
        for path, name in re.findall(
            r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text("utf-8")
        )
        if not (ROOT / path).exists()
        or f"def {name}(" not in (ROOT / path).read_text("utf-8")
    ]
    assert [] == missing


def test_files_on_an_events_way_exist():
    """The life of an event names modules, classes and functions that there are."""
    text = (ROOT / "docs/life-of-an-event.md").read_text("utf-8")
    paths = set(re.findall(r"`((?:_[a-z]+|buffers/[a-z]+)(?:\.\w+)*)`", text))
    assert len(paths) > 20
    for path in paths:
        module, *members = path.replace("/", "#").split(".")
        found = importlib.import_module(f"analytics_sdk.{module.replace('#', '.')}")
        for member in members:
            found = getattr(found, member)


def test_environment_variables_are_all_there():
    """The page of settings names the variables that the code reads, and no other."""
    source = Path(_environment.__file__).read_text("utf-8")
    read = re.findall(r'(?:_text|_switch)\(found, "([A-Z_]+)', source)
    page = (ROOT / "docs/reference/settings.md").read_text("utf-8")
    told = re.findall(r"^\| `ANALYTICS_SDK_([A-Z_]+)`", page, re.MULTILINE)
    assert sorted(set(read)) == sorted(told)


def test_readme_is_short():
    """A stranger reads the README to its end."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 130


def test_block_and_its_output_are_found():
    """The reader of pages sees code, line numbers, and output only right below."""
    page = (
        "# T\n\n```python\na = 1\n```\n\n```text\none\n```\n\n"
        "```python\nb = 2\n```\n\nwords\n\n```text\nno output\n```\n"
    )
    assert [Block(3, "a = 1\n", "one\n"), Block(11, "b = 2\n", None)] == list(
        blocks(page)
    )


def test_anchors_are_made_as_usual():
    """Headings become anchors; comments in code are no headings."""
    page = "# A `code` heading?\n\n```python\n# a comment\n```\n\n## Two-fold words\n"
    assert {"a-code-heading", "two-fold-words"} == anchors(page)
