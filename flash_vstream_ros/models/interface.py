"""Interface of a vision-language model, as the engine uses it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from flash_vstream_ros.memory.slot import Grid, MemorySnapshot
from flash_vstream_ros.memory.star import AbstractAttention, StarConfig

from .confidence import Calibration
from .model_kind import ModelKind


class ModelError(RuntimeError):
    """A model that cannot be loaded or run; the sentence names the file or setting and says what to do."""


class Token(NamedTuple):
    """One generated token."""

    id: int
    text: str  # text added to the decoded answer: whole characters only, so it may be ""
    probability: float  # among the tokens that may be generated


class Generation(Protocol):
    """One question on one snapshot. The first `next` prefills the rest of the prompt, later ones decode one token each.

    Ends (StopIteration) at the end-of-turn token or after `max_new_tokens`. Not thread safe: the thread that
    owns the model iterates it and reads `attention`.
    """

    def __iter__(self) -> Iterator[Token]: ...

    def __next__(self) -> Token: ...

    @property
    def remaining_tokens(self) -> int:
        """Prompt tokens that are not prefilled yet."""
        ...

    def prefill(self, tokens: int) -> None:
        """Prefill up to `tokens` more tokens of the prompt. The answer does not depend on the chunk size."""
        ...

    @property
    def attention(self) -> Sequence[float]:
        """Share of its attention that the last prompt token pays to each of `snapshot.entries`.

        Mean over layers and heads; sums to at most 1, zeros until the prompt is prefilled.
        """
        ...


class PrefixCache(Protocol):
    """KV cache of the prompt up to the question, [text, DAM, CSM, text], so that a question costs its own tokens only.

    Answers equal those of `VisionLanguageModel.answer`. One owner; not thread safe. After any exception it is unusable
    until `clear`.
    """

    @property
    def ready(self) -> bool:
        """Returns True if the whole snapshot is prefilled."""
        ...

    @property
    def cached_tokens(self) -> int:
        """Tokens that a question would reuse now."""
        ...

    @property
    def remaining_tokens(self) -> int:
        """Tokens of the prefix that are not prefilled yet."""
        ...

    @property
    def bytes(self) -> int:
        """Device memory in use."""
        ...

    def bytes_for(self, visual_tokens: int) -> int:
        """Device memory needed for a snapshot of `visual_tokens`."""
        ...

    def set_snapshot(self, snapshot: MemorySnapshot, stable: bool = False) -> tuple[int, ...]:
        """Make `snapshot` the memory in the prefix. Leading tokens equal to those before stay cached.

        Returns places in `snapshot.entries`, in prompt order: that of the snapshot or, if `stable`, first the entries
        that were in the prefix already, in their former order, then the new ones. Keeps none of the snapshot's tensors.
        """
        ...

    def update_instruction(self) -> None:
        """Adopt the model's current instruction."""
        ...

    def prefill(self, tokens: int) -> None:
        """Prefill up to `tokens` more tokens of the prefix."""
        ...

    def answer(self, question: str, max_new_tokens: int, newer: MemorySnapshot | None = None) -> tuple[Generation, int]:
        """Start a greedy answer that uses the cache. Returns it and the number of its prompt tokens that were cached.

        `newer` holds slots, DAM alone, that follow those of the snapshot. `attention` is on the entries in the order
        of `set_snapshot`, then on those of `newer`. Until `end_answer` only `clear` may be called.
        """
        ...

    def end_answer(self) -> None:
        """End the answer that uses the cache, if any, and drop the tokens that it added."""
        ...

    def clear(self) -> None:
        """Drop everything and overwrite it with zeros, except what a running answer still uses."""
        ...


class StarNetworks(Protocol):
    """Networks of STAR memory: they update its abstract part."""

    @property
    def star(self) -> StarConfig: ...

    @property
    def attention(self) -> AbstractAttention: ...


class VisionLanguageModel(Protocol):
    """Encodes slots of two frames and answers questions on a memory of them; one thread at a time."""

    name: str
    kind: ModelKind  # trained, demo or untrained
    calibration: Calibration  # how the probabilities of its tokens become the confidence of an answer
    attention_kernel: str  # the kernel in use and why, for the log
    device: torch.device  # of the language model
    dtype: torch.dtype
    instruction: str  # prepended to every question; changes take effect at the next question

    @property
    def patches_per_token(self) -> int:
        """Patches of a low-resolution map that the language model gets as one token."""
        ...

    @property
    def star_networks(self) -> StarNetworks | None:
        """Networks of STAR memory; None where the model cannot keep one."""
        ...

    def prefix_cache(self) -> PrefixCache | None:
        """A new, empty prefix cache; None where every prompt has to be prefilled whole."""
        ...

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

        Resampling may be faster than in `encode`, which resamples as published.
        """
        ...

    def encode_slots(self, slots: Sequence[Sequence[Tensor]], grid: Grid) -> list[tuple[Tensor, Tensor]]:
        """Encode slots of two prepared frames each in one pass. Returns for each what `encode` returns."""
        ...

    def answer(self, snapshot: MemorySnapshot, question: str, max_new_tokens: int) -> Generation:
        """Greedy answer; ValueError for an empty snapshot or one of another shape than was encoded."""
        ...

    def look_again(self, generation: Generation, details: MemorySnapshot) -> bool:
        """Put `details` between the memory and the question of a prefilled prompt, and prefill the question again.

        `generation`, of this model or of its prefix cache, has generated nothing yet. Its attention is then on the
        entries of `details` too, after those before. Returns False, and changes nothing, where the model cannot.
        """
        ...

    def fingerprint(self) -> str:
        """Tells the weights from those of another model of this name: features of one mean nothing to the other."""
        ...

    def tokens(self, snapshot: MemorySnapshot) -> int:
        """Number of visual tokens that the snapshot puts into the prompt."""
        ...
