"""What becomes of what: the tables of the mapping, as ``docs/amplitude.md`` has them.

Sources: Amplitude's HTTP V2, Identify, Group Identify and User Mapping API pages.
Where Segment's and RudderStack's own mappings differ, the page says what was chosen
and why.
"""

from __future__ import annotations

from collections.abc import Mapping

CONTEXT: Mapping[str, str] = {
    "app.version": "app_version",
    "device.brand": "device_brand",
    "device.manufacturer": "device_manufacturer",
    "device.model": "device_model",
    "ip": "ip",
    "locale": "language",
    "location.city": "city",
    "location.country": "country",
    "location.latitude": "location_lat",
    "location.longitude": "location_lng",
    "location.region": "region",
    "network.carrier": "carrier",
    "os.name": "os_name",
    "os.version": "os_version",
    "userAgent": "user_agent",
}
"""Fields of the context, by their path, and the event keys that they become."""

NUMBERS = frozenset({"location_lat", "location_lng"})

REMOTE = "$remote"
"""Asks Amplitude to take a request's sender, here a server, for the user."""

PLATFORMS: Mapping[str, str] = {"ios": "iOS", "android": "Android", "web": "Web"}
"""Amplitude's spelling of ``context.device.type``; another type stays as it is."""

ADVERTISING_IDS: Mapping[str, str] = {"ios": "idfa", "android": "adid"}
"""What ``context.device.advertisingId`` is called, by ``context.device.type``."""

CAMPAIGN: Mapping[str, str] = {
    "source": "utm_source",
    "medium": "utm_medium",
    "name": "utm_campaign",
    "term": "utm_term",
    "content": "utm_content",
}
"""Fields of ``context.campaign``; each is ``$set``, and ``initial_…`` ``$setOnce``."""

REVENUE: Mapping[str, tuple[str, ...]] = {
    "currency": ("currency",),
    "productId": ("product_id", "productId"),
    "revenueType": ("revenue_type", "revenueType"),
}
"""Event keys beside ``revenue``, and the properties that they come from."""

OPERATIONS = (
    "$set",
    "$setOnce",
    "$add",
    "$append",
    "$prepend",
    "$preInsert",
    "$postInsert",
    "$remove",
    "$unset",
)
"""The Identify API's operations on properties, as the selector's options name them."""

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "session_id": ("session_id", "sessionId"),
    "event_id": ("event_id", "eventId"),
    "groups": ("groups",),
    "$skip_user_properties_sync": (
        "skip_user_properties_sync",
        "skipUserPropertiesSync",
        "$skip_user_properties_sync",
    ),
    "plan": ("plan",),
    "ingestion_metadata": ("ingestion_metadata", "ingestionMetadata"),
}
"""Event keys that come from the selector's options, and the options' names."""

PLAN = ("branch", "source", "version", "versionId")
INGESTION = ("source_name", "source_version")

REFUSED_IDS = frozenset(
    {"anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown", ""}
    | {"00000000-0000-0000-0000-000000000000", "{}", "lmy47d", "0", "-1"}
)
"""Ids that Amplitude answers 400 to (HTTP V2: device and user ids)."""

NAMELESS: Mapping[str, str] = {"page": "Loaded a Page", "screen": "Loaded a Screen"}

UNSET = "-"
CENT = 0.005
"""Price times quantity and revenue are the same up to half a cent."""

SECONDS = range(1_000_000_000, 10_000_000_000)
"""Session ids that are a time in seconds: as milliseconds they lie in early 1970."""
