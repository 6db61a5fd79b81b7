"""The unit of all short times: serialising the event's properties, here and now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median
from time import perf_counter_ns
from typing import Any

from benchmarks.events import make_order


class Ruler:
    """Times `json.dumps` and `orjson.dumps` of the same event between other things.

    Both times hold a pair of clock readings, as those of the calls under test do.
    """

    def __init__(self) -> None:
        import orjson

        self._properties = make_order(1).properties
        self._dumps: dict[str, Any] = {"json": json.dumps, "orjson": orjson.dumps}

    def measure(self, times: int) -> dict[str, float]:
        """Return nanoseconds, medians of *times*; the first call only warms up."""
        found = {}
        for name, dumps in self._dumps.items():
            taken = []
            dumps(self._properties)
            for _ in range(times):
                start = perf_counter_ns()
                dumps(self._properties)
                taken.append(perf_counter_ns() - start)
            found[name] = median(taken)
        return found


def at(ordered: Sequence[float], share: float) -> float:
    """Return the value below which *share* of the sorted values lie."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
