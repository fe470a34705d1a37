"""Part of the parameter table: the source of poses."""

from __future__ import annotations

from flash_vstream_ros.node.poses.pose_config import SOURCES

from .parameter_spec import ParameterSpec

POSE_PARAMETERS = (
    ParameterSpec(
        "pose.source",
        SOURCES[0],
        "Source of the poses of frames. topic: pose.topic; tf: tf2, which needs ROS 2's tf2_ros; none: all are unknown",
        choices=SOURCES,
    ),
    ParameterSpec(
        "pose.topic",
        "pose",
        "Topic of the robot's poses: geometry_msgs/PoseStamped, geometry_msgs/PoseWithCovarianceStamped or "
        "nav_msgs/Odometry, several times per second",
    ),
    ParameterSpec("pose.fixed_frame", "map", "Frame in which poses are kept; poses on pose.topic must be in it"),
    ParameterSpec(
        "pose.robot_frame",
        "",
        "Frame whose pose is kept with pose.source tf, such as base_link for goals of Nav2; empty: the camera's frame",
    ),
    ParameterSpec(
        "pose.map_id",
        "",
        "Name of the map that the robot is localised in; change it whenever the robot loads another map. Poses keep "
        "the name they were recorded with",
        live=True,
    ),
    ParameterSpec(
        "pose.max_wait_s",
        0.2,
        "Longest time that a frame waits for its pose, by the steady clock; then its pose is unknown [s]",
        (0.0, 5.0),
        live=True,
    ),
)
