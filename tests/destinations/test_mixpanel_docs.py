"""The page on Mixpanel says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs
import pytest

from analytics_sdk.destinations.mixpanel import Mixpanel, answers, tables

PAGE = (Path(__file__).parents[2] / "docs" / "mixpanel.md").read_text("utf-8")


def rows(heading: str) -> list[tuple[str, ...]]:
    """Return the cells of the first table below *heading*."""
    section = f"\n{PAGE}".partition(f"\n{heading}\n")[2]
    found = re.search(r"^\|.*?\n\n", section, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    lines = found[0].splitlines()[2:-1]
    return [
        tuple(each.strip() for each in line.strip("|").split("|")) for line in lines
    ]


def bare(cell: str) -> str:
    return cell.strip("`")


def pairs(heading: str) -> dict[str, str]:
    return {bare(name): bare(target) for name, target in rows(heading)}


def test_settings():
    """The table of settings has every argument and its default."""
    listed = {bare(name): bare(default) for name, default, _ in rows("# Mixpanel")}
    fields = [each for each in attrs.fields(Mixpanel) if each.init]
    expected = {
        each.alias: ""
        if each.default is attrs.NOTHING
        else json.dumps(each.default)
        if isinstance(each.default, str)
        else repr(each.default)
        for each in fields
    }
    assert expected == listed


def test_context():
    """The table of the context is that of the code."""
    expected = {
        f"{section}.{member}": target
        for section, members in tables.CONTEXT.items()
        for member, target in members.items()
    }
    assert {**expected, **tables.CONTEXT_SCALARS} == pairs("## Context")


def test_traits():
    """The table of traits is that of the code, and knows the groups' as well."""
    assert dict(tables.TRAITS) == pairs("## Traits")
    assert tables.GROUP_TRAITS.items() <= tables.TRAITS.items()
    assert tables.ADDRESS.items() <= tables.TRAITS.items()


def test_operations():
    """The table of operations says who knows them, and what is repeated."""
    expected = [
        (
            operation,
            "yes",
            "yes" if operation in tables.GROUP_OPERATIONS else "no",
            "no" if operation in tables.NOT_IDEMPOTENT else "yes",
        )
        for operation in tables.USER_OPERATIONS
    ]
    listed = [
        (bare(name), user.partition(",")[0], group, bare(again))
        for name, _, user, group, again in rows("## Operations")
    ]
    assert expected == listed
    line = re.search(r"^`\$ip`.*?go beside", PAGE, re.MULTILINE | re.DOTALL)
    assert line is not None
    assert tables.MODIFIERS == set(re.findall(r"`(.+?)`", line[0]))


@pytest.mark.parametrize(
    "number",
    [tables.MAX_EVENT_BYTES, tables.MAX_BATCH_BYTES, tables.MAX_RECORDS],
)
def test_limits(number):
    """The limits are those that the code holds to."""
    assert f"{number:,}" in "".join(cell for row in rows("## Limits") for cell in row)


def test_reserved_names():
    """Every forbidden id, and every name that is moved aside, is on the page."""
    section = PAGE.partition("is one that Mixpanel forbids:")[2].partition(";")[0]
    forbidden = set(re.findall(r"`(.+?)`", section))
    zeros = "00000000-0000-0000-0000-000000000000"
    assert tables.FORBIDDEN_IDS == forbidden | {"", zeros}
    moved = re.search(
        r"the properties (.+?)\nare|the properties (.+?) are", PAGE, re.DOTALL
    )
    assert moved is not None
    assert tables.RENAMED_PROPERTIES == set(
        re.findall(r"`(.+?)`", moved[1] or moved[2])
    )


def test_answers():
    """Every status that speaks of the configuration is on the page."""
    listed = [bare(row[0]) for row in rows("## Answers")]
    (found,) = [each for each in listed if each.startswith("401")]
    assert answers.CONFIGURATION == set(map(int, found.split(", ")))
