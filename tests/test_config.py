from __future__ import annotations

import copy
import math
import pickle
import traceback
from decimal import Decimal
from fractions import Fraction

import attrs
import pytest

from analytics_sdk._config import Delivery, Memory, Secret, base_url, secret
from analytics_sdk.errors import ConfigError

KEY = "write-key-with-canary-7f3a"
CANARY = "canary-7f3a"

NUMBERS = (
    "block_timeout_s",
    "connect_timeout_s",
    "exit_timeout_s",
    "give_up_after_s",
    "linger_s",
    "request_timeout_s",
)
MAY_BE_ZERO = {"block_timeout_s", "exit_timeout_s", "linger_s"}
WHOLE = ("max_bytes", "max_event_bytes", "parallel_uploads")
WORDS = {
    "driver": ("threads", "inline"),
    "overflow": ("drop_newest", "drop_oldest", "block"),
    "report": ("failures", "all"),
}

# -- Delivery -----------------------------------------------------------------


def test_defaults_are_the_documented_ones():
    """Without arguments every setting has the value that the design gives it."""
    defaults = {
        "max_bytes": 33_554_432,
        "max_event_bytes": 1_048_576,
        "overflow": "drop_newest",
        "block_timeout_s": 0.5,
        "linger_s": 1.0,
        "parallel_uploads": 1,
        "connect_timeout_s": 3.0,
        "request_timeout_s": 15.0,
        "give_up_after_s": 900.0,
        "exit_timeout_s": 5.0,
        "gzip": None,
        "proxies": None,
        "ca_file": None,
        "driver": "threads",
        "report": "failures",
    }
    assert defaults == attrs.asdict(Delivery())


def test_every_setting_is_in_a_table():
    """Each setting is held by one of the tables here."""
    held = {*NUMBERS, *WHOLE, *WORDS, "gzip", "proxies", "ca_file"}
    assert held == {field.name for field in attrs.fields(Delivery)}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0.001, 1, 2.5, 10**9])
def test_number_above_zero_is_taken(name, value):
    """Any finite number of seconds above zero is fine, whole or not."""
    assert value == getattr(Delivery(**{name: value}), name)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, 0.0, -0.0])
def test_zero_is_taken_where_it_means_something(name, value):
    """No waiting is a choice; no time for a request is a mistake."""
    if name in MAY_BE_ZERO:
        assert 0 == getattr(Delivery(**{name: value}), name)
    else:
        with pytest.raises(ConfigError, match=f"^{name}: got (int|float); pass a f"):
            Delivery(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.001,
        math.inf,
        math.nan,
        True,
        False,
        None,
        "5",
        0j,
        Decimal(0),
        Decimal(5),
        Fraction(1, 2),
        [5],
        pytest.param(10**400, id="beyond float"),
    ],
    ids=repr,
)
def test_other_numbers_are_refused(name, value):
    """Seconds are a finite int or float, not below zero: else the error says so."""
    with pytest.raises(ConfigError) as caught:
        Delivery(**{name: value})
    message = f"{name}: got {type(value).__name__}; pass a finite number above 0"
    assert message == str(caught.value)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [1, 2, 10**12])
def test_whole_number_is_taken(name, value):
    """Bytes and requests are counted from one."""
    assert value == getattr(Delivery(**{name: value}), name)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [0, -1, 1.0, True, None, "1", Decimal(1)], ids=repr)
def test_other_whole_numbers_are_refused(name, value):
    """Bytes and requests are a whole number of at least 1: else the error says so."""
    with pytest.raises(ConfigError) as caught:
        Delivery(**{name: value})
    message = f"{name}: got {type(value).__name__}; pass a whole number of at least 1"
    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("name", "word"), [(name, word) for name in WORDS for word in WORDS[name]]
)
def test_word_is_taken(name, word):
    """Each documented word of a choice is taken."""
    assert word == getattr(Delivery(**{name: word}), name)


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("value", ["", "THREADS", "canary", None, 1, ["all"]], ids=repr)
def test_other_words_are_refused(name, value):
    """Any other word is an error that lists the words there are."""
    with pytest.raises(ConfigError) as caught:
        Delivery(**{name: value})
    words = ", ".join(WORDS[name])
    assert f"{name}: got {type(value).__name__}; use one of {words}" == str(
        caught.value
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gzip", None),
        ("gzip", True),
        ("gzip", False),
        ("proxies", None),
        ("proxies", {"https": "http://proxy:8080"}),
        ("ca_file", None),
        ("ca_file", "/etc/ssl/ca.pem"),
    ],
)
def test_transport_setting_is_taken(name, value):
    """What the transport is told reaches it as given."""
    assert value == getattr(Delivery(**{name: value}), name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gzip", "no"),
        ("gzip", 6),
        ("proxies", "http://proxy:8080"),
        ("proxies", 5),
        ("proxies", {"https": 5}),
        ("ca_file", 3),
        ("ca_file", True),
        ("ca_file", ""),
    ],
)
def test_other_transport_settings_are_refused(name, value):
    """A setting of a wrong type is an error now, not at the first upload."""
    with pytest.raises(ConfigError, match=f"^{name}: "):
        Delivery(**{name: value})


@pytest.mark.parametrize("field", attrs.fields(Delivery), ids=lambda each: each.name)
def test_refused_setting_is_not_shown(field):
    """The message of a refused setting has its type, never the value."""

    class Showy:
        def __repr__(self) -> str:
            return CANARY

        __str__ = __repr__

    for value in (Showy(), [CANARY], b"canary-7f3a"):
        with pytest.raises(ConfigError) as caught:
            Delivery(**{field.name: value})
        assert CANARY not in str(caught.value)


def test_proxies_are_not_shown():
    """Proxy addresses may hold a password, so the repr leaves them out."""
    assert CANARY not in repr(Delivery(proxies={"https": f"http://u:{CANARY}@proxy"}))


def test_settings_are_frozen_and_compare_by_value():
    """Settings cannot change under a running client; equal ones are equal."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Delivery().linger_s = 2.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        Delivery(1024)  # type: ignore[misc]
    assert Delivery(linger_s=2) == Delivery(linger_s=2.0)
    assert Delivery(linger_s=2) != Delivery()
    assert Memory() == Memory()


# -- keys ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (KEY, "<Secret …7f3a>"),
        ("123456789012", "<Secret …9012>"),
        ("12345678901", "<Secret …>"),
        ("k", "<Secret …>"),
    ],
)
def test_secret_shows_four_characters_of_long_keys(key, shown):
    """Enough to tell two keys apart, and nothing at all of a short one."""
    hidden = Secret(key)
    assert shown == repr(hidden) == str(hidden) == f"{hidden}" == f"{hidden!s}"
    assert f"[{shown}]" == str([hidden])
    assert shown == "%s" % hidden == "{}".format(hidden)  # noqa: UP031, UP032
    assert key == hidden.reveal()


def test_secret_has_no_open_attributes():
    """What walks over an object's attributes finds none."""
    with pytest.raises(TypeError):
        vars(Secret(KEY))


@pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy])
def test_secret_cannot_be_carried_off(copier):
    """A key gets into no pickle, and the refusal does not show it."""
    with pytest.raises(TypeError, match="pass the key itself") as caught:
        copier({"key": Secret(KEY)} if copier is not copy.copy else Secret(KEY))
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_secret_hides_in_tracebacks_with_locals():
    """Error reporters that show local variables do not show a key."""
    key = secret(KEY, "write_key")

    def fail(held: Secret) -> None:
        message = "something else"
        raise RuntimeError(message)

    with pytest.raises(RuntimeError) as caught:
        fail(key)
    frames = traceback.TracebackException.from_exception(
        caught.value, capture_locals=True
    )
    text = "".join(frames.format())
    assert "held = <Secret …7f3a>" in text
    assert CANARY not in text.replace('KEY = "', "").replace(repr(KEY), "")


def test_secrets_compare_by_value():
    """Two settings with the same key are equal; a key equals no text."""
    assert Secret(KEY) == Secret(KEY)
    assert hash(Secret(KEY)) == hash(Secret(KEY))
    assert Secret(KEY) != Secret("other")
    assert Secret(KEY) != KEY
    assert hash(Secret(KEY)) != hash(KEY)


@pytest.mark.parametrize("key", [KEY, "k", f"  {KEY}\n", "a:b/c+d=="])
def test_key_becomes_a_secret(key):
    """Keys are taken as text, without white space around them."""
    assert Secret(key.strip()) == secret(key, "write_key")


@pytest.mark.parametrize("key", [None, 5, b"key", Secret(KEY), ["key"]], ids=repr)
def test_key_of_another_type_is_refused(key):
    """A key that is no text is an error that names field, type and remedy."""
    with pytest.raises(ConfigError) as caught:
        secret(key, "write_key")
    assert f"write_key: got {type(key).__name__}; pass the key as a str" == str(
        caught.value
    )


@pytest.mark.parametrize("key", ["", " ", "\n\t"])
def test_empty_key_is_refused(key):
    """An empty key is an error that says how to go without one."""
    with pytest.raises(ConfigError, match=r"^write_key: empty; .*enabled=False"):
        secret(key, "write_key")


@pytest.mark.parametrize(
    "odd",
    ["a b", "a\nb", "a\0", "a\x7fb", "ä", "a\u00a0b", "a\u200b", "\ud800"],
    ids=ascii,
)
def test_key_with_odd_characters_is_refused(odd):
    """White space inside, control characters and non-ASCII are copying mistakes."""
    with pytest.raises(ConfigError, match=r"^write_key: holds characters") as caught:
        secret(f"{CANARY}{odd}", "write_key")
    assert CANARY not in "".join(traceback.format_exception(caught.value))


# -- hosts --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("https://api.example.com/", "https://api.example.com"),
        ("https://api.example.com///", "https://api.example.com"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("https://api.example.com:8443/a/b", "https://api.example.com:8443/a/b"),
        ("  https://api.example.com\n", "https://api.example.com"),
        ("api.example.com", "https://api.example.com"),
        ("api.example.com:8443/v1", "https://api.example.com:8443/v1"),
        ("localhost:8080", "https://localhost:8080"),
        ("HTTPS://API.example.com", "HTTPS://API.example.com"),
        ("https://192.0.2.1", "https://192.0.2.1"),
        ("https://[2001:db8::1]:8443/v1", "https://[2001:db8::1]:8443/v1"),
        ("http://localhost", "http://localhost"),
        ("http://LOCALHOST:8080", "http://LOCALHOST:8080"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("HTTP://127.0.0.1", "HTTP://127.0.0.1"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_host_becomes_a_base_url(host, base):
    """An address, or a bare host, becomes the base to which paths are added."""
    assert base == base_url(host)


@pytest.mark.parametrize(
    "host",
    [
        "http://api.example.com",
        "http://10.0.0.1:8080",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://[2001:db8::1]",
        "http://0.0.0.0",
    ],
)
def test_plain_http_is_for_loopback(host):
    """Keys and personal data leave the machine encrypted, unless one insists."""
    with pytest.raises(ConfigError, match=r"^host: plain http .* allow_http=True$"):
        base_url(host)
    assert host == base_url(host, allow_http=True)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (None, "host: got NoneType; pass a URL as a str"),
        (b"https://h", "host: got bytes; pass a URL as a str"),
        (5, "host: got int; pass a URL as a str"),
        ("", "host: not an address"),
        (" ", "host: not an address"),
        ("/", "host: not an address"),
        ("https://", "host: not an address"),
        ("http://", "host: not an address"),
        ("https:", "host: not an address"),
        ("https:/api.example.com", "host: not an address"),
        ("https:///v1", "host: not an address"),
        ("https://:8080", "host: not an address"),
        ("https://h:", "host: not an address"),
        ("https://h:0", "host: not an address"),
        ("https://h:port", "host: not an address"),
        ("https://h:65536", "host: not an address"),
        ("https://h:-1", "host: not an address"),
        ("https://[::1", "host: not an address"),
        ("https://a b", "host: not an address"),
        ("https://h/a b", "host: not an address"),
        ("https://h\n.example.com", "host: not an address"),
        ("https://h\t", None),
        ("https://h\0", "host: not an address"),
        ("https://h/\x7f", "host: not an address"),
        ("https://h\r\nX-Header: 1", "host: not an address"),
        ("https://bücher.example", "host: not an address"),
        ("https://exa\u2100mple.com", "host: not an address"),
        ("https://user@h", "host: leave out user names"),
        ("https://user:password@h", "host: leave out user names"),
        ("https://:password@h", "host: leave out user names"),
        ("http://localhost@example.com", "host: leave out user names"),
        ("https://h?a=b", "host: leave out user names, queries and fragments"),
        ("https://h?", "host: leave out user names, queries and fragments"),
        ("https://h/v1#a", "host: leave out user names, queries and fragments"),
        ("https://h#", "host: leave out user names, queries and fragments"),
        ("ftp://h", "host: use https://"),
        ("file:///etc/passwd", "host: not an address"),
        ("javascript://h", "host: use https://"),
    ],
)
@pytest.mark.parametrize("allow_http", [False, True], ids=["https", "any"])
def test_what_is_no_base_url_is_refused(host, message, allow_http):
    """Whatever could send keys elsewhere, or nowhere, is an error when it is set."""
    if message is None:
        assert host.strip() == base_url(host, allow_http=allow_http)
        return
    with pytest.raises(ConfigError) as caught:
        base_url(host, allow_http=allow_http)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "host",
    [
        f"https://user:{CANARY}@h",
        f"https://h?key={CANARY}",
        f"https://h:{CANARY}",
        f"https://{CANARY}\u2100@h",
        f"https://[{CANARY}",
        f"ftp://{CANARY}",
        f"http://{CANARY}",
    ],
)
def test_refused_host_is_not_shown(host):
    """A password in a refused address is in no message, and in no chained error."""
    with pytest.raises(ConfigError) as caught:
        base_url(host)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
