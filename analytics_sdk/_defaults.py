"""The process's default client, for applications that want one and no wiring."""

from __future__ import annotations

from typing import Any

from analytics_sdk._client import Client
from analytics_sdk.interfaces import Destination

_default: dict[str, Client] = {}


def configure(*destinations: Destination, **settings: Any) -> Client:
    """Make the default client, in place of the one before, which is closed.

    Args:
        destinations: As for `Client`.
        settings: As for `Client`.

    Returns:
        The new default client.
    """
    client = Client(*destinations, **settings)
    before = _default.get("client")
    _default["client"] = client
    if before is not None:
        before.close()
    return client


def get_client() -> Client:
    """Return the default client; made from the environment if none is configured."""
    found = _default.get("client")
    if found is None:
        found = _default.setdefault("client", Client.from_env())
    return found
