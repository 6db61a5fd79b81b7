"""Send product-analytics events from backend applications, with a receipt for each.

::

    from analytics_sdk import Client, Segment

    client = Client(Segment("WRITE_KEY"))
    receipt = client.track("user-1", "Order Completed", {"revenue": 19.9})
    report = client.flush(timeout=3.0, receipts=[receipt])

Importing starts nothing.  Names that need more than a few milliseconds to load are
loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from analytics_sdk._version import __version__ as __version__

if TYPE_CHECKING:
    from analytics_sdk._client import Client as Client
    from analytics_sdk._config import Delivery as Delivery
    from analytics_sdk._config import Memory as Memory
    from analytics_sdk._context import context as context
    from analytics_sdk._defaults import configure as configure
    from analytics_sdk._defaults import get_client as get_client
    from analytics_sdk._stats import DestinationStats as DestinationStats
    from analytics_sdk._stats import Stats as Stats
    from analytics_sdk.destinations.amplitude import Amplitude as Amplitude
    from analytics_sdk.destinations.console import Console as Console
    from analytics_sdk.destinations.jsonl import JsonLines as JsonLines
    from analytics_sdk.destinations.mixpanel import Mixpanel as Mixpanel
    from analytics_sdk.destinations.segment import Segment as Segment
    from analytics_sdk.errors import AnalyticsError as AnalyticsError
    from analytics_sdk.errors import ClosedError as ClosedError
    from analytics_sdk.errors import ConfigError as ConfigError
    from analytics_sdk.errors import QueueFullError as QueueFullError
    from analytics_sdk.errors import Reason as Reason
    from analytics_sdk.errors import RefusedError as RefusedError
    from analytics_sdk.interfaces import Destination as Destination
    from analytics_sdk.interfaces import Plugin as Plugin
    from analytics_sdk.plugins import hash_keys as hash_keys
    from analytics_sdk.plugins import redact_keys as redact_keys
    from analytics_sdk.plugins import sample as sample
    from analytics_sdk.receipts import FlushReport as FlushReport
    from analytics_sdk.receipts import Outcome as Outcome
    from analytics_sdk.receipts import OutcomeKind as OutcomeKind
    from analytics_sdk.receipts import Receipt as Receipt
    from analytics_sdk.receipts import Settled as Settled

_HOMES = {
    # the client and its settings
    "Client": "_client",
    "Delivery": "_config",
    "Memory": "_config",
    "configure": "_defaults",
    "context": "_context",
    "get_client": "_defaults",
    # destinations
    "Amplitude": "destinations.amplitude",
    "Console": "destinations.console",
    "Destination": "interfaces",
    "JsonLines": "destinations.jsonl",
    "Mixpanel": "destinations.mixpanel",
    "Segment": "destinations.segment",
    # what became of events
    "DestinationStats": "_stats",
    "FlushReport": "receipts",
    "Outcome": "receipts",
    "OutcomeKind": "receipts",
    "Reason": "errors",
    "Receipt": "receipts",
    "Settled": "receipts",
    "Stats": "_stats",
    # plugins
    "Plugin": "interfaces",
    "hash_keys": "plugins",
    "redact_keys": "plugins",
    "sample": "plugins",
    # errors
    "AnalyticsError": "errors",
    "ClosedError": "errors",
    "ConfigError": "errors",
    "QueueFullError": "errors",
    "RefusedError": "errors",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - one list serves names and homes


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *_HOMES})
