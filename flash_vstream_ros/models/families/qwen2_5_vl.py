"""Qwen2.5-VL 3B and 7B Instruct: window attention in the vision tower, and time ids in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.vision_utils import get_vision_window_index

from flash_vstream_ros.models.families.qwen2_vl import load_as
from flash_vstream_ros.models.options import LoadOptions
from flash_vstream_ros.models.tower import segments
from flash_vstream_ros.models.video_prompt import VideoPromptedQwen2
from flash_vstream_ros.models.weights.checkpoint import Architecture

ARCHITECTURE = Architecture(
    "Qwen2.5-VL", Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, "Qwen/Qwen2.5-VL-7B-Instruct"
)


def load(folder: Path, options: LoadOptions) -> Qwen25VL:
    """Load a model from a folder in the hub's layout. Raises ModelError."""
    return load_as(ARCHITECTURE, Qwen25VL, folder, options)


class Qwen25VL(VideoPromptedQwen2):
    """A `Qwen2_5_VLForConditionalGeneration` and its tokenizer as a VisionLanguageModel."""

    def _interval(self, slot_s: float) -> float:
        return float(self.network.config.vision_config.tokens_per_second * slot_s)

    def _arguments(self, grids: Tensor) -> dict[str, Any]:
        visual = self.network.model.visual
        order, starts = get_vision_window_index(grids, visual.spatial_merge_size, visual.window_size, visual.patch_size)
        windows = segments(visual, starts, name="window_seqlen")
        return {**super()._arguments(grids), "window_index": order.to(visual.device), **windows}

    def _features(self, rows: Tensor, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
        low, detail = super()._features(rows, arguments)
        vision, merge, grids = self.network.config.vision_config, self.preprocessor.merge, arguments["grid_thw"]
        side = vision.window_size // merge // vision.patch_size
        order = window_order(int(grids[-1, 1]) // merge, int(grids[-1, 2]) // merge, side)
        slots = low.unflatten(0, (len(grids) // 2, -1, merge**2))
        return slots[:, order.argsort().to(low.device)].flatten(0, 2), detail


def window_order(rows: int, columns: int, side: int) -> Tensor:
    """Row-order index of each merged token [rows * columns], listed in the window order of the tower."""
    row, column = torch.arange(rows)[:, None], torch.arange(columns)[None]
    window = row // side * columns + column // side  # ascending by window
    return window.flatten().argsort(stable=True)
