"""Retention policy `uniform`: evenly spaced slots of the whole stream, chosen online."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .slot_buffer import NumberedSlot, SlotBuffer


class UniformSlots(SlotBuffer):
    """Keeps every n-th slot of each camera, and its newest one. When the buffer is full, n doubles.

    So the buffer is at least half full, and its slots are n slots apart.
    """

    keeps_every_camera = True

    def reset(self) -> None:
        super().reset()
        self._stride = 1

    def _select(self, slots: list[NumberedSlot]) -> list[NumberedSlot]:
        newest = {numbered.slot.camera: numbered for numbered in slots}.values()
        while True:
            kept = [numbered for numbered in slots if numbered.number % self._stride == 0 or numbered in newest]
            if len(kept) <= self.capacity:
                return kept
            if all(numbered.number < self._stride for numbered in kept):
                # With as many cameras as slots there is no room for the first slots of all cameras.
                return [numbered for numbered in slots if numbered in newest]
            self._stride *= 2

    def _selection_state(self) -> dict[str, int]:
        return {"stride": self._stride}

    def _restore_selection(self, values: Mapping[str, Any]) -> None:
        self._stride = int(values["stride"])
