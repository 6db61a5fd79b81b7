"""How many parts one request may hold, and where to cut it.

Functions of sizes alone: a size is the length of a part's body in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analytics_sdk.interfaces import Limits

NO_LIMIT = 1 << 62


def request_bytes(sizes: Sequence[int], limits: Limits) -> int:
    """Return the length of a request's body that holds parts of *sizes*."""
    separators = limits.separator_bytes * max(len(sizes) - 1, 0)
    return limits.envelope_bytes + sum(sizes) + separators


def largest_part_bytes(limits: Limits) -> int:
    """Return the most bytes that one part may have on a route."""
    alone = (limits.batch_bytes or NO_LIMIT) - limits.envelope_bytes
    return min(limits.event_bytes or NO_LIMIT, alone)


def count_that_fit(
    sizes: Iterable[int], limits: Limits, cap_bytes: int = NO_LIMIT
) -> int:
    """Return how many leading parts fit one request; at least one if there is one.

    Args:
        sizes: In the order in which the parts would be sent.
        limits: Of the route.
        cap_bytes: What a server that answered 413 has taught us, if less.
    """
    most_events = limits.events or NO_LIMIT
    most_bytes = min(limits.batch_bytes or NO_LIMIT, cap_bytes)
    total_bytes = limits.envelope_bytes - limits.separator_bytes
    fitting = 0
    for size in sizes:
        total_bytes += size + limits.separator_bytes
        if fitting and (fitting >= most_events or total_bytes > most_bytes):
            break
        fitting += 1
    return fitting


def halve(sizes: Sequence[int]) -> int:
    """Return where to cut so that both sides hold about as many bytes.

    Both sides hold at least one part, so *sizes* must hold two.
    """
    half = sum(sizes) / 2
    reached = 0
    for index, size in enumerate(sizes[:-1]):
        reached += size
        if reached >= half:
            return index + 1
    return len(sizes) - 1
