from __future__ import annotations

import logging
import os
import threading

import pytest

from analytics_sdk import Client, ConfigError, Outcome, OutcomeKind, Reason, Segment
from analytics_sdk._environment import client_arguments
from analytics_sdk.collector import Collector

SECRET = "s3cret-write-key"


@pytest.fixture
def collector():
    with Collector() as running:
        yield running


@pytest.fixture
def setenv(monkeypatch):
    """Set ``ANALYTICS_SDK_…`` variables; those of the machine are taken away."""
    for name in os.environ:
        if name.startswith("ANALYTICS_SDK_"):
            monkeypatch.delenv(name)

    def set_variables(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"ANALYTICS_SDK_{name}", value)

    return set_variables


def test_client_from_the_environment(setenv, collector):
    """Key and host of Segment are all that a client needs."""
    setenv(SEGMENT_WRITE_KEY=f" {SECRET} ", SEGMENT_HOST=collector.url)
    with Client.from_env() as client:
        receipt = client.track("u-1", "Paid")
        assert client.flush(5)
    assert OutcomeKind.DELIVERED is receipt.outcome.kind
    assert SECRET not in repr(client)
    assert 1 == len(collector.events)


@pytest.mark.parametrize(
    ("region", "host"),
    [("", "api.segment.io"), ("us", "api.segment.io"), ("EU", "events.eu1")],
)
def test_region_from_the_environment(setenv, monkeypatch, region, host):
    """The region chooses Segment's host; an empty one is the default."""
    made = []
    build = Client.__init__

    def keep(self, *destinations, **settings):
        made.extend(destinations)
        build(self, *destinations, **settings)

    monkeypatch.setattr(Client, "__init__", keep)
    setenv(SEGMENT_WRITE_KEY=SECRET, SEGMENT_REGION=region)
    Client.from_env()
    [segment] = made
    assert isinstance(segment, Segment)
    assert host in segment.url


def test_nothing_set_is_a_disabled_client(setenv, caplog):
    """Without any destination the client is disabled, and one warning says why."""
    setenv(SEGMENT_WRITE_KEY="  ")
    before = set(threading.enumerate())
    with caplog.at_level(logging.WARNING):
        client = Client.from_env()
        receipt = client.track("u-1", "Paid")
    assert Outcome(OutcomeKind.SKIPPED, Reason.DISABLED) == receipt.outcome
    name = "ANALYTICS_SDK_SEGMENT_WRITE_KEY"
    assert 1 == len([line for line in caplog.messages if name in line])
    assert set() == set(threading.enumerate()) - before


@pytest.mark.parametrize("word", ["0", "false", "No", " OFF "])
def test_switched_off_in_the_environment(setenv, caplog, word):
    """``ENABLED=0`` disables the client without a warning."""
    setenv(SEGMENT_WRITE_KEY=SECRET, ENABLED=word)
    with caplog.at_level(logging.WARNING):
        client = Client.from_env()
    assert Reason.DISABLED is client.track("u-1", "Paid").outcome.reason
    assert "SEGMENT_WRITE_KEY" not in caplog.text


@pytest.mark.parametrize("word", ["1", "TRUE", " yes ", "on"])
def test_strict_in_the_environment(setenv, word):
    """``STRICT=1`` makes refused calls raise."""
    setenv(SEGMENT_WRITE_KEY=SECRET, STRICT=word)
    client = Client.from_env()
    with pytest.raises(ValueError, match="event"):
        client.track("u-1")
    client.close()


@pytest.mark.parametrize(
    "variables",
    [
        {"ENABLED": SECRET},
        {"STRICT": SECRET},
        {"SEGMENT_REGION": SECRET},
        {"SEGMENT_HOST": "http://example.com"},
        {"SEGMENT_WRITE_KEY": "two words"},
    ],
)
def test_unusable_variable_raises(setenv, variables):
    """A variable that cannot be meant so raises, and its value is not shown."""
    setenv(**{"SEGMENT_WRITE_KEY": "key", **variables})
    with pytest.raises(ConfigError) as caught:
        Client.from_env()
    assert SECRET not in str(caught.value)
    assert "two words" not in str(caught.value)


def test_arguments_win_over_the_environment(setenv):
    """What is passed to `from_env` counts, whatever the environment says."""
    setenv(SEGMENT_WRITE_KEY=SECRET, STRICT="1", ENABLED="1")
    client = Client.from_env(strict=False, enabled=False)
    assert Reason.DISABLED is client.track("u-1").outcome.reason


@pytest.mark.parametrize(
    ("variables", "kind", "host"),
    [
        ({"AMPLITUDE_API_KEY": SECRET}, "Amplitude", "api2.amplitude.com"),
        (
            {"AMPLITUDE_API_KEY": SECRET, "AMPLITUDE_REGION": "EU"},
            "Amplitude",
            "api.eu.amplitude.com",
        ),
        ({"MIXPANEL_TOKEN": SECRET}, "Mixpanel", "api.mixpanel.com"),
        (
            {"MIXPANEL_TOKEN": SECRET, "MIXPANEL_REGION": "in"},
            "Mixpanel",
            "api-in.mixpanel.com",
        ),
    ],
)
def test_other_vendors_come_from_their_keys(setenv, variables, kind, host):
    """A vendor's key makes a destination, in the region that is named."""
    setenv(**variables)
    [destination], _ = client_arguments()
    addresses = getattr(destination, "urls", None) or {"": destination.url}
    assert kind == destination.kind
    assert host in "".join(addresses.values())
