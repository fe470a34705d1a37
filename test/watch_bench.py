"""Watches of one small memory, on one thread with a simulated clock, for tests of them."""

from __future__ import annotations

import functools
from dataclasses import replace

from memory_slots import SECOND, features_of, slot_of

from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.newest_frames import NewestFrames
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.engine.watches.watch import Watch, WatchConfig, WatchEvent
from flash_vstream_ros.engine.watches.watches import Watches
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.qwen2_vl import Qwen2VL

TEXT = "Is it there?"
LIMITS = WatchConfig()
ALWAYS = Watch("it", TEXT, on=1e-6, off=1e-6)  # thresholds that any probability reaches

encoded = functools.cache(features_of)  # for all tests


class Bench:
    """Watches of one small memory, on one thread with a simulated clock."""

    def __init__(self, model: Qwen2VL, config: WatchConfig = LIMITS, cameras: tuple[str, ...] = ("camera",)):
        self.model, self.features = model, encoded(model)
        self.memory = FlashMemory(FlashMemoryConfig(csm_slots=5, dam_slots=3))
        self.log: list[str] = []
        self.events: list[WatchEvent] = []
        self.now, self.pass_s = 1000.0, 0.0
        context = Context(model, self.memory, ThrottledLog(self.log.append, period_s=0.0))
        self.frames = NewestFrames(lambda: self.now)
        self.watches = Watches(context, cameras, config, self._chunk, self.events.append, lambda: self.now, self.frames)
        self.slots = 0

    def _chunk(self) -> int:
        self.now += self.pass_s
        return 64

    def see(self, image: int = 0, camera: str = "camera", is_received: bool = True) -> None:
        """A slot of one of the six images. One that is not received was in the memory from the start."""
        slot = slot_of(self.model, self.features, self.slots, camera)
        low, detail = self.features[image]
        self.memory.insert(replace(slot, low=low, detail=detail, thumbnail=b"jpeg"))
        self.slots += 1
        if is_received:
            self.frames.note(camera, slot.last_ns)

    def check(self, seconds: float = 1.0) -> None:
        """Let `seconds` pass, and check whatever is due."""
        self.now += seconds
        while self.watches.check() == 0.0:
            pass

    def probability(self) -> float:
        """Probability of yes for the newest slot, from an uncached prompt."""
        newest_ns = self.memory.newest[1]
        snapshot = self.memory.snapshot(Scope(("camera",), newest_ns - SECOND, newest_ns))
        return self.model.answer(snapshot, TEXT, 1).yes_no().probability


def probabilities(model: Qwen2VL, images: tuple[int, ...], camera: str = "camera") -> list[float]:
    """What a watch finds in a series of images."""
    bench = Bench(model, cameras=(camera,))
    bench.watches.add(Watch("it", TEXT))
    found = []
    for image in images:
        bench.see(image, camera)
        bench.check()
        found.append(bench.watches.status.watches[0].probability)
    return found
