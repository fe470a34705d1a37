"""Settings of the source of poses."""

from __future__ import annotations

from dataclasses import dataclass

from flash_vstream_ros.memory.region import Near

SOURCES = ("none", "topic", "tf")


@dataclass(frozen=True)
class PoseConfig:
    """The parameters pose.*."""

    source: str = SOURCES[0]
    topic: str = "pose"
    fixed_frame: str = "map"
    robot_frame: str = ""  # tf only; "": the camera's frame
    map_id: str = ""
    max_wait_s: float = 0.2

    @property
    def enabled(self) -> bool:
        return self.source != "none"

    def circle(self, x: float, y: float, radius: float) -> Near:
        """A circle in the present map."""
        return Near(x, y, radius, self.fixed_frame, self.map_id)
