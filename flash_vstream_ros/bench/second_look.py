"""Answers with a second look at a hierarchical memory, through the engine's own prefiller and dialogue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from flash_vstream_ros.demo.scoring import Question
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.engine.answering.question import Answer
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, Slot
from flash_vstream_ros.memory.config import HIERARCHICAL
from flash_vstream_ros.models.household_settings import SECOND_LOOK_SHARE
from flash_vstream_ros.models.model_kind import without_label

from .evidence import Ranked, ranked_entries, subject_of
from .prefix_cache import QUESTIONS, TOKENS, Asker

PER_UNCACHED = 4  # questions with a second look per uncached question
CONFIG = EngineConfig(max_new_tokens=64, evidence=1 << 10, second_look=SECOND_LOOK_SHARE)


def second_look_answers(
    model: Any, memory: FlashMemory, texts: Sequence[str], share: float = SECOND_LOOK_SHARE
) -> list[Answer]:
    """The answers to `texts`. Their evidence has the entries of both looks, the one with the most attention first.

    The second look adds at most `share` of the visual tokens of the memory.
    """
    asker = Asker.of(model, memory, "cached", replace(CONFIG, second_look=share))
    answers = (asker.ask(text).answer for text in texts)
    return [replace(answer, text=without_label(answer.text)) for answer in answers]


def first_tokens(model: Any, slots: Iterable[Slot], config: FlashMemoryConfig, rounds: int) -> dict[str, Any]:
    """Times to the first token from a hierarchical memory: uncached without a second look, and cached with one.

    Each of `rounds` asks a question uncached, then the same question PER_UNCACHED times with a second look.
    """
    memory = FlashMemory(replace(config, retention=HIERARCHICAL))
    for slot in slots:
        memory.insert(slot)
    uncached = Asker.of(model, memory, "uncached", replace(CONFIG, max_new_tokens=TOKENS, second_look=0.0))
    twice = Asker.of(model, memory, "cached", replace(CONFIG, max_new_tokens=TOKENS))
    twice.fill_cache()
    asked: dict[str, list[Answer]] = {"uncached": [], "second_look": []}
    for number in range(rounds):
        text = QUESTIONS[number % len(QUESTIONS)]
        asked["uncached"].append(uncached.ask(text).answer)
        asked["second_look"] += [twice.ask(text).answer for _ in range(PER_UNCACHED)]
    times = {kind: median(answer.time_to_first_token_s for answer in answers) for kind, answers in asked.items()}
    return {
        "slots": memory.slots_seen,
        "memory_tokens": memory.tokens,
        "second_look_tokens": max(answer.memory_tokens for answer in asked["second_look"]) - memory.tokens,
        **{f"{kind}_first_token_p50_s": seconds for kind, seconds in times.items()},
    }


def ranked_answers(world: World, questions: Sequence[Question], answers: Sequence[Answer]) -> list[Ranked]:
    """Rank the evidence of every question about one of `evidence.SUBJECTS` that some entry shows."""
    return [
        ranked
        for question, answer in zip(questions, answers, strict=True)
        if subject_of(question)
        for ranked in ranked_entries(world, question, [evidence.entry for evidence in answer.evidence])
    ]
