"""Interface of a vision-language model for the engine."""

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
from .yes_no import YesNo


class ModelError(RuntimeError):
    """A model that cannot be loaded or run; the message names the file or setting and says what to do."""


class Token(NamedTuple):
    """One generated token."""

    id: int
    text: str  # text that it adds to the answer; "" if a character is not complete yet
    probability: float  # among the tokens that may be generated


class Generation(Protocol):
    """An iterator over the answer's tokens. The first `next` prefills the rest of the prompt; each decodes one token.

    Ends (StopIteration) at the end-of-turn token or after `max_new_tokens`. Not thread safe: only the thread that owns
    the model may use it.
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

    def yes_no(self) -> YesNo:
        """Probabilities that the next token begins a yes or a no. The first call prefills the rest of the prompt."""
        ...

    @property
    def attention(self) -> Sequence[float]:
        """Share of the last prompt token's attention on each of `snapshot.entries`.

        A mean over layers and heads, weighted if the model has weights for them (`models/evidence_heads.py`). The sum
        is at most 1; zeros until the prompt is prefilled.
        """
        ...


class PrefixCache(Protocol):
    """KV cache of the prompt up to the question, [text, DAM, CSM, text]. Only the question's tokens are prefilled.

    Answers equal those of `VisionLanguageModel.answer`. One owner; not thread safe. After any exception it is unusable
    until `clear` is called.
    """

    @property
    def ready(self) -> bool:
        """Returns True if the whole snapshot is prefilled."""
        ...

    @property
    def cached_tokens(self) -> int:
        """Number of tokens that a question would reuse now."""
        ...

    @property
    def remaining_tokens(self) -> int:
        """Number of tokens of the prefix that are not prefilled yet."""
        ...

    @property
    def bytes(self) -> int:
        """Device memory in use [bytes]."""
        ...

    def bytes_for(self, visual_tokens: int) -> int:
        """Device memory needed for a snapshot of `visual_tokens` [bytes]."""
        ...

    def set_snapshot(self, snapshot: MemorySnapshot, stable: bool = False) -> tuple[int, ...]:
        """Make `snapshot` the memory in the prefix. Leading tokens that did not change stay cached.

        Returns the places in `snapshot.entries` in prompt order: the order of the snapshot or, if `stable`, first the
        entries that were in the prefix already, in their old order, then the new ones. Keeps no tensor of the snapshot.
        """
        ...

    def update_instruction(self) -> None:
        """Adopt the model's current instruction."""
        ...

    def prefill(self, tokens: int) -> None:
        """Prefill up to `tokens` more tokens of the prefix."""
        ...

    def answer(self, question: str, max_new_tokens: int, newer: MemorySnapshot | None = None) -> tuple[Generation, int]:
        """Start a greedy answer that uses the cache. Returns it, and the number of its prompt tokens that were cached.

        `newer` holds later slots than the snapshot, as DAM only. The answer's `attention` is first on the entries in
        the order of `set_snapshot`, then on those of `newer`. Until `end_answer`, only `clear` may be called.
        """
        ...

    def end_answer(self) -> None:
        """End the answer that uses the cache, if any, and drop the tokens that it added."""
        ...

    def clear(self) -> None:
        """Drop everything. What no running answer uses is overwritten with zeros."""
        ...


class StarNetworks(Protocol):
    """Networks that update the abstract memory of STAR."""

    @property
    def star(self) -> StarConfig: ...

    @property
    def attention(self) -> AbstractAttention: ...


class VisionLanguageModel(Protocol):
    """Encodes slots of two frames, and answers questions from a memory of them. For one thread at a time."""

    name: str
    kind: ModelKind  # trained, demo or untrained
    calibration: Calibration  # converts the probabilities of tokens to the confidence of an answer
    attention_kernel: str  # the kernel in use and why, for the log
    device: torch.device  # of the language model
    dtype: torch.dtype
    instruction: str  # prepended to every question; changes take effect at the next question

    @property
    def patches_per_token(self) -> int:
        """Number of patches of a low-resolution map that become one token of the language model."""
        ...

    @property
    def star_networks(self) -> StarNetworks | None:
        """Networks for STAR memory; None if the model has none."""
        ...

    def prefix_cache(self) -> PrefixCache | None:
        """A new, empty prefix cache; None if the model cannot use one."""
        ...

    def grid(self, height: int, width: int) -> Grid:
        """The patch grid for frames of this size [px]. Raises ValueError if they are too small or too narrow."""
        ...

    def encode(self, frames: Sequence[np.ndarray], grid: Grid) -> tuple[Tensor, Tensor]:
        """Encode a slot: two RGB uint8 frames [height, width, 3] of any size, fitted to `grid`.

        Returns low [low_patches, dim], before the merger, and detail [detail_tokens, width], merged.
        """
        ...

    def prepare(self, frame: np.ndarray, grid: Grid) -> Tensor:
        """Convert an RGB uint8 frame [height, width, 3] to the input of `encode_slots`, on the device. Any thread.

        Resampling may be faster and less exact than in `encode`, which resamples as published.
        """
        ...

    def encode_slots(self, slots: Sequence[Sequence[Tensor]], grid: Grid) -> list[tuple[Tensor, Tensor]]:
        """Encode slots, each of two prepared frames, in one pass. Returns the result of `encode` for each."""
        ...

    def answer(self, snapshot: MemorySnapshot, question: str, max_new_tokens: int) -> Generation:
        """Start a greedy answer. Raises ValueError if the snapshot is empty or from another model."""
        ...

    def look_again(self, generation: Generation, details: MemorySnapshot) -> bool:
        """Insert `details` between the memory and the question of a prefilled prompt, and prefill the question again.

        `generation` comes from this model or its prefix cache, and has generated nothing yet. Its attention is then on
        the entries of `details` too, after the others. Returns False, and changes nothing, if the model cannot do this.
        """
        ...

    def fingerprint(self) -> str:
        """Hash of the weights. Features from other weights under the same name would be meaningless to this model."""
        ...

    def tokens(self, snapshot: MemorySnapshot) -> int:
        """Number of visual tokens that the snapshot puts into the prompt."""
        ...
