"""Run a vendor on your own machine: a local server for tests and demonstrations.

    with Collector() as collector:
        ...  # point a client at collector.url
        collector.events

`faults` names what can go wrong, `Step` and `Script` say when, `rough_day` is a bad day
ready made. It needs the standard library only and serves loopback only.
"""

from __future__ import annotations

from analytics_sdk.collector import faults
from analytics_sdk.collector.amplitude import AmplitudeApi
from analytics_sdk.collector.generic import GenericApi
from analytics_sdk.collector.ledger import SeenEvent, SeenRejection, SeenRequest
from analytics_sdk.collector.mixpanel import MixpanelApi
from analytics_sdk.collector.presets import PRESETS, outage, rough_day
from analytics_sdk.collector.script import (
    Condition,
    LargerThan,
    Matching,
    OnPath,
    Received,
    Reused,
    Script,
    Step,
    WithEvent,
)
from analytics_sdk.collector.script_json import script_from_json, script_to_json
from analytics_sdk.collector.segment import SegmentApi
from analytics_sdk.collector.server import Collector
from analytics_sdk.collector.vendor_api import (
    AcceptedEvent,
    ApiAnswer,
    ApiRequest,
    RejectedEvent,
    VendorApi,
)

__all__ = [
    "PRESETS",
    "AcceptedEvent",
    "AmplitudeApi",
    "ApiAnswer",
    "ApiRequest",
    "Collector",
    "Condition",
    "GenericApi",
    "LargerThan",
    "Matching",
    "MixpanelApi",
    "OnPath",
    "Received",
    "RejectedEvent",
    "Reused",
    "Script",
    "SeenEvent",
    "SeenRejection",
    "SeenRequest",
    "SegmentApi",
    "Step",
    "VendorApi",
    "WithEvent",
    "faults",
    "outage",
    "rough_day",
    "script_from_json",
    "script_to_json",
]
