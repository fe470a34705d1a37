"""Rate at which camera frames are ingested by the engine: mailbox, preprocessing, vision tower, memory."""

from __future__ import annotations

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
from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig
from flash_vstream_ros.models.interface import VisionLanguageModel

from .board import PowerMeter
from .stopwatch import now

WARM_UP_SLOTS = 3
OFF = StaticSceneConfig(threshold=0.0)
ON_THEIR_WAY = 3  # frames: two of a slot in work, and one that waits for them


def taken_in(
    model: VisionLanguageModel, config: FlashMemoryConfig, pictures: Sequence[np.ndarray], slots: int
) -> dict[str, Any]:
    """Figures of `slots` slots of RGB uint8 `pictures` [height, width, 3], again and again, into an empty memory."""
    complaints: list[str] = []
    mailbox, memory = Mailbox(sample_fps=2e9 / config.slot_period_ns), FlashMemory(config)
    ready = threading.Event()
    context = Context(model, memory, ThrottledLog(complaints.append), ready)
    ingest = Ingest(
        context, EngineConfig(sample_fps=2e9 / config.slot_period_ns, static_scene=OFF), {"camera": mailbox}
    )
    frame_ns = config.slot_period_ns // 2
    power = PowerMeter(model.device)
    offered, began, slot_count = 0, 0.0, WARM_UP_SLOTS + slots
    while memory.slots_seen < slot_count and offered < 4 * slot_count:
        ready.clear()
        worked = ingest.step()
        if memory.slots_seen == WARM_UP_SLOTS and not began:
            began = now(model.device)
        if mailbox.counts().pending < ON_THEIR_WAY:
            picture = pictures[offered % len(pictures)]
            offered += 1
            mailbox.offer(Frame("camera", "", offered * frame_ns, partial(np.copy, picture)))
        elif not worked:
            ready.wait(0.1)
        power.look()
    seconds = now(model.device) - began
    ingest.prefetch.close()
    if memory.slots_seen < slot_count:
        raise RuntimeError(f"{memory.slots_seen} of {slot_count} slots came in: {complaints}")
    return {
        "slots": slots,
        "frames_per_s": 2 * slots / seconds,
        "slot_s": seconds / slots,
        "encode_p50_s": ingest.encode_s.p50_p95()[0],
        "update_p50_s": ingest.update_s.p50_p95()[0],
        **power.figures(),
    }
