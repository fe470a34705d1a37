"""Warm-up: encodes a slot and answers a question on a scratch memory before the first real ones.

This lets libraries choose their kernels, fills the allocator and measures the prefill throughput.
"""

from __future__ import annotations

import threading

import numpy as np

from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.memory_policies import memory_of
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.slot import Slot
from flash_vstream_ros.models.interface import VisionLanguageModel

from .caching_prefiller import prefiller_for
from .question import Question
from .throughput import PrefillThroughput

SIZE = (480, 640)  # px, height and width: the common default of cameras
QUESTION = "What do you see now?"
ITERATIONS = 2  # the first chooses the kernels, the second measures the throughput
TOKENS = 3


def warm_up(
    model: VisionLanguageModel, config: EngineConfig, log: ThrottledLog, stop: threading.Event
) -> PrefillThroughput | None:
    """Run a slot and a question through `model`.

    Returns the prefill throughput, from which the chunk size of the first question follows; None if the warm-up
    failed. Logs errors and never raises. Ends early once `stop` is set.
    """
    try:
        model.instruction = config.instruction
        context = Context(model, memory_of(config.policy, config.timed_memory, model), log)
        for index in range(ITERATIONS):
            if stop.is_set():
                return PrefillThroughput()
            context.memory.insert(_slot(model, (index + 1) * config.slot_period_ns, config.slot_period_ns))
            prefiller = prefiller_for(context, config.prefix_cache)
            prepared = prefiller.start(Question(QUESTION), TOKENS)
            assert prepared is not None, "the scratch memory is empty"
            if index:
                prefiller.prefill(prepared.generation, prepared.generation.remaining_tokens)
            for _ in prepared.generation:
                if stop.is_set():
                    return PrefillThroughput()
            _ = prepared.generation.attention
            prefiller.end_answer()
            prefiller.clear()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        log.report("warm-up", f"warm-up failed, so the first question takes longer than later ones: {why}")
        return None
    return prefiller.throughput


def _slot(model: VisionLanguageModel, at_ns: int, period_ns: int) -> Slot:
    height, width = SIZE
    shades = np.linspace(0, 255, height * width * 3).astype(np.uint8).reshape(height, width, 3)
    grid = model.grid(height, width)
    low, detail = model.encode([shades, shades[::-1].copy()], grid)
    return Slot("", "", at_ns - period_ns // 2, at_ns, low, detail, grid)
