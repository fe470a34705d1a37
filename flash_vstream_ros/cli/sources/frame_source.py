"""The interface of a frame source, and its frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

SECOND = 1_000_000_000
DEFAULT_FPS = 10.0  # for sources without times
MAX_PIXELS = 48_000_000  # largest frame; enough for 8K video and large photographs


class SourceError(RuntimeError):
    """A source that cannot be read: the message says what was found and what to do."""


class SourceFrame(NamedTuple):
    stamp_ns: int
    rgb: np.ndarray  # [height, width, 3] uint8


class FrameSource(Protocol):
    """Frames in recorded order. Each iteration starts at the first frame; SourceError ends it at damaged data."""

    title: str
    frame_id: str  # "": unknown
    frames: int | None  # approximate number of frames; None: unknown
    own_stamps: bool  # True: stamps come from the recording; False: they count from base_ns
    skipped: int  # number of frames in this iteration that could not be decoded

    @property
    def constant_fps(self) -> float | None:
        """Frames per second if they are evenly spaced, else None."""
        ...

    def __iter__(self) -> Iterator[SourceFrame]: ...


class EvenlySpaced:
    """Base of sources without times: stamps are base_ns, base_ns + 1/fps, ..."""

    own_stamps = False
    frame_id = ""
    frames: int | None

    def __init__(self, title: str, fps: float, base_ns: int) -> None:
        self.title, self.fps, self.base_ns = title, fps, base_ns
        self.skipped = 0

    @property
    def constant_fps(self) -> float | None:
        """Frames per second."""
        return self.fps

    def stamp_ns(self, index: int) -> int:
        """Stamp of the frame with this number."""
        return self.base_ns + round(index * SECOND / self.fps)
