"""The choice between cv_bridge and the built-in decoder; where cv_bridge is installed, both agree to one grey level."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_images import BAYER, noise, write

from flash_vstream_ros.ros.cv_bridge_decoder import CANDIDATES, choose_decoder
from flash_vstream_ros.ros.image_transport import DecodingConfig, RawDecoder
from flash_vstream_ros.ros.images import BadImage, to_rgb

COLOURS = ["rgb8", "bgr8", "rgba8", "bgra8", "rgb16", "bgr16", "rgba16", "bgra16", "mono8", "mono16"]
MOSAICS = [f"bayer_{pattern}{bits}" for pattern in BAYER for bits in (8, 16)]
READ_BY_CV_BRIDGE = [*COLOURS, *MOSAICS, "yuv422", "yuv422_yuy2"]
PADDING = 24  # bytes; it reads rows padded by a part of a pixel as if they were skewed


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pad", [0, PADDING])
@pytest.mark.parametrize("encoding", READ_BY_CV_BRIDGE)
def test_cv_bridge_reads_the_same_image(encoding: str, pad: int, big: bool) -> None:
    cv_bridge = pytest.importorskip("cv_bridge")
    message = noise(encoding, 16, 12, pad, big)
    try:
        theirs = cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
    except (AttributeError, ImportError, cv_bridge.CvBridgeError) as error:
        pytest.skip(f"this cv_bridge does not read it: {error}")  # byte order under NumPy 2, or built for NumPy 1
    assert np.abs(to_rgb(message).astype(int) - theirs).max() <= 1


def installed(monkeypatch: pytest.MonkeyPatch, convert: Any) -> None:
    """A module cv_bridge whose conversion is `convert`: what a binary of another build does cannot be had at will."""
    module = ModuleType("cv_bridge")
    vars(module)["CvBridge"] = lambda: SimpleNamespace(imgmsg_to_cv2=convert)
    monkeypatch.setitem(sys.modules, "cv_bridge", module)


def test_encodings_that_cv_bridge_decodes_wrong_stay_with_the_built_in_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def convert(message: Any, _: str) -> np.ndarray:
        asked.append(message.encoding)
        if message.encoding.startswith("yuv"):
            raise ImportError("numpy.core.multiarray failed to import")
        return to_rgb(message)[..., ::-1] if message.encoding == "bgra8" else to_rgb(message)

    installed(monkeypatch, convert)
    decoder = RawDecoder(DecodingConfig(), lambda _: None)
    assert decoder.choice.name == "cv_bridge"
    assert set(CANDIDATES) - decoder.choice.encodings == {"bgra8", "yuv422", "yuv422_yuy2"}
    asked.clear()
    for encoding, pad, uses_it in (("rgb8", 0, True), ("rgb8", 5, False), ("bgra8", 0, False), ("nv12", 0, False)):
        message = write(encoding, np.full((4, 4, 3), 99, np.uint8), pad, False)
        np.testing.assert_array_equal(decoder.to_rgb(message), to_rgb(message))
        assert bool(asked) is uses_it, encoding
        asked.clear()


def test_an_image_that_cv_bridge_refuses_is_dropped_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, lambda message, _: to_rgb(message))
    decoder = RawDecoder(DecodingConfig(), lambda _: None)
    installed(monkeypatch, None)
    broken = RawDecoder(DecodingConfig(), lambda _: None)
    assert broken.choice.name == "builtin"
    object.__setattr__(decoder.choice, "convert", lambda _: 1 / 0)
    with pytest.raises(BadImage, match="image\\.decoder") as caught:
        decoder.to_rgb(write("rgb8", np.zeros((4, 4, 3), np.uint8), 0, False))
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize("wanted", ["auto", "cv_bridge"])
def test_without_cv_bridge_the_built_in_decoder_serves_and_says_why(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    choice = choose_decoder(wanted)
    assert choice.name == "builtin"
    assert "does not load" in choice.reason
    assert choose_decoder("builtin").reason == "image.decoder is builtin"
