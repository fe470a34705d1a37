"""The frames of a video at a sampling rate. Several methods read them in any order, and the video is decoded once."""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np

from flash_vstream_ros.engine.ingest.mailbox import Frame, Mailbox
from flash_vstream_ros.memory.pose import NO_POSE, MaybePose


@runtime_checkable
class PosedFrames(Protocol):
    """Frames of a robot whose poses are known."""

    def since(self, start_s: float) -> Iterator[tuple[int, np.ndarray]]:
        """The frames from `start_s` on, as (time since the very first one [ns], RGB uint8 image)."""
        ...

    def pose(self, stamp_ns: int) -> MaybePose:
        """The pose at the newest frame up to this stamp."""
        ...


# Opens a video file or a folder of frames. Its frames are (time since the first one [ns], RGB uint8 image).
OpenVideo = Callable[[Path], Iterable[tuple[int, np.ndarray]]]


class _Stored(NamedTuple):
    """Where a sampled frame is in the temporary file."""

    stamp_ns: int
    offset: int  # in the file [bytes]
    size: int  # [bytes]


class SampledVideo:
    """Sampled frames of one video from `start_s` on, stored losslessly in a temporary file.

    They are chosen as the node chooses them. Reading is thread safe, decoding further is not. Raises what the frames of
    `open_video` raise.
    """

    def __init__(self, open_video: OpenVideo, path: Path, fps: float, start_s: float = 0.0) -> None:
        source = open_video(path)
        self._posed = source if isinstance(source, PosedFrames) else None
        frames = (frame for frame in source if frame[0] >= start_s * 1e9)
        self._frames = _sampled(self._posed.since(start_s) if self._posed else frames, fps)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._error: Exception | None = None
        self._stored: list[_Stored] = []
        self._is_complete = False

    def count_until(self, time_s: float) -> int:
        """Number of sampled frames up to `time_s`; the video is decoded as far as needed."""
        limit_ns = time_s * 1e9
        while not self._is_complete and (not self._stored or self._stored[-1].stamp_ns <= limit_ns):
            self._store_next()
        return bisect_right(self._stored, limit_ns, key=lambda stored: stored.stamp_ns)

    def stamp_ns(self, index: int) -> int:
        """Stamp of a sampled frame [ns]."""
        return self._stored[index].stamp_ns

    def pose(self, index: int) -> MaybePose:
        """The pose of the robot at a sampled frame."""
        return self._posed.pose(self._stored[index].stamp_ns) if self._posed else NO_POSE

    def image(self, index: int) -> np.ndarray:
        """A sampled frame [height, width, 3], RGB uint8."""
        stored = self._stored[index]
        data = os.pread(self._file.fileno(), stored.size, stored.offset)
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None, "a stored frame decodes"
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

    def images(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Some sampled frames."""
        return map(self.image, indices)

    def close(self) -> None:
        self._file.close()

    def _store_next(self) -> None:
        if self._error is not None:
            raise self._error
        try:
            frame = next(self._frames, None)
        except Exception as error:
            self._error = error  # raised again, since the next method would otherwise get a shorter video
            raise
        if frame is None:
            self._is_complete = True
            return
        stamp_ns, rgb = frame
        _, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        self._stored.append(_Stored(stamp_ns, self._file.seek(0, os.SEEK_END), len(data)))
        self._file.write(data.tobytes())
        self._file.flush()


def _sampled(frames: Iterable[tuple[int, np.ndarray]], fps: float) -> Iterator[tuple[int, np.ndarray]]:
    mailbox = Mailbox(fps)
    for stamp_ns, rgb in frames:
        stamp_ns = max(stamp_ns, 1)  # stamp 0 means that a driver sets no stamps
        if mailbox.offer(Frame("camera", "", stamp_ns, lambda: rgb)).is_due:  # noqa: B023 (never decoded)
            mailbox.take()
            yield stamp_ns, rgb
