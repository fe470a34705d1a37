"""Arguments of Qwen's vision towers that depend on image sizes, computed on the CPU before the forward pass.

transformers would read them from the device in every layer; on a GPU each read waits for all earlier kernels.
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
    """Sizes [2 * slots, 3] in patches, on the CPU: high-resolution maps of all slots, then low-resolution ones."""
    high, low = [1, *grid], [1, grid.height // POOL, grid.width // POOL]
    return torch.tensor([high] * slots + [low] * slots)


def tower_arguments(visual: Any, grids: Tensor) -> dict[str, Any]:
    """Arguments of the forward pass of `visual` for images of sizes `grids` [images, 3], in addition to patch rows."""
    return {
        "grid_thw": grids,
        "position_ids": get_vision_position_ids(grids, visual.config.spatial_merge_size).to(visual.device),
        **segments(visual, get_vision_cu_seqlens(grids)),
    }


def segments(visual: Any, starts: Tensor, name: str = "seqlen") -> dict[str, Any]:
    """Arguments for segments of patches that attend only to themselves; `starts` are their boundaries [segments + 1].

    flash-attn needs them on the device, and the length of the longest segment. PyTorch's kernels run once per segment.
    """
    if is_flash_attention_requested(visual.config):
        return {f"cu_{name}s": starts.to(visual.device), f"max_{name}": int(starts.diff().max())}
    return {f"cu_{name}s": starts}
