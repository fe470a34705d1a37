"""Where cv_bridge is installed, both ways of reading an image agree to one grey level."""

from __future__ import annotations

import numpy as np
import pytest
from test_images import BAYER, noise

from flash_vstream_ros.ros.images import to_rgb

COLOURS = ["rgb8", "bgr8", "rgba8", "bgra8", "rgb16", "bgr16", "rgba16", "bgra16", "mono8", "mono16"]
MOSAICS = [f"bayer_{pattern}{bits}" for pattern in BAYER for bits in (8, 16)]
READ_BY_CV_BRIDGE = [*COLOURS, *MOSAICS, "yuv422", "yuv422_yuy2"]
PADDING = 24  # bytes; it reads rows padded by a part of a pixel as if they were skewed


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pad", [0, PADDING])
@pytest.mark.parametrize("encoding", READ_BY_CV_BRIDGE)
def test_cv_bridge_reads_the_same_picture(encoding: str, pad: int, big: bool) -> None:
    cv_bridge = pytest.importorskip("cv_bridge")
    message = noise(encoding, 16, 12, pad, big)
    try:
        theirs = cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
    except (AttributeError, ImportError, cv_bridge.CvBridgeError) as error:
        pytest.skip(f"this cv_bridge does not read it: {error}")  # byte order under NumPy 2, or built for NumPy 1
    assert np.abs(to_rgb(message).astype(int) - theirs).max() <= 1
