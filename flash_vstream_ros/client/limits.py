"""What a request is limited to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from flash_vstream_ros.ros.interfaces import Point
from flash_vstream_ros.ros.stamps import stamp_at


class Limits(TypedDict, total=False):
    """Keyword arguments that limit a request to what some cameras saw, in an interval and a circle."""

    cameras: Sequence[str]  # none: all
    since_s: float  # stamp [s]; 0: no limit
    until_s: float
    near: tuple[float, float]  # centre of the circle [m]
    radius: float  # [m]; 0: no limit


def request_fields(limits: Limits) -> dict[str, Any]:
    """The fields of a request that limit it."""
    x, y = limits.get("near", (0.0, 0.0))
    return {
        "cameras": list(limits.get("cameras", ())),
        "since": stamp_at(limits.get("since_s", 0.0)),
        "until": stamp_at(limits.get("until_s", 0.0)),
        "near": Point(x=x, y=y),
        "radius": limits.get("radius", 0.0),
    }
