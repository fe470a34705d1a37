"""Retention policy `fluxmem`: three tiers by age, each of which keeps fewer tokens of a slot.

The rule is that of FluxMem (arXiv 2603.02096, sections on TAS and SDC). Slots of a camera are counted from its newest:
- Short term: the newest SHORT_SLOTS are whole.
- Mid term, the next MID_SLOTS, by temporal adjacency selection (TAS). The distance of a token from another slot is 1 -
  the largest cosine in the 3x3 neighbourhood of its place there. Otsu's threshold divides the distances of a slot's
  tokens from the camera's previous slot into two groups, and those from the next slot. A token of either upper group
  stays, unless its cosine to the next slot is above ALWAYS_DROPPED, as in the released code.
- Long term, by spatial domain consolidation (SDC). Otsu's threshold divides the distances of neighbouring tokens within
  a slot, and those of the lower group are connected. Each connected region becomes its mean, at the place of its token
  nearest to the mean.

Differences to the paper: its long term has no bound. Here the oldest slots of the long term are dropped when there are
more tokens than fit; if there is no long term, slots enter the next tier early. The sizes of the tiers are those of the
released streaming evaluation (8 and 64 frames). Otsu's threshold is computed from the values, without a histogram.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .token_buffer import TokenBuffer, newest_of_cameras
from .token_map import connected, merged, neighbour_cosines, neighbour_pairs, otsu
from .token_slot import FIRST, TokenSlot, unit

SHORT_SLOTS, MID_SLOTS = 4, 32
ALWAYS_DROPPED = 0.8
SHORT, MID, LONG = range(3)  # TokenSlot.stage


class FluxMem(TokenBuffer):
    """Keeps new slots whole, drops what did not change from older ones, and merges similar regions of the oldest."""

    def _distances(self, detail: Tensor, previous: Tensor) -> Tensor:
        return 1 - neighbour_cosines(detail, previous, self._map)

    def _reduced(self, slots: list[TokenSlot]) -> list[TokenSlot]:
        slots, newest = list(slots), {each.slot.camera: each.number for each in slots}
        for place, each in enumerate(slots):
            age = newest[each.slot.camera] - each.number
            if each.stage == SHORT and age >= SHORT_SLOTS:
                slots[place] = self._selected(slots, place)
            if slots[place].stage == MID and age >= SHORT_SLOTS + MID_SLOTS:
                slots[place] = self._consolidated(slots[place])
        slots = [each for each in slots if each.tokens]
        while sum(each.tokens for each in slots) > self.budget:
            slots = self._smaller(slots)
        return slots

    def _smaller(self, slots: list[TokenSlot]) -> list[TokenSlot]:
        """Drop the oldest slot of the long term, else reduce the oldest of the mid, else of the short term."""
        newest = newest_of_cameras(slots)
        place = max(
            (place for place in range(len(slots)) if place not in newest),
            key=lambda place: (slots[place].stage, -place),
        )
        slots = list(slots)
        if slots[place].stage == LONG:
            del slots[place]
            return slots
        reduce = self._consolidated if slots[place].stage == MID else lambda _: self._selected(slots, place)
        slots[place] = reduce(slots[place])
        return [each for each in slots if each.tokens]

    def _selected(self, slots: list[TokenSlot], place: int) -> TokenSlot:
        """The whole slot at `place` after TAS."""
        slot = slots[place]
        after = next(each for each in slots[place + 1 :] if each.slot.camera == slot.slot.camera)
        cosines = neighbour_cosines(slot.slot.detail, after.slot.detail, self._map).cpu()
        kept = _is_distant(1 - cosines)
        if bool((slot.distances < FIRST).any()):
            kept |= _is_distant(slot.distances)
        return replace(slot.only(kept & (cosines <= ALWAYS_DROPPED)), stage=MID)

    def _consolidated(self, slot: TokenSlot) -> TokenSlot:
        """A slot after SDC."""
        first, second = neighbour_pairs(slot.places, self._map)
        vectors = unit(slot.slot.detail).cpu()
        distances = 1 - (vectors[first] * vectors[second]).sum(1)
        threshold = otsu(distances)
        if threshold is None:
            return replace(slot, stage=LONG)
        similar = distances < threshold
        regions = connected(slot.tokens, first[similar], second[similar]).unique(return_inverse=True)[1]
        detail, anchors = merged(slot.slot.detail, regions)
        kept = torch.zeros(slot.tokens, dtype=torch.bool)
        kept[anchors] = True
        return replace(slot, slot=replace(slot.slot, detail=detail), stage=LONG).only(kept)


def _is_distant(distances: Tensor) -> Tensor:
    """A mask of the distances [tokens] that are at least Otsu's threshold, or the median if all are equal."""
    threshold = otsu(distances)
    return distances >= (distances.median() if threshold is None else threshold)
