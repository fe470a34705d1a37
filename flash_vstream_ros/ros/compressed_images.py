"""sensor_msgs/CompressedImage, JPEG and PNG, to RGB arrays.

The format field is that of image_transport's compressed transport: "rgb8; jpeg compressed bgr8" names the camera's
encoding, the codec, and the order of colours that went into it. Drivers that write only "jpeg" are read as well.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np

from .images import DEPTH, BadImage, bytes_of, to_rgb

MOST_PIXELS = 1 << 27  # a few kilobytes can claim to be a picture of gigabytes
JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the others in this range are tables
START_OF_SCAN = 0xDA
_FORMAT = re.compile(r"\s*(?P<encoding>[^;]*?)\s*;\s*\w+\s+compressed\s*(?P<colours>\w*)\s*")


class _Format(NamedTuple):
    encoding: str = ""  # of the camera's own picture
    colours: str = ""  # pixel format that the codec was given; "" for a single channel

    @classmethod
    def parse(cls, text: str) -> _Format:
        found = _FORMAT.fullmatch(text)
        return cls(found["encoding"], found["colours"]) if found else cls()


class _Header(NamedTuple):
    """What the compressed data says of itself."""

    width: int
    height: int
    channels: int


def check_compressed(message: Any) -> None:
    """Validate a sensor_msgs/CompressedImage in microseconds, by its format field and its data's own header.

    Raises:
        BadImage: reason depth_image, wrong_data, truncated, undecodable, zero_size or too_large.
    """
    _checked(message)


def describe_compressed(message: Any) -> str:
    """Size and format of a checked message, for the log."""
    header = _header(bytes_of(message.data), str(message.format))
    return f"{header.width}x{header.height} {message.format}"


def compressed_to_rgb(message: Any) -> np.ndarray:
    """Picture of a sensor_msgs/CompressedImage: [height, width, 3] uint8 RGB, contiguous.

    Sixteen-bit samples keep their high byte; Bayer mosaics that were compressed as they are get their colours back.

    Raises:
        BadImage: as `check_compressed`.
    """
    form, header, view = _checked(message)
    data = bytes(view)
    if _ends_early(data):
        raise _ended(view)
    mosaic = form.encoding.startswith("bayer_") and not form.colours and header.channels == 1
    mode = cv2.IMREAD_GRAYSCALE if mosaic else cv2.IMREAD_COLOR
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), mode | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        picture = None
    if picture is None:
        raise BadImage("undecodable", f"{len(data)} bytes of format '{message.format}' do not decode: damaged?")
    if mosaic:
        return _demosaiced(picture, form.encoding)
    return picture if form.colours.startswith("rgb") else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _checked(message: Any) -> tuple[_Format, _Header, memoryview]:
    text = str(message.format)
    form = _Format.parse(text)
    if "compressedDepth" in text or form.encoding in DEPTH:
        raise BadImage(
            "depth_image",
            f"format '{text}' is a depth map, not a picture: subscribe to the camera's colour topic instead",
        )
    data = bytes_of(message.data)
    header = _header(data, text)
    if header.width < 1 or header.height < 1:
        raise BadImage("zero_size", f"the image is {header.width}x{header.height}; expected at least one pixel")
    if header.width * header.height > MOST_PIXELS:
        raise BadImage(
            "too_large", f"the image claims to be {header.width}x{header.height}; at most {MOST_PIXELS} pixels are read"
        )
    return form, header, data


def _header(data: memoryview, form: str) -> _Header:
    start = bytes(data[:8])
    if start.startswith(JPEG):
        return _jpeg_header(data)
    if start == PNG:
        return _png_header(data)
    began = f"begin with {start.hex(' ')}" if start else "are none"
    raise BadImage("undecodable", f"{data.nbytes} bytes of format '{form}' ({began}) are neither JPEG nor PNG")


def _png_header(data: memoryview) -> _Header:
    """From the IHDR chunk, which always comes first."""
    if data.nbytes < 33:
        raise _ended(data)
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    return _Header(width, height, 1 if data[25] == 0 else 3)


def _jpeg_header(data: memoryview) -> _Header:
    """From the frame header (SOFn), before which come tables and comments of any length."""
    at = 2
    while at + 9 < data.nbytes:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] != 0xFF or marker == START_OF_SCAN:
            raise BadImage("undecodable", "the JPEG data has no frame header where one belongs: damaged?")
        if marker == 0xFF:  # padding
            at += 1
        elif marker in START_OF_FRAME:
            height, width = (int.from_bytes(data[at + offset : at + offset + 2], "big") for offset in (5, 7))
            return _Header(width, height, data[at + 9])
        else:
            at += 2 + max(2, length)
    raise _ended(data)


def _ended(data: memoryview) -> BadImage:
    return BadImage("truncated", f"the compressed image ends early, after {data.nbytes} bytes")


def _ends_early(data: bytes) -> bool:
    # Decoders fill what is missing with grey and say nothing. Markers cannot occur inside JPEG's coded data.
    if data.startswith(JPEG):
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    return b"IEND" not in data


def _demosaiced(samples: np.ndarray, encoding: str) -> np.ndarray:
    """RGB of the 8-bit mosaic [height, width]."""
    height, width = samples.shape
    pattern = encoding.removesuffix("16").removesuffix("8")
    shape = {"width": width, "height": height, "step": width, "is_bigendian": 0}
    return to_rgb(SimpleNamespace(encoding=f"{pattern}8", data=np.ascontiguousarray(samples), **shape))
