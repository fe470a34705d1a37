"""Builds the published memory of a whole video, offline, with the features of any model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from flash_vstream_ros.memory import CompressionMethods, Grid, MemorySnapshot, Slot, video_memory

from .interface import ModelError, VisionLanguageModel
from .llava.flash_vstream_llava import FlashVStreamLLaVA
from .preprocess import POOL

MAX_FRAMES = 240  # largest number of frames of a video, as published


@dataclass(frozen=True)
class VideoMemoryConfig:
    """Sizes and methods of a video's memory. STAR memory uses only `methods.rule` and `seed`."""

    csm_slots: int = 60
    dam_slots: int = 30
    methods: CompressionMethods = field(default_factory=CompressionMethods)
    seed: int = 0

    @classmethod
    def of(cls, model: VisionLanguageModel) -> VideoMemoryConfig:
        """Read the settings from the model's checkpoint; defaults are as published.

        Raises ModelError for settings that are not supported.
        """
        network: Any = getattr(model, "network", None)
        vision_config = getattr(getattr(network, "config", None), "vision_config", None)
        stored = getattr(vision_config, "flash_memory_config", None) or {}
        if not isinstance(stored, dict):
            raise ModelError(f"{model.name}: flash_memory_config is not a JSON object: download the model again.")
        own = {name.removeprefix("flash_memory_"): value for name, value in stored.items()}
        if own.get("temporal_poolsize", POOL) != POOL:
            raise ModelError(f"{model.name}: flash_memory_temporal_poolsize is {own['temporal_poolsize']}, not {POOL}.")
        try:
            return cls(
                own.get("temporal_length", 120) // 2,  # lengths are in frames; a slot has two
                own.get("spatial_length", 60) // 2,
                CompressionMethods(
                    own.get("temporal_method", "kmeans_ordered"),
                    own.get("spatial_method", "klarge_retrieve"),
                    own.get("temporal_pca_dim", 32),
                ),
            )
        except (TypeError, ValueError) as error:
            raise ModelError(f"{model.name}: flash_memory_config is not supported: {error}") from error


def frame_limit(model: VisionLanguageModel) -> int:
    """Maximum number of frames of a video in the published system; 0: no limit."""
    return 0 if isinstance(model, FlashVStreamLLaVA) else MAX_FRAMES


def sample_frames(count: int, limit: int = MAX_FRAMES) -> list[int]:
    """Indices of the frames of the slots: all, or `limit` evenly spaced ones. An odd last frame is used twice."""
    if count <= limit:
        return [*range(count), *([count - 1] if count % 2 else [])]
    return torch.linspace(0, count - 1, limit // 2 * 2).round().long().tolist()


def build_video_memory(
    model: VisionLanguageModel,
    frames: Iterable[np.ndarray],
    stamps_ns: Sequence[int],
    settings: VideoMemoryConfig,
    *,
    init_rows: Sequence[int] | None = None,
    reseed_rows: Sequence[int] = (),
) -> MemorySnapshot:
    """Build the memory of a video with one RGB uint8 frame [height, width, 3] per second.

    Frames are read once, in order. Flash Memory needs an even number of them, see `sample_frames`. For `init_rows` and
    `reseed_rows` see `ordered_kmeans`. Raises ValueError if there is no frame, or a frame is too small for the model.
    """
    if not stamps_ns:
        raise ValueError("the video has no frames")
    if isinstance(model, FlashVStreamLLaVA):
        return model.video_memory(
            frames,
            stamps_ns,
            rule=settings.methods.rule,
            seed=settings.seed,
            init_rows=init_rows,
            reseed_rows=reseed_rows,
        )
    return video_memory(
        list(slots_of(model, frames, stamps_ns)),
        settings.csm_slots,
        settings.dam_slots,
        methods=settings.methods,
        seed=settings.seed,
        init_rows=init_rows,
        reseed_rows=reseed_rows,
    )


def slots_of(model: VisionLanguageModel, frames: Iterable[np.ndarray], stamps_ns: Sequence[int]) -> Iterator[Slot]:
    """Encode every two frames to a slot. Raises ValueError if their number is odd; see `sample_frames`."""
    if len(stamps_ns) % 2:
        raise ValueError(f"a slot needs two frames, but the video has an odd number of them, {len(stamps_ns)}")
    grid: Grid | None = None
    remaining = iter(frames)
    for first_ns, last_ns, first, second in zip(stamps_ns[::2], stamps_ns[1::2], remaining, remaining, strict=True):
        grid = grid or model.grid(*first.shape[:2])
        low, detail = model.encode([first, second], grid)
        yield Slot("", "", first_ns, last_ns, low, detail, grid)
