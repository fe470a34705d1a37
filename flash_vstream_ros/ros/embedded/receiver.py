"""Base of subscriptions, services and clients: a reader whose samples are passed to a callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyclonedds.core import DDSStatus

from .callback_groups import CallbackGroup
from .cdr import CorruptSample, deserialize
from .waitable import Waitable

if TYPE_CHECKING:
    from .cyclone import Sample
    from .dds import Reader
    from .node import Node


class Receiver(Waitable):
    """A reader with a callback. `noun` names its samples in log lines."""

    reader: Reader

    def __init__(self, node: Node, name: str, noun: str, callback_group: CallbackGroup) -> None:
        super().__init__(callback_group)
        self._node = node
        self._name = name
        self._noun = noun
        self.samples_dropped = 0

    def on_status(self, reader: Reader, status: int) -> None:
        """Handle a change of the reader's DDS status. Called on the DDS thread, maybe before `self.reader` is set."""
        if status & DDSStatus.DataAvailable:
            self.on_data(reader)
        self._node.context.notifier.notify()

    def on_data(self, reader: Reader) -> None:
        """Note that samples have arrived."""
        self.signalled = True

    def _deserialize(self, sample: Sample, message_type: Any, header_size: int = 0) -> Any:
        """The message, or None for a corrupt sample, which is counted and logged."""
        try:
            message, repaired = deserialize(sample.raw, message_type, header_size)
        except CorruptSample as error:
            self._drop(str(error))
            return None
        if repaired:
            text = f"{self._name}: received text that is not UTF-8; its invalid bytes became '?'"
            self._node.get_logger().warning(text, throttle_duration_sec=5.0)
        return message

    def _drop(self, reason: str, count: int = 1) -> None:
        self.samples_dropped += count
        text = f"{self._name}: {self.samples_dropped} {self._noun} dropped, the last because {reason}"
        self._node.get_logger().warning(text, throttle_duration_sec=5.0)
