"""The words of Mixpanel: limits, reserved names, and what our words become.

Sources are Mixpanel's developer reference (import events, user profiles, group
profiles) and its pages on reserved and default properties.
"""

from __future__ import annotations

from collections.abc import Mapping

MAX_RECORDS = 2_000
"""In one request, on every endpoint."""

MAX_EVENT_BYTES = 1_048_575
MAX_UPDATE_BYTES = 1_048_575
"""Less than 1 MB for an event, and for a profile update."""

MAX_BATCH_BYTES = 2_000_000
"""Mixpanel's pages name 10 MB and 2 MiB; a 413 splits what is still too large."""

FIRST_TIME_MS = 31_536_000_000
"""1971-01-01, before which an event is not taken."""

AHEAD_MS = 3_600_000
"""How far in the future an event may lie: an hour."""

INSERT_ID_LENGTH = 36
"""Longest ``$insert_id``; it holds letters, digits and hyphens only."""

FORBIDDEN_IDS = frozenset(
    {"", "00000000-0000-0000-0000-000000000000", "anon", "anonymous", "nil", "none"}
    | {"null", "n/a", "na", "undefined", "unknown", "<nil>", "0", "-1", "true", "false"}
    | {"[]", "{}"}
)
"""Neither a ``distinct_id`` nor an ``$insert_id`` may be one of these."""

DEVICE_PREFIX = "$device:"
"""Stands before an anonymous id where that alone identifies, in simplified mode."""

IDENTITY_EVENTS = frozenset({"$identify", "$create_alias", "$merge"})
"""Names of events that merge users for good; only identify() and alias() send them."""

RENAMED_PROPERTIES = frozenset({"time", "token", "distinct_id", "bucket"})
"""Properties of an event that mean something else to Mixpanel; ours get a prefix."""

DROPPED_PROPERTIES = frozenset(
    {"$time", "$token", "$distinct_id", "$insert_id", "$device_id", "$user_id"}
    | {"$bucket", "$anon_id", "$anon_distinct_id", "$identified_id", "$distinct_ids"}
    | {"$import"}
)
"""Reserved properties that the call itself decides, or nobody."""

RENAMED_TRAITS = frozenset({"token", "distinct_id"})
DROPPED_TRAITS = frozenset({"$token", "$distinct_id", "$last_seen"})

PROPERTY_PREFIX = "property_"
TRAIT_PREFIX = "trait_"

TRAITS: Mapping[str, str] = {
    "email": "$email",
    "firstName": "$first_name",
    "first_name": "$first_name",
    "lastName": "$last_name",
    "last_name": "$last_name",
    "name": "$name",
    "username": "$username",
    "phone": "$phone",
    "avatar": "$avatar",
    "createdAt": "$created",
    "created_at": "$created",
    "created": "$created",
    "city": "$city",
    "state": "$region",
    "region": "$region",
    "timezone": "$timezone",
    "unsubscribed": "$unsubscribed",
}
"""Traits of a user, by the profile property that Mixpanel shows; others stay."""

ADDRESS: Mapping[str, str] = {"city": "$city", "state": "$region", "region": "$region"}
"""Members of the trait ``address``; a country of two letters is ``$country_code``."""

GROUP_TRAITS: Mapping[str, str] = {
    "name": "$name",
    "createdAt": "$created",
    "created_at": "$created",
    "created": "$created",
}
"""Traits of a group."""

CONTEXT: Mapping[str, Mapping[str, str]] = {
    "app": {
        "name": "$app_name",
        "namespace": "$app_namespace",
        "build": "$app_build_number",
        "version": "$app_version_string",
    },
    "campaign": {
        "source": "utm_source",
        "medium": "utm_medium",
        "name": "utm_campaign",
        "term": "utm_term",
        "content": "utm_content",
        "id": "utm_id",
    },
    "device": {
        "brand": "$brand",
        "manufacturer": "$manufacturer",
        "model": "$model",
        "name": "$device",
        "type": "$device_type",
    },
    "library": {"name": "mp_lib", "version": "$lib_version"},
    "location": {
        "city": "$city",
        "region": "$region",
        "country": "mp_country_code",
        "latitude": "$latitude",
        "longitude": "$longitude",
    },
    "network": {
        "bluetooth": "$bluetooth_enabled",
        "carrier": "$carrier",
        "cellular": "$cellular_enabled",
        "wifi": "$wifi",
    },
    "os": {"name": "$os", "version": "$os_version"},
    "page": {"url": "$current_url", "referrer": "$referrer"},
    "screen": {
        "width": "$screen_width",
        "height": "$screen_height",
        "density": "$screen_density",
    },
}
"""Objects of the context, by the event properties that their members become."""

CONTEXT_SCALARS: Mapping[str, str] = {
    "ip": "ip",
    "locale": "$locale",
    "timezone": "timezone",
    "userAgent": "user_agent",
}
"""Bare values of the context."""

USER_OPERATIONS = (
    "$set",
    "$set_once",
    "$add",
    "$append",
    "$union",
    "$remove",
    "$unset",
    "$delete",
)
"""What ``/engage`` does, in the order in which one call's operations are sent."""

GROUP_OPERATIONS = ("$set", "$set_once", "$union", "$remove", "$unset", "$delete")
"""What ``/groups`` does."""

NOT_IDEMPOTENT = frozenset({"$add", "$append"})
"""A repeat counts twice: profile updates have no ``$insert_id``."""

MODIFIERS = frozenset(
    {"$ignore_alias", "$ignore_time", "$ip", "$latitude", "$longitude", "$time"}
)
"""What an update may say beside its operation."""
