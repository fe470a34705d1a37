"""Greedy decoding, one token a step, with the attention that the first token pays to the memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flash_vstream_ros.models.interface import ModelError, Token

from .grouped_attention import WEIGHED, attending, fastest
from .kv_cache import InPlaceCache

Step = Callable[[InPlaceCache, int, int], Tensor | None]  # of a token at a position: the logits of the next one


@dataclass(frozen=True, eq=False)
class Prefill:
    """A prompt, or what follows its tokens that a cache holds already, ready for the language model."""

    embeds: Tensor  # [1, length, width]
    ids: Tensor  # [3, 1, length] time, row, column
    next_id: int  # position of the first generated token on all three axes
    visual_start: int  # text tokens before the visual ones
    entry_tokens: tuple[int, ...]  # of each memory entry, its age included, in the order of the sequence


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What may be generated, what ends an answer, and how it reads."""

    decode: Callable[[list[int]], str]
    stops: frozenset[int]
    suppressed: Tensor  # [vocabulary] bool


class TextStream:
    """Decodes token by token. A character whose bytes are not all there yet is held back, never halved."""

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._given = 0

    def push(self, token: int) -> str:
        """What `token` adds to the text; may be ""."""
        self._ids.append(token)
        # An incomplete character decodes to one replacement character, and only at the end.
        text = self._decode(self._ids).removesuffix("\ufffd")
        added, self._given = text[self._given :], max(self._given, len(text))
        return added


class GreedyGeneration:
    """One answer of a Qwen2-VL. Without `cache` it makes its own, so several may be under way on one network.

    A given `cache` holds the tokens of the prompt before those of `prefill`; what the answer adds stays in it. `step`
    reads one token quicker than the network by itself; what it cannot, the network does.
    """

    def __init__(
        self,
        network: Any,
        prefill: Prefill,
        vocabulary: Vocabulary,
        max_new_tokens: int,
        cache: InPlaceCache | None = None,
        step: Step | None = None,
    ) -> None:
        self._network = network
        self._step = step
        self._prefill = prefill
        self._vocabulary = vocabulary
        self._stream = TextStream(vocabulary.decode)
        self._cache = empty_cache(network, prefill.embeds.shape[1]) if cache is None else cache
        self._read = 0
        self._more = max_new_tokens
        self._fed = 0
        self._newest: int | None = None
        self._logits: Tensor | None = None  # [vocabulary], of the token after the newest one
        self._attention: tuple[float, ...] | None = None

    def __iter__(self) -> Iterator[Token]:
        return self

    @torch.inference_mode()
    def __next__(self) -> Token:
        if self._more <= 0:
            raise StopIteration
        logits = self._next_logits().float().masked_fill(self._vocabulary.suppressed, -torch.inf)
        # One transfer for both: on a GPU each waits for all that was begun.
        probability, best = torch.stack(torch.softmax(logits, dim=-1).max(dim=-1)).tolist()
        token = int(best)
        if not math.isfinite(probability):
            self._more = 0
            self._cache.wipe()  # what is not finite must not be met again in a room that is read whole
            raise ModelError(
                f"The model computed no finite probabilities in {self._prefill.embeds.dtype}: "
                "the weights are damaged or overflow; try dtype float32 or bfloat16."
            )
        self._logits, self._newest = None, token
        if token in self._vocabulary.stops:
            self._more = 0
            raise StopIteration
        self._more -= 1
        return Token(token, self._stream.push(token), probability)

    @property
    def left(self) -> int:
        """Tokens of the prompt that are still to be read."""
        return self._prefill.embeds.shape[1] - self._read

    @torch.inference_mode()
    def read(self, tokens: int) -> None:
        """Let the model read up to so many more tokens of the prompt."""
        if self.left:
            begin, end = self._read, min(self._read + tokens, self._prefill.embeds.shape[1])
            output = extend(
                self._network, self._cache, self._prefill.embeds[:, begin:end], self._prefill.ids[..., begin:end]
            )
            self._read = end
            self._logits = None if self.left else self._head(output)

    @property
    @torch.inference_mode()
    def attention(self) -> tuple[float, ...]:
        """Share of the first token's attention on each memory entry; zeros before that token."""
        if self._newest is None:
            return (0.0,) * len(self._prefill.entry_tokens)
        if self._attention is None:
            self._logits = self._next_logits()
        assert self._attention is not None
        return self._attention

    def _next_logits(self) -> Tensor:
        self.read(self.left)
        if self._logits is not None:
            return self._logits
        assert self._newest is not None
        position = self._prefill.next_id + self._fed
        self._fed += 1
        with_attention = self._fed == 1  # once only: the kernels that return no weights are faster
        if (
            self._step
            and not with_attention
            and (logits := self._step(self._cache, self._newest, position)) is not None
        ):
            return logits
        device = self._prefill.embeds.device
        embeds = self._network.get_input_embeddings()(torch.tensor([[self._newest]], device=device))
        ids = torch.full((3, 1, 1), position, device=device)
        output = extend(self._network, self._cache, embeds, ids, with_attention)
        if with_attention:
            self._attention = self._shares(output.attentions)
        return self._head(output)

    def _head(self, output: Any) -> Tensor:
        """Logits [vocabulary] of the token after the last one that was read."""
        logits: Tensor = self._network.lm_head(output.last_hidden_state[0, -1])
        return logits

    def _shares(self, layers: tuple[Tensor, ...]) -> tuple[float, ...]:
        """Layers of [1, heads, 1, keys] to the share of each memory entry."""
        mean = torch.stack([weights[0, :, 0].float().mean(0) for weights in layers]).mean(0)
        counts = self._prefill.entry_tokens
        visual = mean[self._prefill.visual_start :][: sum(counts)]
        return tuple(torch.stack([span.sum() for span in visual.split(list(counts))]).tolist())


def empty_cache(network: Any, expected: int = 0) -> InPlaceCache:
    """For a prompt of `expected` tokens."""
    cache = InPlaceCache(network.config.text_config.num_hidden_layers)
    cache.expect(expected)
    return cache


def extend(network: Any, cache: InPlaceCache, embeds: Tensor, ids: Tensor, with_attention: bool = False) -> Any:
    """Let the language model read further tokens, embeds [1, new, width] at ids [3, 1, new], into `cache`."""
    config = network.config.text_config
    kernel = WEIGHED if with_attention else fastest(config._attn_implementation, embeds.device)
    with attending(config, kernel):
        return network.model.language_model(
            inputs_embeds=embeds,
            position_ids=ids,
            past_key_values=cache,
            use_cache=True,
            output_attentions=with_attention,
        )
