"""What watches cost: their share of the device, and how much slower questions are answered beside them.

An engine receives frames in real time, a new slot every second, and questions at random moments. Watches are added and
removed in turn, so that both kinds of question are asked in the same minutes.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np

from flash_vstream_ros.demo.world import World
from flash_vstream_ros.engine.answering.question import ErrorCode, Question
from flash_vstream_ros.engine.config import FRAMES_PER_SLOT, EngineConfig
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.ingest.static_scene import StaticSceneConfig
from flash_vstream_ros.engine.watches.watch import Watch
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.household_settings import FRAME_S, MEMORY

from .prefix_cache import QUESTIONS
from .running_engine import ingest, running_engine

WATCHES = 10
WATCHED = "Have you seen a {} ball? {}"
COLOURS = ("red", "blue", "green", "yellow", "white")
SLOT_PERIOD_S = 1.0  # so that every check is about a new slot
FRAME_PERIOD_S = SLOT_PERIOD_S / FRAMES_PER_SLOT
SETTLE_S = 2.0  # after watches were added or removed
PAUSES_S = (0.05, 0.45)  # between an answer and the next question
DEADLINE_S = 60.0


class Times(NamedTuple):
    """Durations of one question [s]."""

    first_token: float
    answer: float


def cost(model: Any, seed: int, minutes: float = 4.0, questions: int = 20, rounds: int = 8) -> dict[str, Any]:
    """Ask `questions` questions in each of `rounds` rounds, without watches and with WATCHES of them at 1 Hz.

    The memory holds `minutes` of a patrol before the first question.
    """
    images = [World(seed, minutes).frame(at) for at in np.arange(0.0, 60 * minutes, FRAME_S)]
    config = EngineConfig(
        sample_fps=1 / FRAME_PERIOD_S, memory=MEMORY, static_scene=StaticSceneConfig(threshold=0.0), max_new_tokens=16
    )
    asked: dict[bool, list[Times]] = {False: [], True: []}
    shares: list[float] = []
    draw = np.random.default_rng(seed)
    with running_engine(config, model, lambda _: None) as engine, _camera(engine, images):
        for _ in range(rounds):
            for watched in (False, True):
                watches = WATCHES if watched else 0
                with _watching(engine, watches):
                    asked[watched] += [_ask(engine, text, draw) for text in _questions(questions)]
                    shares += [engine.status().watches.device_share] * watched
        status = engine.status().watches
    return {**_figures(asked), "device_share": fmean(shares), "missed": status.missed, "questions": questions * rounds}


def _figures(asked: dict[bool, list[Times]]) -> dict[str, Any]:
    """Median durations without watches, and the means and medians with watches as multiples of those without."""
    figures: dict[str, Any] = {}
    for name in Times._fields:
        alone, beside = ([getattr(times, name) for times in asked[watched]] for watched in (False, True))
        figures[name] = {
            "alone_p50_s": median(alone),
            "slowdown_mean": fmean(beside) / fmean(alone),
            "slowdown_p50": median(beside) / median(alone),
            "slowdown_p95": float(np.quantile(beside, 0.95) / np.quantile(alone, 0.95)),
        }
    return figures


def _questions(count: int) -> Iterator[str]:
    return itertools.islice(itertools.cycle(QUESTIONS), count)


@contextmanager
def _camera(engine: Engine, images: Sequence[np.ndarray]) -> Iterator[None]:
    """Show all images at once, as fast as the engine takes them, then one every FRAME_PERIOD_S."""
    stamps_ns = itertools.count(SECOND_NS, round(FRAME_PERIOD_S * SECOND_NS))
    frames = (
        Frame("camera", "camera", stamp_ns, partial(np.copy, image))
        for stamp_ns, image in zip(stamps_ns, itertools.cycle(images), strict=False)
    )
    for frame in itertools.islice(frames, len(images)):
        ingest(engine, frame)
    stop = threading.Event()

    def offer() -> None:
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            engine.offer(next(frames))
            due += FRAME_PERIOD_S

    thread = threading.Thread(target=offer, name="camera")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _watching(engine: Engine, count: int) -> Iterator[None]:
    """`count` watches at 1 Hz."""
    watches = [
        Watch(str(number), WATCHED.format(COLOURS[number % len(COLOURS)], f"{number}?"), period_s=SLOT_PERIOD_S)
        for number in range(count)
    ]
    engine.submit(lambda commands: [commands.watches.add(watch) for watch in watches]).result(DEADLINE_S)
    time.sleep(SETTLE_S)
    try:
        yield
    finally:
        engine.submit(lambda commands: [commands.watches.remove(watch.id) for watch in watches]).result(DEADLINE_S)


def _ask(engine: Engine, text: str, draw: np.random.Generator) -> Times:
    """Ask after a random pause."""
    time.sleep(draw.uniform(*PAUSES_S))
    began, first = time.monotonic(), 0.0
    request = engine.ask(Question(text, deadline_s=DEADLINE_S))
    for _ in request:
        first = first or time.monotonic() - began
    answer = request.answer()
    if answer.error_code is not ErrorCode.NONE:
        raise RuntimeError(f"{answer.error_code.name}: {answer.error_msg}")
    return Times(first, time.monotonic() - began)


def show(result: dict[str, Any]) -> None:
    print(
        f"{WATCHES} watches at 1 Hz, each check on a new slot: {100 * result['device_share']:.1f} % of the device,"
        f" {result['missed']} checks missed"
    )
    for name, label in zip(Times._fields, ("first token", "whole answer"), strict=True):
        times = result[name]
        print(
            f"{label} of {result['questions']} questions, with watches over without:"
            f" mean x{times['slowdown_mean']:.2f}, median x{times['slowdown_p50']:.2f},"
            f" 95th percentile x{times['slowdown_p95']:.2f} (median without {1e3 * times['alone_p50_s']:.1f} ms)"
        )
