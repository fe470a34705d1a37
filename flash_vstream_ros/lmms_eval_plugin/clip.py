"""What a question is about: a part of a video or of a folder of frames, or some images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flash_vstream_ros.evaluation.sampled_video import OpenVideo


@dataclass(frozen=True)
class Clip:
    """A video from one time to another [s]. Clips that differ in the end only share one stream."""

    video: Path
    start_s: float = 0.0
    end_s: float = math.inf
    open_video: OpenVideo | None = None  # None: as any video file or folder of images
    locate: bool = False  # the answer is a position, which a search finds
    fps: float | None = None  # published sampling rate [1/s]

    @property
    def stream(self) -> tuple[Path, float, OpenVideo | None]:
        """What clips of the same stream have in common."""
        return self.video, self.start_s, self.open_video


class ImageList:
    """Opens images as the frames of a video at a constant rate [1/s]."""

    def __init__(self, images: Sequence[Any], fps: float) -> None:
        self._images, self._fps = images, fps

    def __call__(self, path: Path) -> Iterator[tuple[int, np.ndarray]]:
        for number, image in enumerate(self._images):
            yield round(1e9 * number / self._fps), np.asarray(image.convert("RGB"))


def clip_of(visuals: Sequence[Any] | None, frames_fps: float) -> Clip | None:
    """The clip in what a task's doc_to_visual returns; None: the question has no images.

    `frames_fps` is the rate of single images. Raises ValueError.
    """
    found = list(visuals or ())
    while len(found) == 1 and isinstance(found[0], list | tuple):
        found = list(found[0])
    if not found:
        return None
    if all(hasattr(visual, "convert") for visual in found):
        return Clip(Path("images"), open_video=ImageList(found, frames_fps))
    if len(found) > 1:
        raise ValueError(f"flash_vstream answers questions about one video; this one has {len(found)} visual inputs")
    if isinstance(found[0], Clip):
        return found[0]
    if isinstance(found[0], str | Path):
        return Clip(Path(found[0]))
    raise ValueError(f"flash_vstream reads videos and images, not {type(found[0]).__name__}")
