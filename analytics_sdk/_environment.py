"""Settings from environment variables, and the process's default client."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from analytics_sdk.errors import ConfigError
from analytics_sdk.interfaces import Destination

PREFIX = "ANALYTICS_SDK_"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})

_log = logging.getLogger(__name__)


def client_arguments(
    environment: Mapping[str, str] | None = None,
) -> tuple[list[Destination], dict[str, Any]]:
    """Return destinations and settings that ``ANALYTICS_SDK_…`` variables describe.

    Args:
        environment: In place of the process's own.

    Raises:
        ConfigError: A variable holds something that it cannot mean.
    """
    found = os.environ if environment is None else environment
    destinations: list[Destination] = []
    key = _text(found, "SEGMENT_WRITE_KEY")
    if key:
        from analytics_sdk.destinations.segment import Segment

        host = _text(found, "SEGMENT_HOST") or None
        region = _text(found, "SEGMENT_REGION").lower() or "us"
        destinations.append(Segment(key, region=region, host=host))
    key = _text(found, "AMPLITUDE_API_KEY")
    if key:
        from analytics_sdk.destinations.amplitude import Amplitude

        region = _text(found, "AMPLITUDE_REGION").lower() or "us"
        destinations.append(Amplitude(key, region=region))
    key = _text(found, "MIXPANEL_TOKEN")
    if key:
        from analytics_sdk.destinations.mixpanel import Mixpanel

        region = _text(found, "MIXPANEL_REGION").lower() or "us"
        destinations.append(Mixpanel(key, region=region))
    settings: dict[str, Any] = {
        "enabled": _switch(found, "ENABLED", default=True),
        "strict": _switch(found, "STRICT", default=False),
    }
    if settings["enabled"] and not destinations:
        _log.warning(
            "analytics_sdk is disabled: no destination is set; set for example "
            "%sSEGMENT_WRITE_KEY, or %sENABLED=0 to hear no more of it",
            PREFIX,
            PREFIX,
        )
        settings["enabled"] = False
    return destinations, settings


def _text(found: Mapping[str, str], name: str) -> str:
    return found.get(f"{PREFIX}{name}", "").strip()


def _switch(found: Mapping[str, str], name: str, *, default: bool) -> bool:
    word = _text(found, name).lower()
    if not word:
        return default
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ConfigError(f"{PREFIX}{name}: use 1 or 0")
