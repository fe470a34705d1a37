"""The memory of evenly spaced slots of the whole stream, without holding all of them to choose from."""

from __future__ import annotations

from .whole_slots import Numbered, WholeSlots


class UniformSlots(WholeSlots):
    """Every so many-th slot of each camera, and its newest. When there are too many, every other one is let go.

    So there are as many as fit, or down to half of that, and from one to the next it is always as many slots.
    """

    every_camera = True

    def reset(self) -> None:
        super().reset()
        self._stride = 1

    def _chosen(self, held: list[Numbered]) -> list[Numbered]:
        newest = {one.slot.camera: one for one in held}.values()
        while True:
            kept = [one for one in held if one.number % self._stride == 0 or one in newest]
            if len(kept) <= self.capacity:
                return kept
            if all(one.number < self._stride for one in kept):
                # As many cameras as slots: there is no room for the first ones of all.
                return [one for one in held if one in newest]
            self._stride *= 2
