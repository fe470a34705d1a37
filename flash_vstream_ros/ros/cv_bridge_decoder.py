"""cv_bridge as the decoder of raw images, for the encodings that it decodes right on this machine.

It skews rows that are padded by part of a pixel, knows no NV12, and a binary built for NumPy 1 does not load beside
NumPy 2. So it is tried once, on a small image of each encoding, against the built-in decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from .images import row_bytes, to_rgb

DECODERS = ("auto", "cv_bridge", "builtin")
# 16-bit encodings are left out: cv_bridge keeps the high byte, which is black for cameras of 10 to 14 bits.
CANDIDATES = (
    "rgb8",
    "bgr8",
    "rgba8",
    "bgra8",
    "mono8",
    "bayer_rggb8",
    "bayer_bggr8",
    "bayer_gbrg8",
    "bayer_grbg8",
    "yuv422",
    "yuv422_yuy2",
)
TRIAL_SIZE = 16, 12  # width, height [px]


@dataclass(frozen=True)
class DecoderChoice:
    """The decoder in use and why. `convert` decodes messages of `encodings` to RGB; None: the built-in one does all."""

    name: str
    reason: str
    encodings: frozenset[str] = frozenset()
    convert: Callable[[Any], np.ndarray] | None = None

    def decodes(self, message: Any) -> bool:
        """Returns True if cv_bridge decodes this checked message right: known encoding, rows not padded."""
        return message.encoding in self.encodings and int(message.step) == row_bytes(message)


def choose_decoder(wanted: str) -> DecoderChoice:
    """Choose by the parameter image.decoder: auto, cv_bridge or builtin. Never raises."""
    if wanted == "builtin":
        return DecoderChoice("builtin", "image.decoder is builtin")
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
    except Exception as error:  # a binary for another NumPy raises anything
        return DecoderChoice("builtin", f"cv_bridge does not load: {type(error).__name__}: {error}")

    def convert(message: Any) -> np.ndarray:
        return np.asarray(bridge.imgmsg_to_cv2(message, "rgb8"))

    right = frozenset(encoding for encoding in CANDIDATES if _agrees(convert, encoding))
    if not right:
        return DecoderChoice("builtin", "cv_bridge loads, and decodes no encoding right")
    wrong = ", ".join(encoding for encoding in CANDIDATES if encoding not in right)
    rest = f", but not {wrong}" if wrong else ""
    return DecoderChoice("cv_bridge", f"it loads and decodes {len(right)} encodings right{rest}", right, convert)


def _agrees(convert: Callable[[Any], np.ndarray], encoding: str) -> bool:
    """Returns True if a random image decodes to the same RGB, to one grey level."""
    width, height = TRIAL_SIZE
    message = SimpleNamespace(encoding=encoding, width=width, height=height, is_bigendian=0, step=0, data=b"")
    message.step = row_bytes(message)
    message.data = np.random.default_rng(0).integers(0, 256, message.step * height, np.uint8).tobytes()
    try:
        found = convert(message).astype(int)
    except Exception:
        return False
    expected = to_rgb(message).astype(int)
    return found.shape == expected.shape and bool(np.abs(found - expected).max() <= 1)
