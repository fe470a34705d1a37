"""CLIP's preprocessing on the model's device: resize the shorter side, crop the centre square, normalise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flash_vstream_ros.models.preprocess import CLIP_MEAN, CLIP_STD, normalise, resize


@dataclass(frozen=True)
class CentreCrop:
    """The settings of a CLIP's preprocessor_config.json that differ between models."""

    shortest: int = 224  # shorter side after resizing [px]
    side: int = 224  # side of the crop [px]

    @classmethod
    def of(cls, values: dict[str, Any]) -> CentreCrop:
        """Read the contents of preprocessor_config.json. Raises ValueError for another kind of preprocessing."""
        shortest, side = values.get("size", 224), values.get("crop_size", 224)
        shortest = shortest.get("shortest_edge") if isinstance(shortest, dict) else shortest
        sides = {side[name] for name in ("height", "width")} if isinstance(side, dict) else {side}
        expected = {"do_resize": True, "do_center_crop": True, "do_normalize": True, "resample": 3}
        wrong = [f"{name} {values[name]!r}" for name, want in expected.items() if values.get(name, want) != want]
        for name, numbers in (("image_mean", CLIP_MEAN), ("image_std", CLIP_STD)):
            if not np.allclose(values.get(name, numbers), numbers, atol=1e-6):
                wrong.append(f"{name} {values[name]}")
        if wrong or not isinstance(shortest, int) or len(sides) != 1 or shortest < max(sides):
            raise ValueError(f"size {values.get('size')}, crop_size {values.get('crop_size')}, {', '.join(wrong)}")
        return cls(shortest, sides.pop())

    def pixels(self, frames: Sequence[np.ndarray], device: torch.device) -> Tensor:
        """Convert RGB uint8 frames [height, width, 3] of any size to normalised float32 [frames, 3, side, side]."""
        for frame in frames:
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
                raise ValueError(f"Frames must be uint8 [height, width, 3], got {frame.dtype} {frame.shape}.")
        cut = []
        for _, group in groupby(frames, key=lambda frame: frame.shape):
            images = torch.from_numpy(np.stack(list(group))).to(device).permute(0, 3, 1, 2)
            height, width = images.shape[-2:]
            scaled = [int(self.shortest * length / min(height, width)) for length in (height, width)]
            images = resize(images, (scaled[0], scaled[1]))
            top, left = ((length - self.side) // 2 for length in scaled)
            cut.append(normalise(images[..., top : top + self.side, left : left + self.side]))
        return torch.cat(cut)
