"""Retention policy `infinipot_v`: when the memory is full, keeps tokens that differ from the present, and strong ones.

The rule is the compression of InfiniPot-V (arXiv 2506.15745, sections on TaR and VaN) on features. Once there are more
tokens than fit, they are reduced to TARGET of the budget:
- The recent slots, RECENT of the budget, are kept whole.
- TaR, temporal redundancy: the tokens with the least cosine similarity to the token at their place in the recent slots
  of their camera, in the mean over these. With the recent slots they take TAR_SHARE of what is kept.
- VaN, value norm: the tokens with the largest norm among the others.

Differences to the paper: it compresses keys and values in every layer and head of the language model, which contain
earlier frames too; here, features of the vision tower take the place of both, so that forgetting is exact. So its
pooling of norms, which differs by layer, is left out. The ratios are those of the released code. The newest slot of
each camera counts as recent.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from .token_buffer import TokenBuffer, newest_of_cameras
from .token_slot import TokenSlot, unit, with_only

TARGET = 0.75
RECENT = 0.25
TAR_SHARE = 0.5


class InfiniPotV(TokenBuffer):
    """Compresses the whole memory by two rankings of its tokens whenever it is full."""

    def _reduced(self, slots: list[TokenSlot]) -> list[TokenSlot]:
        if sum(each.tokens for each in slots) <= self.budget:
            return slots
        recent = self._recent(slots)
        older = [each for place, each in enumerate(slots) if place not in recent]
        whole = [slots[place] for place in sorted(recent)]
        fixed = sum(each.tokens for each in whole)
        target = max(fixed, int(TARGET * self.budget))
        by_tar = min(target - fixed, max(0, int(TAR_SHARE * target) - fixed))
        kept = _best(_novelties(older, whole), by_tar)
        norms = torch.cat([each.slot.detail.float().norm(dim=1).cpu() for each in older])
        kept |= _best(norms.masked_fill(kept, -torch.inf), target - fixed - by_tar)
        return sorted([*with_only(older, kept), *whole], key=lambda each: each.slot.time_ns)

    def _recent(self, slots: list[TokenSlot]) -> set[int]:
        """Places in `slots` of the newest slot of each camera and of the newest others, up to RECENT of the budget."""
        assert self._shape is not None
        recent = newest_of_cameras(slots)
        room = int(RECENT * self.budget) // self._shape.detail_tokens - len(recent)
        others = [place for place in reversed(range(len(slots))) if place not in recent]
        return recent.union(others[: max(0, room)])


def _novelties(slots: list[TokenSlot], recent: list[TokenSlot]) -> Tensor:
    """Minus the mean cosine [tokens] of each token to those at its place in the recent slots of its camera."""
    units: dict[str, list[Tensor]] = defaultdict(list)
    for each in recent:
        units[each.slot.camera].append(unit(each.slot.detail))
    means = {camera: torch.stack(own).mean(0) for camera, own in units.items()}  # each [detail_tokens, width]
    found = []
    for each in slots:
        own = unit(each.slot.detail)
        found.append((own * means[each.slot.camera][each.places.to(own.device)]).sum(1))
    return -torch.cat(found).cpu()


def _best(scores: Tensor, count: int) -> Tensor:
    """A mask of the `count` largest scores; of equal ones the newest, which stand last."""
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[torch.sort(scores, stable=True).indices[len(scores) - count :]] = True
    return mask
