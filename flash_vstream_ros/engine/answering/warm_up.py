"""A slot and a question before the first ones: kernels are chosen, the allocator is filled, the pace is known."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.memory_policies import memory_of
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.slot import Slot
from flash_vstream_ros.models.interface import VisionLanguageModel

from .cached_reader import reader_of
from .request_queue import Question
from .throughput import PrefillThroughput

SIZE = (480, 640)  # px, height and width: what a camera has where nobody says otherwise
QUESTION = "What do you see now?"
SLOTS = 2  # a pass of each: kernels are chosen in the first, the second tells the pace
TOKENS = 3  # the first one, the one with the evidence, a plain one


def warm_up(
    model: VisionLanguageModel,
    config: EngineConfig,
    log: ThrottledLog,
    say: Callable[[str], None],
    stopping: Callable[[], bool],
) -> PrefillThroughput | None:
    """Encode slots into a memory for this alone, answer about it, say how long that took.

    How fast the model reads, so that the first question is read in portions like the later ones; None where it failed.
    Never raises: what goes wrong is a notice. Ends early where `stopping` tells to.
    """
    began = time.perf_counter()
    try:
        model.instruction = config.instruction
        scratch = memory_of(config.policy, config.timed_memory, model)
        for index in range(SLOTS):
            if stopping():
                return PrefillThroughput()
            scratch.insert(_slot(model, (index + 1) * config.slot_period_ns, config.slot_period_ns))
            reader = reader_of(model, scratch, log, config.warm)
            reading = reader.read(Question(QUESTION), TOKENS)
            assert reading is not None, "nothing was remembered"
            if index:
                reader.read_portion(reading.answering, reading.answering.left)
            for _ in reading.answering:
                if stopping():
                    return PrefillThroughput()
            _ = reading.answering.attention
            reader.done()
            reader.clear()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        log.report("warm-up", f"no warm-up, the first question will be slower than the others: {why}")
        return None
    say(f"warmed up in {time.perf_counter() - began:.2f} s")
    return reader.pace


def _slot(model: VisionLanguageModel, at_ns: int, period_ns: int) -> Slot:
    height, width = SIZE
    shades = np.linspace(0, 255, height * width * 3).astype(np.uint8).reshape(height, width, 3)
    grid = model.grid(height, width)
    low, detail = model.encode([shades, shades[::-1].copy()], grid)
    return Slot("", "", at_ns - period_ns // 2, at_ns, low, detail, grid)
