"""Camera images over the wire: how many reach the node's callback, and how long it holds the executor.

A process of its own publishes images at a camera's rate; the real node, with the tiny model, receives them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flash_vstream_ros.node import VStreamNode

SETTLE_S = 2.0
STAMP_BASE_NS = 1_000_000_000_000


def publish(width: int, height: int, hertz: float, frames: int) -> None:
    """The camera process: rgb8 images of noise, stamped at their nominal times."""
    import numpy as np

    from flash_vstream_ros.ros import Node, QoSProfile, ReliabilityPolicy, init, shutdown
    from flash_vstream_ros.ros.images import from_rgb
    from flash_vstream_ros.ros.interfaces import Image

    init()
    node = Node("camera")
    publisher = node.create_publisher(Image, "image", QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
    picture = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    while publisher.get_subscription_count() == 0:
        time.sleep(0.05)
    time.sleep(SETTLE_S)
    start = time.monotonic()
    for index in range(frames):
        publisher.publish(from_rgb(picture, STAMP_BASE_NS + round(index * 1e9 / hertz), "", Image))
        time.sleep(max(0.0, start + (index + 1) / hertz - time.monotonic()))
    time.sleep(SETTLE_S)
    node.destroy_node()
    shutdown()


@contextmanager
def running(node_type: type[VStreamNode], args: Sequence[str]) -> Iterator[tuple[VStreamNode, threading.Thread]]:
    """The node and the thread that spins it, in this process; closed in the order of the node's own main."""
    from flash_vstream_ros.ros import MultiThreadedExecutor, init, shutdown

    init(args=args)
    node = node_type()
    executor = MultiThreadedExecutor(num_threads=node.threads_needed)
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
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
    from flash_vstream_ros.cameras import Camera
    from flash_vstream_ros.node import VStreamNode
    from flash_vstream_ros.ros.private_domain import use_private_domain

    use_private_domain()

    held: list[float] = []

    class TimedCamera(Camera):
        def _receive(self, message: Any) -> None:
            begin = time.perf_counter()
            super()._receive(message)
            held.append(time.perf_counter() - begin)

    class TimedNode(VStreamNode):
        camera_type = TimedCamera

    frames = round(hertz * seconds)
    camera = [sys.executable, "-m", __name__, str(width), str(height), str(hertz), str(frames)]
    parameters = ["-p", "model.name:=tiny-random", "-p", "model.max_pixels:=50176"]
    with running(TimedNode, ["bench", "--ros-args", *parameters]):
        subprocess.run(camera, check=True, timeout=seconds + 120)
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--width", type=int, default=640, help="of an image [pixels]")
    parser.add_argument("--height", type=int, default=480, help="of an image [pixels]")
    parser.add_argument("--hertz", type=float, default=30.0, help="images a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long")


if __name__ == "__main__":
    publish(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
