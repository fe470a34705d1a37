"""A caching prefiller of a small memory, with a clock of its own, and a plain one to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from memory_slots import features_of, slot_of
from tiny_engine import CONFIG

from flash_vstream_ros.engine.answering.caching_prefiller import RETRY_S, CachingPrefiller
from flash_vstream_ros.engine.answering.prefiller import Prefiller, PreparedAnswer
from flash_vstream_ros.engine.answering.prefix_cache_config import PrefixCacheConfig
from flash_vstream_ros.engine.answering.question import Answer, Question
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.qwen2_vl import Qwen2VL

EAGER = PrefixCacheConfig(max_device_share=1.0)
ON_DEMAND = PrefixCacheConfig(max_device_share=0.0)
UNCACHED = PrefixCacheConfig(max_mib=0)
CONFIG = replace(CONFIG, prefix_cache=EAGER)


@pytest.fixture(scope="module")
def model() -> Qwen2VL:
    model = load_model("tiny-random", device="cpu", max_pixels=112 * 112)
    assert isinstance(model, Qwen2VL)
    return model


def is_cached(engine: Engine) -> bool:
    """Whether the newest memory is prefilled completely."""
    status = engine.status()
    return status.memory.entries > 0 and status.prefix_cache.until_ns == status.memory.last_ns


def assert_same(uncached: Answer, cached: Answer) -> None:
    """Assert that two replies are equal, apart from times and cache statistics."""
    unlike = {
        "token_probability": 0.0,
        "confidence": 0.0,
        "evidence": (),
        "cached_tokens": 0,
        "time_to_first_token_s": 0.0,
        "duration_s": 0.0,
    }
    assert replace(uncached, **unlike) == replace(cached, **unlike)
    assert cached.token_probability == pytest.approx(uncached.token_probability, abs=1e-5)
    assert cached.confidence == pytest.approx(uncached.confidence, abs=1e-5)
    assert [evidence.relevance for evidence in cached.evidence] == pytest.approx(
        [evidence.relevance for evidence in uncached.evidence], abs=1e-5
    )
    assert uncached.evidence


class Counted:
    """A prefix cache that counts its calls and can fail, or take time on the test's clock."""

    def __init__(self, prefix: Any) -> None:
        self._prefix = prefix
        self.error: Exception | None = None
        self.at = "prefill"
        self.read_s = 0.0
        self.shown, self.chunks = 0, 0
        self.now = 0.0

    def __getattr__(self, name: str) -> Any:
        if name == self.at and self.error is not None:
            raise self.error
        return getattr(self._prefix, name)

    def set_snapshot(self, snapshot: Any, stable: bool) -> Any:
        self.shown += 1
        return self.__getattr__("set_snapshot")(snapshot, stable)

    def prefill(self, tokens: int) -> None:
        self.chunks += 1
        self.now += self.read_s
        self.__getattr__("prefill")(tokens)


class Bench:
    """A prefiller of a small memory, on one thread with a simulated clock."""

    def __init__(self, model: Qwen2VL, limits: PrefixCacheConfig, slots: int = 7, **memory: Any) -> None:
        self.model, self.features = model, features_of(model)
        sizes = {"csm_slots": 5, "dam_slots": 3, **memory}
        self.memory = FlashMemory(FlashMemoryConfig(**sizes))
        self.log_lines: list[str] = []
        self.prefix = Counted(model.prefix_cache())
        log = ThrottledLog(self.log_lines.append, period_s=0.0)
        context = Context(model, self.memory, log)
        self.prefiller = CachingPrefiller(context, self.prefix, limits, lambda: self.prefix.now)  # type: ignore[arg-type]
        self.uncached = Prefiller(context)
        self.slots = 0
        self.see(slots)

    def see(self, slots: int) -> None:
        for _ in range(slots):
            self.memory.insert(slot_of(self.model, self.features, self.slots))
            self.slots += 1
        self.prefiller.note_memory_change()

    def warm_up(self) -> None:
        while (wait_s := self.prefiller.background_prefill()) is not None:
            assert wait_s < RETRY_S
            self.prefix.now += wait_s + 1e-6

    def asked(self, text: str = "Where?", **bounds: Any) -> tuple[PreparedAnswer | None, list[tuple[int, str]]]:
        reading = self.prefiller.start(Question(text, Scope(**bounds)), 4)
        tokens = [(token.id, token.text) for token in reading.generation] if reading else []
        self.prefiller.end_answer()
        return reading, tokens

    def asked_uncached(
        self, text: str = "Where?", **bounds: Any
    ) -> tuple[PreparedAnswer | None, list[tuple[int, str]]]:
        reading = self.uncached.start(Question(text, Scope(**bounds)), 4)
        return reading, [(token.id, token.text) for token in reading.generation] if reading else []


def chunks_of(prefiller: Prefiller, reading: PreparedAnswer, between: Callable[[], object] = lambda: None) -> int:
    """Number of chunks in which the prompt is prefilled before the first token."""
    chunks = 0
    while prefiller.prefill_chunk(reading.generation):
        chunks += 1
        between()
    return chunks


def shown_of(reading: PreparedAnswer | None) -> Any:
    return reading and (reading.snapshot.entries, reading.memory_tokens, reading.generation.attention)
