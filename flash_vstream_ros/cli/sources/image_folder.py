"""Reads folders of image files, in natural order of their names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from flash_vstream_ros.ros.sample_range import SampleRange

from .frame_source import DEFAULT_FPS, MAX_PIXELS, EvenlySpaced, SourceError, SourceFrame

TIFF = (".tif", ".tiff")
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp", *TIFF)
# Long decimals are compared by value, so .25 comes before .5: drivers write seconds since 1970 without trailing zeros.
_NUMBER = re.compile(r"(\d{9,}\.\d+|\d+)")


class ImageFolderSource(EvenlySpaced):
    """Image files, evenly spaced in time. Each page of a TIFF is a frame. An unreadable file leaves a gap in time."""

    def __init__(
        self,
        title: str,
        files: Sequence[Path],
        fps: float,
        base_ns: int,
        *,
        max_pixels: int = MAX_PIXELS,
        log: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(title, fps or DEFAULT_FPS, base_ns)
        self.files = sorted(files, key=natural_order)
        self.frames = sum(_pages(path) for path in self.files)
        self._max_pixels, self._log = max_pixels, log

    def __iter__(self) -> Iterator[SourceFrame]:
        self.skipped, index, reason = 0, 0, ""
        samples = SampleRange(log=self._log)
        for path in self.files:
            for page in range(_pages(path)):
                index += 1
                try:
                    rgb = _rgb(_read(path, page, self._max_pixels), samples)
                except Exception as error:  # damaged data may raise any exception in Pillow
                    self.skipped, reason = self.skipped + 1, f"{path.name}: {error}"
                    continue
                yield SourceFrame(self.stamp_ns(index - 1), rgb)
        if self.skipped == index:
            raise SourceError(f"none of the {index} images in {self.title} can be decoded: {reason}")


def image_files(folder: Path) -> list[Path]:
    """Image files of a folder, without hidden ones: macOS puts its own data into `._NAME`."""
    return [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]


def natural_order(path: Path) -> list[tuple[int, Decimal, str]]:
    """Sorting key that puts frame9 before frame10, with digits of any script."""
    return [
        (0, Decimal(part), "") if number else (1, Decimal(0), part.lower())
        for number, part in ((index % 2, part) for index, part in enumerate(_NUMBER.split(path.name)))
        if part
    ]


def _pages(path: Path) -> int:
    """Number of images in a file: 1, or the number of a TIFF's pages."""
    if path.suffix.lower() not in TIFF:
        return 1
    from PIL import Image

    try:
        with Image.open(path) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # damaged data may raise any exception in Pillow; the page is skipped when it is read
        return 1


def _read(path: Path, page: int, max_pixels: int) -> np.ndarray:
    """Read a page as uint8 or uint16 samples [height, width] or [height, width, 3] BGR, upright.

    Raises an exception of OpenCV or Pillow if the file is damaged or not an image, ValueError if it is too large.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # replaced by the limit below
        try:
            with Image.open(path) as image:
                _check_size(image.size, max_pixels)
                if path.suffix.lower() in TIFF:
                    image.seek(page)
                    _check_size(image.size, max_pixels)
                    return _of_pillow(image)
        except Image.DecompressionBombError as error:
            raise ValueError(str(error)) from None
    # OpenCV reads the other formats: it keeps 16-bit colours and turns a JPEG upright.
    found = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if found is None:
        raise ValueError("it does not decode: it is damaged")
    return np.asarray(found)


def _of_pillow(image: Any) -> np.ndarray:
    """A TIFF page as `_read` returns it. Pillow reads it, since OpenCV 5 refuses rotated pages."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        return np.asarray(upright).astype(np.uint16)
    if upright.mode == "L":
        return np.asarray(upright)
    return np.ascontiguousarray(np.asarray(upright.convert("RGB"))[..., ::-1])


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ValueError(f"it is {width}x{height}; at most {max_pixels / 1e6:g} megapixels are read")


def _rgb(image: np.ndarray, samples: SampleRange) -> np.ndarray:
    """Convert to RGB [height, width, 3] uint8."""
    if image.dtype == np.uint16:
        image = samples.to_8_bits(image.reshape(*image.shape[:2], -1), grey=image.ndim == 2)
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
