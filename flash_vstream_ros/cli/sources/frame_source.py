"""The interface of a frame source, and the frames that it gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

SECOND = 1_000_000_000
DEFAULT_FPS = 10.0  # of sources without times of their own
MAX_PIXELS = 48_000_000  # of a frame: 8K video and large photographs


class SourceError(RuntimeError):
    """A source that cannot be read: the sentence says what was found and what to do."""


class SourceFrame(NamedTuple):
    stamp_ns: int
    rgb: np.ndarray  # [height, width, 3] uint8


class FrameSource(Protocol):
    """Frames in recorded order. May be iterated again from the start; raises SourceError where it breaks off."""

    title: str
    frame_id: str  # "" if the source does not know
    frames: int | None  # about how many; None: unknown until read
    own_stamps: bool  # stamps are the recording's, not counted from base_ns
    skipped: int  # frames that could not be decoded, in the iteration so far

    @property
    def constant_fps(self) -> float | None:
        """Frames a second if they are evenly spaced, else None."""
        ...

    def __iter__(self) -> Iterator[SourceFrame]: ...


class EvenlySpaced:
    """Base of sources without times of their own: stamps are base_ns, base_ns + 1/fps, ..."""

    own_stamps = False
    frame_id = ""
    frames: int | None

    def __init__(self, title: str, fps: float, base_ns: int) -> None:
        self.title, self.fps, self.base_ns = title, fps, base_ns
        self.skipped = 0

    @property
    def constant_fps(self) -> float | None:
        """Frames a second of the stamps."""
        return self.fps

    def stamp_ns(self, index: int) -> int:
        """Stamp of the frame with this number."""
        return self.base_ns + round(index * SECOND / self.fps)
