#!/usr/bin/env python3
"""Exchange messages, node names and service calls between two processes, and print what arrives.

Start it twice at the same time in one ROS domain, once on each of the two runtimes or middlewares:

    FLASH_VSTREAM_RUNTIME=embedded python scripts/middleware_peers.py left right
    FLASH_VSTREAM_RUNTIME=rclpy    python scripts/middleware_peers.py right left
"""

from __future__ import annotations

import argparse
import threading
import time
from typing import Any

from flash_vstream_ros.ros import (
    DurabilityPolicy,
    MultiThreadedExecutor,
    Node,
    QoSProfile,
    ReliabilityPolicy,
    init,
    middleware,
    shutdown,
)
from flash_vstream_ros.ros.interfaces import AskScene, Image, String
from flash_vstream_ros.ros.service_peers import why_unanswerable

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
DISCOVERY_S = 5.0
CALLS = 3


class Peer:
    """Publishes on topics with its own name, and subscribes to those with the other's name."""

    def __init__(self, name: str, other: str) -> None:
        self.node = Node(name)
        self.received = {"strings": 0, "images": 0, "latched": 0}
        self._subscribe(String, f"strings_{other}", "strings", 10)
        self._subscribe(Image, f"images_{other}", "images", BEST_EFFORT)
        self._subscribe(String, f"latched_{other}", "latched", LATCHED)
        self._strings = self.node.create_publisher(String, f"strings_{name}", 10)
        self._images = self.node.create_publisher(Image, f"images_{name}", BEST_EFFORT)
        latched = self.node.create_publisher(String, f"latched_{name}", LATCHED)
        latched.publish(String(data="latched"))
        self.node.create_service(AskScene, f"ask_{name}", lambda request, response: response)
        self.client = self.node.create_client(AskScene, f"ask_{other}")

    def _subscribe(self, kind: Any, topic: str, what: str, qos: Any) -> None:
        def count(_: Any) -> None:
            self.received[what] += 1

        self.node.create_subscription(kind, topic, count, qos)

    def publish(self) -> None:
        self._strings.publish(String(data="x"))
        self._images.publish(Image(height=10, width=10, step=30, encoding="rgb8", data=bytes(300)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("other")
    parser.add_argument("--seconds", type=float, default=15.0)
    args = parser.parse_args()
    init(args=[])
    peer = Peer(args.name, args.other)
    executor = MultiThreadedExecutor(4)
    executor.add_node(peer.node)
    spinning = threading.Thread(target=executor.spin, daemon=True)
    spinning.start()
    begin, calls, seen, reason = time.monotonic(), [], False, ""
    while (age := time.monotonic() - begin) < args.seconds:
        peer.publish()
        if age > DISCOVERY_S and len(calls) < CALLS:
            calls.append(peer.client.call_async(AskScene.Request()))
        seen = seen or (args.other, "/") in peer.node.get_node_names_and_namespaces()
        reason = reason or why_unanswerable(peer.node, f"ask_{args.other}")
        time.sleep(0.2)
    print(
        f"{args.name} ({middleware.identifier()}) received from {args.other}: {peer.received}, node seen: {seen}, "
        f"replies: {sum(call.done() for call in calls)} of {CALLS}; {reason}",
        flush=True,
    )
    executor.shutdown()
    peer.node.destroy_node()
    shutdown()
    spinning.join(5.0)


if __name__ == "__main__":
    main()
