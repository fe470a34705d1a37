"""Publisher, as in rclpy.publisher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import cyclone
from .cdr import serialize
from .messages import Message
from .qos import QoSProfile
from .time import Duration

if TYPE_CHECKING:
    from .dds import Writer
    from .node import Node


class Publisher:
    """Publishes messages of one type on a topic."""

    writer: Writer

    def __init__(self, node: Node, msg_type: type[Message], topic: str, qos: QoSProfile) -> None:
        self._node = node
        self.msg_type = msg_type
        self.topic_name = topic
        self.qos_profile = qos
        self.dropped_samples = 0

    def publish(self, msg: Any) -> None:
        """Publish a message, or its CDR bytes.

        A message that a slow reliable subscriber blocks for 0.1 s is dropped with a warning. Raises TypeError for
        another message type, and ValueError for a value that does not fit its field.
        """
        if isinstance(msg, (bytes, bytearray)):
            raw = bytearray(msg)
        elif isinstance(msg, self.msg_type):
            raw = serialize(msg)
        else:
            raise TypeError(f"Expected {self.msg_type.__name__} on {self.topic_name}, got {type(msg).__name__}")
        if not self.writer.write(raw):
            self.dropped_samples += 1
            self._node.get_logger().warning(
                f"{self.topic_name}: {self.dropped_samples} messages dropped, since a reliable subscriber is too slow; "
                "publish less or let it request best effort",
                throttle_duration_sec=5.0,
            )

    def get_subscription_count(self) -> int:
        """Number of subscriptions that are matched now."""
        return len(self.writer.entity.get_matched_subscriptions())

    def wait_for_all_acked(self, timeout: Duration) -> bool:
        """Returns True if every reliable subscription acknowledges everything within `timeout`."""
        return cyclone.wait_for_acks(self.writer.entity, timeout.nanoseconds)
