"""The one way from this package to a node's log."""

from __future__ import annotations

from flash_vstream_ros.engine.log_text import log_entry
from flash_vstream_ros.ros import Node, ok


class NodeLog:
    """Writes to a node's logger. No text from outside can forge a log line, control a terminal or fill the disk.

    Silent after shutdown, when rclpy complains that /rosout is gone.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    # A line of code each: rclpy allows one severity for each place that logs.
    def info(self, text: str) -> None:
        if ok():
            self._node.get_logger().info(log_entry(text))

    def warning(self, text: str) -> None:
        if ok():
            self._node.get_logger().warning(log_entry(text))

    def error(self, text: str) -> None:
        if ok():
            self._node.get_logger().error(log_entry(text))
