"""Greedy decoding, one token per step, and the attention of the last prompt token on each memory entry."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flash_vstream_ros.models.evidence_heads import head_weights
from flash_vstream_ros.models.interface import ModelError, Token
from flash_vstream_ros.models.yes_no import YesNo, YesNoTokens

from .kv_cache import InPlaceCache
from .language_model import embed_text, empty_cache, forward, next_token_logits

DecodeStep = Callable[[InPlaceCache, int, int], Tensor | None]  # cache, token, position -> logits of the next token


@dataclass(frozen=True, eq=False)
class Prefill:
    """A prompt, or the part of it that is not in a KV cache yet, ready for the language model."""

    embeds: Tensor  # [1, length, width]
    ids: Tensor  # [3, 1, length] time, row, column
    next_id: int  # position of the first generated token on all three axes
    visual_start: int  # number of text tokens before the visual ones
    entry_tokens: tuple[int, ...]  # number of tokens of each memory entry, age tokens included, in prompt order
    text: tuple[int, ...] = ()  # text tokens after the visual ones
    csm_start: int = 0  # id of time 0 for CSM; for DAM it is `visual_start`

    @property
    def memory_end(self) -> int:
        """Number of tokens up to the end of the visual ones."""
        return self.visual_start + sum(self.entry_tokens)

    @property
    def text_id(self) -> int:
        """Position id of the first token of `text`, on all three axes."""
        return self.next_id - len(self.text)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens that may be generated, those that end an answer, and how they decode to text."""

    decode: Callable[[list[int]], str]
    stops: frozenset[int]
    suppressed: Tensor  # [vocabulary] bool
    yes_no: YesNoTokens = field(default_factory=YesNoTokens)


class TextStream:
    """Decodes token by token. A character is returned once all of its bytes have arrived."""

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._emitted = 0

    def push(self, token: int) -> str:
        """Return the text that `token` adds; may be ""."""
        self._ids.append(token)
        # An incomplete character decodes to one replacement character, and only at the end.
        text = self._decode(self._ids).removesuffix("\ufffd")
        added, self._emitted = text[self._emitted :], max(self._emitted, len(text))
        return added


class GreedyGeneration:
    """One answer of a Qwen2-VL, as a Generation.

    `cache` has the prompt tokens before those of `prefill`, and keeps the generated tokens; other answers can reuse its
    first `kept_tokens`. Without `cache`, the answer allocates one, so that several answers may run on one network.
    `step` runs a decode step faster than the network, or returns None to let the network run it.
    """

    def __init__(
        self,
        network: Any,
        prefill: Prefill,
        vocabulary: Vocabulary,
        max_new_tokens: int,
        cache: InPlaceCache | None = None,
        step: DecodeStep | None = None,
        kept_tokens: int = 0,
    ) -> None:
        self._network = network
        self._step = step
        self._prefill = prefill
        self._vocabulary = vocabulary
        self._stream = TextStream(vocabulary.decode)
        self._cache = empty_cache(network, prefill.embeds.shape[1]) if cache is None else cache
        self._prefilled = 0
        self._remaining_new = max_new_tokens
        self._decoded = 0
        self._newest: int | None = None
        self._logits: Tensor | None = None  # [vocabulary], of the token after the newest one
        self._attentions: tuple[Tensor, ...] | None = None  # of each layer [1, heads, 1, tokens]
        self._shares: tuple[float, ...] | None = None
        self.kept_tokens = kept_tokens

    @property
    def prompt(self) -> Prefill:
        """The prompt, or the part of it that was not in the cache."""
        return self._prefill

    def continue_with(self, prefill: Prefill) -> None:
        """Replace the part of the prompt after the memory by `prefill`, whose `entry_tokens` are those of both parts.

        The prompt must be prefilled completely, and no token may be generated yet.
        """
        assert not self.remaining_tokens, "prefill the whole prompt first"
        assert self._newest is None, "the answer has begun"
        memory_end = self._prefill.memory_end
        self.kept_tokens = min(self.kept_tokens, memory_end)
        self._cache.truncate(memory_end)
        self._prefill, self._prefilled = prefill, 0
        self._logits = self._attentions = self._shares = None

    def __iter__(self) -> Iterator[Token]:
        return self

    @torch.inference_mode()
    def __next__(self) -> Token:
        if self._remaining_new <= 0:
            raise StopIteration
        # One transfer for both, since on a GPU each transfer waits for all queued work.
        probability, best = torch.stack([*self._next_probabilities().max(dim=-1)]).tolist()
        token = int(best)
        self._check_finite(probability)
        self._logits, self._newest = None, token
        if token in self._vocabulary.stops:
            self._remaining_new = 0
            raise StopIteration
        self._remaining_new -= 1
        return Token(token, self._stream.push(token), probability)

    @property
    def remaining_tokens(self) -> int:
        """Prompt tokens that are not prefilled yet."""
        return self._prefill.embeds.shape[1] - self._prefilled

    @torch.inference_mode()
    def prefill(self, tokens: int) -> None:
        """Prefill up to `tokens` more tokens of the prompt."""
        if not self.remaining_tokens:
            return
        begin, end = self._prefilled, min(self._prefilled + tokens, self._prefill.embeds.shape[1])
        embeds, ids = self._prefill.embeds[:, begin:end], self._prefill.ids[..., begin:end]
        is_last = end == self._prefill.embeds.shape[1]
        output = forward(self._network, self._cache, embeds, ids, with_attention=is_last)
        self._prefilled = end
        if is_last:
            self._attentions = output.attentions
            self._logits = next_token_logits(self._network, output)

    @property
    @torch.inference_mode()
    def attention(self) -> tuple[float, ...]:
        """Share of the last prompt token's attention on each memory entry; zeros until the prompt is prefilled.

        From that token the model predicts the first word of its answer. The mean over layers and heads is weighted by
        `head_weights`.
        """
        if self._shares is None:
            if self._attentions is None:
                return (0.0,) * len(self._prefill.entry_tokens)
            layers, self._attentions = self._attentions, None
            weights = head_weights(self._network.config, len(layers), layers[0].shape[1]).to(layers[0].device)
            # In float32, since a small share of one layer would underflow in float16.
            by_layer = [own @ one[0, :, -1].float() for own, one in zip(weights, layers, strict=True)]
            mean = torch.stack(by_layer).sum(0)
            self._shares = tuple(self._entry_sums(mean).tolist())
        return self._shares

    @property
    @torch.inference_mode()
    def head_attention(self) -> Tensor:
        """What `attention` is the weighted mean of: float32 [layers, heads, entries] on the CPU.

        The prompt must be prefilled, and `attention` not read yet.
        """
        assert self._attentions is not None, "prefill the whole prompt first"
        return torch.stack([self._entry_sums(one[0, :, -1].float()).cpu() for one in self._attentions])

    @torch.inference_mode()
    def yes_no(self) -> YesNo:
        """Probabilities that the next token begins a yes or a no. The first call prefills the rest of the prompt."""
        probabilities = self._next_probabilities()
        yes, no = (probabilities[list(ids)].sum() for ids in self._vocabulary.yes_no)
        both = YesNo(*torch.stack([yes, no]).tolist())
        self._check_finite(sum(both))
        return both

    def _next_probabilities(self) -> Tensor:
        """Probabilities [vocabulary] of the next token."""
        self._logits = self._next_logits()
        return torch.softmax(self._logits.float().masked_fill(self._vocabulary.suppressed, -torch.inf), dim=-1)

    def _check_finite(self, probability: float) -> None:
        """Raise ModelError if a probability is not finite."""
        if math.isfinite(probability):
            return
        self._remaining_new = 0
        self._cache.zero()  # a captured decode step would read the non-finite values, also after truncation
        raise ModelError(
            f"The model computed no finite probabilities in {self._prefill.embeds.dtype}: "
            "the weights are damaged or overflow; try dtype float32 or bfloat16."
        )

    def _next_logits(self) -> Tensor:
        self.prefill(self.remaining_tokens)
        if self._logits is not None:
            return self._logits
        assert self._newest is not None
        position = self._prefill.next_id + self._decoded
        self._decoded += 1
        if self._step and (logits := self._step(self._cache, self._newest, position)) is not None:
            return logits
        output = forward(self._network, self._cache, *embed_text(self._network, (self._newest,), position))
        return next_token_logits(self._network, output)

    def _entry_sums(self, attention: Tensor) -> Tensor:
        """Sum the attention [..., keys] over the tokens of each entry: [..., entries]."""
        counts = list(self._prefill.entry_tokens)
        visual = attention[..., self._prefill.visual_start :][..., : sum(counts)]
        return torch.stack([span.sum(-1) for span in visual.split(counts, -1)], -1)
