"""JPEGs of frames: thumbnails in the memory, and key frames in the archive."""

from __future__ import annotations

import cv2
import numpy as np

THUMBNAIL_SIDE, THUMBNAIL_QUALITY = 160, 80  # longer side [px]


def jpeg_of(rgb: np.ndarray, side: int, quality: int) -> bytes:
    """JPEG of an image [height, width, 3] uint8, scaled down to at most `side` pixels. Raises ValueError."""
    scale = min(1.0, side / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if scale < 1 else rgb
    encoded, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise ValueError(f"an image of {rgb.shape} cannot be encoded as JPEG")
    return jpeg.tobytes()


def thumbnail(rgb: np.ndarray) -> bytes:
    """JPEG of an RGB uint8 image [height, width, 3], its longer side at most 160 pixels; b"" if this fails."""
    try:
        return jpeg_of(rgb, THUMBNAIL_SIDE, THUMBNAIL_QUALITY)
    except ValueError:
        return b""
