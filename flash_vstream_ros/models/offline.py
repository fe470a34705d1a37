"""The memory of a whole clip, offline, as the published systems have it; any model answers from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from flash_vstream_ros.memory import CompressionMethods, Grid, MemorySnapshot, Slot, video_memory

from .interface import ModelError, VisionLanguageModel
from .llava.clip_llava import FlashVStreamLLaVA
from .preprocess import POOL

MOST_FRAMES = 240


@dataclass(frozen=True)
class VideoMemoryConfig:
    """How a clip is remembered. STAR memory takes its sizes from the checkpoint, and of `methods` the rule alone."""

    csm_slots: int = 60
    dam_slots: int = 30
    methods: CompressionMethods = field(default_factory=CompressionMethods)
    seed: int = 0

    @classmethod
    def of(cls, model: VisionLanguageModel) -> VideoMemoryConfig:
        """What the model's checkpoint says of its memory; the published settings where it says nothing.

        ModelError where it says what cannot be run.
        """
        network: Any = getattr(model, "network", None)
        said = getattr(getattr(getattr(network, "config", None), "vision_config", None), "flash_memory_config", None)
        own = {name.removeprefix("flash_memory_"): value for name, value in (said or {}).items()}
        if own.get("temporal_poolsize", POOL) != POOL:
            raise ModelError(f"{model.name}: flash_memory_temporal_poolsize is {own['temporal_poolsize']}, not {POOL}.")
        try:
            return cls(
                own.get("temporal_length", 120) // 2,  # lengths are in frames, and two are a slot
                own.get("spatial_length", 60) // 2,
                CompressionMethods(
                    own.get("temporal_method", "kmeans_ordered"),
                    own.get("spatial_method", "klarge_retrieve"),
                    own.get("temporal_pca_dim", 32),
                ),
            )
        except (TypeError, ValueError) as error:
            raise ModelError(f"{model.name}: its flash_memory_config cannot be run: {error}") from error


def most_frames(model: VisionLanguageModel) -> int:
    """Frames of a clip that the published system shows the model at most; 0: all."""
    return 0 if isinstance(model, FlashVStreamLLaVA) else MOST_FRAMES


def sampled(count: int, most: int = MOST_FRAMES) -> list[int]:
    """Which of `count` frames make the slots: all up to `most`, else evenly spaced ones; an odd last one twice."""
    if count <= most:
        return [*range(count), *([count - 1] if count % 2 else [])]
    return torch.linspace(0, count - 1, most // 2 * 2).round().long().tolist()


def remember(
    model: VisionLanguageModel,
    frames: Iterable[np.ndarray],
    stamps_ns: Sequence[int],
    settings: VideoMemoryConfig,
    *,
    init_rows: Sequence[int] | None = None,
    reseed_rows: Sequence[int] = (),
) -> MemorySnapshot:
    """The memory of a clip of RGB uint8 frames [height, width, 3], one a second, with their stamps.

    They are read once, in order. For Flash Memory their number has to be even: see `sampled`. `init_rows` and
    `reseed_rows` replace the random draws of the memory's k-means.
    Raises ValueError when there is no frame, or one that is too small for the model.
    """
    if not stamps_ns:
        raise ValueError("the clip has no frame")
    if isinstance(model, FlashVStreamLLaVA):
        return model.clip(
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
    """Encode frames in pairs, a slot for each. Their number has to be even: see `sampled`."""
    if len(stamps_ns) % 2:
        raise ValueError(f"two frames make a slot, and the clip has {len(stamps_ns)}")
    grid: Grid | None = None
    left = iter(frames)
    for first_ns, last_ns, first, second in zip(stamps_ns[::2], stamps_ns[1::2], left, left, strict=True):
        grid = grid or model.grid(*first.shape[:2])
        low, detail = model.encode([first, second], grid)
        yield Slot("", "", first_ns, last_ns, low, detail, grid)
