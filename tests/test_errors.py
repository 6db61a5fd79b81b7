from __future__ import annotations

import ast
import inspect
import re

import pytest

from analytics_sdk import errors
from analytics_sdk.errors import (
    AnalyticsError,
    ClosedError,
    ConfigError,
    QueueFullError,
    Reason,
    RefusedError,
)

TREE = {
    AnalyticsError: (Exception,),
    ConfigError: (AnalyticsError, ValueError),
    RefusedError: (AnalyticsError, ValueError),
    QueueFullError: (RefusedError,),
    ClosedError: (RefusedError,),
}

WORDS = [
    "no_id",
    "no_name",
    "bad_argument",
    "bad_message_id",
    "too_large",
    "queue_full",
    "closed",
    "selector",
    "consent",
    "sampled",
    "plugin_drop",
    "plugin_error",
    "disabled",
    "not_taken",
    "invalid",
    "quota",
    "rate_limited",
    "server_error",
    "unreachable",
    "tls",
    "unreadable",
    "configuration",
    "redirected",
    "configuration?",
    "expired",
    "exit",
    "maybe_sent",
    "oldest",
    "held_share",
    "bug",
]


def declared_values() -> list[str]:
    """Read the values of the members from the source, aliases included."""
    tree = ast.parse(inspect.getsource(Reason))
    return [
        ast.literal_eval(node.value)[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)
    ]


@pytest.mark.parametrize(("kind", "parents"), TREE.items())
def test_exception_has_its_place_in_the_tree(kind, parents):
    """Every exception has the parents that the picture of the tree gives it."""
    assert parents == kind.__bases__


def test_tree_is_whole():
    """The table above, and the picture in the module, have every exception."""
    defined = {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, Exception)
    }
    assert set(TREE) == defined
    drawn = re.findall(r"\b\w+Error\b", str(errors.__doc__))
    assert {kind.__name__ for kind in defined} <= set(drawn)


@pytest.mark.parametrize("kind", [RefusedError, QueueFullError, ClosedError])
def test_refusal_carries_its_reason_and_message(kind):
    """A refused call tells machines the reason and people the message."""
    error = kind(Reason.NO_ID, "user_id: missing; give one")
    assert Reason.NO_ID is error.reason
    assert "user_id: missing; give one" == str(error)


@pytest.mark.parametrize("reason", Reason)
def test_reason_says_what_to_do(reason):
    """Every reason has a remedy: a phrase, without a full stop."""
    assert len(reason.remedy.split()) >= 3
    assert reason.remedy == reason.remedy.strip()
    assert not reason.remedy.endswith(".")


@pytest.mark.parametrize("reason", Reason)
def test_reason_shows_as_its_bare_text(reason):
    """In reports, f-strings and comparisons a reason is its own text."""
    assert reason.value == str(reason)
    assert reason.value == f"{reason}"
    assert reason.value == reason
    assert str is type(reason.value)


@pytest.mark.parametrize("reason", Reason)
def test_reason_is_found_by_its_text(reason):
    """The text of a reason leads back to the member."""
    assert reason is Reason(reason.value)


def test_no_reason_shadows_another():
    """No two reasons share a text, for an enum would silently make them one."""
    declared = declared_values()
    assert len(declared) == len(set(declared))
    assert declared == [reason.value for reason in Reason]


def test_reasons_are_the_documented_words():
    """The words are keys of reports and dashboards: they change only on purpose."""
    assert WORDS == [reason.value for reason in Reason]


def test_suspected_configuration_keeps_its_question_mark():
    """What is only suspected is not reported like what is known."""
    assert "configuration?" == Reason.SUSPECTED_CONFIGURATION
    assert "configuration" == Reason.CONFIGURATION
