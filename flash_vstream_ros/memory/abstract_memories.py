"""Abstract memories of several cameras (STAR), each with the interval of its frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .region import Region
from .scope import Scope
from .slot import Slot
from .star import AbstractAttention, AbstractMemory, StarConfig, pool_tokens


@dataclass(eq=False)
class _CameraMemory:
    memory: AbstractMemory
    camera: str
    first_ns: int
    last_ns: int
    region: Region


class AbstractMemories:
    """One abstract memory per camera. Its frames cannot be separated, so it is read or forgotten as a whole."""

    def __init__(self, attention: AbstractAttention, star: StarConfig) -> None:
        self._attention, self._star = attention, star
        self._by_camera: dict[str, _CameraMemory] = {}

    def add(self, frame: Slot) -> None:
        """Add one frame; its detail must be a square map."""
        memory = AbstractMemory(self._attention, self._star)
        empty = _CameraMemory(memory, frame.camera, frame.first_ns, frame.last_ns, frame.region)
        own = self._by_camera.setdefault(frame.camera, empty)
        own.memory.add(pool_tokens(frame.detail[None].float(), self._star.abstract_side)[0])
        own.first_ns = min(own.first_ns, frame.first_ns)
        own.last_ns = max(own.last_ns, frame.last_ns)
        own.region = Region.union((own.region, frame.region))

    def forget(self, scope: Scope) -> None:
        """Remove every memory that may contain anything of `scope`."""
        self._by_camera = {camera: own for camera, own in self._by_camera.items() if not scope.touches(own)}

    def read(self, scope: Scope) -> Tensor:
        """The memories [slots, tokens, dim] whose frames all lie in `scope`, float32."""
        parts = [own.memory.read() for own in self._by_camera.values() if scope.covers(own)]
        return torch.cat(parts) if parts else torch.zeros(0, 0, 0)

    @property
    def tensors(self) -> list[Tensor]:
        """All stored tensors, for accounting."""
        return [tensor for own in self._by_camera.values() for tensor in own.memory.tensors]
