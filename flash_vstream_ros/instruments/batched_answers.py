"""Answers many questions about one snapshot in a batch; the memory part of the prompt is prefilled once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import DynamicCache

from flash_vstream_ros.memory import MemorySnapshot
from flash_vstream_ros.models.decoding.greedy import Prefill, TextStream
from flash_vstream_ros.models.qwen2_vl import Qwen2VL


class Reply(NamedTuple):
    """A greedy answer and the probabilities of its tokens."""

    text: str
    probabilities: tuple[float, ...]


def batched_answers(
    model: Qwen2VL, snapshot: MemorySnapshot, questions: Sequence[str], max_new_tokens: int = 64
) -> list[str]:
    """The greedy answers that `model.answer` would give to each question. The snapshot may be empty."""
    return [reply.text for reply in batched_replies(model, snapshot, questions, max_new_tokens)]


@torch.inference_mode()
def batched_replies(
    model: Qwen2VL, snapshot: MemorySnapshot, questions: Sequence[str], max_new_tokens: int = 64
) -> list[Reply]:
    """Like `batched_answers`, with the probability of each token among those that may be generated."""
    network, vocabulary, device = model.network, model._vocabulary, model.device
    prompts = [model._prompt.after(question) for question in questions]
    shared = _common(prompts)
    prefix = _prefix(model, snapshot, prompts[0][:shared])
    start = prefix.embeds.shape[1]
    count, longest = len(prompts), max(map(len, prompts)) - shared
    # Padding is on the left, so that all answers begin in the same column.
    feed = torch.zeros(count, longest, dtype=torch.long)
    seen = torch.ones(count, start + longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        own = prompt[shared:]
        feed[row, longest - len(own) :] = torch.tensor(own)
        seen[row, start : start + longest - len(own)] = 0
    feed, seen = feed.to(device), seen.to(device)
    places = (seen[:, start:].cumsum(1) - 1).clamp(min=0) + prefix.next_id  # [count, longest]

    cache = DynamicCache(config=network.config.text_config)
    language_model, embed = network.model.language_model, network.get_input_embeddings()
    language_model(inputs_embeds=prefix.embeds, position_ids=prefix.ids, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(count)
    answer_ids: list[list[int]] = [[] for _ in prompts]
    probabilities: list[list[float]] = [[] for _ in prompts]
    open_rows = set(range(count))
    for _ in range(max_new_tokens):
        hidden = language_model(
            inputs_embeds=embed(feed),
            attention_mask=seen,
            position_ids=places.expand(3, -1, -1),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        logits = network.lm_head(hidden).float().masked_fill(vocabulary.suppressed, -torch.inf)
        best, tokens = logits.softmax(-1).max(-1)
        for row, (token, probability) in enumerate(zip(tokens.tolist(), best.tolist(), strict=True)):
            if token in vocabulary.stops:
                open_rows.discard(row)
            elif row in open_rows:
                answer_ids[row].append(token)
                probabilities[row].append(probability)
        if not open_rows:
            break
        feed, places = tokens[:, None], places[:, -1:] + 1
        seen = torch.cat([seen, seen.new_ones(count, 1)], 1)
    return [Reply(_text(model, tokens), tuple(own)) for tokens, own in zip(answer_ids, probabilities, strict=True)]


def _prefix(model: Qwen2VL, snapshot: MemorySnapshot, shared: Sequence[int]) -> Prefill:
    """The prompt up to the first token in which the questions differ."""
    before = model._prompt.before
    if not snapshot.empty:
        return model._prefill(snapshot, tuple(before), tuple(shared))
    text = torch.tensor([[*before, *shared]], device=model.device)
    length = text.shape[1]
    ids = torch.arange(length, device=model.device).expand(3, 1, -1)
    return Prefill(model.network.get_input_embeddings()(text), ids, length, len(before), ())


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all prompts share; at least one token of each prompt is not shared."""
    shortest = min(map(len, prompts)) - 1
    return next((at for at in range(shortest) if len({prompt[at] for prompt in prompts}) > 1), shortest)


def _text(model: Qwen2VL, tokens: Sequence[int]) -> str:
    stream = TextStream(model._vocabulary.decode)
    return "".join(map(stream.push, tokens)).rstrip()
