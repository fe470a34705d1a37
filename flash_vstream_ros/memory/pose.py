"""Pose: where a frame was recorded, or why that is unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
COVARIANCE = 36  # values of a 6x6 covariance
UNIT_TOLERANCE = 0.1  # of the norm of an orientation; published quaternions are rounded
IDENTITY: Quaternion = (0.0, 0.0, 0.0, 1.0)
NO_COVARIANCE = (0.0,) * COVARIANCE


class BadPose(ValueError):
    """A pose that is refused; `reason` is a short name to count it by."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class Pose:
    """Pose in the frame `frame_id` of the map `map_id`, as in geometry_msgs/PoseWithCovariance."""

    position: Vector  # [m]
    orientation: Quaternion  # x, y, z, w; a unit quaternion
    frame_id: str
    map_id: str = ""
    stamp_ns: int = 0
    # Row-major 6x6 covariance of x, y, z [m] and of the rotations about X, Y, Z [rad]; zeros: unknown.
    covariance: tuple[float, ...] = NO_COVARIANCE


@dataclass(frozen=True)
class UnknownPose:
    """An unknown pose; `reason` is a short name to count it by."""

    reason: str


MaybePose: TypeAlias = "Pose | UnknownPose"
NO_POSE = UnknownPose("no_source")  # of frames of a recording, and of a node without a source of poses


def checked_pose(pose: Pose) -> Pose:
    """The pose with a normalised orientation. Raises BadPose."""
    if not all(map(math.isfinite, (*pose.position, *pose.orientation))):
        raise BadPose("not_finite", "its position or orientation is NaN or infinite")
    norm = math.hypot(*pose.orientation)
    if abs(norm - 1.0) > UNIT_TOLERANCE:
        raise BadPose("bad_quaternion", f"the norm of its orientation is {norm:.3g} instead of 1")
    if len(pose.covariance) != COVARIANCE or not all(map(math.isfinite, pose.covariance)):
        raise BadPose("bad_covariance", f"its covariance must be {COVARIANCE} finite values")
    x, y, z, w = (part / norm for part in pose.orientation)
    return Pose(pose.position, (x, y, z, w), pose.frame_id, pose.map_id, pose.stamp_ns, pose.covariance)


def distance_m(one: Pose, other: Pose) -> float:
    """Distance of two positions in the same map [m]."""
    return math.dist(one.position, other.position)


def interpolated(before: Pose, after: Pose, stamp_ns: int) -> Pose:
    """The pose at a stamp between those of two poses in the same map.

    Position and covariance are interpolated linearly, the orientation spherically (slerp).
    """
    share = (stamp_ns - before.stamp_ns) / max(1, after.stamp_ns - before.stamp_ns)
    x, y, z = (a + share * (b - a) for a, b in zip(before.position, after.position, strict=True))
    covariance = tuple(a + share * (b - a) for a, b in zip(before.covariance, after.covariance, strict=True))
    orientation = slerp(before.orientation, after.orientation, share)
    return Pose((x, y, z), orientation, before.frame_id, before.map_id, stamp_ns, covariance)


def slerp(one: Quaternion, other: Quaternion, share: float) -> Quaternion:
    """Spherical interpolation between two unit quaternions, along the shorter arc; `share` is from 0 to 1."""
    cosine = sum(a * b for a, b in zip(one, other, strict=True))
    sign = -1.0 if cosine < 0 else 1.0
    angle = math.acos(min(1.0, abs(cosine)))
    first, second = 1.0 - share, share
    if angle > 1e-6:
        first, second = math.sin(first * angle) / math.sin(angle), math.sin(second * angle) / math.sin(angle)
    x, y, z, w = (first * a + sign * second * b for a, b in zip(one, other, strict=True))
    norm = math.hypot(x, y, z, w)
    return x / norm, y / norm, z / norm, w / norm


def pose_values(pose: MaybePose) -> dict[str, Any]:
    """The pose as values that JSON can express; `pose_from` reads them."""
    return asdict(pose)


def pose_from(values: Mapping[str, Any]) -> MaybePose:
    """The pose of `pose_values`. Raises LookupError, TypeError or ValueError for others."""
    if "reason" in values:
        return UnknownPose(str(values["reason"]))
    lists = {name: tuple(map(float, values[name])) for name in ("position", "orientation", "covariance")}
    return checked_pose(Pose(**{**values, **lists}))
