"""The pose of a memory entry as text."""

from __future__ import annotations

import math
from typing import Any

from flash_vstream_ros.engine.log_text import printable


def pose_text(entry: Any) -> str:
    """The pose of a MemoryEntry."""
    if not entry.pose_known:
        return f"pose unknown ({printable(entry.pose_unknown)})"
    pose, frame = entry.pose.pose.pose, printable(entry.pose.header.frame_id)
    p, q = pose.position, pose.orientation
    heading = math.degrees(math.atan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y * q.y + q.z * q.z)))
    where = f"{frame} {printable(entry.map_id)}" if entry.map_id else frame
    return f"x {p.x:.2f} m, y {p.y:.2f} m, heading {heading:.0f} degrees in {where}"
