"""Publishes log lines on the topic /rosout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cdr import serialize
from .exceptions import InvalidHandle
from .logging import LoggingSeverity, add_sink, remove_sink
from .qos import DurabilityPolicy, QoSProfile
from .time import SECOND_NS
from .types import message_class

if TYPE_CHECKING:
    from .node import Node


class Rosout:
    """Publishes the log lines of a node's logger and of its children."""

    def __init__(self, node: Node) -> None:
        self._name = node.get_logger().name
        self._log = message_class("rcl_interfaces/msg/Log")
        self._stamp = message_class("builtin_interfaces/msg/Time")
        qos = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._publisher = node.create_publisher(self._log, "/rosout", qos)
        add_sink(self._publish)

    def _publish(self, level: LoggingSeverity, name: str, text: str, stamp: int) -> None:
        if name != self._name and not name.startswith(self._name + "."):
            return
        seconds, nanoseconds = divmod(stamp, SECOND_NS)
        message = self._log(stamp=self._stamp(sec=seconds, nanosec=nanoseconds), level=int(level), name=name, msg=text)
        try:
            # Not with Publisher.publish(), since its warnings would be published again.
            self._publisher.writer.write(serialize(message))
        except InvalidHandle:
            self.close()

    def close(self) -> None:
        remove_sink(self._publish)
