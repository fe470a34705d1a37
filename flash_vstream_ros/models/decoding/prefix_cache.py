"""Prefix cache: the prompt up to the question, prefilled in chunks and reused by every question.

The keys and values of a token are reused if the embeddings and position ids of this token and of all tokens before it
equal those of the new prompt. So an answer always equals the answer to the uncached prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch

from flash_vstream_ros.memory.slot import MemoryEntry, MemorySnapshot
from flash_vstream_ros.models.prompt import ChatPrompt

from .cuda_graph import captured_decode_step
from .greedy import GreedyGeneration, Prefill, Vocabulary
from .kv_cache import round_up_to_block
from .kv_size import cache_bytes
from .language_model import embed_text, empty_cache, forward


class TextPrefixCache:
    """The PrefixCache of a network with Qwen2-VL's language model.

    `prompt()` returns the current prompt. `visual(snapshot, before, after)` returns the Prefill of a snapshot between
    two texts. `further(prompt, snapshot)` returns the Prefill of a snapshot without text, to append it to the memory of
    `prompt`.
    """

    def __init__(
        self,
        network: Any,
        vocabulary: Vocabulary,
        prompt: Callable[[], ChatPrompt],
        visual: Callable[[MemorySnapshot, tuple[int, ...], tuple[int, ...]], Prefill],
        further: Callable[[Prefill, MemorySnapshot], Prefill],
    ) -> None:
        self._network = network
        self._vocabulary = vocabulary
        self._prompt = prompt
        self._visual = visual
        self._further = further
        self._prefix: Prefill | None = None  # the prompt up to the question
        self._blocks: list[Hashable] = []  # identity of each entry in the prefix
        self._cache = empty_cache(network)
        self._step = captured_decode_step(network)
        self._answer: GreedyGeneration | None = None  # while it runs

    @property
    def ready(self) -> bool:
        return self._prefix is not None and self.cached_tokens >= self._prefix.memory_end

    @property
    def cached_tokens(self) -> int:
        length = self._cache.length
        return length if self._answer is None else min(length, self._answer.kept_tokens)

    @property
    def remaining_tokens(self) -> int:
        return _length(self._prefix) - self.cached_tokens if self._prefix else 0

    @property
    def bytes(self) -> int:
        return self._cache.bytes + (_bytes(self._prefix) if self._prefix else 0)

    def bytes_for(self, visual_tokens: int) -> int:
        prompt, config = self._prompt(), self._network.config.text_config
        tokens = len(prompt.before) + visual_tokens + len(prompt.leading)
        itemsize = self._network.dtype.itemsize
        embeds_and_ids = (itemsize * config.hidden_size + 3 * 8) * tokens
        return cache_bytes(config, round_up_to_block(tokens), itemsize) + embeds_and_ids

    @torch.inference_mode()
    def set_snapshot(self, snapshot: MemorySnapshot, stable: bool = False) -> tuple[int, ...]:
        prompt = self._prompt()
        prefill = self._visual(snapshot, prompt.before, prompt.leading)
        blocks = _blocks(prefill, snapshot.entries)
        order = stable_order(self._blocks if stable else (), blocks)
        self._blocks = [blocks[place] for place in order]
        self._set_prefix(reordered(prefill, order))
        return order

    @torch.inference_mode()
    def update_instruction(self) -> None:
        prefix, text = self._prefix, self._prompt().leading
        if prefix is None or prefix.text == text:
            return
        start = prefix.memory_end
        embeds, ids = embed_text(self._network, text, prefix.text_id)
        self._set_prefix(
            replace(
                prefix,
                embeds=torch.cat([prefix.embeds[:, :start], embeds], dim=1),
                ids=torch.cat([prefix.ids[..., :start], ids], dim=2),
                next_id=prefix.text_id + len(text),
                text=text,
            )
        )

    @torch.inference_mode()
    def prefill(self, tokens: int) -> None:
        self._check_no_answer()
        if self._prefix is not None and self.remaining_tokens:
            begin = self.cached_tokens
            end = min(begin + tokens, _length(self._prefix))
            forward(self._network, self._cache, self._prefix.embeds[:, begin:end], self._prefix.ids[..., begin:end])

    @torch.inference_mode()
    def answer(
        self, question: str, max_new_tokens: int, newer: MemorySnapshot | None = None
    ) -> tuple[GreedyGeneration, int]:
        prefix = self._prefix
        if prefix is None:
            raise ValueError("The prefix cache has no snapshot to answer from: call set_snapshot first.")
        self._check_no_answer()
        text = self._prompt().after(question)
        # The last token is always prefilled, since the answer starts from its output.
        shared = min(_common_length(prefix.text, text), len(text) - 1) if newer is None else 0
        kept = prefix.memory_end + shared
        cached = min(self._cache.length, kept)
        parts, prompt = [(prefix.embeds[:, cached:kept], prefix.ids[..., cached:kept])], prefix
        if newer is not None:
            prompt = self._further(prompt, newer)
            parts.append((prompt.embeds, prompt.ids))
        parts.append(embed_text(self._network, text[shared:], prefix.text_id + shared))
        prefill = replace(
            prompt,
            embeds=torch.cat([embeds for embeds, _ in parts], dim=1),
            ids=torch.cat([ids for _, ids in parts], dim=2),
            next_id=prefix.text_id + len(text),
            text=text,
        )
        self._cache.truncate(cached)
        self._answer = GreedyGeneration(
            self._network, prefill, self._vocabulary, max_new_tokens, self._cache, self._step, kept
        )
        return self._answer, cached

    def end_answer(self) -> None:
        if self._answer is not None:
            self._cache.truncate(self.cached_tokens)
            self._answer = None

    def clear(self) -> None:
        if self._answer is None:
            self._cache.zero()
        self._cache, self._step = empty_cache(self._network), captured_decode_step(self._network)
        self._prefix, self._answer = None, None
        self._blocks = []

    @torch.inference_mode()
    def _set_prefix(self, prefix: Prefill) -> None:
        self._check_no_answer()
        before, self._prefix = self._prefix, prefix
        self._cache.expect(_length(prefix))
        self._cache.truncate(_common_tokens(before, prefix) if before else 0)

    def _check_no_answer(self) -> None:
        assert self._answer is None, "an answer uses the cache: call end_answer or clear first"


def stable_order(before: Sequence[Hashable], now: Sequence[Hashable]) -> tuple[int, ...]:
    """Places in `now`: first those of items that are in `before`, in its order, then those of new items."""
    places = {block: place for place, block in enumerate(now)}
    kept = [places[block] for block in before if block in places]
    kept_places = set(kept)
    return (*kept, *(place for place in range(len(now)) if place not in kept_places))


def reordered(prefill: Prefill, order: Sequence[int]) -> Prefill:
    """The same prompt with its entries in another order; each entry keeps its position ids."""
    if list(order) == sorted(order):
        return prefill
    begin, counts = prefill.visual_start, prefill.entry_tokens
    ends = list(accumulate(counts, initial=begin))
    spans = [torch.arange(ends[place], ends[place + 1]) for place in order]
    tokens = torch.cat([torch.arange(begin), *spans, torch.arange(ends[-1], prefill.embeds.shape[1])])
    tokens = tokens.to(prefill.embeds.device)
    return replace(
        prefill,
        embeds=prefill.embeds[:, tokens],
        ids=prefill.ids[..., tokens],
        entry_tokens=tuple(counts[place] for place in order),
    )


def _blocks(prefill: Prefill, entries: Sequence[MemoryEntry]) -> list[Hashable]:
    """Identity of each entry: the entry and its time id."""
    starts = list(accumulate(prefill.entry_tokens[:-1], initial=prefill.visual_start))
    return list(zip(entries, prefill.ids[0, 0, starts].tolist(), strict=True))


def _common_length(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Number of equal leading tokens."""
    pairs = zip(left, right, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(left), len(right)))


def _common_tokens(left: Prefill, right: Prefill) -> int:
    """Number of leading tokens that are equal in embedding and position."""
    count = min(left.embeds.shape[1], right.embeds.shape[1])
    equal = (left.embeds[0, :count] == right.embeds[0, :count]).all(-1)
    equal &= (left.ids[:, 0, :count] == right.ids[:, 0, :count]).all(0)
    return int(equal.long().cumprod(0).sum())


def _length(prefill: Prefill) -> int:
    """Number of tokens."""
    return prefill.embeds.shape[1]


def _bytes(prefill: Prefill) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (prefill.embeds, prefill.ids))
