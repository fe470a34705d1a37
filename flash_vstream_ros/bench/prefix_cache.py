"""Time to the first token of an answer, cached and uncached, and of a search, after 10 minutes and 10 hours of stream.

Both memories are asked the same questions alternately: uncached, where the whole prompt is prefilled, and cached, where
the prompt up to the question was prefilled before. The engine's own prefiller and dialogue answer. Slots are encoded
once and repeated with noise, so that all are different.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from flash_vstream_ros.demo.world import World
from flash_vstream_ros.engine.answering.caching_prefiller import CachingPrefiller, prefiller_for
from flash_vstream_ros.engine.answering.dialogue import Dialogue
from flash_vstream_ros.engine.answering.prefiller import Prefiller
from flash_vstream_ros.engine.answering.prefix_cache_config import PrefixCacheConfig
from flash_vstream_ros.engine.answering.question import Answer, ErrorCode, Question
from flash_vstream_ros.engine.answering.request import Request
from flash_vstream_ros.engine.answering.request_queue import RequestQueue
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory import FlashMemory, Slot
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.interface import ModelError, VisionLanguageModel
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.names import TINY
from flash_vstream_ros.process import set_torch_threads
from flash_vstream_ros.progress import tracked

from .model import settings_of, threads_of

SIDE = 448  # side of a frame [px]; the model may resize it
ENCODED = 48  # number of slots that are encoded
LENGTHS_S = {"10 min": 600.0, "10 h": 36_000.0}
KINDS = ("uncached", "cached")
CACHED_PER_UNCACHED = 8
TOKENS = 4  # length of an answer
SEARCH = Question("a red ball", moments=3)
QUESTIONS = (
    "Where is the red ball?",
    "What do you see now?",
    "Which room were you in before the kitchen?",
    "How many minutes ago did you last see somebody in the living room, and what was lying on the table then?",
)


class Asked(NamedTuple):
    """An answer, and the duration of each step of the dialogue [s]: the prompt, then each token."""

    answer: Answer
    steps_s: list[float]


@dataclass(frozen=True, eq=False)
class Asker:
    """Asks questions about one memory, cached or uncached, through the engine's prefiller and dialogue."""

    prefiller: Prefiller
    dialogue: Dialogue
    requests: RequestQueue
    warnings: list[str]

    @classmethod
    def of(
        cls,
        model: VisionLanguageModel,
        memory: FlashMemory,
        kind: str,
        config: EngineConfig = EngineConfig(max_new_tokens=TOKENS),  # noqa: B008 (frozen)
    ) -> Asker:
        warnings: list[str] = []
        log, requests = ThrottledLog(warnings.append), RequestQueue(1)
        limits = PrefixCacheConfig(max_device_share=1.0, max_mib=1 << 20)
        context = Context(model, memory, log)
        prefiller = prefiller_for(context, limits) if kind == "cached" else Prefiller(context)
        dialogue = Dialogue(context, config, prefiller, requests)
        return cls(prefiller, dialogue, requests, warnings)

    def ask(self, question: str | Question) -> Asked:
        whole = Question(question) if isinstance(question, str) else question
        request, steps_s = Request(whole, deadline_s=3600.0), []
        self.requests.push(request)
        while True:
            began = time.perf_counter()
            if not self.dialogue.step():
                break
            steps_s.append(time.perf_counter() - began)
        answer = request.answer()
        if answer.error_code is not ErrorCode.NONE:
            raise RuntimeError(f"{answer.error_code.name}: {answer.error_msg}")
        return Asked(answer, steps_s)

    def fill_cache(self) -> list[float]:
        """Run the background prefill to its end. Returns the duration of each chunk [s]."""
        chunks_s: list[float] = []
        while True:
            began = time.perf_counter()
            wait_s = self.prefiller.background_prefill()
            if wait_s is None:
                return chunks_s
            chunks_s.append(time.perf_counter() - began)
            time.sleep(wait_s)


def encoded(model: VisionLanguageModel, slot_period_s: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Features (low, detail) of each slot of a patrol of the demo's robot."""
    images, grid = patrol_images(slot_period_s), model.grid(SIDE, SIDE)
    return [model.encode(images[index : index + 2], grid) for index in range(0, len(images), 2)]


def patrol_images(slot_period_s: float) -> list[np.ndarray]:
    """Images of a patrol of the demo's robot, two for each slot: RGB uint8 [448, 448, 3]."""
    world = World(0, minutes=ENCODED * slot_period_s / 60)
    return [world.frame(index * slot_period_s / 2) for index in range(2 * ENCODED)]


def stream(
    features: Sequence[tuple[torch.Tensor, torch.Tensor]], model: VisionLanguageModel, period_ns: int
) -> Iterator[Slot]:
    """Repeat the slots of a patrol endlessly, each mixed with a little of another. `features` are from `encoded`."""
    grid = model.grid(SIDE, SIDE)
    for index, (low, detail) in enumerate(mixed(features)):
        at_ns = (index + 1) * period_ns
        yield Slot("camera", "", at_ns - period_ns // 2, at_ns, low, detail, grid)


def mixed(features: Sequence[tuple[torch.Tensor, ...]]) -> Iterator[tuple[torch.Tensor, ...]]:
    """The features of the slots of `stream`; a slot's features may be any tuple of tensors."""
    for index in itertools.count():
        turn, place = divmod(index, len(features))
        other = features[(place + turn) % len(features)]
        yield tuple(torch.lerp(one, two, 0.1) for one, two in zip(features[place], other, strict=True))


def run(model: str = TINY, device: str = "auto", rounds: int = 10, further_slots: int = 6) -> dict[str, Any]:
    """Ask `rounds` uncached questions about each memory, then insert `further_slots` into the longer one.

    Raises ModelError if the model fails to load or has no prefix cache."""
    config, loading = settings_of(model)
    set_torch_threads(threads_of(model))
    language = load_model(model, device=device, **loading)
    features = encoded(language, config.slot_period_ns / SECOND_NS)
    memories = {length: FlashMemory(config) for length in LENGTHS_S}
    for length, memory in memories.items():
        slots = int(LENGTHS_S[length] * SECOND_NS / config.slot_period_ns)
        for slot in itertools.islice(stream(features, language, config.slot_period_ns), slots):
            memory.insert(slot)
    askers = {kind: {at: Asker.of(language, memory, kind) for at, memory in memories.items()} for kind in KINDS}
    if not all(isinstance(asker.prefiller, CachingPrefiller) for asker in askers["cached"].values()):
        raise ModelError(f"{model} has no prefix cache to measure: use a model with one.")
    chunks_s = {length: asker.fill_cache() for length, asker in askers["cached"].items()}
    asked = ask_in_turn(askers, rounds)
    searched = {at: [asker.ask(SEARCH) for _ in range(rounds)] for at, asker in askers["cached"].items()}
    pairs = [
        (asked["uncached", at][k], asked["cached", at][k * CACHED_PER_UNCACHED])
        for at in LENGTHS_S
        for k in range(rounds)
    ]
    lengths: dict[str, dict[str, Any]] = {
        length: {
            "slots": memory.slots_seen,
            "memory_tokens": asked["uncached", length][0].answer.memory_tokens,
            "cached_tokens": asked["cached", length][0].answer.cached_tokens,
            "prefix_cache_bytes": askers["cached"][length].prefiller.status.bytes,
            "prefill_s": sum(chunks_s[length]),
            "prefill_chunks": len(chunks_s[length]),
            "longest_chunk_s": max(chunks_s[length]),
            "search_s": statistics.median(sum(one.steps_s) for one in searched[length]),
            **{kind: times_of(asked[kind, length]) for kind in KINDS},
        }
        for length, memory in memories.items()
    }
    further = itertools.islice(stream(features, language, config.slot_period_ns), memories["10 h"].slots_seen, None)
    again = _prefilled_again(language, memories["10 h"], list(itertools.islice(further, further_slots)))
    short, long = lengths.values()
    return {
        "model": model,
        "device": str(language.device),
        "threads": torch.get_num_threads(),
        "lengths": lengths,
        "answers_compared": len(pairs),
        "answers_in_the_same_words": sum(uncached.answer.text == cached.answer.text for uncached, cached in pairs),
        "warnings": [line for kind in KINDS for asker in askers[kind].values() for line in asker.warnings],
        "ratios": {
            "cached_over_uncached": long["cached"]["first_token_p50_s"] / long["uncached"]["first_token_p50_s"],
            "cached_over_uncached_p95": long["cached"]["first_token_p95_s"] / long["uncached"]["first_token_p95_s"],
            "cached_10h_over_10min": long["cached"]["first_token_p50_s"] / short["cached"]["first_token_p50_s"],
            "search_over_cached": long["search_s"] / long["cached"]["first_token_p50_s"],
            "search_over_uncached": long["search_s"] / long["uncached"]["first_token_p50_s"],
            **{f"prefilled_again_{order}": share for order, share in again.items()},
        },
    }


def ask_in_turn(askers: Mapping[str, Mapping[str, Asker]], rounds: int) -> dict[tuple[str, str], list[Asked]]:
    """Ask one question per round: each memory once uncached, then CACHED_PER_UNCACHED times cached."""
    asked: dict[tuple[str, str], list[Asked]] = defaultdict(list)
    for number in tracked(range(rounds), "rounds", rounds):
        text = QUESTIONS[number % len(QUESTIONS)]
        for kind in ("uncached", *["cached"] * CACHED_PER_UNCACHED):
            for length, asker in askers[kind].items():
                asked[kind, length].append(asker.ask(text))
    return asked


def _prefilled_again(model: VisionLanguageModel, memory: FlashMemory, slots: Sequence[Slot]) -> dict[str, float]:
    """Share of the prefix cache that is prefilled again after a new slot, by the order of the memory tokens."""
    askers = {order: Asker.of(model, memory, "cached") for order in ("trained", "stable")}
    askers["stable"].prefiller.config = replace(askers["stable"].prefiller.config, stable_order=True)
    shares: dict[str, list[float]] = defaultdict(list)
    for slot in slots:
        for asker in askers.values():
            asker.fill_cache()
        memory.insert(slot)
        for order, asker in askers.items():
            before = asker.prefiller.status.tokens
            asker.prefiller.note_memory_change()
            # The call that drops the changed tokens returns 0.
            while wait_s := asker.prefiller.background_prefill():
                time.sleep(wait_s)
            shares[order].append(1 - asker.prefiller.status.tokens / before)
    return {order: statistics.fmean(of_order) for order, of_order in shares.items()}


def times_of(asked: Sequence[Asked]) -> dict[str, float]:
    first_s = [one.answer.time_to_first_token_s for one in asked]
    cuts = statistics.quantiles(first_s, n=20, method="inclusive")
    # Steps: the prompt, the first token, further tokens.
    return {
        "questions": len(asked),
        "first_token_p50_s": cuts[9],
        "first_token_p95_s": cuts[18],
        "token_step_s": statistics.median(one.steps_s[3] for one in asked if len(one.steps_s) > 3),
    }


def show(result: dict[str, Any]) -> None:
    print(f"{result['model']} on {result['device']}, {result['threads']} threads")
    print(
        f"{'stream':>8} {'tokens':>7} {'uncached':>9} {'p95':>8} {'cached':>9} {'p95':>8}   first token, p50, p95 [ms]"
    )
    for length, figures in result["lengths"].items():
        times = [1e3 * figures[kind][f"first_token_{p}_s"] for kind in ("uncached", "cached") for p in ("p50", "p95")]
        print(
            f"{length:>8} {figures['memory_tokens']:>7} {times[0]:9.1f} {times[1]:8.1f} {times[2]:9.2f} {times[3]:8.2f}"
        )
        print(
            f"{'':>8} prefix cache {figures['prefix_cache_bytes'] / 1e6:.1f} MB, prefill {figures['prefill_s']:.2f} s,"
            f" {figures['prefill_chunks']} chunks of at most {1e3 * figures['longest_chunk_s']:.0f} ms;"
            f" a token {1e3 * figures['cached']['token_step_s']:.1f} ms, a search {1e3 * figures['search_s']:.1f} ms"
        )
    same, compared = result["answers_in_the_same_words"], result["answers_compared"]
    print(f"{same} of {compared} cached answers have the words of the uncached ones")
    for sentence in result["warnings"]:
        print(f"  {sentence}")
    for name, ratio in result["ratios"].items():
        print(f"  {name:>20} {ratio:.4f}")
