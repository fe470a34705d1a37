"""What is worth the vision tower: slots that show a change since the last one of their camera that was encoded.

A change is that of the block that changed most: a mean over the picture would lose a small object. And it is one since
the slot that was encoded last, not since the frame before: what changes slowly adds up until it shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from flash_vstream_ros.memory.spans import ALWAYS, Interval

BLOCKS = 32  # along the shorter side: a block is a patch of a tower that sees 448 pixels of 14
LARGEST_BLOCK = 257  # px: so many levels add up to what 16 bits hold


@dataclass(frozen=True)
class StaticLimits:
    """What counts as a scene that rests."""

    threshold: float = 6.0  # largest change of a block's mean colour that is none [levels of 255]; 0: all is encoded
    max_interval_s: float = 60.0  # of message time, from one slot that is encoded to the next


Blocks = tuple[np.ndarray, ...]  # mean colours of a picture's blocks, in parts of [rows, columns, 3] float32


@dataclass(frozen=True)
class _Encoded:
    """The last encoded slot of a camera, and how long it has stayed. Stamps in ns."""

    frames: tuple[Blocks, Blocks]
    first_ns: int
    last_ns: int
    until_ns: int


def block_means(rgb: np.ndarray) -> Blocks:
    """Mean colours of square blocks of an RGB picture [height, width, 3], [rows, columns, 3] float32 each part.

    Where blocks do not fill it, a second and a third row of them stand at its lower and its right edge.
    """
    height, width = rgb.shape[:2]
    side = min(max(1, min(height, width) // BLOCKS), LARGEST_BLOCK)
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
    """Of blocks that fill `part`. Columns first, in NumPy, then rows, in OpenCV: each what it does at full speed."""
    rows, columns = part.shape[0] // side, part.shape[1] // side
    sums = part.reshape(rows, side, -1, 3).sum(1, dtype=np.uint16)
    return cv2.resize(sums.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA) / side


def largest_change(blocks: Blocks, before: Blocks) -> float:
    """Largest difference of one colour of one block [levels]; inf between pictures of other sizes."""
    if not blocks or [part.shape for part in blocks] != [part.shape for part in before]:
        return float("inf")
    return max(cv2.norm(part, other, cv2.NORM_INF) for part, other in zip(blocks, before, strict=True))


class StaticSceneFilter:
    """Remembers the last encoded slot of each camera, as blocks. Owned by the engine's worker; limits may change."""

    def __init__(self, limits: StaticLimits) -> None:
        self.limits = limits
        self._encoded: dict[str, _Encoded] = {}

    def rests(self, camera: str, frames: tuple[Blocks, Blocks], stamp_ns: int) -> bool:
        """Whether a slot shows what the last encoded one of its camera did, frame by frame, and not too long after."""
        encoded, limits = self._encoded.get(camera), self.limits
        if encoded is None or not limits.threshold:
            return False
        if not 0 < stamp_ns - encoded.last_ns <= limits.max_interval_s * 1e9:
            return False
        pairs = zip(frames, encoded.frames, strict=True)
        return all(largest_change(blocks, before) <= limits.threshold for blocks, before in pairs)

    def resembles(self, camera: str, blocks: Blocks) -> bool:
        """Whether one frame is like one of those, so that its slot may rest. A guess, from any thread."""
        encoded, limits = self._encoded.get(camera), self.limits
        if encoded is None or not limits.threshold:
            return False
        return any(largest_change(blocks, before) <= limits.threshold for before in encoded.frames)

    def until_ns(self, camera: str) -> int:
        """Stamp up to which the last encoded slot of `camera` has stayed."""
        return self._encoded[camera].until_ns

    def encoded(self, camera: str, frames: tuple[Blocks, Blocks], first_ns: int, last_ns: int) -> None:
        """From now on slots of `camera` are compared with this one."""
        self._encoded[camera] = _Encoded(frames, first_ns, last_ns, last_ns)

    def stays(self, camera: str, until_ns: int) -> None:
        """The last encoded slot of `camera` was seen again."""
        self._encoded[camera] = replace(self._encoded[camera], until_ns=until_ns)

    def forget(self, camera: str, interval: Interval = ALWAYS) -> None:
        """Let go of what `camera` showed when it was seen in `interval`."""
        encoded = self._encoded.get(camera)
        if encoded is not None and interval.touches(encoded.first_ns, encoded.until_ns):
            del self._encoded[camera]
