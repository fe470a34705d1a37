"""The abstract memories of several cameras, each with the stamps that it is made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .scope import Scope
from .slot import Slot
from .star import AbstractAttention, AbstractMemory, StarConfig, pool_tokens


@dataclass(eq=False)
class _Summary:
    memory: AbstractMemory
    camera: str
    first_ns: int
    last_ns: int


class Summaries:
    """One abstract memory for each camera. Nothing in one can be told apart: it is shown, and goes, as a whole."""

    def __init__(self, attention: AbstractAttention, star: StarConfig) -> None:
        self._attention, self._star = attention, star
        self._by_camera: dict[str, _Summary] = {}

    def add(self, frame: Slot) -> None:
        """Take in one frame, whose detail is a square map."""
        nothing = AbstractMemory(self._attention, self._star)
        empty = _Summary(nothing, frame.camera, frame.first_ns, frame.last_ns)
        summary = self._by_camera.setdefault(frame.camera, empty)
        summary.memory.add(pool_tokens(frame.detail[None].float(), self._star.abstract_side)[0])
        summary.first_ns = min(summary.first_ns, frame.first_ns)
        summary.last_ns = max(summary.last_ns, frame.last_ns)

    def forget(self, scope: Scope) -> None:
        """Drop those that may hold anything of `scope`."""
        self._by_camera = {camera: own for camera, own in self._by_camera.items() if not scope.touches(own)}

    def shown(self, scope: Scope) -> Tensor:
        """Those that are made from nothing outside of `scope` [slots, tokens, dim], float32."""
        parts = [summary.memory.read() for summary in self._by_camera.values() if scope.covers(summary)]
        return torch.cat(parts) if parts else torch.zeros(0, 0, 0)

    @property
    def tensors(self) -> list[Tensor]:
        """All that they hold."""
        return [tensor for summary in self._by_camera.values() for tensor in summary.memory.tensors]
