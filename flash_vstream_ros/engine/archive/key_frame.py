"""Key frames: what the archive keeps of a slot that showed something new."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from flash_vstream_ros.engine.jpeg import jpeg_of
from flash_vstream_ros.memory.pose import NO_POSE, MaybePose, UnknownPose

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
    pose: MaybePose = NO_POSE

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
    pose: MaybePose = NO_POSE  # at `stamp_ns`

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
            jpeg=jpeg_of(frame.rgb, SIDE, QUALITY),
            pose=frame.pose,
        )

    @property
    def key(self) -> tuple[str, int]:
        """Camera and stamp of the image."""
        return self.camera, self.stamp_ns

    @property
    def checksum(self) -> int:
        """CRC-32 of camera, frame_id, stamp, pose and image."""
        described = f"{self.camera}\0{self.frame_id}\0{self.stamp_ns}".encode()
        return zlib.crc32(self.jpeg, zlib.crc32(described + _bytes_of(self.pose)))


def _bytes_of(pose: MaybePose) -> bytes:
    if isinstance(pose, UnknownPose):
        return f"\0{pose.reason}".encode()
    numbers = *pose.position, *pose.orientation, *pose.covariance
    return f"\0{pose.frame_id}\0{pose.map_id}\0".encode() + struct.pack(f"<{len(numbers)}d", *numbers)
