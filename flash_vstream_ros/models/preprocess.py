"""Preprocesses camera frames to Qwen2-VL patches on the model's device, as published (arXiv 2506.23825).

The published code resizes twice, in uint8 and with Pillow's bicubic filter: its video loader to multiples of 28 within
a limited area, its image processor to multiples of 56. Both steps are kept, since the weights were trained with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .interface import Grid

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class PixelScale(NamedTuple):
    """Mean and standard deviation of each channel, for values from 0 to 1."""

    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD


CLIP = PixelScale()
Resize = Callable[[Tensor, tuple[int, int]], Tensor]
POOL = 2  # side of the average pooling from high to low resolution
MIN_PIXELS = 128 * 28 * 28
MAX_PIXELS = 4 * 224 * 224
PROCESSOR_MAX_PIXELS = 12_845_056
MAX_ASPECT = 200


def rounded_size(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Round both sides to multiples of `factor` [px]. The area stays within the limits [px]."""
    rows, columns = round(height / factor), round(width / factor)
    area = rows * columns * factor * factor
    if area > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = (max(1, math.floor(side / shrink / factor)) for side in (height, width))
    elif area < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows, columns = (math.ceil(side * grow / factor) for side in (height, width))
    return rows * factor, columns * factor


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [images, channels, height, width], values 0..255, like Pillow's bicubic filter.

    Returns integers as float32. Pillow filters rows, rounds to uint8 and then filters columns; filtering both axes at
    once would differ by up to 1.
    """
    images = images.float()
    for step in ((images.shape[-2], size[1]), size):
        if images.shape[-2:] != step:
            images = F.interpolate(images, size=step, mode="bicubic", antialias=True).round_().clamp_(0, 255)
    return images


def quick_resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize like `resize`, but ten times as fast on a CPU. 1 value in 200 differs, by 2 at most.

    `images` are [images, channels, height, width] uint8. On a CPU the result is uint8 too.
    """
    if images.device.type != "cpu":
        return resize(images, size)
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size=size, mode="bicubic", antialias=True)


def normalise(images: Tensor, scale: PixelScale = CLIP) -> Tensor:
    """Normalise values 0..255 of [images, 3, height, width] by `scale`, in float32."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in scale)
    return images.float().div(255).sub_(mean).div_(std)


def patchify(images: Tensor, patch: int, merge: int, temporal: int) -> Tensor:
    """Convert [images, 3, height, width] to patch rows [slots * patches, 3 * temporal * patch * patch].

    The patches of one block of `merge` x `merge` are adjacent: ordered by slot, block row, block column, row, column.
    """
    count, channels, height, width = images.shape
    blocks = (height // (patch * merge), merge, patch, width // (patch * merge), merge, patch)
    # [slots, frames, channels, row blocks, rows, y, column blocks, columns, x]
    split = images.reshape(count // temporal, temporal, channels, *blocks)
    rows = split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return rows.reshape(-1, channels * temporal * patch * patch)


@dataclass(frozen=True)
class Preprocessor:
    """Preprocessing of one model. Callers fit every frame of a stream to the grid of the first one."""

    patch: int = 14
    merge: int = 2
    temporal: int = 2
    max_pixels: int = MAX_PIXELS
    min_pixels: int = MIN_PIXELS
    scale: PixelScale = CLIP

    @property
    def side(self) -> int:
        """Pixels per low-resolution token along a side: patch * merge * POOL."""
        return self.patch * self.merge * POOL

    def loader_size(self, height: int, width: int) -> tuple[int, int]:
        """Size after the first resize [px]."""
        return rounded_size(height, width, self.patch * self.merge, self.min_pixels, self.max_pixels)

    def final_size(self, height: int, width: int) -> tuple[int, int]:
        """Size after the second resize [px]. Raises ValueError if the frame is too small or too narrow."""
        if min(height, width) < self.side:
            raise ValueError(f"A frame of {width}x{height} is too small: both sides need {self.side} pixels.")
        loaded = self.loader_size(height, width)
        if max(height, width) > MAX_ASPECT * min(height, width) or min(loaded) < self.side:
            raise ValueError(
                f"A frame of {width}x{height} is too narrow: within {self.max_pixels} pixels it would become "
                f"{loaded[1]}x{loaded[0]}, and both sides need {self.side}."
            )
        return self._rounded(height, width)

    def grid(self, height: int, width: int) -> Grid:
        """Patch grid of a frame of this size. Raises ValueError like `final_size`."""
        rows, columns = self.final_size(height, width)
        return Grid(rows // self.patch, columns // self.patch)

    def pixels(
        self, frames: Sequence[np.ndarray], grid: Grid, device: torch.device, resized: Resize = resize
    ) -> Tensor:
        """Convert RGB uint8 frames [height, width, 3] of any size to normalised float32 [frames, 3, rows, columns].

        Frames of another aspect ratio are letterboxed, aligned to whole tokens. `resized` is `resize`, as published, or
        `quick_resize`.
        """
        for frame in frames:
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
                raise ValueError(f"Frames must be uint8 [height, width, 3], got {frame.dtype} {frame.shape}.")
        size = grid.height * self.patch, grid.width * self.patch
        fitted = []
        for _, group in groupby(frames, key=lambda frame: frame.shape):
            batch = to_device(np.stack(list(group)), device).permute(0, 3, 1, 2)
            fitted.append(self._fitted(batch, size, resized))
        return torch.cat(fitted)

    def content_size(self, height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
        """Size of the frame without bars in a letterboxed image of `size` [px]; `size` if the aspect ratio fits.

        Both sides are multiples of a low-resolution token, so that no token contains both frame and bar.
        """
        if self._rounded(height, width) == size:
            return size
        scale = min(size[0] / height, size[1] / width)
        rows, columns = (max(1, round(side * scale / self.side)) * self.side for side in (height, width))
        return min(rows, size[0]), min(columns, size[1])

    def _rounded(self, height: int, width: int) -> tuple[int, int]:
        return rounded_size(*self.loader_size(height, width), self.side, self.side**2, PROCESSOR_MAX_PIXELS)

    def _fitted(self, images: Tensor, size: tuple[int, int], resized: Resize) -> Tensor:
        """Resize and normalise [images, 3, height, width] to [images, 3, *size], letterboxed with the mean colour."""
        height, width = images.shape[-2:]
        inner = self.content_size(height, width, size)
        pixels = normalise(resized(resized(images, self.loader_size(height, width)), inner), self.scale)
        spare = [whole - part for whole, part in zip(size, inner, strict=True)]
        top, left = (bar // self.side // 2 * self.side for bar in spare)
        return F.pad(pixels, (left, spare[1] - left, top, spare[0] - top))

    def rows(
        self, frames: Sequence[np.ndarray], grid: Grid, device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Patch rows [patches, 3 * temporal * patch ** 2] of slots at high resolution, and at half that resolution."""
        return self.rows_of(self.pixels(frames, grid, device).to(dtype))

    def rows_of(self, high: Tensor) -> tuple[Tensor, Tensor]:
        """Like `rows`, for preprocessed pixels [frames, 3, rows, columns]."""
        low = F.avg_pool2d(high, POOL)
        return self._patchify(high), self._patchify(low)

    def _patchify(self, images: Tensor) -> Tensor:
        return patchify(images, self.patch, self.merge, self.temporal)


def to_device(frames: np.ndarray, device: torch.device) -> Tensor:
    """Copy frames to a device. Pinned memory lets a copy to a GPU overlap with computation."""
    tensor = torch.from_numpy(frames)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """The side stream of a device. There is only one, since PyTorch keeps a memory cache for each stream."""
    return torch.cuda.Stream(device)


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Run a `with` block on a CUDA stream parallel to the model's, and wait for its end."""
    if device.type != "cuda":
        yield
        return
    stream = _stream(device)
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()
