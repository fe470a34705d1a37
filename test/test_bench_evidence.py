"""The ranking of evidence, and that the household model's evidence shows what was asked about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flash_vstream_ros.bench import evidence_heads
from flash_vstream_ros.bench.errors import BenchmarkError
from flash_vstream_ros.bench.evidence import (
    Ranked,
    evidence_scores,
    ranked_entries,
    ranked_evidence,
    scores_by_subject,
    subject_of,
)
from flash_vstream_ros.bench.patrol_evaluation import encoded_slots
from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.scoring import Names, Question
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.memory import EntryKind, FlashMemory, MemoryEntry
from flash_vstream_ros.models.household_settings import LOADING, MEMORY, complete_slots
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.names import HOUSEHOLD


def asked(kind: str, age_s: float | None = 5.0) -> Question:
    return Question(kind, "Where is the red ball?", "", age_s, False, names=Names(thing="red ball"))


def test_only_questions_about_a_seen_thing_are_ranked() -> None:
    assert asked("where").thing == "red ball"
    assert asked("where", None).thing == ""
    assert asked("colour").thing == ""
    before = Question("room_before", "", "the living room", 5.0, False, names=Names("hallway"))
    visited = before._replace(kind="when_room", answer="2 minutes ago")
    assert (before.room, before.room_by_order) == ("", "living room")
    assert (visited.room, visited.room_by_order) == ("hallway", "")
    assert visited._replace(age_s=None).room == asked("where").room == asked("where").room_by_order == ""
    assert [*map(subject_of, (asked("where"), visited, before, asked("colour")))] == ["things", "rooms", "order", ""]


def test_the_rank_counts_entries_up_to_the_first_that_shows_the_thing() -> None:
    world = World(500_000, 3.0)
    seen = next(observation for visit in world.visits for observation in visit.observations if observation.thing)
    away = next(t for t in range(170) if seen.thing.name not in world.truth(t).things)
    entries = [
        MemoryEntry(EntryKind.CSM, "camera", "", 0, round(t * 1e9), 1.0, b"", round(t * 1e9)) for t in (away, seen.end)
    ]
    question = asked("where")._replace(names=Names(thing=seen.thing.name))
    assert ranked_entries(world, question, entries) == [Ranked(1, 0.5)]
    assert ranked_entries(world, question, entries[:1]) == []
    rooms = [world.truth(entry.last_ns / 1e9).room for entry in entries]
    visited = Question("when_room", "", "", 5.0, False, names=Names(rooms[1]))
    assert ranked_entries(world, visited, entries) == [
        Ranked(rooms.index(rooms[1]), rooms.count(rooms[1]) / 2, "rooms")
    ]
    scores = evidence_scores([Ranked(0, 0.25), Ranked(2, 0.25), Ranked(7, 0.5), Ranked(9, 0.0)])
    assert scores == {"questions": 4, "hits_at_1": 1, "precision_at_1": 0.25, "hit_at_3": 0.5, "random_entry": 0.25}
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
    for subject, least, factor in (("things", 20, 2), ("rooms", 4, 1.5)):
        scores = scores_by_subject(ranked)[subject]
        assert scores["questions"] >= least
        assert scores["precision_at_1"] >= 0.95
        assert scores["precision_at_1"] > factor * scores["random_entry"]


def test_heads_are_fitted_on_some_patrols_and_measured_on_others(capsys: pytest.CaptureFixture[str]) -> None:
    result = evidence_heads.run(streams=2, minutes=3.0, device="cpu", pace=(15.0, 15.0))
    assert result["fitted"]["questions"] == result["alike"]["questions"] >= 10
    assert result["alike"]["precision_at_1"] >= 0.9
    assert abs(sum(map(sum, result["weights"])) - 1) < 1e-5
    assert result["saved"] is None
    evidence_heads.show(result)
    assert "mean over 6 x 4 heads" in capsys.readouterr().out


def test_weights_are_saved_in_a_models_folder_only(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"has no config\.json"):
        evidence_heads.run(save=tmp_path)
