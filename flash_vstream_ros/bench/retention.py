"""Retention of long streams: distortion over the whole stream, and entries near rare events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import distortion, rare_events


def run(
    lengths: Sequence[int] = (4500, 18_000),
    seeds: Sequence[int] = (0, 1),
    capacity: int = 60,
    hours: Sequence[float] = (3.5, 6.5, 10.5),
    **stream: Any,
) -> dict[str, Any]:
    """Distortion on a stream of each length and seed, and rare events after `hours` on the first seed's stream."""
    result = distortion.run(lengths, seeds, capacity, **stream)
    return {**result, "rare": rare_events.run(hours, seeds[0], capacity, **stream) if hours else None}


def show(result: dict[str, Any]) -> None:
    distortion.show(result)
    if result["rare"]:
        print()
        rare_events.show(result["rare"])
