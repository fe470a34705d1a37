"""Every encoding decodes to the known image that plain loops have encoded."""

from __future__ import annotations

import timeit
from array import array
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_vstream_ros.ros.images import PUBLISHED_ENCODINGS, BadImage, check, from_rgb, to_rgb
from flash_vstream_ros.ros.sample_range import SampleRange

ORDER = {"rgb": (0, 1, 2), "bgr": (2, 1, 0), "rgba": (0, 1, 2, -1), "bgra": (2, 1, 0, -1)}
BAYER = {"rggb": (0, 1, 1, 2), "bggr": (2, 1, 1, 0), "gbrg": (1, 2, 0, 1), "grbg": (1, 0, 2, 1)}
YUV_PACKED = {"yuv422": "UYVY", "uyvy": "UYVY", "yuv422_yuy2": "YUYV", "yuyv": "YUYV"}


def header() -> SimpleNamespace:
    return SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id="")


def image(encoding: str, width: int, height: int, rows: list[bytes], pad: int, big: bool) -> SimpleNamespace:
    data = b"".join(row + b"\xa5" * pad for row in rows)
    return SimpleNamespace(
        header=header(),
        encoding=encoding,
        width=width,
        height=height,
        step=len(rows[0]) + pad,
        is_bigendian=int(big),
        data=data,
    )


def blocks(width: int, height: int) -> np.ndarray:
    """An image whose colour is constant in 4x4 blocks, so that shared chroma loses nothing."""
    rng = np.random.default_rng(width * 100 + height)
    small = rng.integers(20, 236, (-(-height // 4), -(-width // 4), 3), dtype=np.uint8)
    return np.repeat(np.repeat(small, 4, 0), 4, 1)[:height, :width].copy()


def sample(value: int, size: int, big: bool) -> bytes:
    return bytes([value]) if size == 1 else (value << 8 | 0x5A).to_bytes(2, "big" if big else "little")


def yuv_of(red: float, green: float, blue: float) -> tuple[int, int, int]:
    """BT.601, limited range, from its definition: luma weights, then scaled to 219 and 224 steps."""
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    u, v = (blue - luma) / 1.772, (red - luma) / 1.402
    return round(16 + luma * 219 / 255), round(128 + u * 224 / 255), round(128 + v * 224 / 255)


def write(encoding: str, rgb: np.ndarray, pad: int, big: bool) -> SimpleNamespace:
    height, width = rgb.shape[:2]
    size = 2 if encoding.endswith("16") else 1
    name = encoding.removesuffix("16").removesuffix("8")
    name = {"8UC3": "bgr", "8UC4": "bgra", "8UC1": "mono"}.get(encoding, name)
    yuv = [[yuv_of(*map(int, pixel)) for pixel in row] for row in rgb]
    rows: list[bytes]
    if name in ORDER:
        rows = [
            b"".join(sample(77 if c < 0 else int(p[c]), size, big) for p in row for c in ORDER[name]) for row in rgb
        ]
    elif name == "mono":
        rows = [b"".join(sample(int(p[0]), size, big) for p in row) for row in rgb]
    elif name.startswith("bayer_"):
        colours = BAYER[name.removeprefix("bayer_")]
        rows = [
            b"".join(sample(int(rgb[y, x, colours[2 * (y % 2) + x % 2]]), size, big) for x in range(width))
            for y in range(height)
        ]
    elif name in YUV_PACKED:
        rows = []
        for line in yuv:
            row = bytearray()
            for x in range(0, width, 2):
                (y0, u, v), (y1, _, _) = line[x], line[x + 1]
                row += bytes([u, y0, v, y1] if YUV_PACKED[name] == "UYVY" else [y0, u, y1, v])
            rows.append(bytes(row))
    else:
        rows = [bytes(pixel[0] for pixel in line) for line in yuv]
        every = 1 if encoding == "nv24" else 2
        first, second = (2, 1) if encoding == "nv21" else (1, 2)
        message = image(encoding, width, height, rows, pad, big)
        chroma = [bytes(v for p in line[::every] for v in (p[first], p[second])) for line in yuv[::every]]
        stride = message.step * 2 // every
        message.data += b"".join(row.ljust(stride, b"\xa5") for row in chroma)
        return message
    return image(encoding, width, height, rows, pad, big)


EXACT = ["rgb8", "bgr8", "rgba8", "bgra8", "8UC3", "8UC4", "rgb16", "bgr16", "rgba16", "bgra16"]
GREY = ["mono8", "mono16", "8UC1"]
YUV = [*YUV_PACKED, "nv12", "nv21", "nv24"]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pad", [0, 7])
@pytest.mark.parametrize("encoding", [*EXACT, *GREY, *YUV])
def test_every_encoding_reproduces_its_source_image(encoding: str, pad: int, big: bool) -> None:
    rgb = blocks(16, 12)
    if encoding in GREY:
        rgb = np.repeat(rgb[..., :1], 3, 2)
    got = to_rgb(write(encoding, rgb, pad, big))
    assert got.shape == (12, 16, 3)
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - rgb).max() <= (2 if encoding in YUV else 0)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pad", [0, 6])
@pytest.mark.parametrize("bits", ["8", "16"])
@pytest.mark.parametrize("pattern", BAYER)
def test_every_bayer_pattern_reproduces_a_uniform_colour(pattern: str, bits: str, pad: int, big: bool) -> None:
    rgb = np.empty((9, 11, 3), np.uint8)
    rgb[:] = 210, 120, 40
    got = to_rgb(write(f"bayer_{pattern}{bits}", rgb, pad, big))
    assert np.abs(got.astype(int) - rgb).max() <= 1


def noise(encoding: str, width: int, height: int, pad: int, big: bool) -> SimpleNamespace:
    """A message of independent random samples."""
    message = write(encoding, blocks(width, height), pad, big)
    message.data = np.random.default_rng(len(encoding)).integers(0, 256, len(message.data), np.uint8).tobytes()
    return message


def high_bytes(message: SimpleNamespace) -> list[list[int]]:
    """Rows of the high bytes of a single-channel message."""
    size = 2 if message.encoding.endswith("16") else 1
    offset = 0 if size == 1 or message.is_bigendian else 1
    starts = [y * message.step + offset for y in range(message.height)]
    return [[message.data[start + x * size] for x in range(message.width)] for start in starts]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pad", [0, 5])
@pytest.mark.parametrize("bits", ["8", "16"])
@pytest.mark.parametrize("pattern", BAYER)
def test_a_bayer_mosaic_is_interpolated_between_neighbours_of_the_same_colour(
    pattern: str, bits: str, pad: int, big: bool
) -> None:
    message = noise(f"bayer_{pattern}{bits}", 12, 10, pad, big)
    samples, got = high_bytes(message), to_rgb(message)
    for y in range(1, 9):
        for x in range(1, 11):
            around: dict[int, list[int]] = {0: [], 1: [], 2: []}
            for v in (y - 1, y, y + 1):
                for u in (x - 1, x, x + 1):
                    around[BAYER[pattern][2 * (v % 2) + u % 2]].append(samples[v][u])
            around[BAYER[pattern][2 * (y % 2) + x % 2]] = [samples[y][x]]
            if len(around[1]) == 5:  # green, seen from green, has its own sample in the middle
                around[1] = [samples[y][x]]
            expected = [sum(of_colour) / len(of_colour) for of_colour in around.values()]
            assert np.abs(got[y, x] - np.array(expected)).max() <= 1


def bt601(y: int, u: int, v: int) -> list[float]:
    """RGB of limited-range YCbCr, by the inverse of its definition."""
    luma, blue, red = (y - 16) * 255 / 219, (u - 128) * 255 / 224 * 1.772, (v - 128) * 255 / 224 * 1.402
    green = -(0.299 * red + 0.114 * blue) / 0.587
    return [min(max(value, 0), 255) for value in (luma + red, luma + green, luma + blue)]


@pytest.mark.parametrize("pad", [0, 6])
@pytest.mark.parametrize("encoding", YUV)
def test_a_yuv_pixel_has_its_own_luma_and_the_chroma_of_its_block(encoding: str, pad: int) -> None:
    message = noise(encoding, 12, 8, pad, False)
    data, step, got = message.data, message.step, to_rgb(message)
    for y in range(8):
        for x in range(12):
            if encoding in YUV_PACKED:
                pair, order = y * step + 4 * (x // 2), YUV_PACKED[encoding]
                luma = [i for i, name in enumerate(order) if name == "Y"][x % 2]
                yuv = data[pair + luma], data[pair + order.index("U")], data[pair + order.index("V")]
            else:
                chroma = step * 8 + (y * 2 * step + 2 * x if encoding == "nv24" else y // 2 * step + x // 2 * 2)
                first, second = data[chroma], data[chroma + 1]
                yuv = (data[y * step + x], *((second, first) if encoding == "nv21" else (first, second)))
            # OpenCV reads luma below 16, which the range does not have, as 16.
            expected = bt601(yuv[0] if encoding == "nv24" else max(yuv[0], 16), *yuv[1:])
            assert np.abs(got[y, x] - np.array(expected)).max() <= 2


@pytest.mark.parametrize("encoding", [*EXACT, *GREY, "nv24"])
def test_odd_sizes_are_decoded_if_the_format_allows_them(encoding: str) -> None:
    rgb = blocks(5, 3)
    if encoding in GREY:
        rgb = np.repeat(rgb[..., :1], 3, 2)
    got = to_rgb(write(encoding, rgb, 3, False))
    assert np.abs(got.astype(int) - rgb).max() <= 2


HOLDERS = [bytes, bytearray, memoryview, lambda b: array("B", b), lambda b: np.frombuffer(b, np.uint8)]


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "nv12"])
def test_data_may_be_any_bytes_like_object_and_is_copied_only_for_conversion(encoding: str, holder) -> None:
    rgb = blocks(8, 8)
    message = write(encoding, rgb, 2, False)
    message.data = holder(message.data)
    got = to_rgb(message)
    assert np.abs(got.astype(int) - rgb).max() <= 2
    assert np.shares_memory(got, np.frombuffer(message.data, np.uint8)) is (encoding == "rgb8")
    assert got.flags.writeable is (encoding != "rgb8")


def good(**changes) -> SimpleNamespace:
    message = write("rgb8", blocks(8, 8), 0, False)
    vars(message).update(changes)
    return message


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (good(width=0), "zero_size"),
        (good(height=0), "zero_size"),
        (good(encoding="rgb9"), "unknown_encoding"),
        (good(encoding=""), "unknown_encoding"),
        (good(encoding="32FC1"), "depth_image"),
        (good(encoding="16UC1"), "depth_image"),
        (good(encoding="64FC1"), "depth_image"),
        (good(step=23), "wrong_step"),
        (good(step=0), "wrong_step"),
        (good(encoding="rgba8"), "wrong_step"),
        (good(data=b""), "truncated"),
        (good(data=bytes(8 * 24 - 1)), "truncated"),
        (good(height=9), "truncated"),
        (good(width=2**31, step=2**33), "too_large"),
        (good(data=[1, 2, 3]), "wrong_data"),
        (good(data=None), "wrong_data"),
        (good(data="text"), "wrong_data"),
        (good(encoding="yuv422", width=7), "wrong_size"),
        (good(encoding="nv12", width=7), "wrong_size"),
        (good(encoding="nv21", height=7), "wrong_size"),
        (good(encoding="bayer_rggb8", height=2), "wrong_size"),
        (good(encoding="nv12", step=24, height=4), None),
        (good(encoding="nv12", step=24), "truncated"),
    ],
)
def test_a_bad_header_is_refused_with_its_reason(message: SimpleNamespace, reason: str | None) -> None:
    for read in (check, to_rgb):
        if reason is None:
            read(message)
            continue
        with pytest.raises(BadImage) as caught:
            read(message)
        assert caught.value.reason == reason
        assert len(str(caught.value)) > 20


def sixteen_bits(encoding: str, samples: np.ndarray) -> SimpleNamespace:
    height, width = samples.shape
    return SimpleNamespace(
        encoding=encoding, width=width, height=height, step=2 * width, is_bigendian=0, data=samples.tobytes()
    )


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_samples_of_few_significant_bits_are_scaled_by_the_bits_in_use(bits: int) -> None:
    ramp = np.linspace(0, (1 << bits) - 1, 16 * 12).astype(np.uint16).reshape(12, 16)
    logged: list[str] = []
    got = to_rgb(sixteen_bits("mono16", ramp), SampleRange(log=logged.append))
    assert np.abs(got[..., 0].astype(int) - (ramp.astype(int) * 255 // ((1 << bits) - 1))).max() <= 1
    assert len(logged) == 1
    assert f"{bits} of 16 bits" in logged[0]
    mosaic = to_rgb(sixteen_bits("bayer_rggb16", ramp))
    assert mosaic.max() > 200


def test_a_thermal_image_is_scaled_to_its_range_which_only_widens() -> None:
    counts = np.full((12, 16), 7500, np.uint16)
    counts[:, :8] = 8200
    samples = SampleRange()
    first = to_rgb(sixteen_bits("mono16", counts), samples)
    assert int(first.max()) - int(first.min()) > 200
    hotter = counts + np.uint16(700)
    second = to_rgb(sixteen_bits("mono16", hotter), samples)
    assert second.min() > first.min()
    assert (to_rgb(sixteen_bits("mono16", counts), samples).max() < first.max()).all()


def test_the_bit_depth_is_not_estimated_if_fixed_or_full() -> None:
    dark = np.full((4, 4), 1023, np.uint16)
    assert to_rgb(sixteen_bits("mono16", dark), SampleRange(16)).max() == 3
    assert to_rgb(sixteen_bits("mono16", dark), SampleRange(10)).max() == 255
    full = np.array([[0, 65535], [300, 40000]], np.uint16)
    assert to_rgb(sixteen_bits("mono16", full))[..., 0].tolist() == (full >> 8).tolist()


def test_an_image_larger_than_allowed_is_refused_before_a_pixel_is_read() -> None:
    with pytest.raises(BadImage, match="max_megapixels") as caught:
        check(good(width=8, height=8), max_pixels=63)
    assert caught.value.reason == "too_large"


def test_a_long_encoding_is_quoted_in_abbreviated_form() -> None:
    with pytest.raises(BadImage) as caught:
        check(good(encoding="\x1b[2J\n" + "e" * 1_000_000))
    assert str(caught.value).isprintable()
    assert caught.value.reason == "unknown_encoding"
    assert len(str(caught.value)) < 1000


def test_a_depth_image_is_refused_with_advice() -> None:
    with pytest.raises(BadImage, match="colour topic"):
        check(good(encoding="32FC1"))


def test_check_costs_microseconds_even_for_a_large_image() -> None:
    message = good(width=3840, height=2160, step=3840 * 3, data=bytes(3840 * 2160 * 3))
    assert min(timeit.repeat(lambda: check(message), number=100, repeat=5)) / 100 < 200e-6


KNOWN = [*EXACT, *GREY, *YUV, "bayer_rggb8", "bayer_gbrg16", "32FC1", "16UC1", "", "RGB8", "jpeg", "\0"]


@settings(max_examples=400, deadline=None)
@given(
    encoding=st.sampled_from(KNOWN) | st.text(max_size=6),
    width=st.integers(-1, 40) | st.integers(0, 2**32 - 1),
    height=st.integers(-1, 40) | st.integers(0, 2**32 - 1),
    step=st.integers(-1, 200) | st.integers(0, 2**32 - 1),
    is_bigendian=st.integers(0, 255),
    data=st.binary(max_size=4096),
)
def test_random_headers_give_an_image_or_a_bad_image_error(**fields) -> None:
    message = SimpleNamespace(**fields)
    try:
        check(message)
    except BadImage:
        with pytest.raises(BadImage):
            to_rgb(message)
    else:
        assert to_rgb(message).shape == (message.height, message.width, 3)


@pytest.mark.parametrize("encoding", PUBLISHED_ENCODINGS)
def test_a_published_image_is_received_unchanged(encoding: str) -> None:
    rgb = blocks(10, 6)
    if encoding == "mono8":
        rgb = np.repeat(rgb[..., :1], 3, 2)
    empty = type("Image", (), {"__init__": lambda self: setattr(self, "header", header())})
    message = from_rgb(rgb[:, ::-1], 7_000_000_123, "cam", empty, encoding)
    np.testing.assert_array_equal(to_rgb(message), rgb[:, ::-1])
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (7, 123)
    assert message.header.frame_id == "cam"


def test_an_image_of_another_shape_is_not_published() -> None:
    with pytest.raises(ValueError, match="uint8"):
        from_rgb(np.zeros((4, 4), np.uint8), 0, "", SimpleNamespace)
    with pytest.raises(ValueError, match="choose one"):
        from_rgb(blocks(4, 4), 0, "", SimpleNamespace, "nv12")
