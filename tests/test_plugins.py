from __future__ import annotations

import copy
import dataclasses
import hashlib
import hmac
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk import Client, JsonLines
from analytics_sdk.errors import ConfigError, Reason
from analytics_sdk.plugins import hash_keys, redact_keys, sample

CANARY = "canary-4711"


def make_event(**members: Any) -> dict[str, Any]:
    return {
        "messageId": "m-1",
        "timestamp": "2026-11-21T10:00:00.000Z",
        "type": "track",
        "userId": "u-1",
        "event": "Signed Up",
        "properties": {},
        "context": {},
        "integrations": {},
        **members,
    }


def keyed_hash(text: str, salt: str = "pepper") -> str:
    return hmac.new(salt.encode(), text.encode(), hashlib.sha256).hexdigest()


def test_redaction_is_deep():
    """Values go at any depth, in dicts, lists and tuples of every scope."""
    event = make_event(
        properties={"password": CANARY, "a": [{"b": [[{"password": CANARY}]]}], "n": 1},
        traits={"password": {"old": CANARY}, "pair": ({"password": [CANARY]},)},
        context={"traits": {"password": CANARY}, "ip": "10.0.0.1"},
    )
    expected = make_event(
        properties={
            "password": "[redacted]",
            "a": [{"b": [[{"password": "[redacted]"}]]}],
            "n": 1,
        },
        traits={"password": "[redacted]", "pair": ({"password": "[redacted]"},)},
        context={"traits": {"password": "[redacted]"}, "ip": "10.0.0.1"},
    )
    assert expected == redact_keys("password")(event)
    assert CANARY not in json.dumps(event)


@pytest.mark.parametrize(
    "key", ["credit_card", "creditCard", "Credit Card", "CREDIT-CARD", "creditcard"]
)
def test_spelling_of_a_key_does_not_leak(key):
    """Case, underscores, hyphens and spaces do not hide a key."""
    event = make_event(properties={key: CANARY})
    for named in ("credit_card", "CreditCard", "credit card"):
        assert {key: "[redacted]"} == redact_keys(named)(event)["properties"]


def test_whole_keys_are_compared():
    """A key that only contains the name is another key."""
    event = make_event(properties={"email_sent": True, "mail": "x"})
    assert {"email_sent": True, "mail": "x"} == redact_keys("email")(event)[
        "properties"
    ]


def test_identity_stays():
    """Ids, the type, the name and the selector are no plugin's scope."""
    keys = ("messageId", "timestamp", "type", "userId", "event", "integrations")
    event = make_event(integrations={"Amplitude": {"event": 1}})
    before = copy.deepcopy(event)
    assert before == redact_keys(*keys)(event)
    assert before == hash_keys(*keys, salt="pepper")(event)


def test_replacement_can_be_chosen():
    """The replacement stands in the value's place."""
    plugin = redact_keys("a", "b", replacement="")
    event = make_event(properties={"a": 1, "b": None, "c": 2})
    assert {"a": "", "b": "", "c": 2} == plugin(event)["properties"]


def test_scopes_may_be_absent_or_odd():
    """An event without properties, or with something else in their place, passes."""
    event = {"type": "alias", "userId": "u-1", "context": None}
    assert {"type": "alias", "userId": "u-1", "context": None} == redact_keys("a")(
        event
    )


def test_deep_nesting_is_no_problem():
    """Nesting deeper than Python's recursion limit is looked through."""
    deep: Any = {"password": CANARY}
    for _ in range(5_000):
        deep = [deep]
    event = make_event(properties={"deep": deep, "hashed": deep})
    redact_keys("password")(event)
    hash_keys("hashed", salt="pepper")(event)
    while isinstance(deep, list):
        (deep,) = deep
    assert keyed_hash("[redacted]") == deep["password"]


@pytest.mark.parametrize(
    ("value", "hashed"),
    [
        ("jane@example.com", keyed_hash("jane@example.com")),
        (" Jane@Example.COM\n", keyed_hash("jane@example.com")),
        ("", keyed_hash("")),
        (42, keyed_hash("42")),
        (1.5, keyed_hash("1.5")),
        (True, keyed_hash("true")),
        (None, None),
        (["A", ["b", None]], [keyed_hash("a"), [keyed_hash("b"), None]]),
        ({"x": "A", "y": [1]}, {"x": keyed_hash("a"), "y": [keyed_hash("1")]}),
    ],
)
def test_hash_of_a_value(value, hashed):
    """A value becomes the HMAC-SHA256 of its folded text, each leaf on its own."""
    event = make_event(context={"traits": {"Email": value}}, properties={"mail": "x"})
    plugin = hash_keys("email", salt="pepper")
    changed = plugin(event)
    assert {"Email": hashed} == changed["context"]["traits"]
    assert {"mail": "x"} == changed["properties"]


def test_hash_depends_on_the_salt():
    """Another salt makes other hashes; text and its UTF-8 are the same salt."""
    made = [
        hash_keys("a", salt=salt)(make_event(properties={"a": "x"}))["properties"]["a"]
        for salt in ("pepper", b"pepper", "salt")
    ]
    assert made[0] == made[1] == keyed_hash("x")
    assert keyed_hash("x", "salt") == made[2]


def test_lone_surrogates_are_hashed():
    """Text that UTF-8 cannot hold is hashed and raises nothing."""
    event = make_event(properties={"a": "\ud800"})
    assert 64 == len(hash_keys("a", salt="pepper")(event)["properties"]["a"])


@pytest.mark.parametrize("make", [redact_keys, lambda *k: hash_keys(*k, salt="SALT")])
def test_plugin_shows_no_secret(make):
    """The repr of a plugin names its keys and not its salt."""
    shown = repr(make("email"))
    assert "email" in shown
    assert "SALT" not in shown


@pytest.mark.parametrize(
    ("make", "arguments", "settings", "field"),
    [
        (redact_keys, [], {}, "keys"),
        (redact_keys, [""], {}, "keys"),
        (redact_keys, ["_-"], {}, "keys"),
        (redact_keys, [["a", "b"]], {}, "keys"),
        (redact_keys, ["a"], {"replacement": None}, "replacement"),
        (hash_keys, [], {"salt": "pepper"}, "keys"),
        (hash_keys, ["a"], {"salt": ""}, "salt"),
        (hash_keys, ["a"], {"salt": b""}, "salt"),
        (hash_keys, ["a"], {"salt": None}, "salt"),
        (sample, ["0.5"], {}, "rate"),
        (sample, [True], {}, "rate"),
        (sample, [1.01], {}, "rate"),
        (sample, [-0.01], {}, "rate"),
        (sample, [10**400], {}, "rate"),
        (sample, [float("nan")], {}, "rate"),
        (sample, [0.5], {"by": "event"}, "by"),
        (sample, [0.5], {"types": "track"}, "types"),
        (sample, [0.5], {"types": 5}, "types"),
        (sample, [0.5], {"types": ["track", "click"]}, "types"),
        (sample, [0.5], {"types": [["track"]]}, "types"),
    ],
)
def test_bad_settings_are_refused(make, arguments, settings, field):
    """What cannot be right is a configuration error that names the setting."""
    with pytest.raises(ConfigError, match=rf"^{field}: "):
        make(*arguments, **settings)


NODES = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["email", "E-Mail", "e_mail", "mail", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


def expected_redaction(node: Any) -> Any:
    """Say by recursion what redacting e-mail addresses makes of *node*."""
    if isinstance(node, list):
        return [expected_redaction(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: "[redacted]" if key not in {"mail", "x"} else expected_redaction(each)
        for key, each in node.items()
    }


@given(NODES, NODES, NODES)
def test_redaction_changes_these_values_only(properties, traits, context):
    """Every value of the key is replaced, and nothing else is touched."""
    event = make_event(properties=properties, traits=traits, context=context)
    expected = make_event(
        properties=expected_redaction(properties),
        traits=expected_redaction(traits),
        context=expected_redaction(context),
    )
    assert expected == redact_keys("email")(event)


USERS = [f"user-{number}" for number in range(400)]


def kept(plugin: Any) -> set[str]:
    return {user for user in USERS if plugin(make_event(userId=user)) is not None}


def test_sample_keeps_the_share():
    """All, none, or about the share that was asked for is kept."""
    assert set(USERS) == kept(sample(1))
    assert set() == kept(sample(0))
    assert 60 <= len(kept(sample(0.2))) <= 100


def test_rate_is_an_open_bound():
    """An event whose draw is the rate itself is dropped, so that 0 keeps none."""
    event = make_event()
    draw = sample(0.5)._draw(event)
    assert sample(draw)(event) is None


def test_sample_is_the_same_everywhere():
    """The choice is pinned: another process or version keeps the same users."""
    # The ids whose SHA-256 begins below a hundredth of its range, by `sha256sum`.
    expected = {f"user-{number}" for number in (132, 161, 206, 251, 264, 399)}
    assert expected == kept(sample(0.01))


@given(st.floats(0, 1), st.floats(0, 1))
def test_higher_rate_keeps_what_a_lower_one_kept(one, other):
    """Raising the rate drops nobody who was kept."""
    low, high = sorted((one, other))
    assert kept(sample(low)) <= kept(sample(high))


def test_sample_by_user_keeps_users_whole():
    """A user's events are kept or dropped together; anonymous ids count as users."""
    plugin = sample(0.5)
    by_user = {
        (plugin(make_event(messageId=f"m-{n}", userId="u")) is None) for n in range(50)
    }
    by_visitor = {
        plugin(make_event(messageId=f"m-{n}", userId=None, anonymousId="u")) is None
        for n in range(50)
    }
    assert 1 == len(by_user)
    assert by_user == by_visitor


@pytest.mark.parametrize("ids", [{"userId": "u"}, {"userId": None}])
def test_sample_by_message_draws_for_each(ids):
    """By message, or without any user id, each event is drawn for by itself."""
    by = "message" if ids["userId"] else "user"
    plugin = sample(0.5, by=by)
    drops = {plugin(make_event(messageId=f"m-{n}", **ids)) is None for n in range(50)}
    assert {True, False} == drops


def test_sample_leaves_other_types():
    """Only the named types are sampled, by default track."""
    identify = make_event(type="identify")
    assert identify is sample(0)(identify)
    assert sample(0, types=["identify", "page"])(identify) is None


def test_sample_names_its_reason():
    """What a sample drops can be reported as sampled."""
    assert Reason.SAMPLED is sample(0.5).reason


def test_sample_without_any_id_does_not_raise():
    """Even an event that lost its ids is kept or dropped."""
    assert sample(1)({"type": "track"}) == {"type": "track"}


def test_canaries_inside_models_reach_nothing(require, caplog, capsys, tmp_path):
    """What is redacted or hashed is in no file, log or repr, however deep it sat."""
    require("pydantic", "pip install pydantic")
    import pydantic

    canary = CANARY

    class Card(pydantic.BaseModel):
        number: str
        owner: dict  # type: ignore[type-arg]

    @dataclasses.dataclass
    class Account:
        password: str
        cards: list[Any]

    account = Account(canary, [Card(number=canary, owner={"email": canary})])
    path = tmp_path / "events.jsonl"
    plugins = [redact_keys("password", "number"), hash_keys("email", salt="s")]
    caplog.set_level(logging.DEBUG)
    with Client(JsonLines(str(path)), plugins=plugins) as client:
        nested = {"lists": [[{"password": canary}], account]}
        receipts = [
            client.track("u-1", "Paid", {"account": account, "more": nested}),
            client.identify("u-1", {"account": account, "email": canary}),
        ]
        assert client.flush(5)
    written = path.read_text()
    assert 2 == written.count('"messageId"')
    shown = [written, caplog.text, *capsys.readouterr(), repr(receipts), repr(client)]
    assert [] == [text for text in shown if canary in text]
