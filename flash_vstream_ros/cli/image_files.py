"""Image files in any format that OpenCV reads, as arguments of commands."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from flash_vstream_ros.engine.jpeg import jpeg_of

LONGEST_SIDE = 1280  # of an image that is sent [px]; no vision tower uses a larger one
QUALITY = 95  # of JPEG


class ImageFileError(ValueError):
    """A file that is not an image; the message names it."""


def read_image(path: str) -> np.ndarray:
    """The image in a file, upright, with sides of at most LONGEST_SIDE: [height, width, 3] uint8 RGB.

    Raises ImageFileError.
    """
    try:
        data = np.frombuffer(Path(path).expanduser().read_bytes(), np.uint8)
    except OSError as error:
        raise ImageFileError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:  # more pixels than OpenCV allows
        image = None
    if image is None:
        raise ImageFileError(f"{path} is no image that OpenCV reads; give a JPEG or PNG file")
    scale = LONGEST_SIDE / max(image.shape[:2])
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_as_jpeg(path: str) -> bytes:
    """The image in a file as JPEG. Raises ImageFileError."""
    return jpeg_of(read_image(path), LONGEST_SIDE, QUALITY)
