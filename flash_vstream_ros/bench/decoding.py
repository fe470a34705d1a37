"""Time per generated token against its lower bound, and the gain of each optimisation of decoding.

Variants are timed alternately in one process, on the same keys and values; a gain is the median ratio of consecutive
runs. First questions are asked in new processes.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flash_vstream_ros.instruments.stopwatch import timed
from flash_vstream_ros.memory import FlashMemory
from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.decoding.grouped_attention import grouped, grouped_weighted
from flash_vstream_ros.models.decoding.language_model import forward, next_token_logits
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.names import TINY
from flash_vstream_ros.process import set_torch_threads
from flash_vstream_ros.progress import tracked

from .costs import pass_bytes
from .first_question import first_tokens_s
from .floors import copy_bandwidth
from .model import settings_of, threads_of
from .prefix_cache import QUESTIONS, encoded, stream

TOKENS = 24  # timed tokens of an answer
BEFORE = 2  # tokens before the timed ones
CHUNK_TOKENS = 2048  # size of a prefill chunk
NEW = 24  # new tokens of a short question
EVIDENCE_PER_ROUND = 4  # pairs of runs with and without evidence, per round of the others
# One layer of the language model: number of heads, number of groups, width of a head; then tokens of the memory.
LAYERS = {
    "tiny-random": (4, 2, 16, 11_520),
    "Qwen2-VL-2B": (12, 2, 128, 11_520),
    "Qwen2-VL-7B": (28, 4, 128, 11_520),
}


class Decoding(NamedTuple):
    """Time per token of an answer, and its lower bound."""

    token_s: float  # median
    floor_s: float
    bytes_read: int

    @property
    def over_floor(self) -> float:
        return self.token_s / self.floor_s


def decode_over_floor(
    model: Any, snapshot: MemorySnapshot, bytes_per_s: float, tokens: int = TOKENS, answers: int = 3
) -> Decoding:
    """Time `tokens` tokens of each of `answers` answers on `snapshot`. The device copies at `bytes_per_s`.

    The lower bound is the time to read the weights of language model and head, and all keys and values, once.
    """
    prefix = model.prefix_cache()
    prefix.set_snapshot(snapshot)
    while prefix.remaining_tokens:
        prefix.prefill(CHUNK_TOKENS)
    steps_s: list[float] = []
    for _ in range(answers):
        answering, _ = prefix.answer(QUESTIONS[0], tokens + BEFORE)
        steps_s += _token_times(answering, tokens, model.device)
        prefix.end_answer()
    network = model.network
    moved = pass_bytes(network.config.text_config, model.tokens(snapshot), network.dtype.itemsize)
    return Decoding(statistics.median(steps_s), moved / bytes_per_s, moved)


def _token_times(answering: Any, tokens: int, device: torch.device) -> list[float]:
    """Durations of the tokens after the first BEFORE tokens [s]."""
    answering._vocabulary = replace(answering._vocabulary, stops=frozenset())  # random weights stop anywhere
    return [timed(partial(next, answering), device) for _ in range(tokens + BEFORE)][BEFORE:]


@torch.inference_mode()
def evidence_cost(model: Any, snapshot: MemorySnapshot, rounds: int) -> dict[str, float]:
    """Times of the last NEW prompt tokens, as of a cached question, with the attention that ranks evidence and without.

    Both are timed in turn, on the same keys and values [s].
    """
    generation = model.answer(snapshot, QUESTIONS[0], 1)
    generation.prefill(generation.remaining_tokens - NEW)
    cache, prompt = generation._cache, generation.prompt
    start = prompt.embeds.shape[1] - NEW

    def chunk(with_attention: bool) -> None:
        output = forward(
            model.network, cache, prompt.embeds[:, start:], prompt.ids[..., start:], with_attention=with_attention
        )
        next_token_logits(model.network, output).max().item()
        if with_attention:
            generation._attentions, generation._shares = output.attentions, None
            assert generation.attention
        cache.truncate(start)

    kinds = {"with_s": partial(chunk, True), "without_s": partial(chunk, False)}
    for warm_up in kinds.values():
        warm_up()
    times = [{name: timed(run, model.device) for name, run in kinds.items()} for _ in range(rounds)]
    return {name: statistics.median(one[name] for one in times) for name in kinds}


@torch.inference_mode()
def layer_gains(layer: tuple[int, int, int, int], dtype: torch.dtype, rounds: int) -> dict[str, dict[str, float]]:
    """Times of a layer's attention on the CPU, by our kernels and those of transformers, for the three uses."""
    from transformers.masking_utils import (
        sdpa_mask,
    )  # imported here: it takes seconds, and `bench --help` imports this module
    from transformers.models.qwen2_vl import modeling_qwen2_vl

    heads, groups, dim, length = layer
    module: Any = SimpleNamespace(num_key_value_groups=heads // groups, training=False, is_causal=True)
    draw = torch.Generator().manual_seed(0)
    key, value = (torch.randn(1, groups, length, dim, generator=draw).to(dtype) for _ in range(2))
    query = torch.randn(1, heads, NEW, dim, generator=draw).to(dtype)
    one, mask = query[:, :, -1:], sdpa_mask(1, NEW, length, q_offset=length - NEW)
    plain = modeling_qwen2_vl.ALL_ATTENTION_FUNCTIONS["sdpa"]
    eager = modeling_qwen2_vl.eager_attention_forward

    def attend(kernel: Callable[..., Any], query: Tensor, mask: Tensor | None = None) -> Tensor:
        output: Tensor = kernel(module, query, key, value, mask, scaling=dim**-0.5)[0]
        return output

    pairs = {
        "token": (partial(attend, grouped, one), partial(attend, plain, one)),
        "evidence": (partial(attend, grouped_weighted, one), partial(attend, eager, one)),
        "question": (partial(attend, grouped, query, mask), partial(attend, plain, query, mask)),
    }
    return {name: _gain(ours, theirs, rounds) for name, (ours, theirs) in pairs.items()}


def _gain(ours: Callable[[], Tensor], theirs: Callable[[], Tensor], rounds: int) -> dict[str, float]:
    cpu = torch.device("cpu")
    difference = float((ours().float() - theirs().float()).abs().max())
    times = [(timed(ours, cpu), timed(theirs, cpu)) for _ in range(rounds)]
    return {
        "ours_s": statistics.median(mine for mine, _ in times),
        "plain_s": statistics.median(theirs for _, theirs in times),
        "over_plain": statistics.median(mine / theirs for mine, theirs in times),
        "largest_difference": difference,
    }


def run(model: str = TINY, device: str = "auto", rounds: int = 15, fresh: int = 3) -> dict[str, Any]:
    """Time `rounds` runs of each pair, and first questions in `fresh` processes each with and without a warm-up.

    Raises ModelError if the model fails to load."""
    config, loading = settings_of(model)
    set_torch_threads(threads_of(model))
    language: Any = load_model(model, device=device, **loading)
    memory = FlashMemory(config)
    slots = stream(encoded(language, config.slot_period_ns / SECOND_NS), language, config.slot_period_ns)
    for slot in itertools.islice(slots, 2 * config.csm_slots):
        memory.insert(slot)
    bytes_per_s = copy_bandwidth(language.device)
    decoded = decode_over_floor(language, memory.snapshot(), bytes_per_s)
    evidence = evidence_cost(language, memory.snapshot(), EVIDENCE_PER_ROUND * rounds)
    further_s = TOKENS * decoded.token_s
    graph = {}
    if language.device.type == "cuda":  # without a prefix cache, no CUDA graph is used
        plain_s = _token_times(
            language.answer(memory.snapshot(), QUESTIONS[0], TOKENS + BEFORE), TOKENS, language.device
        )
        graph["graph_over_plain"] = decoded.token_s / statistics.median(plain_s)
    layers = {
        f"{name}, {str(dtype).removeprefix('torch.')}": layer_gains(layer, dtype, rounds)
        for name, layer in LAYERS.items()
        for dtype in (torch.float32, torch.bfloat16)
    }
    first: dict[str, list[list[float]]] = {"with": [], "without": []}
    for _ in tracked(range(fresh), "new processes", fresh):
        for kind, times in first.items():
            times.append(first_tokens_s(model, device, warm_up=kind == "with"))
    return {
        "model": model,
        "device": str(language.device),
        "threads": torch.get_num_threads(),
        "copy_bytes_per_s": bytes_per_s,
        "tokens_per_s": 1 / decoded.token_s,
        "decoding": decoded._asdict(),
        "evidence": evidence,
        "layers": layers,
        "first_questions_s": first,
        "ratios": {
            "decode_over_floor": decoded.over_floor,
            "answer_with_evidence_over_without": (evidence["with_s"] + further_s) / (evidence["without_s"] + further_s),
            "first_token_with_evidence_over_without": evidence["with_s"] / evidence["without_s"],
            **graph,
            **{f"first_over_tenth_{kind}_warm_up": _first_over_tenth(times) for kind, times in first.items() if times},
        },
    }


def _first_over_tenth(processes: Sequence[Sequence[float]]) -> float:
    return statistics.median(times[0] / times[-1] for times in processes)


def show(result: dict[str, Any]) -> None:
    decoded = result["decoding"]
    print(f"{result['model']} on {result['device']}, {result['threads']} threads")
    print(
        f"a token {1e3 * decoded['token_s']:.2f} ms, {result['tokens_per_s']:.0f} tokens/s; its floor "
        f"{1e3 * decoded['floor_s']:.3f} ms: {decoded['bytes_read'] / 1e6:.1f} MB"
        f" at {result['copy_bytes_per_s'] / 1e9:.1f} GB/s"
    )
    print(f"{'attention of one layer, CPU':>28} {'of':>9} {'plain [ms]':>10} {'ours [ms]':>10} {'ratio':>7}")
    for layer, gains in result["layers"].items():
        for name, gain in gains.items():
            print(
                f"{layer:>28} {name:>9} {1e3 * gain['plain_s']:10.3f} {1e3 * gain['ours_s']:10.3f}"
                f" {gain['over_plain']:7.3f}"
            )
    for kind, processes in result["first_questions_s"].items():
        if processes:
            first, tenth = (1e3 * statistics.median(times[place] for times in processes) for place in (0, -1))
            print(f"fresh process {kind} warm-up: first token of question 1 {first:.1f} ms, of 10 {tenth:.1f} ms")
    for name, ratio in result["ratios"].items():
        print(f"  {name:>38} {ratio:.3f}")
