"""A long stream of frames through the tiny model and Flash Memory: time and memory per slot must stay constant.

Compares the last 1,000 slots with the first 1,000 after the memory was full: time per update, tokens, reported bytes,
bytes of all tensors that are found in the memory, and the size of the process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flash_vstream_ros.demo.world import World
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.ingest.ingest import Ingest
from flash_vstream_ros.engine.ingest.mailbox import Frame, Mailbox
from flash_vstream_ros.engine.ingest.static_scene import StaticSceneConfig
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.instruments.reachable_bytes import reachable_bytes
from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.load import load_model

BLOCK = 1000
ROUND_FPS = 2
ROUND_MINUTES = 1.5  # short, since all images of a round are kept in RAM
MAX_PIXELS = 112 * 112


def endless_patrol() -> Iterator[np.ndarray]:
    """Repeat a short patrol of the demo's robot, RGB [448, 448, 3]. Each round is shifted a little more."""
    world = World(0, minutes=ROUND_MINUTES)
    patrol = [world.frame(index / ROUND_FPS) for index in range(int(world.duration * ROUND_FPS))]
    turn = 0
    while True:
        for image in patrol:
            yield np.roll(image, turn, axis=1)
        turn += 1


def resident_bytes() -> int:
    """Resident memory of this process [bytes]; 0 if unknown."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * 4096 if status.exists() else 0


def run(slots: int = 10_000) -> dict[str, Any]:
    """Ratios of the last 1,000 slots to the first 1,000 after the memory was full."""
    config = FlashMemoryConfig(slot_period_ns=2 * SECOND_NS)
    if slots < config.csm_slots + 2 * BLOCK:
        raise ValueError(f"needs at least {config.csm_slots + 2 * BLOCK} slots, not {slots}")
    memory, mailbox = FlashMemory(config), Mailbox(sample_fps=1.0)
    warnings: list[str] = []
    model = load_model("tiny-random", device="cpu", max_pixels=MAX_PIXELS)
    context = Context(model, memory, ThrottledLog(warnings.append))
    ingest = Ingest(context, EngineConfig(static_scene=StaticSceneConfig(threshold=0.0)), {"camera": mailbox})
    updates: list[float] = []
    marks: list[dict[str, float]] = []
    begin = time.monotonic()
    for index, image in enumerate(endless_patrol()):
        mailbox.offer(Frame("camera", "", (index + 1) * SECOND_NS, partial(np.copy, image)))
        while not ingest.step():  # frames are decoded in another thread
            time.sleep(1e-4)
        if index % 2 == 0:
            continue
        updates.append(ingest.update_s.newest)
        if memory.slots_seen in (config.csm_slots + BLOCK, slots):
            marks.append(
                {
                    "tokens": memory.tokens,
                    "bytes_reported": memory.bytes,
                    "bytes_found": sum(reachable_bytes(memory)),
                    "process_bytes": resident_bytes(),
                }
            )
        if memory.slots_seen == slots:
            break
    early, late = marks
    full = config.csm_slots
    return {
        "slots": slots,
        "seconds": time.monotonic() - begin,
        "warnings": warnings,
        "early": early,
        "late": late,
        "ratios": {
            "update_time": statistics.median(updates[-BLOCK:]) / statistics.median(updates[full : full + BLOCK]),
            **{name: late[name] / early[name] for name in early},
            "reported_over_found": late["bytes_reported"] / late["bytes_found"],
        },
    }


def show(result: dict[str, Any]) -> None:
    late = result["late"]
    print(
        f"{result['slots']} slots in {result['seconds']:.0f} s: {late['tokens']} tokens,"
        f" {late['bytes_reported'] / 1e6:.2f} MB reported, {late['bytes_found'] / 1e6:.2f} MB found in the memory"
    )
    print(f"the last {BLOCK} slots over the {BLOCK} after the memory was full, and reported over found bytes:")
    for name, ratio in result["ratios"].items():
        print(f"  {name:>20} {ratio:.4f}")
