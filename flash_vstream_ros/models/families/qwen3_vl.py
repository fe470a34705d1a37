"""Qwen3-VL 2B, 4B and 8B Instruct: patches of 16 pixels, DeepStack, and a time stamp as text before every slot.

DeepStack adds features of three earlier layers of the tower to the first layers of the language model. The memory
stores the features of all four layers, concatenated along the width: the hidden states in `low`, so that a centroid
averages each layer, and the merged tokens in `detail`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.vision_utils import get_vision_interpolation_indices_and_weights

from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.memory.token_snapshot import TokenSnapshot
from flash_vstream_ros.models.families.qwen2_vl import load_as
from flash_vstream_ros.models.options import LoadOptions
from flash_vstream_ros.models.preprocess import PixelScale
from flash_vstream_ros.models.prompt import VISION_END, VISION_START
from flash_vstream_ros.models.video_prompt import Piece, Video, VideoPrompted
from flash_vstream_ros.models.weights.checkpoint import Architecture

ARCHITECTURE = Architecture("Qwen3-VL", Qwen3VLConfig, Qwen3VLForConditionalGeneration, "Qwen/Qwen3-VL-8B-Instruct")
SCALE = PixelScale((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def load(folder: Path, options: LoadOptions) -> Qwen3VL:
    """Load a model from a folder in the hub's layout. Raises ModelError."""
    return load_as(ARCHITECTURE, Qwen3VL, folder, options, SCALE)


class Qwen3VL(VideoPrompted):
    """A `Qwen3VLForConditionalGeneration` and its tokenizer as a VisionLanguageModel."""

    def __init__(self, network: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(network, *args, **kwargs)
        network.model.language_model.register_forward_pre_hook(_split_deepstack, with_kwargs=True)

    def _arguments(self, grids: Tensor) -> dict[str, Any]:
        visual = self.network.model.visual
        places, weights = get_vision_interpolation_indices_and_weights(
            grids,
            num_grid_per_side=visual.num_grid_per_side,
            mode=visual.interpolation_mode,
            align_corners=visual.interpolation_align_corners,
            spatial_merge_size=visual.spatial_merge_size,
        )
        interpolated = {"interp_indices": places.to(visual.device), "interp_weights": weights.to(visual.device)}
        return {**super()._arguments(grids), **interpolated}

    def _features(self, rows: Tensor, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
        visual, grids = self.network.model.visual, arguments["grid_thw"]
        high = int(grids[0].prod()) * (len(grids) // 2)
        hidden_states: list[Tensor] = []  # [patches, dim], inputs of the DeepStack mergers
        hooks = [
            merger.register_forward_pre_hook(lambda _, inputs: hidden_states.append(inputs[0]))
            for merger in visual.deepstack_merger_list
        ]
        try:
            output = visual(rows, **arguments)
        finally:
            for hook in hooks:
                hook.remove()
        low = torch.cat([hidden[high:] for hidden in (output.last_hidden_state, *hidden_states)], dim=1)
        merged = (output.pooler_output, *output.deepstack_features)
        return low, torch.cat([tokens[: high // self.preprocessor.merge**2] for tokens in merged], dim=1)

    @torch.inference_mode()
    def _merged(self, snapshot: MemorySnapshot) -> tuple[Tensor, Tensor]:
        visual, csm = self.network.model.visual, snapshot.csm
        if len(csm):
            mergers = (visual.merger, *visual.deepstack_merger_list)
            layers = csm.to(self.vision_device, self.dtype).flatten(0, 1).chunk(len(mergers), dim=1)
            merged = [merger(hidden.contiguous()) for merger, hidden in zip(mergers, layers, strict=True)]
            csm = torch.cat(merged, dim=1).unflatten(0, (len(csm), -1))
        return snapshot.dam.to(self.device, self.dtype), csm.to(self.device, self.dtype)

    def _pieces(self, snapshot: MemorySnapshot) -> Iterator[Piece]:
        zero = torch.zeros(1)  # the time is given as text
        for stamp, slot in zip(self._stamps(snapshot), self._slots(snapshot, zero), strict=True):
            yield (*stamp, self._token(VISION_START))
            yield slot
            yield (self._token(VISION_END),)

    def _slots(self, snapshot: MemorySnapshot, time: Tensor) -> Iterator[Video]:
        """Each slot as a video at `time` [1]."""
        grids = self._grids(snapshot.grid)
        if isinstance(snapshot, TokenSnapshot):
            parts = self._tokens(snapshot).split(snapshot.counts), snapshot.places.split(snapshot.counts)
            for tokens, places in zip(*parts, strict=True):
                yield Video(tokens, time, grids[0], (len(tokens),), places)
            return
        for features, grid in zip(self._merged(snapshot), grids, strict=True):
            for tokens in features:
                yield Video(tokens, time, grid)

    def _stamps(self, snapshot: MemorySnapshot) -> list[tuple[int, ...]]:
        """Tokens of the time stamp before each slot."""
        seconds = [*snapshot.seconds(snapshot.dam_times).tolist(), *snapshot.seconds(snapshot.csm_times).tolist()]
        tokenizer = self._prompt.tokenizer
        return [tuple(tokenizer(f"<{each:.1f} seconds>", add_special_tokens=False)["input_ids"]) for each in seconds]

    def _entry_tokens(self, snapshot: MemorySnapshot) -> tuple[int, ...]:
        dam, csm = (grid.rows * grid.columns for grid in self._grids(snapshot.grid))
        visual = [dam] * len(snapshot.dam) + [csm] * len(snapshot.csm)
        if isinstance(snapshot, TokenSnapshot):
            visual = [*snapshot.counts]
        return tuple(len(stamp) + 2 + count for stamp, count in zip(self._stamps(snapshot), visual, strict=True))


def _split_deepstack(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Split embeddings from their DeepStack features, which are zero for text, into the model's own arguments."""
    embeds: Tensor | None = kwargs.get("inputs_embeds")
    width = model.config.hidden_size  # type: ignore[union-attr]
    if embeds is None or embeds.shape[-1] == width:
        return args, kwargs
    embeds, *layers = embeds.split(width, dim=-1)
    added = {
        "inputs_embeds": embeds,
        "visual_pos_masks": torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device),
        "deepstack_visual_embeds": [layer.flatten(0, 1) for layer in layers],
    }
    return args, {**kwargs, **added}
