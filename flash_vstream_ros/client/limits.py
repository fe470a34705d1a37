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


def request_fields(
    *,
    cameras: Sequence[str] = (),
    since_s: float = 0.0,
    until_s: float = 0.0,
    near: tuple[float, float] = (0.0, 0.0),
    radius: float = 0.0,
) -> dict[str, Any]:
    """The fields of a request that limit it, from `Limits`."""
    x, y = near
    return {
        "cameras": list(cameras),
        "since": stamp_at(since_s),
        "until": stamp_at(until_s),
        "near": Point(x=x, y=y),
        "radius": radius,
    }
