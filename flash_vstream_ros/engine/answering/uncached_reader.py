"""How a question reads the memory: the whole prompt, or its own tokens only where the rest was read before."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.models.interface import Generation, PrefixCache, VisionLanguageModel

from .request_queue import Question
from .throughput import PrefillThroughput


@dataclass(frozen=True, eq=False)
class StartedAnswer:
    """An answer about to be made, and what it is made from."""

    shown: MemorySnapshot  # its tensors may be missing, its entries are those of `answering.attention`
    answering: Generation
    memory_tokens: int  # visual tokens that are shown
    cached_tokens: int = 0  # tokens of the prompt that had been read before
    lag_slots: int = 0  # slots that the memory took in and the answer does not know of


@dataclass(frozen=True)
class PrefixCacheConfig:
    """What keeping the memory read may cost, and how far what is read may lag behind."""

    max_lag_s: float = 0.0  # of message time that the newest slots of a warm answer may lag; 0: not at all
    tail_slots: int = 0  # slots newer than the warm memory that are shown after it, where it lags
    stable_order: bool = False  # what is shown stays where it stands, so that less has to be read again
    max_device_share: float = 0.5  # of the worker's time that reading ahead may take; 0: none
    chunk_s: float = 0.03  # that reading a portion shall take, between two frames or questions
    max_chunk_tokens: int = 2048  # most tokens of a portion
    max_mib: int = 1024  # that the keys, values and embeddings may take; 0: all questions are cold


@dataclass(frozen=True)
class PrefixCacheStatus:
    """The state of the warm memory. `until_ns` is the stamp of its newest frame, 0 where it is not whole."""

    bytes: int = 0
    tokens: int = 0
    until_ns: int = 0
    failures: int = 0


class UncachedReader:
    """Each question reads the whole prompt: how any model is asked. Owned by the engine's worker."""

    limits = PrefixCacheConfig()

    def __init__(self, model: VisionLanguageModel, memory: Memory, now: Callable[[], float] = time.monotonic) -> None:
        self.chunk_s = math.inf  # that reading a portion of a question's prompt may take
        self.pace = PrefillThroughput()
        self._model = model
        self._memory = memory
        self._now = now

    @property
    def figures(self) -> PrefixCacheStatus:
        return PrefixCacheStatus()

    def read(self, question: Question, max_new_tokens: int) -> StartedAnswer | None:
        """Begin to answer; None where the memory holds nothing of what is asked about. `done` before the next."""
        snapshot = self._memory.snapshot(question.scope)
        if snapshot.empty:
            return None
        answering = self._model.answer(snapshot, question.text, max_new_tokens)
        return StartedAnswer(snapshot, answering, self._model.tokens(snapshot))

    def read_on(self, answering: Generation) -> bool:
        """Read a portion of a prompt that would take too long at once. False: `next` reads what is left."""
        if math.isinf(self.chunk_s) or answering.left <= (tokens := self.pace.portion(self.chunk_s)):
            return False
        self.read_portion(answering, tokens)
        return True

    def read_portion(self, prompt: Generation | PrefixCache, tokens: int) -> None:
        """Read so many tokens, and learn from it how fast the model reads."""
        began, left = self._now(), prompt.left
        prompt.read(tokens)
        if self._model.device.type == "cuda":
            torch.cuda.synchronize(self._model.device)  # else all of them would be queued at once
        self.pace.add(self._now() - began, left - prompt.left)

    def done(self) -> None:
        """The answer that was begun is over."""

    def follow(self) -> None:
        """See what became of the memory, and let go at once of what it has forgotten."""

    def read_ahead(self) -> float | None:
        """Do a unit of work for questions to come. Seconds until there may be more to do; None: not by itself."""
        return None

    def clear(self) -> None:
        """Keep nothing of what was read."""

    def relieve(self) -> bool:
        """Keep nothing for a while: the device has run out of memory. Whether that made room."""
        torch.cuda.empty_cache()
        return False
