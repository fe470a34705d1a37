"""Publisher, as rclpy.publisher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .cdr import serialize
from .duration import Duration
from .event_handler import NO_EVENTS, EntityEvents
from .messages import Message
from .qos import QoSProfile

if TYPE_CHECKING:
    from .node import Node
    from .wire import Writer


class Publisher:
    writer: Writer
    events: EntityEvents = NO_EVENTS

    def __init__(self, node: Node, msg_type: type[Message], topic: str, qos: QoSProfile) -> None:
        self._node = node
        self.msg_type = msg_type
        self.topic = topic
        self.topic_name = topic
        self.qos_profile = qos
        self.samples_given_up = 0

    def publish(self, msg: Any) -> None:
        """Publish a message, or the CDR bytes of one.

        Raises TypeError for another type, ValueError for a field that does not fit its type. A sample that slow
        reliable subscribers keep out for 0.1 s is given up with a warning.
        """
        if isinstance(msg, (bytes, bytearray)):
            raw = bytearray(msg)
        elif isinstance(msg, self.msg_type):
            raw = serialize(msg)
        else:
            raise TypeError(f"Expected {self.msg_type.__name__} on {self.topic}, got {type(msg).__name__}")
        if not self.writer.write(raw):
            self.samples_given_up += 1
            self._node.get_logger().warning(
                f"{self.topic}: {self.samples_given_up} messages given up, a subscriber does not take them",
                throttle_duration_sec=5.0,
            )

    def get_subscription_count(self) -> int:
        """How many subscriptions are matched now."""
        return len(self.writer.entity.get_matched_subscriptions())

    def wait_for_all_acked(self, timeout: Duration | None = None) -> bool:
        """Whether every reliable subscription has got everything within `timeout` (None: without limit)."""
        return self.writer.wait_for_acks(None if timeout is None else timeout.nanoseconds)

    def destroy(self) -> None:
        self._node.destroy_publisher(self)
