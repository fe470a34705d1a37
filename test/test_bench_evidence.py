"""The ranking of evidence, and that the household model's evidence shows what was asked about."""

from __future__ import annotations

import numpy as np

from flash_vstream_ros.bench.evidence import Ranked, evidence_scores, first_rank, ranked_evidence, thing_of
from flash_vstream_ros.bench.patrol_evaluation import encoded_slots
from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.scoring import Question
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.memory import FlashMemory
from flash_vstream_ros.models.household_settings import LOADING, MEMORY, complete_slots
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.names import HOUSEHOLD


def asked(kind: str, text: str, age_s: float | None = 5.0) -> Question:
    return Question(kind, text, "", age_s, False)


def test_only_questions_about_a_seen_thing_are_ranked() -> None:
    assert thing_of(asked("where", "Where is the red ball?")) == "red ball"
    assert thing_of(asked("where", "Where is the red ball?", None)) == ""
    assert thing_of(asked("room_now", "Where are you?")) == ""


def test_the_rank_counts_entries_up_to_the_first_that_shows_the_thing() -> None:
    assert first_rank([0.1, 0.5, 0.3], [False, False, True]) == 1
    assert first_rank([0.1, 0.5, 0.3], [False, False, False]) is None
    scores = evidence_scores([Ranked(0, 0.25), Ranked(2, 0.25), Ranked(7, 0.5), Ranked(None, 0.0)])
    assert scores == {"questions": 4, "precision_at_1": 0.25, "hit_at_3": 0.5, "random_entry": 0.25}
    assert evidence_scores([])["precision_at_1"] is None


def test_the_first_evidence_of_the_household_model_shows_the_thing_asked_about() -> None:
    model, world, memory = load_model(HOUSEHOLD, device="cpu", **LOADING), World(500_000, 3.0), FlashMemory(MEMORY)
    now = 170.0
    for slot in encoded_slots(model, world, range(complete_slots(now)), model.grid(*world.frame(0.0).shape[:2])):
        memory.insert(slot)
    draw = np.random.default_rng(0)
    ranked = [
        one
        for _ in range(6)
        for one in ranked_evidence(model, world, memory.snapshot(), questions(world.visits, now, draw))
    ]
    scores = evidence_scores(ranked)
    assert scores["questions"] >= 20
    assert scores["precision_at_1"] >= 0.95
    assert scores["precision_at_1"] > 3 * scores["random_entry"]
