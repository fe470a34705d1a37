"""Frame ingest: cost of a static scene over a moving one, highest frame rate, age of the memory during questions.

Frames are camera messages with images of the demo's robot. They pass through the engine's own mailboxes, decoder,
static-scene filter, vision tower and memory.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from flash_vstream_ros.demo.world import World
from flash_vstream_ros.engine.answering.prefix_cache_config import PrefixCacheConfig
from flash_vstream_ros.engine.answering.question import Answer, ErrorCode, Question
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.hooks import EngineHooks
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.ingest.static_scene import StaticSceneConfig
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.memory import FlashMemory
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.names import TINY
from flash_vstream_ros.process import set_torch_threads
from flash_vstream_ros.ros.images import from_rgb, to_rgb
from flash_vstream_ros.ros.interfaces import Image

from .camera_ingest import CameraIngest, ingest_costs
from .model import settings_of, threads_of

IMAGES = 64
PERIOD_NS = 100_000_000  # between two frames: 10 Hz
SLOT_NS = 2 * PERIOD_NS
GRAIN = 3.2  # spread of the noise of the demo's camera [levels]
RESTING = 4  # static slots in a round of `static_over_moving`
POLL_S = 0.01  # between two samples of the memory's age
MAX_NEW_TOKENS = 16
QUESTIONS = (  # answers to a question have about the same length for any image, so that times can be compared
    "Where is the red ball?",
    "Which room are you in?",
    "Which room were you in before the kitchen?",
    "How many minutes ago did you last see somebody in the living room, and what was lying on the table then?",
)
SLOW = 1.5  # a question is slow if it takes this many times as long as alone
ALONE_SLOTS = 32  # number of slots after each of which a question is asked twice without ingest


class Timed(NamedTuple):
    """Latency of a question by the client's clock, and whether its prompt was cached."""

    text: str
    seconds: float
    cached: bool


def moving() -> list[np.ndarray]:
    """Images [448, 448, 3] of a patrol, all different."""
    world = World(0, minutes=IMAGES * 2 / 60)
    return [world.frame(2.0 * index) for index in range(IMAGES)]


def resting(image: np.ndarray, count: int, seed: int = 0) -> list[np.ndarray]:
    """`count` copies of an image with different camera noise."""
    draw = np.random.default_rng(seed)
    return [np.clip(image + draw.normal(0, GRAIN, image.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def static_over_moving(model: VisionLanguageModel, name: str = TINY, rounds: int = 20) -> float:
    """Cost of a static slot relative to a moving one: decoding, preprocessing, vision tower, memory.

    `name` is the model whose memory is used. The ratio is that of median durations, on a CPU of processor time, of
    alternating slots. Raises RuntimeError if a static slot is encoded, or a moving one is not.
    """
    clock = time.process_time if model.device.type == "cpu" else time.perf_counter
    config, _ = settings_of(name)
    track, images = CameraIngest(model, FlashMemory(config), PERIOD_NS, StaticSceneConfig()), moving()

    def cost(slot: Sequence[np.ndarray]) -> float:
        frames = [track.frame(image) for image in slot]
        began = clock()
        for frame in frames:  # the decoder takes both frames of a slot, so neither is superseded
            track.offer(frame)
        track.run(len(frames))
        return clock() - began

    at = itertools.cycle(range(0, IMAGES, 2))
    for _ in range(config.csm_slots + 2):
        cost(images[(k := next(at)) : k + 2])
    moved, rested = [], []
    before = track.mailbox.counts()
    for number in range(rounds):
        k = next(at)
        views = resting(images[(k + IMAGES // 2) % IMAGES], 2 + 2 * RESTING, number)  # of another place
        moved.append(cost(images[k : k + 2]))
        cost(views[:2])
        rested += [cost(views[place : place + 2]) for place in range(2, len(views), 2)]
    counts = track.mailbox.counts()
    track.close()
    slots = (counts.encoded - before.encoded) // 2, (counts.static - before.static) // 2
    if slots != (2 * rounds, RESTING * rounds):
        raise RuntimeError(f"{slots} slots were encoded and static, not {(2 * rounds, RESTING * rounds)}")
    return statistics.median(rested) / statistics.median(moved)


def frames_per_s(model: VisionLanguageModel, name: str = TINY, frames: int = 200) -> float:
    """Frames of a moving scene that are ingested per second while another frame is always waiting [1/s]."""
    config, _ = settings_of(name)
    return float(ingest_costs(model, config, moving(), frames // 2, StaticSceneConfig())["frames_per_s"])


class _Stream:
    """A camera that offers frames of a patrol to an engine, stamped with the time since the start."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._images = itertools.cycle(moving())
        self._start = time.monotonic()

    @property
    def now_ns(self) -> int:
        """The stamp of a frame offered now [ns]."""
        return round((time.monotonic() - self._start) * 1e9) + PERIOD_NS

    def offer(self) -> None:
        stamp_ns = self.now_ns
        message = from_rgb(next(self._images), stamp_ns, "camera", Image)
        self._engine.offer(Frame("camera", "camera", stamp_ns, partial(to_rgb, message)))

    def age_s(self) -> float:
        """Age of the newest frame in the memory [s]."""
        return (self.now_ns - self._engine.status().memory.newest_ns) / 1e9


def while_asked(model: VisionLanguageModel, name: str = TINY, seconds: float = 20.0) -> dict[str, Any]:
    """Age of the memory and latency of questions, with one camera at 10 Hz and a client that asks without a pause.

    A question is compared with the same question asked alone, both cached or both uncached. Background prefill is off,
    since the device is never idle here.
    """
    config, _ = settings_of(name)
    engine = Engine(
        EngineConfig(
            sample_fps=1e9 / PERIOD_NS,
            memory=config,
            max_new_tokens=MAX_NEW_TOKENS,
            prefix_cache=PrefixCacheConfig(max_device_share=0.0),
        ),
        lambda: model,
        EngineHooks(info=lambda sentence: None, warn=print),
    )
    engine.start()
    engine.activate()
    try:
        _until(lambda: engine.state is State.READY)
        stream = _Stream(engine)
        alone = _asked_alone(engine, stream, config.csm_slots)
        before = engine.status().frames
        meanwhile, ages_s = _asked_meanwhile(engine, stream, seconds)
        after = engine.status().frames
    finally:
        engine.stop()
    kinds = (("uncached", False), ("cached", True))
    return {
        "age_p95_slots": float(np.quantile(ages_s, 0.95)) * 1e9 / SLOT_NS,
        "questions": len(meanwhile),
        "dropped": after.dropped - before.dropped,
        "ingested": after.ingested - before.ingested,
        "alone_s": {kind: _median(alone, cached) for kind, cached in kinds},
        "meanwhile_s": {kind: _median(meanwhile, cached) for kind, cached in kinds},
        **slowed(alone, meanwhile),
    }


def _asked_alone(engine: Engine, stream: _Stream, csm_slots: int) -> list[Timed]:
    """Fill the memory, then ask a question twice after each of ALONE_SLOTS slots, while no frame is ingested."""
    alone: list[Timed] = []
    for number in range(csm_slots + ALONE_SLOTS):
        for _ in range(2):
            time.sleep(PERIOD_NS / 1e9)
            stream.offer()
            _until(lambda: not engine.status().frames.pending)
        if number >= csm_slots:
            text = QUESTIONS[number % len(QUESTIONS)]
            alone += [_ask(engine, text), _ask(engine, text)]
    return alone


def _asked_meanwhile(engine: Engine, stream: _Stream, seconds: float) -> tuple[list[Timed], list[float]]:
    """Ask for `seconds` while frames arrive. Returns the questions, and samples of the age of the memory [s]."""
    is_over = threading.Event()
    ages_s: list[float] = []

    def offer_frames() -> None:
        due = time.monotonic()
        while not is_over.is_set():
            stream.offer()
            due += PERIOD_NS / 1e9
            is_over.wait(max(0.0, due - time.monotonic()))

    def sample_age() -> None:
        while not is_over.wait(POLL_S):
            ages_s.append(stream.age_s())

    threads = [threading.Thread(target=work) for work in (offer_frames, sample_age)]
    for thread in threads:
        thread.start()
    meanwhile: list[Timed] = []
    end = time.monotonic() + seconds
    time.sleep(1.0)
    ages_s.clear()
    while time.monotonic() < end:
        meanwhile.append(_ask(engine, QUESTIONS[len(meanwhile) % len(QUESTIONS)]))
    is_over.set()
    for thread in threads:
        thread.join()
    return meanwhile, ages_s


def slowed(alone: Sequence[Timed], meanwhile: Sequence[Timed]) -> dict[str, float]:
    """Ratios of the latency of questions during ingest to their median latency alone, and the share above `SLOW`."""
    ratios = []
    for asked in meanwhile:
        same = [one.seconds for one in alone if (one.text, one.cached) == (asked.text, asked.cached)]
        if same:
            ratios.append(asked.seconds / statistics.median(same))
    median, p95, most = np.quantile(ratios, [0.5, 0.95, 1.0]).tolist()
    slow = sum(ratio > SLOW for ratio in ratios) / len(ratios)
    return {"slower_p50": median, "slower_p95": p95, "slower_max": most, "slow_share": slow}


def _ask(engine: Engine, text: str) -> Timed:
    began = time.perf_counter()
    answer: Answer = engine.ask(Question(text)).answer(60.0)
    if answer.error_code is not ErrorCode.NONE:
        raise RuntimeError(f"{answer.error_code.name}: {answer.error_msg}")
    return Timed(text, time.perf_counter() - began, answer.cached_tokens > answer.memory_tokens)


def _median(asked: Sequence[Timed], cached: bool) -> float:
    return statistics.median([one.seconds for one in asked if one.cached is cached] or [float("nan")])


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.001)


def run(model: str = TINY, device: str = "auto", seconds: float = 20.0) -> dict[str, Any]:
    """Run all three measurements. Raises ModelError if the model fails to load."""
    _, loading = settings_of(model)
    set_torch_threads(threads_of(model))
    loaded = load_model(model, device=device, **loading)
    return {
        "model": model,
        "device": str(loaded.device),
        "static_over_moving": static_over_moving(loaded, model),
        "frames_per_s": frames_per_s(loaded, model),
        "while_asked": while_asked(loaded, model, seconds),
    }


def show(result: dict[str, Any]) -> None:
    asked = result["while_asked"]
    print(f"{result['model']} on {result['device']}")
    print(f"  a static slot costs {100 * result['static_over_moving']:.2f} % of a moving one")
    print(f"  {result['frames_per_s']:.1f} frames/s of a moving scene are ingested")
    print(
        f"  at 10 Hz with {asked['questions']} questions meanwhile: newest frame p95 {asked['age_p95_slots']:.2f} slots"
        f" old, {asked['ingested']} frames ingested, {asked['dropped']} dropped"
    )
    for kind, alone_s in asked["alone_s"].items():
        print(f"  {kind} question: {1e3 * alone_s:.1f} ms alone, {1e3 * asked['meanwhile_s'][kind]:.1f} ms")
    print(f"  questions are {asked['slower_p50']:.2f} times as slow, p95 {asked['slower_p95']:.2f},", end=" ")
    print(f"most {asked['slower_max']:.2f}; {100 * asked['slow_share']:.2f} % more than {SLOW} times")
