"""JPEG and PNG as image_transport and camera drivers send them; PNGs are written here byte by byte."""

from __future__ import annotations

import struct
import time
import timeit
import zlib
from array import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_images import BAYER, blocks

from flash_vstream_ros.ros import compressed_images
from flash_vstream_ros.ros.compressed_images import check_compressed, compressed_to_rgb, describe_compressed
from flash_vstream_ros.ros.image_transport import CompressedDecoder, DecodingConfig
from flash_vstream_ros.ros.images import BadImage

COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # PNG's, by channels
START = b"\x89PNG\r\n\x1a\n"


def png(samples: np.ndarray, width: int | None = None) -> bytes:
    """A PNG of uint8 or uint16 samples [height, width, channels]; `width` is what its header claims."""
    height, true_width, channels = samples.shape
    bits = 8 * samples.itemsize
    rows = samples.astype(f">u{samples.itemsize}")
    header = struct.pack(">IIBBBBB", width or true_width, height, bits, COLOUR_TYPES[channels], 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return START + b"".join(chunk(*part) for part in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def jpeg(rgb: np.ndarray, quality: int = 100) -> bytes:
    return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment right after its start."""
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + data[2:]


def message(form: str, data: object) -> SimpleNamespace:
    return SimpleNamespace(format=form, data=data)


def shades() -> np.ndarray:
    rows, columns = np.mgrid[0:24, 0:32]
    return np.stack([40 + 6 * columns, 200 - 5 * rows, 90 + 2 * (rows + columns)], -1).astype(np.uint8)


def wide(samples: np.ndarray) -> np.ndarray:
    """The same shades with sixteen bits."""
    return (samples.astype(np.uint16) << 8) | 0x5A


RGB = shades()
GREY = np.repeat(RGB[..., :1], 3, 2)
ALPHA = np.concatenate([RGB, np.full((24, 32, 1), 77, np.uint8)], -1)
IMAGES = [
    ("jpeg", jpeg(RGB), RGB, 8),
    ("", jpeg(RGB), RGB, 8),
    ("rgb8; jpeg compressed bgr8", jpeg(RGB), RGB, 8),
    ("rgb8; jpeg compressed rgb8", jpeg(RGB), RGB, 8),
    ("rgb8; png compressed rgb8", png(RGB), RGB, 0),
    ("nv12; jpeg compressed bgr8", jpeg(RGB), RGB, 8),
    ("mono8; jpeg compressed mono8", jpeg(GREY), GREY, 8),
    ("mono8; jpeg compressed mono8", cv2.imencode(".jpg", GREY[..., 0])[1].tobytes(), GREY, 8),
    ("bayer_rggb8; jpeg compressed mono8", cv2.imencode(".jpg", GREY[..., 0])[1].tobytes(), GREY, 8),
    ("png", png(RGB), RGB, 0),
    ("bgr8; png compressed bgr8", png(RGB), RGB, 0),
    ("bgra8; png compressed bgr8", png(ALPHA), RGB, 0),
    ("mono8; png compressed ", png(GREY[..., :1]), GREY, 0),
    ("mono16; png compressed ", png(wide(GREY[..., :1])), GREY, 0),
    ("rgb16; png compressed bgr16", png(wide(RGB)), RGB, 0),
]


@pytest.mark.parametrize(("form", "data", "rgb", "tolerance"), IMAGES)
def test_an_image_is_decoded_as_its_format_says(form: str, data: bytes, rgb: np.ndarray, tolerance: int) -> None:
    received = message(form, array("B", data))
    check_compressed(received)
    got = compressed_to_rgb(received)
    assert got.shape == rgb.shape
    assert got.dtype == np.uint8
    assert got.flags["C_CONTIGUOUS"]
    assert np.abs(got.astype(int) - rgb).max() <= tolerance
    assert describe_compressed(received) == f"32x24 {form}"


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", BAYER)
def test_a_compressed_bayer_mosaic_is_demosaiced(pattern: str, bits: int) -> None:
    rgb = np.array([210, 120, 40], np.uint8)
    mosaic = np.empty((12, 16, 1), np.uint8)
    for y in range(12):
        for x in range(16):
            mosaic[y, x] = rgb[BAYER[pattern][2 * (y % 2) + x % 2]]
    data = png(mosaic if bits == 8 else wide(mosaic))
    got = compressed_to_rgb(message(f"bayer_{pattern}{bits}; png compressed ", data))
    assert np.abs(got.astype(int) - rgb).max() <= 1


def test_a_format_with_exchanged_red_and_blue_is_corrected_and_logged_once() -> None:
    logged: list[str] = []
    decoder = CompressedDecoder(DecodingConfig(compressed_colours="as_named"), logged.append)
    exchanged = message("rgb8; png compressed rgb8", png(RGB[..., ::-1]))
    for _ in range(2):
        np.testing.assert_array_equal(decoder.to_rgb(exchanged), RGB)
    assert len(logged) == 1
    assert "image.compressed_colours" in logged[0]
    np.testing.assert_array_equal(decoder.to_rgb(message("rgb8; png compressed bgr8", png(RGB))), RGB)


@pytest.mark.parametrize("form", [" " * 20_000, " " * 10_000 + ";" + " " * 10_000 + "x", "x" * 1_000_000])
def test_a_long_format_is_refused_at_once(form: str) -> None:
    began = time.process_time()
    with pytest.raises(BadImage) as caught:
        check_compressed(message(form, jpeg(RGB)))
    assert caught.value.reason == "wrong_format"
    assert len(str(caught.value)) < 400
    assert time.process_time() - began < 1.0  # a quadratic parser takes minutes


def test_control_characters_of_a_format_are_escaped() -> None:
    forged = "jpeg\n[INFO] [1.0] [node]: forged\x1b[2J"
    received = message(forged, jpeg(np.full((8, 8, 3), 99, np.uint8)))
    assert describe_compressed(received).isprintable()
    for form, data in ((forged, b"no image"), ("compressedDepth" + forged, b"")):
        with pytest.raises(BadImage) as caught:
            check_compressed(message(form, data))
        assert str(caught.value).isprintable()


def hidden_size(width: int, height: int) -> bytes:
    """A JPEG of `width` x `height` that claims 16x16 to a parser which takes TEM (FF 01) for a segment."""
    plain = cv2.imencode(".jpg", np.zeros((16, 16), np.uint8))[1].tobytes()
    parts, at = [], 2
    while plain[at + 1] != 0xDA:
        length = 2 + int.from_bytes(plain[at + 2 : at + 4], "big")
        parts.append(plain[at : at + length])
        at += length
    small = next(part for part in parts if part[1] == 0xC0)
    large = small[:5] + struct.pack(">HH", height, width) + small[9:]
    head = b"\xff\xd8\xff\x01" + large + b"".join(part for part in parts if part[1] in (0xC4, 0xDB))
    comment = bytes(2 + 2 + 0xFFC0 - len(head) - 4) + small + bytes(64)
    return head + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + plain[at:]


def test_the_true_size_of_a_jpeg_cannot_hide_behind_a_marker_without_length() -> None:
    for read in (check_compressed, compressed_to_rgb):
        with pytest.raises(BadImage, match="32767x32767") as caught:
            read(message("jpeg", hidden_size(32_767, 32_767)))
        assert caught.value.reason == "too_large"


@pytest.mark.parametrize("filler", [b"\xff" * 8_000_000, b"\xff\xe0\x00\x02" * 2_000_000, b"\xff\xe0\x00\x00" * 9])
def test_a_jpeg_of_markers_only_is_refused_in_bounded_time(filler: bytes) -> None:
    began = time.process_time()
    with pytest.raises(BadImage):
        check_compressed(message("jpeg", b"\xff\xd8" + filler))
    assert time.process_time() - began < 1.0  # 10,000 markers, not 8 million


def with_more_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes `count` times more."""
    data = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * count + data[-2:]


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    assert compressed_to_rgb(message("jpeg", with_more_scans(40))).shape == (64, 64, 3)
    with pytest.raises(BadImage, match="more than 64 scans") as caught:
        compressed_to_rgb(message("jpeg", with_more_scans(100_000)))
    assert caught.value.reason == "undecodable"


def test_markers_across_search_block_boundaries_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed_images, "SEARCH_BYTES", 5)
    for data in (jpeg(NOISE), jpeg(NOISE) + bytes(7), png(NOISE)):
        assert compressed_to_rgb(message("", data)).shape == NOISE.shape
    with pytest.raises(BadImage):
        compressed_to_rgb(message("", jpeg(NOISE)[:-2]))


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_png_of_few_significant_bits_is_scaled(bits: int) -> None:
    few = (GREY[..., :1].astype(np.uint16) << 8) >> (16 - bits)
    got = compressed_to_rgb(message("mono16; png compressed ", png(few)))
    assert np.abs(got.astype(int) - GREY).max() <= 2


def test_the_exif_orientation_is_ignored() -> None:
    turned = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    got = compressed_to_rgb(message("jpeg", with_segment(jpeg(RGB), 0xE1, turned)))
    assert np.abs(got.astype(int) - RGB).max() <= 8


def test_the_size_is_found_after_long_comments_and_padding() -> None:
    data = jpeg(RGB)
    for _ in range(3):
        data = with_segment(data, 0xFE, bytes(65_000))
    data = data[:2] + b"\xff" * 5 + data[2:]
    assert describe_compressed(message("jpeg", data)) == "32x24 jpeg"
    assert compressed_to_rgb(message("jpeg", data)).shape == RGB.shape


NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
BAD = [
    ("undecodable", message("jpeg", b"")),
    ("undecodable", message("png", b"GIF89a" + bytes(100))),
    ("undecodable", message("jpeg", cv2.imencode(".webp", NOISE)[1].tobytes())),
    ("undecodable", message("jpeg", b"\xff\xd8\xff\xda" + bytes(100))),
    ("undecodable", message("jpeg", b"\xff\xd8" + bytes(100))),
    ("undecodable", message("png", png(NOISE).replace(b"IDAT", b"IDAX"))),
    ("truncated", message("jpeg", b"\xff\xd8\xff")),
    ("truncated", message("png", png(NOISE)[:30])),
    ("truncated", message("png", png(NOISE)[:-12])),
    ("truncated", message("jpeg", jpeg(NOISE)[:-2])),
    ("zero_size", message("png", START + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0)))),
    ("too_large", message("png", png(NOISE, width=100_000_000))),
    ("depth_image", message("16UC1; compressedDepth png", b"123")),
    ("depth_image", message("32FC1; compressedDepth", png(NOISE))),
    ("depth_image", message("16UC1; png compressed ", png(wide(NOISE[..., :1])))),
    ("wrong_data", message("jpeg", None)),
    ("wrong_data", message("jpeg", [1, 2, 3])),
]
SEEN_ONLY_WHEN_DECODED = {png(NOISE)[:-12], jpeg(NOISE)[:-2], png(NOISE).replace(b"IDAT", b"IDAX")}


@pytest.mark.parametrize(("reason", "received"), BAD)
def test_a_bad_payload_is_refused_with_its_reason(reason: str, received: SimpleNamespace) -> None:
    late = isinstance(received.data, bytes) and received.data in SEEN_ONLY_WHEN_DECODED
    for read in (compressed_to_rgb,) if late else (check_compressed, compressed_to_rgb):
        with pytest.raises(BadImage) as caught:
            read(received)
        assert caught.value.reason == reason
        assert len(str(caught.value)) > 20


@pytest.mark.parametrize("write", [png, jpeg])
def test_a_compressed_image_truncated_anywhere_is_refused(write) -> None:  # type: ignore[no-untyped-def]
    data = write(NOISE)
    for length in range(4, len(data) - 12, 997):
        with pytest.raises(BadImage) as caught:
            compressed_to_rgb(message("", data[:length]))
        assert caught.value.reason in ("truncated", "undecodable")
    compressed_to_rgb(message("", data + bytes(40)))


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300), start=st.sampled_from([b"", b"\xff\xd8\xff", START]), form=st.text(max_size=40))
def test_random_bytes_are_refused_with_a_bad_image_error(data: bytes, start: bytes, form: str) -> None:
    for read in (check_compressed, compressed_to_rgb):
        try:
            read(message(form, start + data))
        except BadImage:
            continue
        assert read is check_compressed


def test_checking_costs_microseconds_even_for_a_large_image() -> None:
    received = message("jpeg", array("B", jpeg(np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), np.uint8))))
    assert min(timeit.repeat(lambda: check_compressed(received), number=100, repeat=5)) / 100 < 500e-6


@pytest.mark.parametrize(
    "holder", [bytes, bytearray, memoryview, lambda b: array("B", b), lambda b: np.frombuffer(b, "B")]
)
def test_data_may_be_any_bytes_like_object(holder) -> None:  # type: ignore[no-untyped-def]
    rgb = blocks(8, 8)
    np.testing.assert_array_equal(compressed_to_rgb(message("png", holder(png(rgb)))), rgb)
