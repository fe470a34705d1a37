"""Slots of which a memory keeps some tokens, and the distances between the tokens of two slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .slot import Slot

FIRST = 2.0  # distance of a token without a previous slot: the largest possible one


@dataclass(frozen=True, eq=False)
class TokenSlot:
    """A stored slot. `slot.detail` has its remaining tokens [tokens, width], and `slot.low` is empty."""

    slot: Slot
    number: int  # among the slots of its camera, from 0
    places: Tensor  # [tokens] int64 on the CPU: place of each token in the slot's map, ascending
    distances: Tensor  # [tokens] float32 on the CPU: distance of each token from the camera's previous slot
    stage: int = 0  # how often a policy has reduced the slot; its meaning is the policy's

    @classmethod
    def of(cls, slot: Slot, number: int, distances: Tensor) -> TokenSlot:
        """All tokens of `slot`."""
        own = replace(slot, low=slot.low.new_zeros(0, 0))
        return cls(own, number, torch.arange(len(slot.detail)), distances.float().cpu())

    @property
    def tokens(self) -> int:
        return len(self.places)

    def only(self, kept: Tensor) -> TokenSlot:
        """The slot with only the tokens `kept`, a mask [tokens] on the CPU."""
        detail = self.slot.detail[kept.to(self.slot.detail.device)]
        slot = replace(self.slot, detail=detail)
        return replace(self, slot=slot, places=self.places[kept], distances=self.distances[kept])


def place_distances(detail: Tensor, previous: Tensor) -> Tensor:
    """1 - cosine of each token of `detail` to the one at its place in `previous`; both [tokens, width]."""
    return 1 - torch.cosine_similarity(detail.float(), previous.float(), dim=-1)


def unit(detail: Tensor) -> Tensor:
    """`detail` [tokens, width] as float32 vectors of length 1."""
    return F.normalize(detail.float(), dim=-1)


def with_only(slots: Sequence[TokenSlot], kept: Tensor) -> list[TokenSlot]:
    """The slots with only the tokens `kept`, a mask over the tokens of all slots; slots without a token are dropped."""
    found = []
    for slot, mask in zip(slots, kept.split([slot.tokens for slot in slots]), strict=True):
        if bool(mask.all()):
            found.append(slot)
        elif bool(mask.any()):
            found.append(slot.only(mask))
    return found
