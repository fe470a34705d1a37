"""Retention policy `recent`: a sliding window over the stream."""

from __future__ import annotations

from .slot_buffer import NumberedSlot, SlotBuffer


class RecentSlots(SlotBuffer):
    """Keeps the newest slots, whatever their camera."""

    def _select(self, slots: list[NumberedSlot]) -> list[NumberedSlot]:
        return slots[-self.capacity :]
