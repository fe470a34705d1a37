"""Checks with the simulator if the evidence of answers, ranked by attention, shows what was asked about."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from flash_vstream_ros.demo.questions import EVERY_THING
from flash_vstream_ros.demo.scoring import Question
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.memory import MemorySnapshot
from flash_vstream_ros.memory.spans import SECOND_NS

THING_KINDS = ("where", "when", "seen")  # kinds of questions that name a thing


class Ranked(NamedTuple):
    """The evidence of one question."""

    rank: int | None  # rank, from 0, of the first entry whose thumbnail shows the thing; None: no entry does
    share_of_entries: float  # share of entries whose thumbnail shows it: the precision of a random entry


def ranked_evidence(model: Any, world: World, snapshot: MemorySnapshot, questions: Sequence[Question]) -> list[Ranked]:
    """Rank the evidence of every question about a thing that some entry shows."""
    ranked = []
    for question in questions:
        name = thing_of(question)
        shows = [name in world.truth(entry.thumbnail_ns / SECOND_NS).things for entry in snapshot.entries]
        if not name or not any(shows):
            continue
        generation = model.answer(snapshot, question.text, 1)
        generation.prefill(generation.remaining_tokens)
        ranked.append(Ranked(first_rank(generation.attention, shows), fmean(shows)))
    return ranked


def thing_of(question: Question) -> str:
    """The thing that a question is about, if it was seen; "" for other questions."""
    if question.kind not in THING_KINDS or question.age_s is None:
        return ""
    return next((thing.name for thing in EVERY_THING if thing.name in question.text), "")


def first_rank(attention: Sequence[float], shows: Sequence[bool]) -> int | None:
    """Rank of the first entry with `shows` set, in order of decreasing attention."""
    order = sorted(range(len(shows)), key=lambda place: -attention[place])
    return next((rank for rank, place in enumerate(order) if shows[place]), None)


def evidence_scores(ranked: Sequence[Ranked]) -> dict[str, Any]:
    """Shares of questions whose first entry, or one of the first three, shows what was asked about."""
    ranks = [one.rank for one in ranked]
    return {
        "questions": len(ranks),
        "precision_at_1": fmean(rank == 0 for rank in ranks) if ranks else None,
        "hit_at_3": fmean(rank is not None and rank < 3 for rank in ranks) if ranks else None,
        "random_entry": fmean(one.share_of_entries for one in ranked) if ranked else None,
    }
