"""The choice between cv_bridge and the built-in decoder; where cv_bridge is installed, both agree to one grey level."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from test_images import BAYER, noise, write

from flash_vstream_ros.ros.cv_bridge_decoder import CANDIDATES, choose_decoder, tried_encodings
from flash_vstream_ros.ros.image_transport import DecodingConfig, RawDecoder
from flash_vstream_ros.ros.images import BadImage, to_rgb

ROOT = Path(__file__).parents[1]
COLOURS = ["rgb8", "bgr8", "rgba8", "bgra8", "rgb16", "bgr16", "rgba16", "bgra16", "mono8", "mono16"]
MOSAICS = [f"bayer_{pattern}{bits}" for pattern in BAYER for bits in (8, 16)]
READ_BY_CV_BRIDGE = [*COLOURS, *MOSAICS, "yuv422", "yuv422_yuy2"]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("encoding", READ_BY_CV_BRIDGE)
def test_cv_bridge_decodes_the_same_image(encoding: str, big: bool) -> None:
    cv_bridge = pytest.importorskip("cv_bridge")
    message = noise(encoding, 16, 12, 0, big)
    try:
        theirs = cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
    except (AttributeError, ImportError, cv_bridge.CvBridgeError) as error:
        pytest.skip(f"this cv_bridge does not read it: {error}")  # byte order under NumPy 2, or built for NumPy 1
    assert np.abs(to_rgb(message).astype(int) - theirs).max() <= 1


FAKE = """
import numpy as np
from flash_vstream_ros.ros.images import to_rgb

class CvBridge:
    def imgmsg_to_cv2(self, message, desired):
        {body}
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Installs a module cv_bridge, for child processes too: builds of the real one break in many ways."""

    def write_module(text: str) -> None:
        (tmp_path / "cv_bridge.py").write_text(text, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")]))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)
        tried_encodings.cache_clear()

    yield write_module
    sys.modules.pop("cv_bridge", None)
    tried_encodings.cache_clear()


def test_encodings_that_cv_bridge_decodes_wrongly_use_the_built_in_decoder(install: Callable[[str], None]) -> None:
    body = """if message.encoding.startswith("yuv"):
            raise ImportError("numpy.core.multiarray failed to import")
        rgb = to_rgb(message)
        return rgb[..., ::-1] if message.encoding == "bgra8" else rgb"""
    install(FAKE.format(body=body))
    decoder = RawDecoder(DecodingConfig(), lambda _: None)
    assert decoder.choice.name == "cv_bridge"
    assert set(CANDIDATES) - decoder.choice.encodings == {"bgra8", "yuv422", "yuv422_yuy2"}
    grey = np.full((4, 4, 3), 99, np.uint8)
    for encoding, pad, uses_it in (("rgb8", 0, True), ("rgb8", 5, False), ("bgra8", 0, False), ("nv12", 0, False)):
        message = write(encoding, grey, pad, False)
        assert decoder.choice.decodes(message) is uses_it, encoding
        np.testing.assert_array_equal(decoder.to_rgb(message), to_rgb(message))


def test_an_image_that_cv_bridge_refuses_is_dropped_with_a_reason(install: Callable[[str], None]) -> None:
    install(FAKE.format(body="return to_rgb(message) if message.width == 16 else 1 / 0"))
    decoder = RawDecoder(DecodingConfig(), lambda _: None)
    assert decoder.choice.name == "cv_bridge"
    with pytest.raises(BadImage, match="image\\.decoder") as caught:
        decoder.to_rgb(write("rgb8", np.zeros((4, 4, 3), np.uint8), 0, False))
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ImportError('numpy.core.multiarray failed to import')", "fails to load: ImportError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashes with SIGSEGV"),
        (FAKE.format(body="return np.zeros((12, 16, 3), np.uint8)"), "decodes no encoding correctly"),
    ],
)
def test_a_broken_cv_bridge_falls_back_to_the_built_in_decoder_and_says_why(
    install: Callable[[str], None], text: str, reason: str
) -> None:
    install(text)
    choice = choose_decoder("auto")
    assert choice.name == "builtin"
    assert reason in choice.reason


def test_without_cv_bridge_the_built_in_decoder_is_used() -> None:
    if find_spec("cv_bridge") is None:
        assert choose_decoder("cv_bridge").reason == "cv_bridge is not installed"
    assert choose_decoder("builtin").reason == "image.decoder is builtin"
