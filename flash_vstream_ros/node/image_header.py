"""Checks the header of an image message."""

from __future__ import annotations

from typing import Any

from flash_vstream_ros.ros.images import BadImage
from flash_vstream_ros.ros.stamps import BadStamp, stamp_ns

LONGEST_FRAME_ID = 256  # characters


def checked_header(header: Any) -> tuple[int, str]:
    """Stamp [ns] and frame_id of a std_msgs/Header. Raises BadImage if either is out of bounds."""
    try:
        nanoseconds = stamp_ns(header.stamp)
    except BadStamp as error:
        raise BadImage(error.reason, f"{error}; fix header.stamp in the camera driver") from error
    if len(header.frame_id) > LONGEST_FRAME_ID:
        raise BadImage(
            "frame_id_too_long",
            f"its frame_id has {len(header.frame_id)} characters; at most {LONGEST_FRAME_ID} are accepted:"
            " shorten it in the camera driver",
        )
    return nanoseconds, str(header.frame_id)
