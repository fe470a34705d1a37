"""Converts the messages that carry a pose, and back. Their definitions: geometry_msgs and nav_msgs."""

from __future__ import annotations

from typing import Any

from flash_vstream_ros.memory.pose import NO_COVARIANCE, BadPose, MaybePose, Pose, checked_pose
from flash_vstream_ros.ros.interfaces import Header, PoseWithCovarianceStamped
from flash_vstream_ros.ros.stamps import BadStamp, stamp_message, stamp_ns

POSE_STAMPED = "geometry_msgs/msg/PoseStamped"
TYPES = (POSE_STAMPED, "geometry_msgs/msg/PoseWithCovarianceStamped", "nav_msgs/msg/Odometry")


def pose_of(message: Any, fixed_frame: str, map_id: str) -> Pose:
    """The pose in a message of one of TYPES. Raises BadPose."""
    frame_id = str(message.header.frame_id).removeprefix("/")
    if frame_id != fixed_frame:
        raise BadPose(
            "foreign_frame", f"it is in the frame {frame_id[:64]!r}, but pose.fixed_frame is {fixed_frame!r}; set that"
        )
    try:
        nanoseconds = stamp_ns(message.header.stamp)
    except BadStamp as error:
        raise BadPose(error.reason, str(error)) from error
    has_covariance = hasattr(message.pose, "covariance")
    pose = message.pose.pose if has_covariance else message.pose
    covariance = tuple(map(float, message.pose.covariance)) if has_covariance else NO_COVARIANCE
    p, q = pose.position, pose.orientation
    return checked_pose(Pose((p.x, p.y, p.z), (q.x, q.y, q.z, q.w), frame_id, map_id, nanoseconds, covariance))


def pose_message(pose: MaybePose) -> PoseWithCovarianceStamped:
    """A message with the pose; an unknown one is the default message, with an empty frame_id."""
    message = PoseWithCovarianceStamped()
    if not isinstance(pose, Pose):
        return message
    message.header = Header(stamp=stamp_message(pose.stamp_ns), frame_id=pose.frame_id)
    position, orientation = message.pose.pose.position, message.pose.pose.orientation
    position.x, position.y, position.z = pose.position
    orientation.x, orientation.y, orientation.z, orientation.w = pose.orientation
    message.pose.covariance = list(pose.covariance)
    return message
