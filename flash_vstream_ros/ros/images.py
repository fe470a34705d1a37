"""Converts sensor_msgs/Image to RGB arrays and back, without cv_bridge.

Layouts are those of sensor_msgs/image_encodings.hpp. YUV is BT.601 with limited range, as cameras send it. 8UC3 and
8UC4, which do not name colours, are read as BGR, OpenCV's order. Messages are duck-typed.
"""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np

from .sample_range import SampleRange
from .stamps import stamp_message

M = TypeVar("M")

LONGEST_ENCODING = 64  # characters; a longer encoding is cut in sentences
MAX_PIXELS = 25_000_000

NV24 = -1  # no OpenCV conversion exists


class BadImage(ValueError):
    """An image message that cannot be decoded. `reason` is a short name to count it by; the message is a sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class _Layout(NamedTuple):
    channels: int  # samples of one pixel in the first plane
    conversion: int | None = None  # OpenCV's code to RGB; None: it is RGB
    sample_bytes: int = 1
    half_rows: int = 2  # rows of all planes for every two rows of the image
    even: tuple[int, int] = (1, 1)  # width and height must be multiples of these
    smallest: int = 1  # shortest side


_BAYER = {
    "bayer_rggb": cv2.COLOR_BayerBG2RGB,  # OpenCV names the pattern by its second row and column
    "bayer_bggr": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg": cv2.COLOR_BayerGB2RGB,
}
_UYVY = _Layout(2, cv2.COLOR_YUV2RGB_UYVY, even=(2, 1))
_YUYV = _Layout(2, cv2.COLOR_YUV2RGB_YUY2, even=(2, 1))
_LAYOUTS: dict[str, _Layout] = {
    "rgb8": _Layout(3),
    "rgb16": _Layout(3, sample_bytes=2),
    "bgr8": _Layout(3, cv2.COLOR_BGR2RGB),
    "bgr16": _Layout(3, cv2.COLOR_BGR2RGB, sample_bytes=2),
    "rgba8": _Layout(4, cv2.COLOR_RGBA2RGB),
    "rgba16": _Layout(4, cv2.COLOR_RGBA2RGB, sample_bytes=2),
    "bgra8": _Layout(4, cv2.COLOR_BGRA2RGB),
    "bgra16": _Layout(4, cv2.COLOR_BGRA2RGB, sample_bytes=2),
    "mono8": _Layout(1, cv2.COLOR_GRAY2RGB),
    "mono16": _Layout(1, cv2.COLOR_GRAY2RGB, sample_bytes=2),
    "8UC1": _Layout(1, cv2.COLOR_GRAY2RGB),
    "8UC3": _Layout(3, cv2.COLOR_BGR2RGB),
    "8UC4": _Layout(4, cv2.COLOR_BGRA2RGB),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": _Layout(1, cv2.COLOR_YUV2RGB_NV12, half_rows=3, even=(2, 2)),
    "nv21": _Layout(1, cv2.COLOR_YUV2RGB_NV21, half_rows=3, even=(2, 2)),
    "nv24": _Layout(1, NV24, half_rows=6),
    # OpenCV's demosaicing leaves images of two rows or columns black
    **{f"{name}8": _Layout(1, code, smallest=3) for name, code in _BAYER.items()},
    **{f"{name}16": _Layout(1, code, sample_bytes=2, smallest=3) for name, code in _BAYER.items()},
}
ENCODINGS = tuple(_LAYOUTS)
DEPTH = {"16UC1", "16SC1", "32FC1", "64FC1"}
_FROM_RGB: dict[str, tuple[int, int | None]] = {  # channels, OpenCV's code from RGB
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_RGB2BGR),
    "rgba8": (4, cv2.COLOR_RGB2RGBA),
    "bgra8": (4, cv2.COLOR_RGB2BGRA),
    "mono8": (1, cv2.COLOR_RGB2GRAY),
}
PUBLISHED_ENCODINGS = tuple(_FROM_RGB)

# R, G, B from Y, U, V and 1: BT.601, limited range.
_BT601 = np.array(
    [
        [1.164383, 0.0, 1.596027, -222.921],
        [1.164383, -0.391762, -0.812968, 135.576],
        [1.164383, 2.017232, 0.0, -276.836],
    ],
    np.float32,
)


def bytes_of(data: Any) -> memoryview:
    """The data of a message as bytes. Raises BadImage, reason wrong_data, if it is not a block of bytes."""
    try:
        view = memoryview(data)
        return view if view.nbytes == 0 else view.cast("B")
    except (TypeError, ValueError, BufferError) as error:
        raise BadImage("wrong_data", f"the image data is not a plain block of bytes: {error}") from None


def shortened(text: str, longest: int = LONGEST_ENCODING) -> str:
    """A string from a message for use in a log line: cut to a length, control characters escaped."""
    text = text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _layout(message: Any) -> _Layout:
    encoding = str(message.encoding)
    layout = _LAYOUTS.get(encoding)
    if layout is not None:
        return layout
    if encoding in DEPTH:
        raise BadImage(
            "depth_image",
            f"encoding '{encoding}' is a depth map, not an image: subscribe to the camera's colour topic instead",
        )
    raise BadImage(
        "unknown_encoding",
        f"encoding '{shortened(encoding)}' is not known; expected one of {', '.join(_LAYOUTS)}",
    )


def check(message: Any, max_pixels: int = MAX_PIXELS) -> None:
    """Validate the header of a sensor_msgs/Image in microseconds, without reading a pixel.

    Raises:
        BadImage: reason zero_size, depth_image, unknown_encoding, wrong_size, wrong_step, wrong_data, truncated or
            too_large.
    """
    _checked(message, max_pixels)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise BadImage, reason zero_size or too_large, if the size is out of bounds."""
    if width <= 0 or height <= 0:
        raise BadImage("zero_size", f"the image is {width}x{height}; expected at least one pixel")
    if width * height > max_pixels:
        raise BadImage(
            "too_large",
            f"the image is {width}x{height}; image.max_megapixels allows {max_pixels / 1e6:g} million pixels",
        )


def describe(message: Any) -> str:
    """Size and encoding of a message, for the log."""
    return f"{message.width}x{message.height} {message.encoding}"


def row_bytes(message: Any) -> int:
    """Bytes of a row of the first plane, without padding."""
    layout = _layout(message)
    return int(message.width) * layout.channels * layout.sample_bytes


def _checked(message: Any, max_pixels: int) -> tuple[_Layout, memoryview]:
    width, height, step = int(message.width), int(message.height), int(message.step)
    layout = _layout(message)
    check_size(width, height, max_pixels)
    if width % layout.even[0] or height % layout.even[1]:
        raise BadImage(
            "wrong_size",
            f"the image is {width}x{height}, but in '{message.encoding}' neighbouring pixels share colours: "
            f"expected a width divisible by {layout.even[0]} and a height divisible by {layout.even[1]}",
        )
    if min(width, height) < layout.smallest:
        raise BadImage(
            "wrong_size",
            f"the image is {width}x{height}; '{message.encoding}' needs sides of at least {layout.smallest}",
        )
    row = row_bytes(message)
    if step < row:
        raise BadImage(
            "wrong_step",
            f"step is {step} bytes, but {width} pixels of '{message.encoding}' need at least {row}: fix step in the"
            " camera driver",
        )
    data = bytes_of(message.data)
    needed = step * (height * layout.half_rows // 2)
    if data.nbytes < needed:
        raise BadImage(
            "truncated", f"the image has {data.nbytes} bytes, but its header needs {needed}: it arrived incomplete"
        )
    return layout, data


def to_rgb(message: Any, samples: SampleRange | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a sensor_msgs/Image to [height, width, 3] uint8 RGB. Read-only, since rgb8 shares the message's data.

    16-bit samples are scaled by `samples`, the range of the camera; None: the range is estimated from this image.

    Raises:
        BadImage: as `check`, and undecodable if OpenCV refuses the image.
    """
    layout, data = _checked(message, max_pixels)
    width, height, step = int(message.width), int(message.height), int(message.step)
    if layout.sample_bytes == 2:
        pixels = _scaled(message, layout, data, samples or SampleRange())
    else:
        rows = height * layout.half_rows // 2
        pixels = np.ndarray((rows, width, layout.channels), np.uint8, data, strides=(step, layout.channels, 1))
    if layout.conversion is None:
        pixels.flags.writeable = False
        return pixels
    if layout.conversion == NV24:
        return _nv24(pixels[:height, :, 0], data, width, height, step)
    try:
        return cv2.cvtColor(pixels, layout.conversion)
    except cv2.error as error:
        raise BadImage("undecodable", f"OpenCV refused {width}x{height} '{message.encoding}': {error}") from None


def _scaled(message: Any, layout: _Layout, data: memoryview, samples: SampleRange) -> np.ndarray:
    """Pixels [height, width, channels] uint8 of an image with 16-bit samples."""
    width, height, step, channels = int(message.width), int(message.height), int(message.step), layout.channels
    if samples.is_full:
        high = 0 if message.is_bigendian else 1
        shape, strides = (height, width, channels), (step, 2 * channels, 2)
        return np.ascontiguousarray(np.ndarray(shape, np.uint8, data, high, strides))
    order = ">u2" if message.is_bigendian else "<u2"
    wide: np.ndarray = np.ndarray((height, width, channels), order, data, strides=(step, 2 * channels, 2))
    return samples.to_8_bits(wide, grey=message.encoding == "mono16")


def _nv24(luma: np.ndarray, data: memoryview, width: int, height: int, step: int) -> np.ndarray:
    """Convert luma [height, width], and the chroma plane that follows it in `data`, to RGB [height, width, 3]."""
    yuv = np.empty((height, width, 3), np.uint8)
    yuv[..., 0] = luma
    yuv[..., 1:] = np.ndarray((height, width, 2), np.uint8, data, step * height, (2 * step, 2, 1))
    return cv2.transform(yuv, _BT601)


def from_rgb(rgb: np.ndarray, stamp_ns: int, frame_id: str, image: type[M], encoding: str = "rgb8") -> M:
    """Convert a [height, width, 3] uint8 RGB image to a message of class `image` (sensor_msgs/Image).

    Raises:
        ValueError: another shape or type, or an encoding not in PUBLISHED_ENCODINGS.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"expected a [height, width, 3] uint8 image, got {rgb.dtype} {list(rgb.shape)}")
    if encoding not in _FROM_RGB:
        raise ValueError(f"cannot publish '{encoding}'; choose one of {', '.join(PUBLISHED_ENCODINGS)}")
    channels, code = _FROM_RGB[encoding]
    pixels = np.ascontiguousarray(rgb if code is None else cv2.cvtColor(rgb, code))
    message: Any = image()
    message.header.stamp = stamp_message(int(stamp_ns))
    message.header.frame_id = frame_id
    message.height, message.width = rgb.shape[:2]
    message.encoding = encoding
    message.is_bigendian = 0
    message.step = rgb.shape[1] * channels
    data = array("B")  # the only type that rclpy accepts without checking every element
    data.frombytes(pixels.data)
    message.data = data
    return message
