"""The abstract memories of several cameras, each with the stamps that it is made from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from .slot import Slot
from .spans import Interval
from .star import AbstractAttention, AbstractMemory, StarConfig, pool_tokens


@dataclass(eq=False)
class _Summary:
    memory: AbstractMemory
    first_ns: int
    last_ns: int


class Summaries:
    """One abstract memory for each camera. Nothing in one can be told apart: it is shown, and goes, as a whole."""

    def __init__(self, attention: AbstractAttention, star: StarConfig) -> None:
        self._attention, self._star = attention, star
        self._by_camera: dict[str, _Summary] = {}

    def add(self, frame: Slot) -> None:
        """Take in one frame, whose detail is a square map."""
        empty = _Summary(AbstractMemory(self._attention, self._star), frame.first_ns, frame.last_ns)
        summary = self._by_camera.setdefault(frame.camera, empty)
        summary.memory.add(pool_tokens(frame.detail[None].float(), self._star.abstract_side)[0])
        summary.first_ns = min(summary.first_ns, frame.first_ns)
        summary.last_ns = max(summary.last_ns, frame.last_ns)

    def forget(self, cameras: Collection[str], interval: Interval) -> None:
        """Drop those of `cameras` (none given: all) that may hold anything of the interval."""
        self._by_camera = {
            camera: summary
            for camera, summary in self._by_camera.items()
            if (cameras and camera not in cameras) or not interval.touches(summary.first_ns, summary.last_ns)
        }

    def shown(self, cameras: Collection[str], interval: Interval) -> Tensor:
        """Those of `cameras` (none given: all) that are made from nothing else [slots, tokens, dim], float32."""
        parts = [
            summary.memory.read()
            for camera, summary in self._by_camera.items()
            if (not cameras or camera in cameras) and interval.covers(summary.first_ns, summary.last_ns)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, 0, 0)

    @property
    def tensors(self) -> list[Tensor]:
        """All that they hold."""
        return [tensor for summary in self._by_camera.values() for tensor in summary.memory.tensors]
