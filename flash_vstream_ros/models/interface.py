"""What the engine asks of a vision-language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from flash_vstream_ros.memory.slot import Grid, MemorySnapshot

from .model_kind import ModelKind


class ModelError(RuntimeError):
    """A model that cannot be loaded or run; the sentence names the file or setting and says what to do."""


class Token(NamedTuple):
    """One generated token."""

    id: int
    text: str  # what this token adds to the decoded answer: whole characters only, so it may be ""
    probability: float  # among the tokens that may be generated


class Generation(Protocol):
    """One question on one snapshot. The first `next` runs what is left of the prompt, every further one costs a token.

    Ends (StopIteration) at the end-of-turn token or after `max_new_tokens`. Not thread safe: the thread that
    owns the model iterates it and reads `attention`.
    """

    def __iter__(self) -> Iterator[Token]: ...

    def __next__(self) -> Token: ...

    @property
    def left(self) -> int:
        """Tokens of the prompt that are still to be read."""
        ...

    def read(self, tokens: int) -> None:
        """Let the model read up to so many more tokens of the prompt. The answer does not depend on it."""
        ...

    @property
    def attention(self) -> Sequence[float]:
        """Share of its attention that the first generated token pays to each of `snapshot.entries`.

        Mean over layers and heads; sums to at most 1, zeros before the first token.
        """
        ...


class PrefixCache(Protocol):
    """What a language model keeps of a prompt's beginning, [text, DAM, CSM, text], so that a question costs its own
    tokens only. Answers are those of `VisionLanguageModel.answer`. One owner; not thread safe.

    Whatever raises leaves it unusable until `clear`.
    """

    @property
    def ready(self) -> bool:
        """Whether all that the snapshot shows has been read."""
        ...

    @property
    def length(self) -> int:
        """Tokens that a question reuses now."""
        ...

    @property
    def left(self) -> int:
        """Tokens of the beginning that are still to be read."""
        ...

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        ...

    def bytes_for(self, visual_tokens: int) -> int:
        """Memory that it takes for a snapshot of so many tokens."""
        ...

    def show(self, snapshot: MemorySnapshot, stable: bool = False) -> tuple[int, ...]:
        """Be the beginning of prompts on `snapshot`, whose tensors it does not keep. Equal leading tokens stay read.

        Returns the places in `snapshot.entries` of what it shows, in its order: that of the snapshot or, `stable`, what
        was shown before in the order of then, and what is new after that.
        """
        ...

    def renew(self) -> None:
        """Follow a change of the model's instruction."""
        ...

    def read(self, tokens: int) -> None:
        """Let the model read up to so many more tokens."""
        ...

    def answer(self, question: str, max_new_tokens: int, newer: MemorySnapshot | None = None) -> tuple[Generation, int]:
        """Greedy answer, and how many tokens of its prompt had been read before; lends the answer what was read.

        `newer` shows slots, DAM alone, that follow those of the snapshot. `attention` is on the entries in the order
        of `show`, then on those of `newer`. Until `take_back` nothing else may be done with it but `clear`.
        """
        ...

    def take_back(self) -> None:
        """End the answer that has it, if any, and cut off what that added."""
        ...

    def clear(self) -> None:
        """Let go of everything, and overwrite it, but for what an answer has that is still being made."""
        ...


class VisionLanguageModel(Protocol):
    """Encodes slots of two frames and answers questions on a memory of them; one thread at a time.

    A model may also have `prefix_cache() -> PrefixCache`, which gives an empty one; without it all questions are cold.
    """

    name: str
    kind: ModelKind  # how much its answers mean
    attention_kernel: str  # the kernel in use and why, for the log
    device: torch.device
    dtype: torch.dtype
    instruction: str  # put before every question; what is set holds from the next question on

    def grid(self, height: int, width: int) -> Grid:
        """The patch grid for camera frames of this size in pixels; ValueError when too small or too narrow."""
        ...

    def encode(self, frames: Sequence[np.ndarray], grid: Grid) -> tuple[Tensor, Tensor]:
        """Two RGB uint8 frames [height, width, 3] of any size, fitted to `grid`.

        Returns low [low_patches, dim], before the merger, and detail [detail_tokens, width], merged.
        """
        ...

    def prepare(self, frame: np.ndarray, grid: Grid) -> Tensor:
        """One RGB uint8 frame [height, width, 3] as `encode_slots` takes it, on the device; from any thread.

        Resampling may be quicker than in `encode`, which does as published.
        """
        ...

    def encode_slots(self, slots: Sequence[Sequence[Tensor]], grid: Grid) -> list[tuple[Tensor, Tensor]]:
        """What `encode` returns of each of some slots of two prepared frames, in one pass."""
        ...

    def answer(self, snapshot: MemorySnapshot, question: str, max_new_tokens: int) -> Generation:
        """Greedy answer; ValueError for an empty snapshot or one of another shape than was encoded."""
        ...

    def tokens(self, snapshot: MemorySnapshot) -> int:
        """Number of visual tokens that the snapshot puts into the prompt."""
        ...
