"""Reads video files with FFmpeg through PyAV.

Stamps are the container's presentation times. OpenCV's VideoCapture only counts frames, which is wrong for variable
frame rates. Frames look as in a player: rotated by the display matrix and scaled by the sample aspect ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np

from .frame_source import MAX_PIXELS, SECOND, SourceError, SourceFrame

UNEVEN = 1.5  # the frame rate is variable if an interval is longer than this many times the mean
LONGEST_GAP_NS = 24 * 3600 * SECOND  # a longer gap is a damaged time, not a pause
LARGEST_SAMPLE_ASPECT = 8  # a larger ratio is ignored as damaged
MISSING_END_S = 0.25  # a video that ends this much before its stated duration is cut off
PADDING_PIXELS = 1 << 20  # FFmpeg's limit of pixels includes the padding of its buffers
MAX_BAD_PACKETS = 1000  # consecutive ones


class VideoSource:
    """One video file. Stamps begin at base_ns. If `fps` is not 0, it replaces the times of the file."""

    own_stamps = False
    frame_id = ""

    def __init__(self, path: Path, fps: float, base_ns: int, max_pixels: int = MAX_PIXELS) -> None:
        self.path, self.title, self.base_ns = path, path.name, base_ns
        self.skipped = 0
        self._fps, self._max_pixels = fps, max_pixels
        with self._opened() as (container, stream):
            self.frames: int | None = stream.frames or None
            self._nominal_fps = float(stream.average_rate or stream.guessed_rate or 0)
            if next(_decoded(container, stream, _ignore), None) is None:
                raise self._no_video("no frame in it can be decoded")
        if not fps and not 0 < self._nominal_fps <= 1000:
            self._nominal_fps = 0.0

    @cached_property
    def constant_fps(self) -> float | None:
        """Frames per second if they are evenly spaced, else None. Reads the file once, without decoding it."""
        if self._fps:
            return self._fps
        with self._opened() as (container, stream):
            times = sorted(
                float(when * packet.time_base)
                for packet in container.demux(stream)
                if (when := packet.dts if packet.pts is None else packet.pts) is not None and packet.size
            )
        intervals = [later - earlier for earlier, later in pairwise(times)]
        mean = fmean(intervals) if intervals else 0.0
        if mean <= 0:
            return self._nominal_fps or None
        return 1 / mean if max(intervals) < UNEVEN * mean else None

    def __iter__(self) -> Iterator[SourceFrame]:
        self.skipped = 0
        with self._opened() as (container, stream):
            clock = _PresentationTimes(self._fps, self._nominal_fps, self.path)
            aspect = Fraction(stream.sample_aspect_ratio or 1)
            for frame in _decoded(container, stream, self._skip):
                yield SourceFrame(self.base_ns + clock.next_ns(frame), self._displayed(frame, aspect))
            if not self._fps:
                missing_s = _duration_s(container, stream, is_cut_off=self.skipped > 0) - clock.end_s
                if missing_s > MISSING_END_S:
                    self.skipped = max(self.skipped, round(missing_s * self._nominal_fps))

    def _skip(self) -> None:
        self.skipped += 1

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """Open the container and its video stream. Errors of FFmpeg become SourceErrors."""
        try:
            import av
        except ImportError as error:
            raise SourceError(f"reading a video needs PyAV: pip install av ({error})") from None
        try:
            # FFmpeg must not open the other files and addresses that a playlist names.
            with self.path.open("rb") as file, av.open(file, options={"protocol_whitelist": "pipe"}) as container:
                stream = container.streams.best("video")
                if stream is None:
                    raise self._no_video("it has no video stream")
                self._check_size(stream.width, stream.height)
                stream.codec_context.options = {"max_pixels": str(self._max_pixels + PADDING_PIXELS)}
                stream.thread_type = "AUTO"
                yield container, stream
        except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
            raise self._no_video(getattr(error, "strerror", None) or str(error)) from error

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise SourceError(
                f"{self.path} is {width}x{height}; at most {self._max_pixels / 1e6:g} megapixels are read"
            )

    def _no_video(self, why: str) -> SourceError:
        return SourceError(f"no video in {self.path}: {why}; is it complete? try `ffmpeg -i {self.path} copy.mp4`")

    def _displayed(self, frame: Any, aspect: Fraction) -> np.ndarray:
        """The frame as RGB [height, width, 3], as a player shows it."""
        width, height = frame.width, frame.height
        if 1 / LARGEST_SAMPLE_ASPECT <= aspect <= LARGEST_SAMPLE_ASPECT:
            width, height = max(width, round(width * aspect)), max(height, round(height / aspect))
        self._check_size(width, height)
        rgb = frame.to_ndarray(format="rgb24", width=width, height=height)
        return turned(rgb, frame.side_data.get("DISPLAYMATRIX"))


class _PresentationTimes:
    """Times of frames since the first one [ns]: presentation times, or frame number / `fps` if `fps` is not 0."""

    def __init__(self, fps: float, nominal_fps: float, path: Path) -> None:
        self._fps, self._nominal_fps, self._path = fps, nominal_fps, path
        self._count = 0
        self._shift_ns: int | None = None
        self._last_ns = self._interval_ns = 0

    @property
    def end_s(self) -> float:
        """Time at which the last frame ends [s]."""
        return (self._last_ns + self._interval_ns) / SECOND

    def next_ns(self, frame: Any) -> int:
        """Time of the next frame. If times stand still, go back or jump by days, the nominal rate replaces them."""
        number, self._count = self._count, self._count + 1
        if self._fps:
            return round(number * SECOND / self._fps)
        nominal_ns = round(SECOND / self._nominal_fps) if self._nominal_fps else 0
        found_ns = None if frame.pts is None else round(Fraction(frame.pts) * frame.time_base * SECOND)
        if found_ns is None and not nominal_ns:
            raise SourceError(f"{self._path} has neither times nor a frame rate: give --fps")
        if number == 0:
            self._shift_ns = found_ns
            self._interval_ns = nominal_ns
            return 0
        if self._shift_ns is None or found_ns is None:
            now_ns = self._last_ns + nominal_ns
        else:
            now_ns = found_ns - self._shift_ns
            if not 0 < now_ns - self._last_ns <= LONGEST_GAP_NS:
                now_ns = self._last_ns + (nominal_ns or self._interval_ns or round(SECOND / 10))
                self._shift_ns = found_ns - now_ns
        self._interval_ns, self._last_ns = now_ns - self._last_ns, now_ns
        return now_ns


def turned(rgb: np.ndarray, matrix: Any) -> np.ndarray:
    """Rotate and mirror an image [height, width, 3] by FFmpeg's display matrix: nine 16.16 integers, or None.

    The first rows of the matrix are (a, b, u) and (c, d, v); it maps a pixel (x, y) to (a x + c y, b x + d y). Angles
    are rounded to multiples of 90 degrees.
    """
    if matrix is None:
        return rgb
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(int)
    if abs(b) + abs(c) > abs(a) + abs(d):
        rgb, flip_x, flip_y = cv2.transpose(rgb), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    if flip_x and flip_y:
        return cv2.flip(rgb, -1)
    if flip_x or flip_y:
        return cv2.flip(rgb, 1 if flip_x else 0)
    return rgb


def _decoded(container: Any, stream: Any, skip: Callable[[], None]) -> Iterator[Any]:
    """Frames in presentation order. Damaged packets and frames are skipped and counted."""
    import av

    bad = 0
    for packet in container.demux(stream):
        if packet.is_corrupt:
            skip()
            continue
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            skip()
            bad += 1
            if bad > MAX_BAD_PACKETS:
                raise
            continue
        bad = 0
        for frame in frames:
            if frame.is_corrupt:
                skip()
            else:
                yield frame


def _duration_s(container: Any, stream: Any, is_cut_off: bool) -> float:
    """Duration of the video as the file states it [s]; 0 if the file states only one duration for several streams."""
    stated_s = float(stream.duration * stream.time_base) if stream.duration is not None else 0.0
    if stream.duration is None and container.duration and len(container.streams) == 1:
        stated_s = container.duration / 1e6
    if is_cut_off and stream.frames and stream.average_rate:  # FFmpeg replaces the stated duration of a cut AVI
        return max(stated_s, float(stream.frames / stream.average_rate))
    return stated_s


def _ignore() -> None:
    """Do not count frames that cannot be decoded; they are counted when the video is read."""
