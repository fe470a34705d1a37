"""Starts answers from a prefix cache, which is prefilled in chunks while the worker is idle.

For a question about the whole memory, only the tokens of the question are prefilled. The cache may lag behind the
memory by `max_lag_s`.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.scope import EVERYTHING
from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.memory.time_ids import MemoryClock
from flash_vstream_ros.models.interface import PrefixCache

from .background_budget import BackgroundBudget
from .prefiller import Prefiller, PreparedAnswer
from .prefix_cache_config import PrefixCacheConfig, PrefixCacheStatus
from .question import Question
from .search import prompt_of

RETRY_S = 30.0  # pause after a failure
RATE_WINDOW = 8  # number of memory changes that the estimate of their rate uses
MIB = 1 << 20


@dataclass(frozen=True, eq=False)
class _Cached:
    """The memory in the prefix cache."""

    version: tuple[int, FlashMemoryConfig, int]  # FlashMemory.version
    clock: MemoryClock
    slots_seen: int
    snapshot: MemorySnapshot  # without tensors, its entries in prompt order
    tokens: int
    stable_order: bool


class CachingPrefiller(Prefiller):
    """A Prefiller with one prefix cache, for all questions about the whole memory. Owned by the engine's worker."""

    _memory: FlashMemory

    def __init__(
        self,
        context: Context,
        prefix_cache: PrefixCache,
        config: PrefixCacheConfig,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(context, config, now)
        assert isinstance(context.memory, FlashMemory), "a prefix cache needs a Flash Memory"
        self._prefix_cache = prefix_cache
        self._log = context.log
        self._budget = BackgroundBudget(now)
        self._cached: _Cached | None = None
        self._version = self._memory.version
        self._change_times: deque[float] = deque([now()], maxlen=RATE_WINDOW + 1)
        self._paused_until = -1.0
        self._failures = 0

    @property
    def status(self) -> PrefixCacheStatus:
        cache = self._prefix_cache
        until_ns = self._cached.snapshot.last_ns if self._cached and cache.ready else 0
        return PrefixCacheStatus(cache.bytes, cache.cached_tokens, until_ns, self._failures)

    def start(self, question: Question, max_new_tokens: int) -> PreparedAnswer | None:
        self.note_memory_change()
        if not self._memory.entries or not self._memory.is_covered_by(question.scope):
            return super().start(question, max_new_tokens)
        if not self._is_usable(self.config.max_lag_s) and not self._set_snapshot():
            return super().start(question, max_new_tokens)
        cached = self._cached
        assert cached is not None
        newer = self._newer_slots(cached)
        generation, cached_tokens = self._prefix_cache.answer(prompt_of(question), max_new_tokens, newer)
        tail = newer.entries if newer else ()
        return PreparedAnswer(
            replace(cached.snapshot, entries=cached.snapshot.entries + tail),
            generation,
            EVERYTHING,
            cached.clock,
            memory_tokens=cached.tokens + (self._model.tokens(newer) if newer else 0),
            cached_tokens=cached_tokens,
            lag_slots=self._memory.slots_seen - cached.slots_seen - len(tail),
        )

    def end_answer(self) -> None:
        self._prefix_cache.end_answer()
        self._enforce_size_limit()

    def note_memory_change(self) -> None:
        before, self._version = self._version, self._memory.version
        if before != self._version:
            self._change_times.append(self._now())
        if before[:2] != self._version[:2]:
            self.clear()

    def background_prefill(self) -> float | None:
        if not self.config.max_device_share or not self._memory.entries:
            return None
        self._enforce_size_limit()
        if self._cached is not None:
            self._prefix_cache.update_instruction()
        is_unfinished = self._cached is not None and self._prefix_cache.remaining_tokens > 0
        resume = is_unfinished and self._lag_s() <= self.config.max_lag_s
        if not resume and self._is_usable(self.config.max_lag_s / 2):
            return None
        wait_s = max(
            self._paused_until - self._now(),
            0.0 if resume else self._settled_in_s(),
            self._budget.wait_s(self.config.max_device_share),
        )
        if wait_s > 0:
            return wait_s
        return self._run_unit(resume)

    def clear(self) -> None:
        self._prefix_cache.clear()
        self._cached = None

    def free_device_memory(self) -> bool:
        is_freed = self._prefix_cache.bytes > 0
        self.clear()
        self._paused_until = self._now() + RETRY_S
        super().free_device_memory()
        return is_freed

    def _enforce_size_limit(self) -> None:
        if self._prefix_cache.bytes > self.config.max_mib * MIB:
            self.clear()

    def _run_unit(self, resume: bool) -> float | None:
        """Set the snapshot, or prefill one chunk. An error pauses the cache and affects no frame and no answer."""
        began = self._now()
        try:
            if resume:
                self.prefill(self._prefix_cache, self.background_chunk_tokens)
            elif not self._set_snapshot():
                return None
        except Exception as error:
            self._pause(error)
        self._budget.spend(self._now() - began)
        return 0.0

    def _set_snapshot(self) -> bool:
        """Start the prefix cache again with the newest memory. Returns False if that is not possible now."""
        if self._now() < self._paused_until or not self.config.max_mib:
            return False
        if (need := self._prefix_cache.bytes_for(self._memory.tokens)) > self.config.max_mib * MIB:
            self._log.report(
                "prefix cache",
                f"prefix cache off: it needs {need / MIB:.0f} MiB, and prefix_cache.max_mib allows "
                f"{self.config.max_mib}; raise it, or lower memory.tokens",
            )
            self.clear()
            return False
        snapshot, self._cached = self._memory.snapshot(), None
        try:
            order = self._prefix_cache.set_snapshot(snapshot, self.config.stable_order)
        except torch.OutOfMemoryError as error:
            self._pause(error)
            return False
        self._cached = _Cached(
            self._memory.version,
            self._memory.clock,
            self._memory.slots_seen,
            replace(snapshot.without_features(), entries=tuple(snapshot.entries[place] for place in order)),
            self._model.tokens(snapshot),
            self.config.stable_order,
        )
        return True

    def _pause(self, error: Exception) -> None:
        self._failures += 1
        is_oom = isinstance(error, torch.OutOfMemoryError)
        why = f"the device ran out of memory: {error}" if is_oom else traceback.format_exc()
        self._log.report("prefix cache", f"prefix cache off for {RETRY_S:.0f} s, as prefill failed: {why}")
        self.free_device_memory()

    def _newer_slots(self, cached: _Cached) -> MemorySnapshot | None:
        if cached.version == self._memory.version or not self.config.tail_slots:
            return None
        newer = self._memory.snapshot_after(cached.clock, self.config.tail_slots)
        return None if newer.empty else newer

    def _lag_s(self) -> float:
        """Lag of the prefix cache behind the memory, in message time [s]; inf if the cache cannot be used at all."""
        cached, version = self._cached, self._memory.version
        if cached is None or cached.version[:2] != version[:2] or cached.stable_order != self.config.stable_order:
            return float("inf")
        if cached.version == version:
            return 0.0
        lag_s = (self._memory.newest[0] - cached.clock.newest_ns) / 1e9
        return max(lag_s, 1e-9)  # not 0: a camera that lags behind the others changes the memory without a newer stamp

    def _is_usable(self, max_lag_s: float) -> bool:
        """Returns True if a question may use the cache. A cache of an older memory must be complete."""
        lag_s = self._lag_s()
        return lag_s == 0.0 or (lag_s <= max_lag_s and self._prefix_cache.ready)

    def _settled_in_s(self) -> float:
        """Time [s] until the memory is unlikely to change during its prefill."""
        if not self.throughput.known:
            return 0.0
        expected_s = self.throughput.seconds(self._memory.tokens)
        interval_s = (self._change_times[-1] - self._change_times[0]) / max(1, len(self._change_times) - 1)
        quiet_s = self._now() - self._change_times[-1]
        if expected_s <= max(interval_s, self.config.max_lag_s):
            return 0.0
        return expected_s - quiet_s


def prefiller_for(context: Context, config: PrefixCacheConfig) -> Prefiller:
    """A CachingPrefiller for a Flash Memory and a model with a prefix cache; else a Prefiller."""
    prefix_cache = context.model.prefix_cache() if isinstance(context.memory, FlashMemory) else None
    if prefix_cache is None:
        return Prefiller(context, config)
    return CachingPrefiller(context, prefix_cache, config)
