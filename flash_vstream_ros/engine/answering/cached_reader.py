"""Warm memory: what a prompt begins with is read ahead, in portions, when the worker has nothing else to do.

A question about everything then costs its own tokens, on the newest memory or, where that is allowed, on one that lags.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.memory.time_ids import MemoryClock
from flash_vstream_ros.models.interface import PrefixCache, VisionLanguageModel

from .background_budget import BackgroundBudget
from .request_queue import Question
from .uncached_reader import PrefixCacheConfig, PrefixCacheStatus, StartedAnswer, UncachedReader

RETRY_S = 30.0  # after the device ran out of memory
CHANGES = 8  # of the memory, that its pace is taken from
MIB = 1 << 20


@dataclass(frozen=True, eq=False)
class _Shown:
    """The memory that the prefix is of."""

    version: tuple[int, FlashMemoryConfig, int]
    clock: MemoryClock
    slots_seen: int
    snapshot: MemorySnapshot  # without its tensors, its entries in the order that they are shown in
    tokens: int
    stable: bool


class CachedReader(UncachedReader):
    """Keeps one prefix, for all questions about everything. Owned by the engine's worker; limits may change."""

    _memory: FlashMemory

    def __init__(
        self,
        model: VisionLanguageModel,
        memory: FlashMemory,
        prefix: PrefixCache,
        log: ThrottledLog,
        limits: PrefixCacheConfig,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(model, memory, now)
        self.limits = limits
        self._prefix = prefix
        self._log = log
        self._share = BackgroundBudget(now)
        self._shown: _Shown | None = None
        self._version = memory.version
        self._changes: deque[float] = deque([now()], maxlen=CHANGES + 1)
        self._rest_until = -1.0
        self._failures = 0

    @property
    def figures(self) -> PrefixCacheStatus:
        whole = self._shown is not None and self._prefix.ready
        until_ns = self._shown.snapshot.last_ns if self._shown and whole else 0
        return PrefixCacheStatus(self._prefix.bytes, self._prefix.length, until_ns, self._failures)

    def read(self, question: Question, max_new_tokens: int) -> StartedAnswer | None:
        self.follow()
        if not self._memory.entries or not self._memory.is_covered_by(question.scope):
            return super().read(question, max_new_tokens)
        if not self._lags_little(self.limits.max_lag_s) and not self._show():
            return super().read(question, max_new_tokens)
        shown = self._shown
        assert shown is not None
        newer = self._tail(shown)
        answering, cached_tokens = self._prefix.answer(question.text, max_new_tokens, newer)
        tail = newer.entries if newer else ()
        return StartedAnswer(
            replace(shown.snapshot, entries=shown.snapshot.entries + tail),
            answering,
            memory_tokens=shown.tokens + (self._model.tokens(newer) if newer else 0),
            cached_tokens=cached_tokens,
            lag_slots=self._memory.slots_seen - shown.slots_seen - len(tail),
        )

    def done(self) -> None:
        self._prefix.take_back()
        if self._prefix.bytes > self.limits.max_mib * MIB:
            self.clear()

    def follow(self) -> None:
        before, self._version = self._version, self._memory.version
        if before != self._version:
            self._changes.append(self._now())
        if before[:2] != self._version[:2]:
            self.clear()

    def read_ahead(self) -> float | None:
        if not self.limits.max_device_share or not self._memory.entries:
            return None
        if self._prefix.bytes > self.limits.max_mib * MIB:
            self.clear()
        if self._shown is not None:
            self._prefix.renew()
        goes_on = self._shown is not None and self._prefix.left > 0 and self._lag_s() <= self.limits.max_lag_s
        if not goes_on and self._lags_little(self.limits.max_lag_s / 2):
            return None
        wait_s = max(
            self._rest_until - self._now(),
            0.0 if goes_on else self._worthwhile_in_s(),
            self._share.wait_s(self.limits.max_device_share),
        )
        if wait_s > 0:
            return wait_s
        return self._work(goes_on)

    def clear(self) -> None:
        self._prefix.clear()
        self._shown = None

    def relieve(self) -> bool:
        held = self._prefix.bytes > 0
        self.clear()
        self._rest_until = self._now() + RETRY_S
        super().relieve()
        return held

    def _work(self, goes_on: bool) -> float | None:
        """One unit of it; nothing that goes wrong here costs a frame or an answer."""
        began = self._now()
        try:
            if not goes_on:
                if not self._show():
                    return None
            else:
                self._read_a_portion()
        except Exception as error:
            self._give_up(error)
        self._share.spend(self._now() - began)
        return 0.0

    def _read_a_portion(self) -> None:
        most = self.limits.max_chunk_tokens
        self.read_portion(self._prefix, min(self.pace.portion(self.limits.chunk_s), most))

    def _show(self) -> bool:
        """Let the prefix be of the newest memory; False where it may not be."""
        if self._now() < self._rest_until or not self.limits.max_mib:
            return False
        if (need := self._prefix.bytes_for(self._memory.tokens)) > self.limits.max_mib * MIB:
            self._log.report(
                "warm",
                f"questions are answered cold: warm memory needs {need / MIB:.0f} MiB,"
                f" and prefix_cache.max_mib allows {self.limits.max_mib}",
            )
            self.clear()
            return False
        snapshot, self._shown = self._memory.snapshot(), None
        try:
            order = self._prefix.show(snapshot, self.limits.stable_order)
        except torch.OutOfMemoryError as error:
            self._give_up(error)
            return False
        self._shown = _Shown(
            self._memory.version,
            self._memory.clock,
            self._memory.slots_seen,
            replace(snapshot.without_features(), entries=tuple(snapshot.entries[place] for place in order)),
            self._model.tokens(snapshot),
            self.limits.stable_order,
        )
        return True

    def _give_up(self, error: Exception) -> None:
        self._failures += 1
        no_room = isinstance(error, torch.OutOfMemoryError)
        why = f"the device ran out of memory: {error}" if no_room else traceback.format_exc()
        self._log.report("warm", f"questions are answered cold for {RETRY_S:.0f} s, as reading ahead failed: {why}")
        self.relieve()

    def _tail(self, shown: _Shown) -> MemorySnapshot | None:
        if shown.version == self._memory.version or not self.limits.tail_slots:
            return None
        newer = self._memory.snapshot_after(shown.clock, self.limits.tail_slots)
        return None if newer.empty else newer

    def _lag_s(self) -> float:
        """How far the memory has gone on since the prefix was of it, in message time [s]; inf: it is another one."""
        shown, version = self._shown, self._memory.version
        if shown is None or shown.version[:2] != version[:2] or shown.stable != self.limits.stable_order:
            return float("inf")
        if shown.version == version:
            return 0.0
        lag_s = (self._memory.newest[0] - shown.clock.newest_ns) / 1e9
        return max(lag_s, 1e-9)  # cameras out of step: newer all the same

    def _lags_little(self, bound_s: float) -> bool:
        """Whether the prefix can be asked: of the newest memory in any case, of one before when it is whole."""
        lag_s = self._lag_s()
        return lag_s == 0.0 or (lag_s <= bound_s and self._prefix.ready)

    def _worthwhile_in_s(self) -> float:
        """Until it is likely that the memory stays as it is for as long as reading it takes [s]."""
        if not self.pace.known:
            return 0.0
        expected_s = self.pace.seconds(self._memory.tokens)
        interval_s = (self._changes[-1] - self._changes[0]) / max(1, len(self._changes) - 1)
        quiet_s = self._now() - self._changes[-1]
        if expected_s <= max(interval_s, self.limits.max_lag_s):
            return 0.0
        return expected_s - quiet_s


def reader_of(
    model: VisionLanguageModel, memory: Memory, log: ThrottledLog, limits: PrefixCacheConfig
) -> UncachedReader:
    """A warm one for a Flash Memory, where the model can keep what it has read."""
    prefix_cache: Callable[[], PrefixCache] | None = getattr(model, "prefix_cache", None)
    if prefix_cache is None or not isinstance(memory, FlashMemory):
        return UncachedReader(model, memory)
    return CachedReader(model, memory, prefix_cache(), log, limits)
