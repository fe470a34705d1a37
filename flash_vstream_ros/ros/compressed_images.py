"""Decodes sensor_msgs/CompressedImage (JPEG and PNG) to RGB arrays.

The format field is that of image_transport's compressed transport: "rgb8; jpeg compressed bgr8" names the encoding of
the camera, the codec, and the colour order of the compressed data. Formats such as "jpeg" alone are accepted too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np

from .images import DEPTH, MAX_PIXELS, BadImage, bytes_of, check_size, shortened, to_rgb
from .sample_range import SampleRange

LONGEST_FORMAT = 256  # characters
MAX_MARKERS = 10_000  # before a JPEG's frame header, including padding; limits the time of a check
MAX_SCANS = 64  # of a progressive JPEG; even a scan of 42 bytes takes as long to decode as an image
SEARCH_BYTES = 1 << 20  # size of the blocks that are copied for a search
JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # those three are not frames
START_OF_SCAN, PADDING = 0xDA, 0xFF
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}  # TEM and RSTn have no segment, as libjpeg reads them


class _Format(NamedTuple):
    encoding: str = ""  # of the camera's own image
    colours: str = ""  # pixel format that was compressed; "" for a single channel

    @classmethod
    def parse(cls, text: str) -> _Format:
        """Parse "ENCODING; CODEC compressed COLOURS"; anything else gives empty fields."""
        encoding, separator, rest = text.partition(";")
        words = rest.split()
        if not separator or len(words) not in (2, 3) or words[1] != "compressed":
            return cls()
        return cls(encoding.strip(), words[2] if len(words) == 3 else "")


class _Header(NamedTuple):
    """Values from the header of the compressed data."""

    width: int
    height: int
    channels: int
    bits: int = 8


def check_compressed(message: Any, max_pixels: int = MAX_PIXELS) -> None:
    """Validate a sensor_msgs/CompressedImage in microseconds: its format field and the header of its data.

    Raises:
        BadImage: reason wrong_format, depth_image, wrong_data, truncated, undecodable, zero_size or too_large.
    """
    _checked(message, max_pixels)


def describe_compressed(message: Any) -> str:
    """Size and format of a checked message, for the log."""
    header = _header(bytes_of(message.data), "")
    return f"{header.width}x{header.height} {shortened(str(message.format))}"


def names_rgb(message: Any) -> bool:
    """Returns True if the format field says that red and blue are exchanged in the data ("compressed rgb8").

    image_transport's subscriber then exchanges them back, but its publisher never writes such a format. Drivers that
    write it mostly publish standard JPEG or PNG, which must not be exchanged. The data does not show which case it is.
    """
    return _Format.parse(str(message.format)).colours.startswith("rgb")


def compressed_to_rgb(
    message: Any, samples: SampleRange | None = None, max_pixels: int = MAX_PIXELS, *, exchange: bool = False
) -> np.ndarray:
    """Decode a sensor_msgs/CompressedImage to [height, width, 3] uint8 RGB, contiguous.

    16-bit samples are scaled as in `to_rgb`; Bayer mosaics that were compressed as one channel are demosaiced.
    `exchange` swaps red and blue if the format field names rgb; see `names_rgb`.

    Raises:
        BadImage: as `check_compressed`.
    """
    form, header, view = _checked(message, max_pixels)
    _check_end(view)
    single = header.channels == 1
    mosaic = single and form.encoding.startswith("bayer_") and not form.colours
    mode = cv2.IMREAD_GRAYSCALE if single else cv2.IMREAD_COLOR
    mode |= cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    image = _decoded(view, mode, shortened(str(message.format)))
    if image.shape[:2] != (header.height, header.width):
        raise BadImage(
            "undecodable",
            f"the image decodes to {image.shape[1]}x{image.shape[0]}; its header says {header.width}x{header.height}",
        )
    if image.dtype == np.uint16:
        image = (samples or SampleRange()).to_8_bits(image.reshape(*image.shape[:2], -1), grey=single and not mosaic)
    if mosaic:
        return _demosaiced(image, form.encoding)
    if single:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if exchange and form.colours.startswith("rgb"):
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _decoded(data: memoryview, mode: int, form: str) -> np.ndarray:
    """Decode to [height, width] or [height, width, 3] BGR, uint8 or uint16. Raises BadImage."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error:
        image = None
    if image is None:
        raise BadImage("undecodable", f"{data.nbytes} bytes of format '{form}' do not decode: they are damaged")
    return image


def _checked(message: Any, max_pixels: int) -> tuple[_Format, _Header, memoryview]:
    text = str(message.format)
    if len(text) > LONGEST_FORMAT:
        raise BadImage("wrong_format", f"format '{shortened(text)}' is longer than {LONGEST_FORMAT} characters")
    form = _Format.parse(text)
    if "compressedDepth" in text or form.encoding in DEPTH:
        raise BadImage(
            "depth_image",
            f"format '{shortened(text)}' is a depth map, not an image: subscribe to the camera's colour topic instead",
        )
    data = bytes_of(message.data)
    header = _header(data, shortened(text))
    check_size(header.width, header.height, max_pixels)
    return form, header, data


def _header(data: memoryview, form: str) -> _Header:
    start = bytes(data[:8])
    if start.startswith(JPEG):
        return _jpeg_header(data)
    if start == PNG:
        return _png_header(data)
    if not start:
        raise BadImage("undecodable", f"the image of format '{form}' has no data")
    raise BadImage(
        "undecodable", f"{data.nbytes} bytes of format '{form}' (begin with {start.hex(' ')}) are neither JPEG nor PNG"
    )


def _png_header(data: memoryview) -> _Header:
    """Read the IHDR chunk, which always comes first."""
    if data.nbytes < 33:
        raise _ended(data)
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    return _Header(width, height, 1 if data[25] in (0, 4) else 3, data[24])


def _jpeg_header(data: memoryview) -> _Header:
    """Read the frame header (SOFn), which follows tables and comments of any length."""
    at = 2
    for _ in range(MAX_MARKERS):
        if at + 9 >= data.nbytes:
            raise _ended(data)
        marker = data[at + 1]
        if data[at] != 0xFF or marker == START_OF_SCAN:
            raise BadImage("undecodable", "the JPEG data has no frame header before its scan: it is damaged")
        if marker == PADDING:
            at += 1
        elif marker in WITHOUT_LENGTH:
            at += 2
        elif marker in START_OF_FRAME:
            height, width = (int.from_bytes(data[at + offset : at + offset + 2], "big") for offset in (5, 7))
            return _Header(width, height, data[at + 9], data[at + 4])
        else:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            if length < 2:
                raise BadImage("undecodable", f"the JPEG data has a segment of length {length}: it is damaged")
            at += 2 + length
    raise BadImage("undecodable", f"the JPEG data has no frame header within {MAX_MARKERS} markers: it is damaged")


def _ended(data: memoryview) -> BadImage:
    return BadImage("truncated", f"the compressed image ends early, after {data.nbytes} bytes")


def _check_end(data: memoryview) -> None:
    """Raise BadImage, reason truncated or undecodable, if data is missing or the JPEG has too many scans."""
    # Decoders replace missing data by grey and report nothing. Markers cannot occur inside JPEG's coded data.
    if bytes(data[:2]) != JPEG:
        if not any(True for _ in _places(data, b"IEND")):
            raise _ended(data)
        return
    ends = _places(data, END_OF_IMAGE)
    scans = _places(data, SCAN)
    if (last_scan := next(scans, -1)) > next(ends, -1):
        raise _ended(data)
    count = 1 + sum(1 for _ in islice(scans, MAX_SCANS)) if last_scan >= 0 else 0
    if count > MAX_SCANS:
        raise BadImage("undecodable", f"the JPEG data has more than {MAX_SCANS} scans; each is a pass over the image")


def _places(data: memoryview, word: bytes) -> Iterator[int]:
    """Positions of `word`, last one first. Copies one block at a time."""
    for start in reversed(range(0, data.nbytes, SEARCH_BYTES)):
        block = bytes(data[start : start + SEARCH_BYTES + len(word) - 1])
        at = block.rfind(word)
        while at >= 0:
            yield start + at
            at = block.rfind(word, 0, at)


def _demosaiced(samples: np.ndarray, encoding: str) -> np.ndarray:
    """Convert an 8-bit mosaic [height, width] or [height, width, 1] to RGB [height, width, 3]."""
    height, width = samples.shape[:2]
    pattern = encoding.removesuffix("16").removesuffix("8")
    shape = {"width": width, "height": height, "step": width, "is_bigendian": 0}
    return to_rgb(SimpleNamespace(encoding=f"{pattern}8", data=np.ascontiguousarray(samples), **shape))
