"""The status of poses in /diagnostics."""

from __future__ import annotations

from flash_vstream_ros.node.diagnostics import Level, Report

from .pose_source import PoseCounts


def pose_report(counts: PoseCounts) -> Report:
    """WARN while the pose of the newest frame is unknown."""
    unknown = sum(count for _, count in counts.unknown)
    looked_up = counts.known + unknown
    level, message = Level.OK, f"poses of {counts.known} of {looked_up} frames are known"
    if counts.last_unknown:
        level, message = Level.WARN, f"the pose of the newest frame is unknown: {counts.last_unknown}"
    values = [("known", counts.known)]
    values += [(f"unknown: {reason}", count) for reason, count in counts.unknown]
    values += [(f"refused: {reason}", count) for reason, count in counts.refused]
    return Report("poses", level, message, tuple((name, str(value)) for name, value in values))
