"""Transports of camera images, raw and compressed as in image_transport: their message types and decoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .compressed_images import check_compressed, compressed_to_rgb, describe_compressed, names_rgb
from .cv_bridge_decoder import DECODERS, DecoderChoice, choose_decoder
from .images import MAX_PIXELS, BadImage, check, describe, shortened, to_rgb
from .interfaces import interface
from .sample_range import SampleRange

COLOUR_ORDERS = ("standard", "as_named")


@dataclass(frozen=True)
class DecodingConfig:
    """Options for decoding a camera's images: the parameters image.*."""

    decoder: str = DECODERS[0]
    significant_bits: int = 0  # of 16-bit samples; 0: estimated
    compressed_colours: str = COLOUR_ORDERS[0]
    max_megapixels: float = MAX_PIXELS / 1e6

    @property
    def max_pixels(self) -> int:
        return round(self.max_megapixels * 1e6)


DEFAULT_DECODING = DecodingConfig()


class RawDecoder:
    """Decodes sensor_msgs/Image of one camera. Only one thread at a time may call `to_rgb`."""

    def __init__(self, config: DecodingConfig, log: Callable[[str], None]) -> None:
        self._config = config
        self._samples = SampleRange(config.significant_bits, log)
        self.choice: DecoderChoice = choose_decoder(config.decoder)

    def check(self, message: Any) -> None:
        """Validate a message without reading a pixel. Raises BadImage."""
        check(message, self._config.max_pixels)

    def describe(self, message: Any) -> str:
        """Size and encoding of a checked message, for the log."""
        return describe(message)

    def to_rgb(self, message: Any) -> np.ndarray:
        """Decode a message to [height, width, 3] uint8 RGB. Raises BadImage."""
        if self.choice.convert is None or not self.choice.decodes(message):
            return to_rgb(message, self._samples, self._config.max_pixels)
        self.check(message)
        try:
            return self.choice.convert(message)
        except Exception as error:  # a binary of another build may raise any exception
            raise BadImage(
                "undecodable", f"cv_bridge refused the image: {error}; set image.decoder to builtin"
            ) from error


class CompressedDecoder:
    """Decodes sensor_msgs/CompressedImage of one camera. Only one thread at a time may call `to_rgb`."""

    def __init__(self, config: DecodingConfig, log: Callable[[str], None]) -> None:
        self._config = config
        self._log = log
        self._samples = SampleRange(config.significant_bits, log)
        self._logged_colours = False
        self.choice = DecoderChoice("builtin", "compressed images are decoded by OpenCV directly")

    def check(self, message: Any) -> None:
        """Validate a message without decoding it. Raises BadImage."""
        check_compressed(message, self._config.max_pixels)

    def describe(self, message: Any) -> str:
        """Size and format of a checked message, for the log."""
        return describe_compressed(message)

    def to_rgb(self, message: Any) -> np.ndarray:
        """Decode a message to [height, width, 3] uint8 RGB. Raises BadImage."""
        exchange = self._config.compressed_colours == "as_named"
        if not self._logged_colours and names_rgb(message):
            self._logged_colours = True
            done = "red and blue are exchanged, as the format says" if exchange else "decoded as a standard image file"
            self._log(f"format '{shortened(str(message.format))}': {done}; see image.compressed_colours")
        return compressed_to_rgb(message, self._samples, self._config.max_pixels, exchange=exchange)


@dataclass(frozen=True)
class Transport:
    """A message type, the suffix of its topic, and its decoder."""

    type_name: str
    suffix: str
    decoder: type[RawDecoder] | type[CompressedDecoder]

    @property
    def message(self) -> Any:
        return interface(self.type_name)


TRANSPORTS = {
    "raw": Transport("sensor_msgs/msg/Image", "", RawDecoder),
    "compressed": Transport("sensor_msgs/msg/CompressedImage", "/compressed", CompressedDecoder),
}
