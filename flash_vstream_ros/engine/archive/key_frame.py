"""Key frames: what the archive keeps of a slot that showed something new."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 640  # px, of the longer side: at the default `model.max_pixels` models get no larger frames
QUALITY = 85


@dataclass(frozen=True, eq=False)
class SlotFrame:
    """The second frame of a slot, on its way to the archive. Stamps in ns of message time."""

    camera: str
    frame_id: str
    first_ns: int  # of the slot's first frame
    last_ns: int
    novelty: float
    cluster: int | None  # number of the cluster that the slot was put into
    rgb: np.ndarray  # [height, width, 3] uint8

    @property
    def key(self) -> tuple[str, int]:
        """Camera and stamp."""
        return self.camera, self.last_ns


@dataclass(frozen=True)
class KeyFrame:
    """One row of the archive. `last_ns` grows while the scene does not change; `stamp_ns` is the image's stamp."""

    camera: str
    frame_id: str
    first_ns: int
    last_ns: int
    stamp_ns: int
    novelty: float
    cluster: int | None
    jpeg: bytes

    @classmethod
    def of(cls, frame: SlotFrame) -> KeyFrame:
        """Encode a frame, scaled down to at most SIDE pixels."""
        return cls(
            camera=frame.camera,
            frame_id=frame.frame_id,
            first_ns=frame.first_ns,
            last_ns=frame.last_ns,
            stamp_ns=frame.last_ns,
            novelty=frame.novelty,
            cluster=frame.cluster,
            jpeg=jpeg_of(frame.rgb),
        )

    @property
    def key(self) -> tuple[str, int]:
        """Camera and stamp of the image."""
        return self.camera, self.stamp_ns

    @property
    def checksum(self) -> int:
        """CRC-32 of camera, frame_id, stamp and image."""
        return zlib.crc32(self.jpeg, zlib.crc32(f"{self.camera}\0{self.frame_id}\0{self.stamp_ns}".encode()))


def jpeg_of(rgb: np.ndarray, side: int = SIDE, quality: int = QUALITY) -> bytes:
    """JPEG of an image [height, width, 3] uint8, scaled down to at most `side` pixels. Raises ValueError."""
    scale = min(1.0, side / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if scale < 1 else rgb
    encoded, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise ValueError(f"an image of {rgb.shape} cannot be encoded as JPEG")
    return jpeg.tobytes()
