"""Writes small video files for tests of frame sources."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from math import gcd
from pathlib import Path

import av
import numpy as np

IDENTITY = (1, 0, 0, 1)


def corner_image(level: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Grey of 20 * level, recognisable after lossy coding, with the upper left quarter red."""
    rgb = np.full((height, width, 3), 20 * level, np.uint8)
    rgb[: height // 2, : width // 2] = 220, 30, 30
    return rgb


def write_video(
    path: Path,
    times_ms: Sequence[int],
    codec: str = "mpeg4",
    aspect: Fraction | None = None,
    audio_s: float = 0.0,
    size: tuple[int, int] = (48, 64),
) -> Path:
    """A video with frame n at times_ms[n] and grey level n % 12, optionally with a longer sound track.

    `size` is (height, width).
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = tick = Fraction(gcd(*times_ms), 1000)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        sound = container.add_stream("flac", rate=8000, layout="mono") if audio_s else None
        for index, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(corner_image(index % 12, *size), "rgb24")
            frame.pts, frame.time_base = int(Fraction(time_ms, 1000) / tick), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            for start in range(0, int(audio_s * 8000), 4000):
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.int16), "s16", "mono")
                samples.sample_rate, samples.pts = 8000, start
                container.mux(sound.encode(samples))
            container.mux(sound.encode(None))
    return path


def turn_video(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Replace the display matrix (a, b, c, d) of an MP4, as a phone in another orientation writes it."""
    data = path.read_bytes()
    at = data.index(_matrix(IDENTITY), data.index(b"tkhd"))
    path.write_bytes(data[:at] + _matrix(matrix) + data[at + 36 :])
    return path


def _matrix(turn: tuple[int, int, int, int]) -> bytes:
    a, b, c, d = (value << 16 for value in turn)
    return struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
