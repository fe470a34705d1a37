"""Subscription and its events, as in rclpy.subscription and rclpy.event_handler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cyclonedds.core import DDSException, DDSStatus

from .callback_groups import CallbackGroup
from .messages import Message
from .qos import QoSProfile
from .receiver import Receiver
from .waitable import Waitable, Work

if TYPE_CHECKING:
    from .cyclone import Sample
    from .dds import Reader
    from .node import Node


@dataclass
class SubscriptionEventCallbacks:
    """Callbacks for events of a subscription. The default callback reports publishers with incompatible QoS."""

    message_lost: Callable[[Any], None] | None = None  # gets total_count and total_count_change
    use_default_callbacks: bool = True


class LostMessages(Waitable):
    """Calls `callback` in the executor when messages were lost on the way to a reader."""

    reader: Any = None  # set after construction

    def __init__(self, callback_group: CallbackGroup, callback: Callable[[Any], None]) -> None:
        super().__init__(callback_group)
        self._callback = callback

    def take(self) -> Work | None:
        self.signalled = False
        try:
            status = self.reader.get_sample_lost_status()
        except DDSException:  # the reader was destroyed
            return None
        return lambda: self._callback(status)


class Subscription(Receiver):
    """A subscription. Samples wait in the reader until a callback can begin; newer ones replace older ones."""

    def __init__(
        self,
        node: Node,
        msg_type: type[Message],
        topic: str,
        callback: Callable[[Any], None],
        callback_group: CallbackGroup,
        qos: QoSProfile,
        events: SubscriptionEventCallbacks | None,
    ) -> None:
        super().__init__(node, topic, "messages", callback_group)
        events = events or SubscriptionEventCallbacks()
        self.lost_messages = LostMessages(callback_group, events.message_lost) if events.message_lost else None
        self._reports_incompatible_qos = events.use_default_callbacks
        self.msg_type = msg_type
        self.topic_name = topic
        self.callback = callback
        self.qos_profile = qos

    def on_status(self, reader: Reader, status: int) -> None:
        if self.lost_messages and status & DDSStatus.SampleLost:
            self.lost_messages.signalled = True
        if self._reports_incompatible_qos and status & DDSStatus.RequestedIncompatibleQos:
            self._node.watch_qos(reader, self.topic_name, self.qos_profile)
        super().on_status(reader, status)

    def take(self) -> Work | None:
        self.signalled = False
        sample = self.reader.take()
        if sample is None:
            return None
        self.signalled = True  # there may be more
        return lambda: self._run(sample)

    def _run(self, sample: Sample) -> None:
        message = self._deserialize(sample, self.msg_type)
        if message is not None:
            self.callback(message)
