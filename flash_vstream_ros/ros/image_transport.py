"""How a camera's pictures travel: the message types that image_transport's raw and compressed transports use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .compressed_images import check_compressed, compressed_to_rgb, describe_compressed
from .images import check, describe, to_rgb
from .interfaces import interface


@dataclass(frozen=True)
class Transport:
    """`check` and `to_rgb` raise BadImage; `check` reads no pixel."""

    type_name: str
    suffix: str  # of the topic, after the name of the raw one
    check: Callable[[Any], None]
    describe: Callable[[Any], str]
    to_rgb: Callable[[Any], np.ndarray]

    @property
    def message(self) -> Any:
        return interface(self.type_name)


TRANSPORTS = {
    "raw": Transport("sensor_msgs/msg/Image", "", check, describe, to_rgb),
    "compressed": Transport(
        "sensor_msgs/msg/CompressedImage", "/compressed", check_compressed, describe_compressed, compressed_to_rgb
    ),
}
