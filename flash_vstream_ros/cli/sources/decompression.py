"""Limits the decompressed size of a bag's files, chunks and messages, which rosbags does not limit."""

from __future__ import annotations

import bz2
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from .frame_source import SourceError

MAX_BLOCK_BYTES = 256 << 20  # limit of a chunk or a message; an rgb8 image of 48 megapixels has 144 MB
MAX_RATIO = 100  # limit of the compression ratio of a file; raw camera images reach 20
FREE_BYTES = 1 << 30  # a file may decompress to this size at any ratio
STEP_BYTES = 1 << 20


class TooLarge(SourceError):
    """Compressed data exceeds the limit on its decompressed size."""


def bounded(decompressor: Any, data: bytes, max_bytes: int = MAX_BLOCK_BYTES) -> bytes:
    """Decompress a block. Raises TooLarge if it exceeds `max_bytes`, and ValueError if it ends early."""
    out = bytearray()
    while not decompressor.eof:
        piece = decompressor.decompress(data, max_length=STEP_BYTES)
        if not piece and decompressor.needs_input:
            raise ValueError("compressed data ends early")
        out += piece
        data = b""
        if len(out) > max_bytes:
            raise TooLarge(
                f"a chunk or message decompresses to more than {max_bytes >> 20} MiB, too large for an image"
            )
    return bytes(out)


class BoundedFile:
    """A file of decompressed data that raises TooLarge once it exceeds `max_bytes`."""

    def __init__(self, file: Any, max_bytes: int, name: str) -> None:
        self._file, self._name = file, name
        self._max_bytes = self._remaining_bytes = max_bytes

    def __enter__(self) -> BoundedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = STEP_BYTES) -> bytes:
        piece: bytes = self._file.read(size if size > 0 else STEP_BYTES)
        self._remaining_bytes -= len(piece)
        if self._remaining_bytes < 0:
            raise TooLarge(
                f"{self._name} decompresses to more than {self._max_bytes >> 20} MiB, which is {MAX_RATIO} times its"
                f" size or half of the free space of {tempfile.gettempdir()}: run `zstd -d` on it on a disk with"
                " room, or set TMPDIR"
            )
        return piece


def file_limit(compressed_bytes: int) -> int:
    """Largest size to which a compressed file may decompress in the folder for temporary files [bytes]."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return min(free // 2, max(FREE_BYTES, MAX_RATIO * compressed_bytes))


def bound_rosbags() -> None:
    """Replace the decompressors of rosbags in this process by bounded ones."""
    from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]
    from rosbags.rosbag1 import reader as rosbag1
    from rosbags.rosbag2 import reader as rosbag2
    from rosbags.rosbag2 import storage_mcap

    original = rosbag2.zstd
    if isinstance(original, _BoundedZstd):
        return
    zstd = _BoundedZstd(original)
    rosbag2.zstd = zstd
    storage_mcap.DECOMPRESSORS["zstd"] = lambda data, size: zstd.decompress(data, size)
    storage_mcap.DECOMPRESSORS["lz4"] = lambda data, size: bounded(LZ4FrameDecompressor(), data, _block(size))
    of_bag: dict[str, Callable[[bytes], bytes]] = rosbag1.decompressors
    of_bag["bz2"] = lambda data: bounded(bz2.BZ2Decompressor(), data)
    of_bag["lz4"] = lambda data: bounded(LZ4FrameDecompressor(), data)


class _BoundedZstd:
    """The functions of the zstd module that rosbags calls."""

    def __init__(self, zstd: Any) -> None:
        self._zstd = zstd

    def open(self, file: Any, mode: str) -> BoundedFile:
        limit = file_limit(os.fstat(file.fileno()).st_size)
        return BoundedFile(self._zstd.open(file, mode), limit, file.name)

    def decompress(self, data: bytes, size: int = MAX_BLOCK_BYTES) -> bytes:
        return bounded(self._zstd.ZstdDecompressor(), data, _block(size))


def _block(size: int) -> int:
    return min(size, MAX_BLOCK_BYTES)
