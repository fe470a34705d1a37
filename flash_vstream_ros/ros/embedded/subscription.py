"""Subscription, as rclpy.subscription."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .callback_groups import CallbackGroup
from .cdr import CorruptSample, deserialize
from .messages import Message
from .qos import QoSProfile
from .waitable import Waitable, Work

if TYPE_CHECKING:
    from .node import Node
    from .wire import Reader, Sample


class Subscription(Waitable):
    """Its samples wait in the reader, where newer ones replace older ones, until a callback can begin."""

    reader: Reader

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
        super().__init__(callback_group)
        self._node = node
        self.msg_type = msg_type
        self.topic = topic
        self.topic_name = topic
        self.callback = callback
        self.qos_profile = qos
        self.raw = raw
        self.samples_dropped = 0
        self._with_info = _takes_two(callback)

    def take(self) -> Work | None:
        self.signalled = False
        sample = self.reader.take()
        if sample is None:
            return None
        self.signalled = True  # there may be more
        return lambda: self._run(sample)

    def _run(self, sample: Sample) -> None:
        message = bytes(sample.raw) if self.raw else self._deserialize(sample)
        if message is None:
            return
        if self._with_info:
            info = {"source_timestamp": sample.source_timestamp, "received_timestamp": time.time_ns()}
            self.callback(message, info)
        else:
            self.callback(message)

    def _deserialize(self, sample: Sample) -> Any:
        logger = self._node.get_logger()
        try:
            message, repaired = deserialize(sample.raw, self.msg_type)
        except CorruptSample as error:
            self.samples_dropped += 1
            text = f"{self.topic}: {self.samples_dropped} messages dropped, the last because {error}"
            logger.warning(text, throttle_duration_sec=5.0)
            return None
        if repaired:
            text = f"{self.topic}: text that is not UTF-8, its bad bytes became '?'"
            logger.warning(text, throttle_duration_sec=5.0)
        return message

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
