"""An engine with the real tiny model, frames for it, and a model that fails on demand."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flash_vstream_ros.engine.answering.question import Answer, Question
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.control.command_queue import NotReady
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.hooks import EngineHooks
from flash_vstream_ros.engine.ingest.mailbox import Frame, FrameCounts
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import MemoryEntry
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model

SECOND = 1_000_000_000
CONFIG = EngineConfig(memory=FlashMemoryConfig(csm_slots=6, dam_slots=3), max_new_tokens=8)
ROOMY = replace(CONFIG, memory=FlashMemoryConfig(csm_slots=60, dam_slots=30))  # nothing is merged


@pytest.fixture(scope="module")
def model() -> VisionLanguageModel:
    return load_model("tiny-random", device="cpu", max_pixels=112 * 112)


@contextmanager
def running(config: EngineConfig, load: Callable[[], VisionLanguageModel]) -> Iterator[tuple[Engine, list[str]]]:
    warnings: list[str] = []
    engine = Engine(
        config, load, EngineHooks(lambda sentence: None, warnings.append, loaded=gc.freeze, unloaded=gc.unfreeze)
    )
    engine.start()
    engine.activate()
    try:
        wait_until(lambda: engine.status().state is not State.LOADING)
        yield engine, warnings
    finally:
        engine.stop()


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the engine did not get there"
        time.sleep(0.005)


def image(seed: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)


def settled(engine: Engine) -> bool:
    return engine.status().frames.pending == 0


def frame(number: int, camera: str = "camera", size: tuple[int, int] = (120, 160), step_ns: int = SECOND) -> Frame:
    return Frame(camera, f"{camera}_optical", number * step_ns, lambda: image(number, size))


def watch(
    engine: Engine,
    numbers: range,
    camera: str = "camera",
    size: tuple[int, int] = (120, 160),
    step_ns: int = SECOND,
) -> None:
    for number in numbers:
        engine.offer(frame(number, camera, size, step_ns))
        wait_until(lambda: settled(engine))
    with suppress(NotReady):
        engine.submit(lambda _: None).result(30.0)  # the status of the memory follows the count of its frames


def ask(engine: Engine, text: str = "What is there?", **fields) -> Answer:  # type: ignore[no-untyped-def]
    return engine.ask(Question(text, **fields)).answer(30.0)


class Failing:
    """The real model, failing once at one call, as when a device runs out of memory.

    It has no prefix cache, which is optional for a model.
    """

    def __init__(self, model: VisionLanguageModel, call: str, error: Exception) -> None:
        self._model, self._call, self._error = model, call, error

    def __getattr__(self, name: str) -> object:
        if name == "prefix_cache":
            return lambda: None
        if name == self._call and self._error is not None:
            error, self._error = self._error, None  # type: ignore[assignment]

            def fail(*_: object) -> None:
                raise error

            return fail
        return getattr(self._model, name)


class Halting:
    """The real model; once armed, it stops at the first slot that it encodes, until it is released."""

    def __init__(self, model: VisionLanguageModel) -> None:
        self._model = model
        self.armed = False
        self.halted, self.released = threading.Event(), threading.Event()
        self.slots = 0  # encoded since it was armed
        self.on_encode: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def prefix_cache(self) -> None:
        return None

    def encode_slots(self, *arguments: Any) -> Any:
        if self.armed:
            self.slots += 1
            self.on_encode()
            self.halted.set()
            assert self.released.wait(60.0)
        return self._model.encode_slots(*arguments)


def entries(engine: Engine, **bounds: object) -> tuple[MemoryEntry, ...]:
    return engine.submit(lambda commands: commands.entries(Scope(**bounds))).result(30.0)  # type: ignore[arg-type]


def seconds_of(entries: tuple[MemoryEntry, ...]) -> set[int]:
    return {stamp // SECOND for entry in entries for stamp in (entry.first_ns, entry.last_ns)}


def balanced(counts: FrameCounts) -> bool:
    return counts.received == counts.encoded + counts.not_sampled + counts.dropped + counts.pending
