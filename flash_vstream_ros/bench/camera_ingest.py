"""Rate at which the engine ingests camera frames: mailbox, decoding, preprocessing, vision tower, memory."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.ingest.ingest import Ingest
from flash_vstream_ros.engine.ingest.mailbox import Frame, Mailbox
from flash_vstream_ros.engine.ingest.static_scene import StaticSceneConfig
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.instruments.stopwatch import now
from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.ros.images import from_rgb, to_rgb
from flash_vstream_ros.ros.interfaces import Image

from .meters import PowerMeter

WARM_UP_SLOTS = 3
NO_STATIC_SCENES = StaticSceneConfig(threshold=0.0)
PENDING_FRAMES = 3  # two of the slot being ingested, and one that waits


class CameraIngest:
    """Ingests one camera's frames into a memory as the engine does, in this thread and the prefetch thread."""

    def __init__(
        self, model: VisionLanguageModel, memory: FlashMemory, period_ns: int, static: StaticSceneConfig
    ) -> None:
        sample_fps = 1e9 / period_ns
        self.memory, self.mailbox = memory, Mailbox(sample_fps)
        self._ready = threading.Event()
        self._errors: list[str] = []
        context = Context(model, memory, ThrottledLog(self._errors.append), wake=self._ready)
        self.ingest = Ingest(
            context, EngineConfig(sample_fps=sample_fps, static_scene=static), {"camera": self.mailbox}
        )
        self._stamps_ns = itertools.count(period_ns, period_ns)

    def frame(self, image: np.ndarray) -> Frame:
        """The camera's next frame: an undecoded message with an RGB uint8 image [height, width, 3]."""
        stamp_ns = next(self._stamps_ns)
        return Frame("camera", "camera", stamp_ns, partial(to_rgb, from_rgb(image, stamp_ns, "camera", Image)))

    def offer(self, frame: Frame) -> None:
        self.mailbox.offer(frame)
        self.ingest.prefetch.fetch("camera")

    def step(self) -> bool:
        """Run one ingest step. If there is nothing to do, wait for the prefetch thread and return False."""
        self._ready.clear()
        worked = self.ingest.step()
        if not worked:
            self._ready.wait(0.1)
        return worked

    def run(self, steps: int) -> None:
        """Run ingest steps until `steps` of them have handled a frame."""
        for _ in range(steps):
            while not self.step():
                pass

    def close(self) -> None:
        """Stop the prefetch thread. Raises RuntimeError if frames were lost."""
        self.ingest.prefetch.close()
        if self._errors:
            raise RuntimeError(f"frames were lost: {self._errors}")


def ingest_costs(
    model: VisionLanguageModel,
    config: FlashMemoryConfig,
    images: Sequence[np.ndarray],
    slots: int,
    static: StaticSceneConfig = NO_STATIC_SCENES,
) -> dict[str, Any]:
    """Costs of ingesting `slots` slots into an empty memory; the frames are RGB uint8 `images` [height, width, 3].

    Another frame is always waiting. Raises RuntimeError if a frame is lost, or if too few frames become slots.
    """
    camera = CameraIngest(model, FlashMemory(config), config.slot_period_ns // 2, static)
    power = PowerMeter(model.device)
    offered, began, slot_count = 0, 0.0, WARM_UP_SLOTS + slots
    while camera.memory.slots_seen < slot_count and offered < 4 * slot_count:
        while camera.mailbox.counts().pending < PENDING_FRAMES:
            camera.offer(camera.frame(images[offered % len(images)]))
            offered += 1
        camera.step()
        if camera.memory.slots_seen == WARM_UP_SLOTS and not began:
            began = now(model.device)
        power.sample()
    seconds = now(model.device) - began
    camera.close()
    if camera.memory.slots_seen < slot_count:
        raise RuntimeError(f"{camera.memory.slots_seen} of {slot_count} slots were ingested")
    return {
        "slots": slots,
        "frames_per_s": 2 * slots / seconds,
        "slot_s": seconds / slots,
        "encode_p50_s": camera.ingest.encode_s.p50_p95()[0],
        "update_p50_s": camera.ingest.update_s.p50_p95()[0],
        **power.figures(),
    }
