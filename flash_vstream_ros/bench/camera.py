"""Transport of camera images: how many reach the node's callback, and how long the callback takes.

A second process publishes images at a camera's rate; the real node, with the tiny model, receives them.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from flash_vstream_ros.instruments import camera_process

from .cameras import p99


def run(width: int = 640, height: int = 480, hertz: float = 30.0, seconds: float = 10.0) -> dict[str, Any]:
    """Share of frames received, and the callback's duration in seconds."""
    from flash_vstream_ros.instruments.running_node import running_node
    from flash_vstream_ros.node.cameras import Camera
    from flash_vstream_ros.node.vstream_node import PROGRAM_HOOKS, VStreamNode
    from flash_vstream_ros.ros.middleware import use_shipped_profile
    from flash_vstream_ros.ros.private_domain import use_private_domain

    use_private_domain()
    use_shipped_profile()

    callback_s: list[float] = []

    class TimedCamera(Camera):
        def _receive(self, message: Any) -> None:
            begin = time.perf_counter()
            super()._receive(message)
            callback_s.append(time.perf_counter() - begin)

    class TimedNode(VStreamNode):
        camera_type = TimedCamera

    frames = round(hertz * seconds)
    parameters = ["-p", "model.name:=tiny-random", "-p", "model.max_pixels:=50176"]
    with running_node(TimedNode, ["bench", "--ros-args", *parameters], PROGRAM_HOOKS):
        camera_process.start("image", width, height, hertz, frames).communicate(timeout=seconds + 120)
    return {
        "width": width,
        "height": height,
        "hertz": hertz,
        "sent": frames,
        "received": len(callback_s),
        "share": len(callback_s) / frames,
        "callback_p50_s": statistics.median(callback_s) if callback_s else 0.0,
        "callback_p99_s": p99(callback_s),
    }


def show(result: dict[str, Any]) -> None:
    print(
        f"{result['width']}x{result['height']} rgb8 at {result['hertz']:g} Hz: {result['received']} of {result['sent']}"
        f" frames reached the callback ({100 * result['share']:.1f} %),"
        f" which took {1e3 * result['callback_p50_s']:.3f} ms (p99 {1e3 * result['callback_p99_s']:.3f} ms)"
    )
