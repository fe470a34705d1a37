"""Recall: reads key frames of an interval from the archive and decodes them, on a separate thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from flash_vstream_ros.engine.jpeg import thumbnail
from flash_vstream_ros.memory.scope import Scope

from .database import condition, read_key_frame, reading, translated
from .key_frame import KeyFrame


class Match(NamedTuple):
    """A key frame in the interval."""

    id: int
    stamp_ns: int
    novelty: float


class RecalledFrame(NamedTuple):
    """A key frame, its image [height, width, 3] uint8 RGB, and a small JPEG of the image."""

    frame: KeyFrame
    rgb: np.ndarray
    thumbnail: bytes


class Recalled(NamedTuple):
    """Key frames of an interval in order of their stamps, and the number of all that the archive has."""

    frames: tuple[RecalledFrame, ...]
    matching: int


class KeyFrameReader:
    """Reads one interval at a time. `recall` never waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "flash-vstream-recall")

    def recall(self, scope: Scope, most: int, known: int) -> Future[Recalled]:
        """At most `most` key frames in scope; none if their number is not more than twice `known`.

        The future may raise ArchiveError.
        """
        return self._thread.submit(self._recalled, scope, most, known)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _recalled(self, scope: Scope, most: int, known: int) -> Recalled:
        with reading(self._path) as connection, translated(self._path):
            frames, matching = key_frames(connection, scope, most, 2 * known)
        decoded = (_decoded(frame) for frame in frames)
        return Recalled(tuple(each for each in decoded if each is not None), matching)


def key_frames(
    connection: sqlite3.Connection, scope: Scope, most: int, more_than: int = 0
) -> tuple[list[KeyFrame], int]:
    """At most `most` key frames, spread over the scope, and the number of all; none if there are only `more_than`."""
    where, values = condition(scope)
    rows = connection.execute(f"SELECT id, stamp_ns, novelty FROM key_frames WHERE {where}", values).fetchall()
    if min(len(rows), most) <= more_than:
        return [], len(rows)
    frames = (read_key_frame(connection, match.id) for match in spread([Match(*row) for row in rows], most))
    return [frame for frame in frames if frame is not None], len(rows)


def spread(matches: Sequence[Match], most: int) -> list[Match]:
    """At most `most` of `matches`, in order of time: the most novel one of each of `most` equal parts."""
    ordered = sorted(matches, key=lambda match: (match.stamp_ns, match.id))
    if len(ordered) <= most:
        return ordered
    bounds = [len(ordered) * part // most for part in range(most + 1)]
    parts = (ordered[first:last] for first, last in pairwise(bounds))
    return [max(part, key=lambda match: match.novelty) for part in parts]


def _decoded(frame: KeyFrame) -> RecalledFrame | None:
    """Decode a key frame. Returns None if its image is damaged."""
    bgr = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        return None
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return RecalledFrame(frame, rgb, thumbnail(rgb))
