"""Transport of camera images: how many reach the node's callback, and how long the callback occupies the executor.

A second process publishes images at a camera's rate; the real node, with the tiny model, receives them.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import camera_process

if TYPE_CHECKING:
    from flash_vstream_ros.node.vstream_node import VStreamNode


@contextmanager
def running(node_type: type[VStreamNode], args: Sequence[str]) -> Iterator[tuple[VStreamNode, threading.Thread]]:
    """The node and the thread that spins it, in this process; closed in the order of the node's own main."""
    from flash_vstream_ros.engine.throttled_log import ThrottledLog
    from flash_vstream_ros.node.callback_guard import spin_guarded
    from flash_vstream_ros.ros import MultiThreadedExecutor, init, shutdown

    init(args=args)
    node = node_type()
    executor = MultiThreadedExecutor(num_threads=node.threads_needed)
    executor.add_node(node)
    spinning = threading.Thread(target=spin_guarded, args=(executor, ThrottledLog(node.log.error)))
    spinning.start()
    try:
        yield node, spinning
    finally:
        node.close()
        executor.shutdown()
        spinning.join()
        node.destroy_node()
        shutdown()


def run(width: int = 640, height: int = 480, hertz: float = 30.0, seconds: float = 10.0) -> dict[str, Any]:
    """Share of frames received, and the callback's duration in seconds."""
    from flash_vstream_ros.node.cameras import Camera
    from flash_vstream_ros.node.vstream_node import VStreamNode
    from flash_vstream_ros.ros.middleware import use_shipped_profile
    from flash_vstream_ros.ros.private_domain import use_private_domain

    use_private_domain()
    use_shipped_profile()

    held: list[float] = []

    class TimedCamera(Camera):
        def _receive(self, message: Any) -> None:
            begin = time.perf_counter()
            super()._receive(message)
            held.append(time.perf_counter() - begin)

    class TimedNode(VStreamNode):
        camera_type = TimedCamera

    frames = round(hertz * seconds)
    parameters = ["-p", "model.name:=tiny-random", "-p", "model.max_pixels:=50176"]
    with running(TimedNode, ["bench", "--ros-args", *parameters]):
        camera_process.start("image", width, height, hertz, frames).communicate(timeout=seconds + 120)
    p99 = statistics.quantiles(held, n=100)[98] if len(held) > 1 else 0.0
    return {
        "width": width,
        "height": height,
        "hertz": hertz,
        "sent": frames,
        "received": len(held),
        "share": len(held) / frames,
        "callback_p50_s": statistics.median(held) if held else 0.0,
        "callback_p99_s": p99,
    }


def show(result: dict[str, Any]) -> None:
    print(
        f"{result['width']}x{result['height']} rgb8 at {result['hertz']:g} Hz: {result['received']} of {result['sent']}"
        f" frames reached the callback ({100 * result['share']:.1f} %),"
        f" which took {1e3 * result['callback_p50_s']:.3f} ms (p99 {1e3 * result['callback_p99_s']:.3f} ms)"
    )
