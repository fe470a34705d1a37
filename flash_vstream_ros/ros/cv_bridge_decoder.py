"""Decodes raw images with cv_bridge, for the encodings that it decodes correctly on this machine.

cv_bridge skews rows that are padded by part of a pixel and does not know NV12. A binary built for NumPy 1 crashes with
NumPy 2. So a child process tries it once on a small image of each encoding, and compares it with the built-in decoder.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np

from .images import row_bytes, to_rgb

DECODERS = ("auto", "cv_bridge", "builtin")
# Without 16-bit encodings: cv_bridge keeps only the high byte, which is black for cameras with 10 to 14 bits.
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
TRIAL_TIMEOUT_S = 30.0
TRIAL = f"from {__name__} import try_cv_bridge; try_cv_bridge()"


@dataclass(frozen=True)
class DecoderChoice:
    """The decoder in use and why. `convert` decodes messages of `encodings` to RGB; None: cv_bridge is not used."""

    name: str
    reason: str
    encodings: frozenset[str] = frozenset()
    convert: Callable[[Any], np.ndarray] | None = None

    def decodes(self, message: Any) -> bool:
        """Returns True if cv_bridge decodes this checked message correctly: known encoding, no padding of rows."""
        return message.encoding in self.encodings and int(message.step) == row_bytes(message)


def choose_decoder(wanted: str) -> DecoderChoice:
    """Choose by the parameter image.decoder: auto, cv_bridge or builtin. Never raises."""
    if wanted == "builtin":
        return DecoderChoice("builtin", "image.decoder is builtin")
    if find_spec("cv_bridge") is None:
        return DecoderChoice("builtin", "cv_bridge is not installed")
    right, problem = tried_encodings()
    if not right:
        return DecoderChoice("builtin", problem)
    wrong = ", ".join(encoding for encoding in CANDIDATES if encoding not in right)
    rest = f", but not {wrong}" if wrong else ""
    return DecoderChoice("cv_bridge", f"it decodes {len(right)} encodings correctly{rest}", right, _converter())


def _converter() -> Callable[[Any], np.ndarray]:
    from cv_bridge import CvBridge

    bridge = CvBridge()
    return lambda message: np.asarray(bridge.imgmsg_to_cv2(message, "rgb8"))


@cache  # a child process takes a second, and cameras are created at each activation
def tried_encodings() -> tuple[frozenset[str], str]:
    """Encodings that cv_bridge decodes correctly, tried in a child process. If there are none, also the reason."""
    command = [sys.executable, "-c", TRIAL]
    try:
        trial = subprocess.run(command, text=True, capture_output=True, timeout=TRIAL_TIMEOUT_S, check=False)
        if trial.returncode < 0:
            name = signal.Signals(-trial.returncode).name
            return frozenset(), f"cv_bridge crashes with {name}: was it built for another NumPy than {np.__version__}?"
        found = json.loads(trial.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return frozenset(), f"cv_bridge did not load within {TRIAL_TIMEOUT_S:.0f} s"
    except (OSError, ValueError, IndexError) as error:
        return frozenset(), f"cv_bridge could not be tried: {type(error).__name__}: {error}"
    return frozenset(found["right"]), found["problem"] or "cv_bridge decodes no encoding correctly"


def try_cv_bridge() -> None:
    """Print as JSON which encodings cv_bridge decodes correctly, or why it fails to load. For the child process."""
    right, problem = [], ""
    try:
        convert = _converter()
        right = [encoding for encoding in CANDIDATES if _agrees(convert, encoding)]
    except Exception as error:  # a binary for another NumPy may raise any exception
        problem = f"cv_bridge fails to load: {type(error).__name__}: {error}"
    print(json.dumps({"right": right, "problem": problem}))


def _agrees(convert: Callable[[Any], np.ndarray], encoding: str) -> bool:
    """Returns True if cv_bridge decodes a random image like the built-in decoder, up to one level."""
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
