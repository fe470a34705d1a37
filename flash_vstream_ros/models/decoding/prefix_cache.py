"""The beginning of a prompt that does not depend on the question, read in portions and kept for every question.

Reuse is decided token by token: a key and a value stay as long as the embeddings and position ids of their token, and
of all before it, are equal to those of the new prompt. So an answer is the cold one, whatever has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from flash_vstream_ros.memory.slot import MemoryEntry, MemorySnapshot
from flash_vstream_ros.models.prompt import ChatPrompt

from .cuda_graph import recorded_step
from .greedy import GreedyGeneration, Prefill, Vocabulary, empty_cache, extend
from .kv_cache import whole_blocks


@dataclass(frozen=True, eq=False)
class PromptPrefix:
    """A prompt up to the question, and what is needed to go on from it."""

    prefill: Prefill
    text: tuple[int, ...]  # its tokens after the visual ones

    @property
    def length(self) -> int:
        return self.prefill.embeds.shape[1]

    @property
    def text_at(self) -> int:
        """Tokens before `text`."""
        return self.length - len(self.text)

    @property
    def text_id(self) -> int:
        """Position id of the first token of `text`, on all three axes."""
        return self.prefill.next_id - len(self.text)


class TextPrefixCache:
    """The PrefixCache of a network with Qwen2-VL's language model.

    `prompt()` gives the prompt in force, `visual(snapshot, before, after)` a prompt's Prefill and `details(snapshot,
    start)` embeddings [1, tokens, width] and ids [3, 1, tokens] of its DAM as if `start` tokens stood before it.
    """

    def __init__(
        self,
        network: Any,
        vocabulary: Vocabulary,
        prompt: Callable[[], ChatPrompt],
        visual: Callable[[MemorySnapshot, tuple[int, ...], tuple[int, ...]], Prefill],
        details: Callable[[MemorySnapshot, int], tuple[Tensor, Tensor]],
    ) -> None:
        self._network = network
        self._vocabulary = vocabulary
        self._prompt = prompt
        self._visual = visual
        self._details = details
        self._opening: PromptPrefix | None = None
        self._blocks: list[Hashable] = []  # what stands for each entry that is shown
        self._cache = empty_cache(network)
        self._step = recorded_step(network)
        self._lent: int | None = None  # tokens of the opening that may be in the cache when it comes back

    @property
    def ready(self) -> bool:
        return self._opening is not None and self.length >= self._opening.text_at

    @property
    def length(self) -> int:
        return self._cache.length if self._lent is None else min(self._cache.length, self._lent)

    @property
    def left(self) -> int:
        return self._opening.length - self.length if self._opening else 0

    @property
    def bytes(self) -> int:
        return self._cache.bytes + (_bytes(self._opening.prefill) if self._opening else 0)

    def bytes_for(self, visual_tokens: int) -> int:
        prompt, config = self._prompt(), self._network.config.text_config
        tokens = len(prompt.before) + visual_tokens + len(prompt.leading)
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        of_cache = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim
        item = self._network.dtype.itemsize
        return item * (of_cache * whole_blocks(tokens) + config.hidden_size * tokens) + 3 * 8 * tokens

    @torch.inference_mode()
    def show(self, snapshot: MemorySnapshot, stable: bool = False) -> tuple[int, ...]:
        prompt = self._prompt()
        prefill = self._visual(snapshot, prompt.before, prompt.leading)
        blocks = _blocks(prefill, snapshot.entries)
        order = stable_order(self._blocks if stable else (), blocks)
        self._blocks = [blocks[place] for place in order]
        self._go_on_with(PromptPrefix(reordered(prefill, order), prompt.leading))
        return order

    @torch.inference_mode()
    def renew(self) -> None:
        opening, text = self._opening, self._prompt().leading
        if opening is None or opening.text == text:
            return
        before, at = opening.prefill, opening.text_at
        embeds, ids = self._text(text, opening.text_id)
        prefill = replace(
            before,
            embeds=torch.cat([before.embeds[:, :at], embeds], dim=1),
            ids=torch.cat([before.ids[..., :at], ids], dim=2),
            next_id=opening.text_id + len(text),
        )
        self._go_on_with(PromptPrefix(prefill, text))

    @torch.inference_mode()
    def read(self, tokens: int) -> None:
        assert self._lent is None, "an answer has it"
        if self._opening is not None and self.left:
            begin = self.length
            prefill, end = self._opening.prefill, min(begin + tokens, self._opening.length)
            extend(self._network, self._cache, prefill.embeds[:, begin:end], prefill.ids[..., begin:end])

    @torch.inference_mode()
    def answer(
        self, question: str, max_new_tokens: int, newer: MemorySnapshot | None = None
    ) -> tuple[GreedyGeneration, int]:
        opening = self._opening
        if opening is None:
            raise ValueError("There is no snapshot to answer from: show one first.")
        assert self._lent is None, "another answer has it"
        text = self._prompt().after(question)
        # The last token is read in any case: its output is what the answer begins with.
        shared = min(_common(opening.text, text), len(text) - 1) if newer is None else 0
        kept = opening.text_at + shared
        read = min(self._cache.length, kept)
        parts = [(opening.prefill.embeds[:, read:kept], opening.prefill.ids[..., read:kept])]
        entry_tokens = opening.prefill.entry_tokens
        if newer is not None:
            parts.append(self._details(newer, opening.prefill.visual_start))
            entry_tokens += (newer.dam.shape[1],) * len(newer.dam)
        parts.append(self._text(text[shared:], opening.text_id + shared))
        prefill = Prefill(
            embeds=torch.cat([embeds for embeds, _ in parts], dim=1),
            ids=torch.cat([ids for _, ids in parts], dim=2),
            next_id=opening.text_id + len(text),
            visual_start=opening.prefill.visual_start,
            entry_tokens=entry_tokens,
        )
        self._cache.keep(read)
        self._lent = kept
        answer = GreedyGeneration(self._network, prefill, self._vocabulary, max_new_tokens, self._cache, self._step)
        return answer, read

    def take_back(self) -> None:
        if self._lent is not None:
            self._cache.keep(self._lent)
            self._lent = None

    def clear(self) -> None:
        if self._lent is None:
            self._cache.wipe()
        self._cache, self._step = empty_cache(self._network), recorded_step(self._network)
        self._opening, self._lent = None, None
        self._blocks = []

    @torch.inference_mode()
    def _go_on_with(self, opening: PromptPrefix) -> None:
        assert self._lent is None, "an answer has it"
        before, self._opening = self._opening, opening
        self._cache.expect(opening.length)
        self._cache.keep(_common_tokens(before.prefill, opening.prefill) if before else 0)

    def _text(self, tokens: tuple[int, ...], first_id: int) -> tuple[Tensor, Tensor]:
        """Embeddings [1, tokens, width] and ids [3, 1, tokens]."""
        device = self._network.device
        embeds = self._network.get_input_embeddings()(torch.tensor([tokens], dtype=torch.long, device=device))
        return embeds, torch.arange(first_id, first_id + len(tokens), device=device).expand(3, 1, -1)


def stable_order(before: Sequence[Hashable], now: Sequence[Hashable]) -> tuple[int, ...]:
    """Places in `now`: first those of what stands in `before`, in its order, then the others in theirs."""
    places = {block: place for place, block in enumerate(now)}
    kept = [places[block] for block in before if block in places]
    stay = set(kept)
    return (*kept, *(place for place in range(len(now)) if place not in stay))


def reordered(prefill: Prefill, order: Sequence[int]) -> Prefill:
    """The same prompt with its entries in another order, each at its own position ids."""
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
    """What tells an entry from others, and from itself at another time."""
    starts = list(accumulate(prefill.entry_tokens[:-1], initial=prefill.visual_start))
    return list(zip(entries, prefill.ids[0, 0, starts].tolist(), strict=True))


def _common(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """How many leading tokens are equal."""
    pairs = zip(left, right, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(left), len(right)))


def _common_tokens(left: Prefill, right: Prefill) -> int:
    """How many leading tokens are equal in embedding and position."""
    count = min(left.embeds.shape[1], right.embeds.shape[1])
    equal = (left.embeds[0, :count] == right.embeds[0, :count]).all(-1)
    equal &= (left.ids[:, 0, :count] == right.ids[:, 0, :count]).all(0)
    return int(equal.long().cumprod(0).sum())


def _bytes(prefill: Prefill) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (prefill.embeds, prefill.ids))
