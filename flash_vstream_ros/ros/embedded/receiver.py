"""What subscriptions and services share: samples taken from a reader, just before their callback begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .callback_groups import CallbackGroup
from .cdr import CorruptSample, deserialize
from .waitable import Waitable, Work

if TYPE_CHECKING:
    from .node import Node
    from .wire import Reader, Sample


class Receiver(Waitable):
    """Its samples wait in the reader, where newer ones replace older ones, until a callback can begin."""

    reader: Reader

    def __init__(self, node: Node, name: str, noun: str, callback_group: CallbackGroup) -> None:
        super().__init__(callback_group)
        self._node = node
        self._name = name
        self._noun = noun
        self.samples_dropped = 0

    def take(self) -> Work | None:
        self.signalled = False
        sample = self.reader.take()
        if sample is None:
            return None
        self.signalled = True  # there may be more
        return lambda: self._run(sample)

    def _run(self, sample: Sample) -> None:
        """Hand the sample to the callback."""
        raise NotImplementedError

    def _deserialize(self, sample: Sample, message_type: Any, header_size: int = 0) -> Any:
        """The message, or None for a corrupt sample, which is counted and said."""
        logger = self._node.get_logger()
        try:
            message, repaired = deserialize(sample.raw, message_type, header_size)
        except CorruptSample as error:
            self.samples_dropped += 1
            text = f"{self._name}: {self.samples_dropped} {self._noun} dropped, the last because {error}"
            logger.warning(text, throttle_duration_sec=5.0)
            return None
        if repaired:
            text = f"{self._name}: text that is not UTF-8, its bad bytes became '?'"
            logger.warning(text, throttle_duration_sec=5.0)
        return message
