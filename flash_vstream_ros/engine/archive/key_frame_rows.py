"""Converts key frames to rows of the archive's table, and back."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from flash_vstream_ros.memory.pose import COVARIANCE, MaybePose, Pose, UnknownPose

from .key_frame import KeyFrame

_COVARIANCE = struct.Struct(f"<{COVARIANCE}d")
POSE_COLUMNS = "pose_unknown, pose_frame, pose_map, x, y, z, qx, qy, qz, qw, covariance"
POSE_VALUES = 11
COLUMNS = f"camera, frame_id, first_ns, last_ns, stamp_ns, novelty, cluster, jpeg, {POSE_COLUMNS}, checksum"


def row_of(frame: KeyFrame, last_ns: int) -> tuple[object, ...]:
    """The values of COLUMNS of a key frame that was seen until `last_ns`."""
    own = frame.camera, frame.frame_id, frame.first_ns, last_ns, frame.stamp_ns, frame.novelty, frame.cluster
    return (*own, frame.jpeg, *_pose_row(frame.pose), frame.checksum)


def key_frame_of(row: Sequence[object]) -> KeyFrame | None:
    """The key frame of the values of COLUMNS; None if they are damaged."""
    *fields, checksum = row
    own, pose = fields[:-POSE_VALUES], fields[-POSE_VALUES:]
    try:
        frame = KeyFrame(*own, _pose_of(pose, own[4]))  # type: ignore[call-arg, arg-type]
        return frame if frame.checksum == checksum else None
    except (TypeError, ValueError, struct.error):
        return None


def _pose_row(pose: MaybePose) -> tuple[object, ...]:
    if isinstance(pose, UnknownPose):
        return (pose.reason, *[None] * (POSE_VALUES - 1))
    numbers = *pose.position, *pose.orientation
    return None, pose.frame_id, pose.map_id, *numbers, _COVARIANCE.pack(*pose.covariance)


def _pose_of(values: Sequence[object], stamp_ns: object) -> MaybePose:
    unknown, frame_id, map_id, x, y, z, *orientation, covariance = values
    if unknown is not None:
        return UnknownPose(unknown)  # type: ignore[arg-type]
    numbers = _COVARIANCE.unpack(covariance)  # type: ignore[arg-type]
    return Pose((x, y, z), tuple(orientation), frame_id, map_id, stamp_ns, numbers)  # type: ignore[arg-type]
