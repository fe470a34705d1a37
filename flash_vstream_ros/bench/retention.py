"""Retention of long streams: distortion over the whole stream, and entries near rare events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flash_vstream_ros.memory.config import BY_WEIGHT

from . import distortion, rare_events


def run(
    lengths: Sequence[int] = (4500, 18_000),
    seeds: Sequence[int] = (0, 1),
    capacity: int = 60,
    hours: Sequence[float] = (3.5, 6.5, 10.5),
    grouping: str = BY_WEIGHT,
    **stream: Any,
) -> dict[str, Any]:
    """Distortion on a stream of each length and seed, and rare events after `hours` on the first seed's stream.

    `grouping` is that of the hierarchical memory.
    """
    result = distortion.run(lengths, seeds, capacity, grouping, **stream)
    return {
        **result,
        "rare": rare_events.run(hours, seeds[0], capacity, grouping=grouping, **stream) if hours else None,
    }


def show(result: dict[str, Any]) -> None:
    distortion.show(result)
    if result["rare"]:
        print()
        rare_events.show(result["rare"])
