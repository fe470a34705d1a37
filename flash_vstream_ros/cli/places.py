"""Places on the command line: the options that limit a request to a circle, and poses as text."""

from __future__ import annotations

import argparse
import math
from typing import Any

from flash_vstream_ros.engine.log_text import printable

from .argument_types import point, positive

RADIUS_M = 2.0


def add_place_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--near` and `--radius`."""
    parser.add_argument(
        "--near", type=point, metavar="X,Y", help=f"{what} within --radius of this point in pose.fixed_frame [m]"
    )
    parser.add_argument(
        "--radius", type=positive, default=RADIUS_M, metavar="R", help="of --near [m] (default: %(default)g)"
    )


def circle(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments `near` and `radius` of the client's methods; empty without --near."""
    return {"near": args.near, "radius": args.radius} if args.near else {}


def pose_text(entry: Any) -> str:
    """The pose of a MemoryEntry."""
    if not entry.pose_known:
        return f"pose unknown ({printable(entry.pose_unknown)})"
    pose, frame = entry.pose.pose.pose, printable(entry.pose.header.frame_id)
    p, q = pose.position, pose.orientation
    heading = math.degrees(math.atan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y * q.y + q.z * q.z)))
    where = f"{frame} {printable(entry.map_id)}" if entry.map_id else frame
    return f"x {p.x:.2f} m, y {p.y:.2f} m, heading {heading:.0f} degrees in {where}"
