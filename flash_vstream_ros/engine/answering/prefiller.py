"""Starts answers and prefills their whole prompts. Needs no prefix cache, so it works with any model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.memory.time_ids import MemoryClock
from flash_vstream_ros.models.interface import Generation, PrefixCache

from .evidence_ranking import strongest_first
from .prefix_cache_config import PrefixCacheConfig, PrefixCacheStatus
from .question import Question
from .search import prompt_of
from .throughput import PrefillThroughput


@dataclass(frozen=True, eq=False)
class PreparedAnswer:
    """An answer that is about to be generated, and the memory that it is generated from."""

    snapshot: MemorySnapshot  # without tensors if a prefix cache holds them; its entries match `generation.attention`
    generation: Generation
    scope: Scope  # of the snapshot
    clock: MemoryClock  # of the snapshot
    memory_tokens: int  # visual tokens in the prompt
    cached_tokens: int = 0  # prompt tokens found in the prefix cache
    lag_slots: int = 0  # slots of the memory that are not in the prompt


class Prefiller:
    """Starts answers and prefills the whole prompt of each. Owned by the engine's worker.

    The methods that maintain a prefix cache do nothing here; CachingPrefiller overrides them.

    `config` may change between two questions. `chunk_s` limits the duration of a chunk of a question's prompt.
    """

    def __init__(
        self, context: Context, config: PrefixCacheConfig | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config or PrefixCacheConfig()
        self.chunk_s = math.inf
        self.throughput = PrefillThroughput()
        self._model = context.model
        self._memory = context.memory
        self._now = now

    @property
    def status(self) -> PrefixCacheStatus:
        return PrefixCacheStatus()

    def start(self, question: Question, max_new_tokens: int) -> PreparedAnswer | None:
        """Start an answer; None if nothing in the memory is in the question's scope. Call `end_answer` afterwards."""
        return self.start_from(self._memory, question, max_new_tokens)

    def start_from(self, memory: Memory, question: Question, max_new_tokens: int) -> PreparedAnswer | None:
        """As `start`, but from another memory. Ages are counted from the newest frame of the engine's memory."""
        snapshot = memory.snapshot(question.scope)
        if snapshot.empty:
            return None
        if memory is not self._memory:
            snapshot = replace(snapshot, newest_ns=max(snapshot.newest_ns, self._memory.newest[1]))
        generation = self._model.answer(snapshot, prompt_of(question), max_new_tokens)
        return PreparedAnswer(snapshot, generation, question.scope, memory.clock, self._model.tokens(snapshot))

    def look_again(self, prepared: PreparedAnswer, tokens: int) -> PreparedAnswer:
        """Start the second look: prefill, then insert details of the most attended entries before the question.

        At most `tokens` visual tokens are added. Returns `prepared` unchanged if the memory stores no further details.
        """
        generation, entries = prepared.generation, prepared.snapshot.entries
        if generation.remaining_tokens:
            self.prefill(generation, generation.remaining_tokens)
        details = self._memory.second_look(
            strongest_first(entries, generation.attention), tokens, prepared.scope, prepared.clock
        )
        details = replace(details, newest_ns=prepared.snapshot.newest_ns)  # ages are those of the first look
        if details.empty or not self._model.look_again(generation, details):
            return prepared
        return replace(
            prepared,
            snapshot=replace(prepared.snapshot, entries=entries + details.entries),
            memory_tokens=prepared.memory_tokens + self._model.tokens(details),
        )

    def prefill_chunk(self, generation: Generation) -> bool:
        """Prefill a chunk of a prompt that is too long for `chunk_s`. Returns False if the rest fits into one chunk."""
        if math.isinf(self.chunk_s):
            return False
        tokens = self.throughput.chunk_tokens(self.chunk_s)
        if generation.remaining_tokens <= tokens:
            return False
        self.prefill(generation, tokens)
        return True

    @property
    def background_chunk_tokens(self) -> int:
        """Size of a chunk of background work, for which frames and questions wait."""
        return min(self.throughput.chunk_tokens(self.config.chunk_s), self.config.max_chunk_tokens)

    def prefill(self, prompt: Generation | PrefixCache, tokens: int) -> None:
        """Prefill `tokens` of a prompt, and update the throughput estimate."""
        began, before = self._now(), prompt.remaining_tokens
        prompt.prefill(tokens)
        if self._model.device.type == "cuda":
            torch.cuda.synchronize(self._model.device)  # otherwise all chunks would be queued at once
        self.throughput.add(self._now() - began, before - prompt.remaining_tokens)

    def end_answer(self) -> None:
        """End the answer that was started last."""

    def note_memory_change(self) -> None:
        """Call after every change of the memory: forgotten parts are dropped from the prefix cache at once."""

    def background_prefill(self) -> float | None:
        """Run one unit of prefill for future questions.

        Returns the time [s] after which to call again; None: not before the memory changes.
        """
        return None

    def clear(self) -> None:
        """Clear the prefix cache, if there is one."""

    def free_device_memory(self) -> bool:
        """Free cached memory after the device ran out of it. Returns True if a prefix cache was freed."""
        torch.cuda.empty_cache()
        return False
