"""What the engine asks of a vision-language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from flash_vstream_ros.memory.slot import Grid, MemorySnapshot


class ModelError(RuntimeError):
    """A model that cannot be loaded or run; the sentence names the file or setting and says what to do."""


class Token(NamedTuple):
    """One generated token."""

    id: int
    text: str  # what this token adds to the decoded answer: whole characters only, so it may be ""
    probability: float  # among the tokens that may be generated


class Answering(Protocol):
    """One question on one snapshot. The first `next` runs the whole prompt, every further one costs one token.

    Ends (StopIteration) at the end-of-turn token or after `max_new_tokens`. Not thread safe: the thread that
    owns the model iterates it and reads `attention`.
    """

    def __iter__(self) -> Iterator[Token]: ...

    def __next__(self) -> Token: ...

    @property
    def attention(self) -> Sequence[float]:
        """Share of its attention that the first generated token pays to each of `snapshot.entries`.

        Mean over layers and heads; sums to at most 1, zeros before the first token.
        """
        ...


class VisionLanguageModel(Protocol):
    """Encodes slots of two frames and answers questions on a memory of them; one thread at a time."""

    name: str
    trained: bool  # False: random weights, answers mean nothing
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

    def answer(self, snapshot: MemorySnapshot, question: str, max_new_tokens: int) -> Answering:
        """Greedy answer; ValueError for an empty snapshot or one of another shape than was encoded."""
        ...

    def tokens(self, snapshot: MemorySnapshot) -> int:
        """Number of visual tokens that the snapshot puts into the prompt."""
        ...
