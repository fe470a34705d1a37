"""A camera in its own process: publishes rgb8 noise images at a steady rate, stamped with their nominal times."""

from __future__ import annotations

import json
import subprocess
import sys
import time

SETTLE_S = 2.0
STAMP_BASE_NS = 1_000_000_000_000
DEPTH = 5


def start(
    topic: str, width: int, height: int, hertz: float, frames: int, reliability: str = "best_effort"
) -> subprocess.Popen[str]:
    """Start the process. It publishes once there is a subscription, and prints the result of `publish` as JSON."""
    arguments = [topic, str(width), str(height), str(hertz), str(frames), reliability]
    return subprocess.Popen([sys.executable, "-m", __name__, *arguments], stdout=subprocess.PIPE, text=True)


def frame_number(stamp_ns: int, hertz: float) -> int:
    """Number of the image with this stamp, from 0."""
    return round((stamp_ns - STAMP_BASE_NS) * hertz / 1e9)


def publish(topic: str, width: int, height: int, hertz: float, frames: int, reliability: str) -> dict[str, float]:
    """Send `frames` images.

    Returns the number of images sent, how many of them were dropped since a reliable subscription was too slow, and the
    largest delay of an image [s].
    """
    import numpy as np

    from flash_vstream_ros.ros import Node, QoSProfile, ReliabilityPolicy, init, shutdown
    from flash_vstream_ros.ros.images import from_rgb
    from flash_vstream_ros.ros.interfaces import Image
    from flash_vstream_ros.ros.stamps import stamp_message

    init(args=[])
    node = Node(topic.replace("/", "_") + "_driver")
    qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy[reliability.upper()])
    publisher = node.create_publisher(Image, topic, qos)
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    message = from_rgb(image, 0, "", Image)
    while publisher.get_subscription_count() == 0:
        time.sleep(0.05)
    time.sleep(SETTLE_S)
    begun, late, sent = time.monotonic(), 0.0, 0
    for index in range(frames):
        message.header.stamp = stamp_message(STAMP_BASE_NS + round(index * 1e9 / hertz))
        publisher.publish(message)
        sent += 1
        ahead = begun + (index + 1) / hertz - time.monotonic()
        late = max(late, -ahead)
        time.sleep(max(0.0, ahead))
    time.sleep(SETTLE_S)
    node.destroy_node()
    shutdown()
    return {"sent": sent, "given_up": getattr(publisher, "dropped_samples", 0), "late_s": late}


if __name__ == "__main__":
    _, topic, width, height, hertz, frames, reliability = sys.argv
    print(json.dumps(publish(topic, int(width), int(height), float(hertz), int(frames), reliability)))
