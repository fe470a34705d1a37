"""Retention policy `timechat_online`: keeps the tokens that differed most from the slot before.

The rule is the Differential Token Drop of TimeChat-Online (arXiv 2504.17343, section on DTD), on features: the
redundancy of a token is its cosine similarity to the token at the same place in the camera's previous slot, whether or
not that one was kept. Tokens keep their positions in space and time.

Differences to the paper: it drops every token whose similarity exceeds a fixed threshold (0.5 in the released
evaluation), so its memory grows with the stream. Here tokens are dropped only when there are more than fit, most
similar first; among equal ones the oldest. At each moment this is the paper's rule with the highest threshold that fits
the budget. The newest slot of each camera is whole: the next slot is compared with it.
"""

from __future__ import annotations

import torch

from .token_buffer import TokenBuffer, newest_of_cameras
from .token_slot import TokenSlot, with_only


class TimeChatOnline(TokenBuffer):
    """Keeps the tokens with the largest change since the camera's previous slot, of the whole stream."""

    def _reduced(self, slots: list[TokenSlot]) -> list[TokenSlot]:
        surplus = sum(each.tokens for each in slots) - self.budget
        if surplus <= 0:
            return slots
        newest = newest_of_cameras(slots)
        changes = torch.cat(
            [
                torch.full_like(each.distances, torch.inf) if place in newest else each.distances
                for place, each in enumerate(slots)
            ]
        )
        kept = torch.ones(len(changes), dtype=torch.bool)
        kept[torch.sort(changes, stable=True).indices[:surplus]] = False
        return with_only(slots, kept)
