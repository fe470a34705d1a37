"""What a vision tower of Qwen's has to know of the sizes of its pictures, worked out on the host before the pass.

transformers would ask the device for it again and again, in every layer: on a GPU each time waits for all before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.utils.generic import is_flash_attention_requested
from transformers.vision_utils import get_vision_cu_seqlens, get_vision_position_ids

from .interface import Grid
from .preprocess import POOL


def slot_grids(slots: int, grid: Grid) -> Tensor:
    """Sizes [2 * slots, 3] of some slots' maps in patches, all high ones before all low ones; on the host."""
    high, low = [1, *grid], [1, grid.height // POOL, grid.width // POOL]
    return torch.tensor([high] * slots + [low] * slots)


def tower_arguments(visual: Any, grids: Tensor) -> dict[str, Any]:
    """What the pass of `visual` over pictures of `grids` is given beside their patch rows."""
    return {
        "grid_thw": grids,
        "position_ids": get_vision_position_ids(grids, visual.config.spatial_merge_size).to(visual.device),
        **segments(visual, get_vision_cu_seqlens(grids)),
    }


def segments(visual: Any, starts: Tensor, of: str = "seqlen") -> dict[str, Any]:
    """Where what attends to itself alone begins and ends, [segments + 1] int32, by the names of transformers.

    flash-attn reads that on the device, and its caller the longest; PyTorch's kernels are called once for each.
    """
    if is_flash_attention_requested(visual.config):
        return {f"cu_{of}s": starts.to(visual.device), f"max_{of}": int(starts.diff().max())}
    return {f"cu_{of}s": starts}
