"""Checks with the simulator if the evidence of answers, ranked by attention, shows what was asked about."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from flash_vstream_ros.demo.scoring import Question
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.engine.answering.evidence_ranking import strongest_first
from flash_vstream_ros.memory import MemoryEntry, MemorySnapshot
from flash_vstream_ros.memory.spans import SECOND_NS

SUBJECTS = ("things", "rooms", "order")  # what a question is about: a thing, a room, or which room came first or before


class Ranked(NamedTuple):
    """The evidence of one question."""

    rank: int  # rank, from 0, of the first entry whose thumbnail shows what was asked about
    share_of_entries: float  # share of entries whose thumbnail shows it: the precision of a random entry
    subject: str = "things"  # one of SUBJECTS

    @classmethod
    def of(cls, shows: Sequence[bool], subject: str = "things") -> Ranked:
        """From whether each entry, strongest first, shows what was asked about; at least one does."""
        return cls(shows.index(True), fmean(shows), subject)


def ranked_evidence(model: Any, world: World, snapshot: MemorySnapshot, questions: Sequence[Question]) -> list[Ranked]:
    """Rank the evidence of every question about one of SUBJECTS that some entry shows."""
    ranked = []
    for question in questions:
        if subject_of(question):
            attention = prefilled(model, snapshot, question).attention
            ranked += ranked_entries(world, question, strongest_first(snapshot.entries, attention))
    return ranked


def prefilled(model: Any, snapshot: MemorySnapshot, question: Question) -> Any:
    """The generation of an answer, whose prompt is prefilled."""
    generation = model.answer(snapshot, question.text, 1)
    generation.prefill(generation.remaining_tokens)
    return generation


def ranked_entries(world: World, question: Question, entries: Sequence[MemoryEntry]) -> list[Ranked]:
    """The rank among `entries`, strongest first, of one that shows what is asked about; empty if none does."""
    shows = shown(world, question, entries)
    return [Ranked.of(shows, subject_of(question))] if any(shows) else []


def shown(world: World, question: Question, entries: Sequence[MemoryEntry]) -> list[bool]:
    """Whether the thumbnail of each entry shows the thing, the room, or the room that answers the question."""
    views = (world.truth(entry.thumbnail_ns / SECOND_NS) for entry in entries)
    room = question.room or question.room_by_order
    return [question.thing in view.things if question.thing else room == view.room for view in views]


def subject_of(question: Question) -> str:
    """The one of SUBJECTS that a question is about; "" if its evidence is not ranked."""
    if question.thing:
        return "things"
    return "rooms" if question.room else "order" if question.room_by_order else ""


def scores_by_subject(ranked: Sequence[Ranked]) -> dict[str, dict[str, Any]]:
    return {subject: evidence_scores([one for one in ranked if one.subject == subject]) for subject in SUBJECTS}


def evidence_scores(ranked: Sequence[Ranked]) -> dict[str, Any]:
    """Shares of questions whose first entry, or one of the first three, shows what was asked about."""
    ranks = [one.rank for one in ranked]
    return {
        "questions": len(ranks),
        "hits_at_1": sum(rank == 0 for rank in ranks),
        "precision_at_1": fmean(rank == 0 for rank in ranks) if ranks else None,
        "hit_at_3": fmean(rank < 3 for rank in ranks) if ranks else None,
        "random_entry": fmean(one.share_of_entries for one in ranked) if ranked else None,
    }
