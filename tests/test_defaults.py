from __future__ import annotations

import os
import threading

import pytest

from analytics_sdk import (
    Client,
    ConfigError,
    OutcomeKind,
    Reason,
    Segment,
    _defaults,
    configure,
    get_client,
)
from analytics_sdk.collector import Collector


@pytest.fixture
def collector():
    with Collector() as running:
        yield running


@pytest.fixture(autouse=True)
def no_default_client(monkeypatch):
    """Begin and end without a default client, and with an empty environment."""
    monkeypatch.setattr(_defaults, "_default", {})
    for name in os.environ:
        if name.startswith("ANALYTICS_SDK_"):
            monkeypatch.delenv(name)
    yield
    get_client().close(timeout=0)


def test_configured_client_is_the_default(collector):
    """`get_client` returns what `configure` made, from everywhere in the process."""
    client = configure(Segment("key", host=collector.url), strict=True)
    assert isinstance(client, Client)
    assert client is get_client()
    found = []
    thread = threading.Thread(target=lambda: found.append(get_client()))
    thread.start()
    thread.join()
    assert [client] == found
    assert OutcomeKind.DELIVERED is get_client().track("u-1", "Paid").wait(5).kind
    with pytest.raises(ValueError, match="event"):
        client.track("u-1")


def test_configuring_again_closes_the_client_before(collector):
    """A new default takes over; what waited in the old one is delivered."""
    before = configure(Segment("key", host=collector.url))
    receipt = before.track("u-1", "Paid")
    after = configure(Segment("key", host=collector.url))
    assert after is get_client()
    assert OutcomeKind.DELIVERED is receipt.outcome.kind
    assert Reason.CLOSED is before.track("u-1", "Paid").outcome.reason
    assert get_client().track("u-1", "Paid").accepted


def test_failed_configuration_changes_nothing(collector):
    """A setting that is wrong leaves the default client as it was."""
    before = configure(Segment("key", host=collector.url))
    with pytest.raises(ConfigError):
        configure(Segment("key"), Segment("key"))
    assert before is get_client()
    assert before.track("u-1", "Paid").accepted


def test_default_comes_from_the_environment(collector, monkeypatch):
    """Without `configure` the default client is made of the environment, once."""
    monkeypatch.setenv("ANALYTICS_SDK_SEGMENT_WRITE_KEY", "key")
    monkeypatch.setenv("ANALYTICS_SDK_SEGMENT_HOST", collector.url)
    client = get_client()
    assert client is get_client()
    assert OutcomeKind.DELIVERED is client.track("u-1", "Paid").wait(5).kind


def test_default_without_environment_is_disabled(caplog):
    """With nothing configured calls do nothing; the one warning comes once."""
    for _ in range(3):
        assert Reason.DISABLED is get_client().track("u-1", "Paid").outcome.reason
    warnings = [line for line in caplog.messages if "SEGMENT_WRITE_KEY" in line]
    assert 1 == len(warnings)


def test_racing_threads_share_the_default(collector, monkeypatch):
    """Threads that ask for the default client at once get the same one."""
    monkeypatch.setenv("ANALYTICS_SDK_SEGMENT_WRITE_KEY", "key")
    all_inside, make = threading.Barrier(8), Client.from_env
    found = []

    def make_with_the_others():
        all_inside.wait(5)
        return make()

    monkeypatch.setattr(Client, "from_env", make_with_the_others)

    def ask():
        found.append(get_client())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert [get_client()] * 8 == found
