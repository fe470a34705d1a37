"""Subscription, as rclpy.subscription."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .callback_groups import CallbackGroup
from .event_handler import NO_EVENTS, EntityEvents
from .messages import Message
from .qos import QoSProfile
from .receiver import Receiver

if TYPE_CHECKING:
    from .node import Node
    from .wire import Sample


class Subscription(Receiver):
    events: EntityEvents = NO_EVENTS

    def __init__(
        self,
        node: Node,
        msg_type: type[Message],
        topic: str,
        callback: Callable[..., None],
        callback_group: CallbackGroup,
        qos: QoSProfile,
        raw: bool,
    ) -> None:
        super().__init__(node, topic, "messages", callback_group)
        self.msg_type = msg_type
        self.topic = topic
        self.topic_name = topic
        self.callback = callback
        self.qos_profile = qos
        self.raw = raw
        self._with_info = _takes_two(callback)

    def _run(self, sample: Sample) -> None:
        message = bytes(sample.raw) if self.raw else self._deserialize(sample, self.msg_type)
        if message is None:
            return
        if self._with_info:
            info = {"source_timestamp": sample.source_timestamp, "received_timestamp": time.time_ns()}
            self.callback(message, info)
        else:
            self.callback(message)

    def get_publisher_count(self) -> int:
        """How many publishers are matched now."""
        return len(self.reader.entity.get_matched_publications())

    def destroy(self) -> None:
        self._node.destroy_subscription(self)


def _takes_two(callback: Callable[..., None]) -> bool:
    """Whether a callback wants the message's information as a second argument."""
    try:
        parameters = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters) == 2
