"""Recall: reads key frames of an interval from the archive, on a separate thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
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


Choice = Callable[[Sequence[Match], int], list[Match]]
"""Selects key frames, at most the given number, in order of time."""


class RecalledFrame(NamedTuple):
    """A key frame, its image [height, width, 3] uint8 RGB, and a small JPEG of the image."""

    frame: KeyFrame
    rgb: np.ndarray
    thumbnail: bytes


class Recalled(NamedTuple):
    """Key frames of an interval in order of their stamps, not decoded, and the number of all that the archive has."""

    frames: tuple[KeyFrame, ...]
    matching: int


class Sampled(NamedTuple):
    """Key frames of all times in order of their stamps, not decoded, and the number of all that the archive has."""

    frames: tuple[KeyFrame, ...]
    matching: int
    problem: str = ""  # with the file, when it was opened


class KeyFrameReader:
    """Reads one interval at a time. `recall` and `sample` never wait."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "flash-vstream-recall")

    def recall(self, scope: Scope, most: int, known: int = 0) -> Future[Recalled]:
        """At most `most` key frames in scope; none if they are not more than twice the `known` ones in the memory.

        The future may raise ArchiveError.
        """
        return self._thread.submit(self._recalled, scope, most, known)

    def sample(self, scope: Scope, most: int, choose: Choice, opened: Callable[[], str]) -> Future[Sampled]:
        """At most `most` key frames in scope. The future may raise ArchiveError.

        `opened` waits until the file was opened for writing or set aside, and returns the problem with it, if any.
        """
        return self._thread.submit(self._sampled, scope, most, choose, opened)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _recalled(self, scope: Scope, most: int, known: int) -> Recalled:
        with reading(self._path) as connection, translated(self._path):
            frames, matching = key_frames(connection, scope, most, 2 * known)
        return Recalled(tuple(frames), matching)

    def _sampled(self, scope: Scope, most: int, choose: Choice, opened: Callable[[], str]) -> Sampled:
        problem = opened()
        if not self._path.is_file():
            return Sampled((), 0, problem)
        with reading(self._path) as connection, translated(self._path):
            frames, matching = key_frames(connection, scope, most, choose=choose)
        return Sampled(tuple(frames), matching, problem)


def key_frames(
    connection: sqlite3.Connection, scope: Scope, most: int, more_than: int = 0, choose: Choice | None = None
) -> tuple[list[KeyFrame], int]:
    """At most `most` key frames in scope as `choose` selects them, and the number of all.

    By default they are spread over the scope. If the scope has no more than `more_than`, none is read.
    """
    where, values = condition(scope)
    rows = connection.execute(f"SELECT id, stamp_ns, novelty FROM key_frames WHERE {where}", values).fetchall()
    if min(len(rows), most) <= more_than:
        return [], len(rows)
    matches = (choose or spread)([Match(*row) for row in rows], most)
    frames = (read_key_frame(connection, match.id) for match in matches)
    return [frame for frame in frames if frame is not None], len(rows)


def spread(matches: Sequence[Match], most: int) -> list[Match]:
    """At most `most` of `matches`, in order of time: the most novel one of each of `most` equal parts."""
    ordered = sorted(matches, key=lambda match: (match.stamp_ns, match.id))
    if len(ordered) <= most:
        return ordered
    bounds = [len(ordered) * part // most for part in range(most + 1)]
    parts = (ordered[first:last] for first, last in pairwise(bounds))
    return [max(part, key=lambda match: match.novelty) for part in parts]


def newest(matches: Sequence[Match], most: int) -> list[Match]:
    """The newest `most` of `matches`, in order of time."""
    return sorted(matches, key=lambda match: (match.stamp_ns, match.id))[-most:]


def decoded(frame: KeyFrame) -> RecalledFrame | None:
    """Decode a key frame. Returns None if its image is damaged."""
    bgr = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        return None
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return RecalledFrame(frame, rgb, thumbnail(rgb))
