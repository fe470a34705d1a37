"""The memory of the newest slots: what a window that slides over the stream shows."""

from __future__ import annotations

from .whole_slots import Numbered, WholeSlots


class RecentSlots(WholeSlots):
    """The newest slots, whatever their camera; what is older is gone."""

    def _chosen(self, held: list[Numbered]) -> list[Numbered]:
        return held[-self.capacity :]
