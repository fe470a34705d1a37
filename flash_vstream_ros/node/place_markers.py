"""Markers of remembered places, an arrow at the pose of each memory entry. Definition: visualization_msgs/Marker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flash_vstream_ros.memory.pose import Pose
from flash_vstream_ros.memory.slot import EntryKind, MemoryEntry
from flash_vstream_ros.ros import load_interface
from flash_vstream_ros.ros.stamps import stamp_message

from .poses.pose_messages import pose_message

MARKER, MARKER_ARRAY = "visualization_msgs/msg/Marker", "visualization_msgs/msg/MarkerArray"
# Length, width and height [m]; key frames stand out among the synopsis.
SIZES = {EntryKind.DAM: (0.6, 0.12, 0.12), EntryKind.CSM: (0.35, 0.07, 0.07)}
COLOURS = {EntryKind.DAM: (1.0, 0.8, 0.1, 1.0), EntryKind.CSM: (0.25, 0.5, 1.0, 0.8)}  # red, green, blue, opacity


def marker_array_type() -> Any | None:
    """The class of visualization_msgs/MarkerArray; None if the package is not installed."""
    try:
        return load_interface(MARKER_ARRAY)
    except LookupError:
        return None


def place_markers(entries: Sequence[MemoryEntry], map_id: str) -> Any:
    """A MarkerArray of the entries whose pose is known in the map `map_id`, a namespace for each camera.

    It replaces the markers of all arrays before. An arrow points as the pose does, along its x axis.
    """
    marker_type = load_interface(MARKER)
    markers = [marker_type(action=marker_type.DELETEALL)]
    for number, entry in enumerate(entries):
        pose = entry.pose
        if not isinstance(pose, Pose) or pose.map_id != map_id:
            continue
        marker = marker_type(ns=entry.camera, id=number, type=marker_type.ARROW, action=marker_type.ADD)
        marker.header.frame_id, marker.header.stamp = pose.frame_id, stamp_message(0)  # zero: the newest transform
        marker.pose = pose_message(pose).pose.pose
        marker.scale.x, marker.scale.y, marker.scale.z = SIZES[entry.kind]
        marker.color.r, marker.color.g, marker.color.b, marker.color.a = COLOURS[entry.kind]
        markers.append(marker)
    return load_interface(MARKER_ARRAY)(markers=markers)
