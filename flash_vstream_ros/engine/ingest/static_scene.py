"""Static-scene filter: a slot that shows no change since the camera's last encoded slot is not encoded.

An image is compared block by block, and the largest change counts: a mean over the image would miss a small object.
The reference is the last encoded slot, not the previous frame, so that slow changes add up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from flash_vstream_ros.memory.pose import NO_POSE, MaybePose, Pose, distance_m
from flash_vstream_ros.memory.spans import ALWAYS, Interval

BLOCKS = 32  # along the shorter side: one per 14 px patch of a vision tower with an input of 448 px
MOVED_M = 0.5  # a camera that has moved further is elsewhere, even if it sees the same, such as a white wall [m]
MAX_BLOCK = 257  # side [px]: the sum of 257 levels fits into 16 bits


@dataclass(frozen=True)
class StaticSceneConfig:
    """Thresholds for a static slot."""

    threshold: float = 6.0  # largest change of a block's mean colour in a static slot, 0 to 255; 0: filter off
    max_interval_s: float = 60.0  # longest time between two encoded slots, in message time


Blocks = tuple[np.ndarray, ...]  # mean colours of blocks: arrays [rows, columns, 3] float32 that cover an image


@dataclass(frozen=True)
class _Reference:
    """The last encoded slot of a camera, and the stamp until which it was extended. Stamps in ns."""

    frames: tuple[Blocks, Blocks]
    first_ns: int
    last_ns: int
    until_ns: int
    pose: MaybePose


def block_means(rgb: np.ndarray) -> Blocks:
    """Mean colours of square blocks of an RGB image [height, width, 3].

    If blocks do not fill the image, an additional row and column of blocks lie along its lower and its right edge.
    """
    height, width = rgb.shape[:2]
    side = min(max(1, min(height, width) // BLOCKS), MAX_BLOCK)
    rows, columns = height // side * side, width // side * side
    parts = [rgb[:rows, :columns]]
    if rows < height:
        parts.append(rgb[height - side :, :columns])
    if columns < width:
        parts.append(rgb[:rows, width - side :])
    if rows < height and columns < width:
        parts.append(rgb[height - side :, width - side :])
    return tuple(_means(part, side) for part in parts)


def _means(part: np.ndarray, side: int) -> np.ndarray:
    """Mean colours of the blocks of `part`. NumPy is faster at sums over rows, OpenCV at means over columns."""
    rows, columns = part.shape[0] // side, part.shape[1] // side
    sums = part.reshape(rows, side, -1, 3).sum(1, dtype=np.uint16)
    return cv2.resize(sums.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA) / side


def largest_change(blocks: Blocks, before: Blocks) -> float:
    """Largest difference of one colour of one block, 0 to 255; inf between images of different sizes."""
    if not blocks or [part.shape for part in blocks] != [part.shape for part in before]:
        return float("inf")
    return max(cv2.norm(part, other, cv2.NORM_INF) for part, other in zip(blocks, before, strict=True))


class StaticSceneFilter:
    """Keeps the last encoded slot of each camera as a reference. Owned by the engine's worker; `config` may change."""

    def __init__(self, config: StaticSceneConfig) -> None:
        self.config = config
        self._references: dict[str, _Reference] = {}

    def is_static(self, camera: str, frames: tuple[Blocks, Blocks], stamp_ns: int, pose: MaybePose = NO_POSE) -> bool:
        """Returns True if a slot resembles the camera's reference, frame by frame, in time and in place."""
        reference, config = self._references.get(camera), self.config
        if reference is None or not config.threshold:
            return False
        if not 0 < stamp_ns - reference.last_ns <= config.max_interval_s * 1e9:
            return False
        if _has_moved(reference.pose, pose):
            return False
        pairs = zip(frames, reference.frames, strict=True)
        return all(largest_change(blocks, before) <= config.threshold for blocks, before in pairs)

    def may_be_static(self, camera: str, blocks: Blocks) -> bool:
        """Returns True if a frame resembles one of the reference's, so that its slot may be static. Any thread."""
        reference, config = self._references.get(camera), self.config
        if reference is None or not config.threshold:
            return False
        return any(largest_change(blocks, before) <= config.threshold for before in reference.frames)

    def until_ns(self, camera: str) -> int:
        """Stamp until which the camera's reference was extended [ns]."""
        return self._references[camera].until_ns

    def set_reference(
        self, camera: str, frames: tuple[Blocks, Blocks], first_ns: int, last_ns: int, pose: MaybePose = NO_POSE
    ) -> None:
        """Make a slot the camera's reference."""
        self._references[camera] = _Reference(frames, first_ns, last_ns, last_ns, pose)

    def extend(self, camera: str, until_ns: int) -> None:
        """Record that the camera's reference lasts until `until_ns`."""
        self._references[camera] = replace(self._references[camera], until_ns=until_ns)

    def forget(self, camera: str, interval: Interval = ALWAYS) -> None:
        """Drop the camera's reference if any part of it lies in `interval`."""
        reference = self._references.get(camera)
        if reference is not None and interval.touches(reference.first_ns, reference.until_ns):
            del self._references[camera]


def _has_moved(reference: MaybePose, now: MaybePose) -> bool:
    """Returns True if a camera is known to be at another place than its reference, or if only one pose is known.

    A frame without a pose must not be counted at the pose of its reference, nor the reverse.
    """
    if not isinstance(reference, Pose) or not isinstance(now, Pose):
        return isinstance(reference, Pose) != isinstance(now, Pose)
    if (reference.frame_id, reference.map_id) != (now.frame_id, now.map_id):
        return True
    return distance_m(reference, now) > MOVED_M
