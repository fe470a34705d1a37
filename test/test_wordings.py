"""Wordings by grammar and by people, questions out of the world, and the calibration of answers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flash_vstream_ros.bench.calibration import auc, calibration_error
from flash_vstream_ros.bench.patrol_evaluation import LIGHTS
from flash_vstream_ros.bench.people_wordings import PEOPLE_OUT_OF_WORLD, PEOPLE_WORDINGS
from flash_vstream_ros.bench.wordings import (
    OUT_OF_WORLD,
    OUTSIDE,
    OWN,
    ROWS,
    ScoredReply,
    declines,
    figures,
    polite,
    replies,
)
from flash_vstream_ros.cli import main
from flash_vstream_ros.demo.broad_wordings import (
    FURTHER,
    VOICES,
    VOICES_OUT_OF_WORLD,
    broad_synonyms,
    broad_templates,
    broad_words,
)
from flash_vstream_ros.demo.grammar import Part, reworded, spelled, wording
from flash_vstream_ros.demo.grammar_forms import AFTER, BEFORE, DIRECT, INDIRECT, LEADS, SYNONYMS, WORDS
from flash_vstream_ros.demo.out_of_world import MADE_UP, OBJECTS, PLACES, TEMPLATES, TINTS, out_of_world
from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.scoring import Question, right
from flash_vstream_ros.demo.spellings import EXACT
from flash_vstream_ros.demo.wordings import WORDINGS
from flash_vstream_ros.demo.world import COLOURS, KINDS, ROOMS, World
from flash_vstream_ros.models.confidence import CONFIDENCE_KEY, DECLINES_KEY, Calibration

TRAINED = (Part.TRAIN, Part.BROAD, Part.BROADER, Part.VOICES)
NAMES = {"room": "kitchen", "thing": "red ball", "kind": "ball"}
EVERY_PARTS = [*DIRECT.values(), *INDIRECT.values(), *WORDS.values()]


def test_every_form_of_question_has_a_grammar_and_wordings_by_people() -> None:
    assert WORDINGS.keys() == DIRECT.keys() == INDIRECT.keys() == PEOPLE_WORDINGS.keys()


def test_held_out_wordings_are_not_in_training() -> None:
    for parts in (*EVERY_PARTS, OBJECTS, PLACES, TINTS, MADE_UP, TEMPLATES):
        assert parts.train
        assert parts.held_out
        assert not set(parts.train) & set(parts.held_out)


@pytest.mark.parametrize("form", WORDINGS)
def test_wordings_hardly_repeat_and_name_what_the_question_is_about(form: str) -> None:
    rng = np.random.default_rng(0)
    needed = {name for name in NAMES if f"{{{name}}}" in WORDINGS[form][0]}
    made: dict[Part, set[str]] = {}
    for part in Part:
        made[part] = {wording(form, rng, part) for _ in range(1000)}
        for text in made[part]:
            assert not set("[]<>|") & set(text)
            assert {name for name in NAMES if f"{{{name}}}" in text} == needed, text
    assert len(made[Part.TRAIN]) > 150
    assert len(made[Part.BROAD]) > 150
    people = {text.lower().rstrip("?.") for text in PEOPLE_WORDINGS[form]}
    for trained in (made[part] for part in TRAINED):
        assert not trained & (made[Part.TEMPLATES] | made[Part.SYNONYMS] | people)
    for trained in (made[part] for part in TRAINED):
        assert len(made[Part.FIT] & trained) < 0.12 * len(
            made[Part.FIT]
        )  # most for persons, who have few neutral words


@pytest.mark.parametrize("group", ["direct", "indirect", VOICES])
def test_broad_wordings_have_no_word_of_the_held_out_ones(group: str) -> None:
    synonyms = [words for parts in (*SYNONYMS.values(), LEADS) for words in parts.held_out]
    for form in WORDINGS:
        broad = broad_templates(group, form)
        assert len(broad.train) > 12
        assert not set(broad.train) & set(broad.fit)
        texts = [f" {text} ".replace("[", " ").replace("]", " ").replace("|", " ") for text in broad.train + broad.fit]
        for words in synonyms:
            assert not [text for text in texts if f" {words} " in text], words


@pytest.mark.parametrize("name", WORDS)
def test_broad_synonyms_are_not_held_out(name: str) -> None:
    broad = broad_synonyms(name)
    assert len(broad.train) > 12
    assert not set(broad.train) & set(broad.fit)
    assert not {*broad.train, *broad.fit} & set(WORDS[name].held_out)
    assert set(broad.fit) - set(WORDS[name].train)


@pytest.mark.parametrize("group", ["out of world", FURTHER, VOICES_OUT_OF_WORLD])
def test_broad_out_of_world_questions_have_no_held_out_word(group: str) -> None:
    for name, parts in (("objects", OBJECTS), ("places", PLACES), ("tints", TINTS), ("made up", MADE_UP)):
        words = {word for text in broad_words(group, name) for word in text.split()}
        assert words
        assert not words & set(parts.held_out), name


def test_a_rewording_keeps_the_answer() -> None:
    world, rng = World(3, 4.0), np.random.default_rng(0)
    for question in questions(world.visits, world.duration, rng):
        other = reworded(question, rng)
        assert other._replace(text=question.text) == question
        assert all(
            value.lower() in other.text.lower()
            for key, value in question.names._asdict().items()
            if _asked(question, key)
        )
        assert spelled(other.text, rng).strip()


def _asked(question: Question, name: str) -> bool:
    return f"{{{name}}}" in WORDINGS[question.form][0]


def test_a_polite_question_is_the_question_with_a_courtesy() -> None:
    rng, question = np.random.default_rng(0), Question("scene", "What do you see?", "", None, False)
    texts = {polite(question, rng).text for _ in range(300)}
    assert len(texts) == sum(map(len, (*BEFORE, *AFTER)))
    assert {"Please, what do you see?", "What do you see, thanks?"} < texts
    assert all("hat do you see" in text and text[0].isupper() and text.endswith("?") for text in texts)


def test_questions_out_of_the_world_cannot_be_answered_in_it() -> None:
    rng = np.random.default_rng(0)
    things = {f"{colour} {kind}" for colour in COLOURS for kind in KINDS}
    parts = (Part.TRAIN, Part.BROAD, Part.BROADER, Part.VOICES, Part.FIT, Part.TEMPLATES)
    train, broad, broader, voices, fit, held_out = (
        {out_of_world(rng, part).text for _ in range(2000)} for part in parts
    )
    broad |= broader | voices
    assert min(len(train), len(broad)) > 800
    assert len((train | broad) & held_out) < 0.01 * len(train)
    people = {text.lower().rstrip("?.! ") for text in PEOPLE_OUT_OF_WORLD}
    assert not {text.lower().rstrip("?.! ") for text in broad} & people
    for text in train | broad | fit | held_out:
        asked = text.lower().rstrip("?")
        assert not any(asked.startswith("did you") and asked.endswith(f"see a {thing}") for thing in things), text
        assert not any(asked == f"where is the {thing}" for thing in things), text
        assert not any(asked.endswith(f"in the {room}") and "how often" in asked for room in ROOMS), text
    assert right(out_of_world(rng), "I cannot tell.")
    assert not right(out_of_world(rng), "no")
    assert len(set(PEOPLE_OUT_OF_WORLD)) == len(PEOPLE_OUT_OF_WORLD)


def test_calibration_error_and_area_under_the_curve() -> None:
    assert calibration_error([1.0, 1.0, 0.0, 0.0], [True, True, False, False]) == 0
    assert calibration_error([0.9, 0.9], [True, False]) == pytest.approx(0.4)
    assert auc([0.9, 0.8], [0.1, 0.2]) == 1
    assert auc([0.5], [0.5]) == 0.5
    with pytest.raises(ValueError, match="both classes"):
        auc([], [0.1])


def test_confidence_of_a_model_without_a_calibration_is_the_geometric_mean() -> None:
    assert Calibration.of(SimpleNamespace()).confidence([0.5, 0.5]) == pytest.approx(0.5)
    assert Calibration().confidence([]) == 0
    for unusable in ("x", [1.0], [1.0, math.nan, 0.0], {"a": 1}, [1, 2, "3"]):
        assert Calibration.of(SimpleNamespace(**{CONFIDENCE_KEY: unusable})) == Calibration()
    assert not Calibration().fitted
    assert Calibration.of(SimpleNamespace(**{DECLINES_KEY: "Unknown."})) == Calibration(declines="Unknown.")
    for unusable in ("", "  ", 7, None, ["x"]):
        assert Calibration.of(SimpleNamespace(**{DECLINES_KEY: unusable})) == Calibration()


def test_confidence_is_zero_for_i_cannot_tell_of_every_model() -> None:
    for calibration in (Calibration(), Calibration((0.0, 1.0, 1.0))):
        for text in ("I cannot tell.", "i cannot tell", " I cannot tell. "):
            assert calibration.confidence([0.9], text) == 0
        for text in ("I cannot tell you apart from red balls.", "no"):
            assert calibration.confidence([0.9], text) > 0.5


def test_confidence_rises_with_the_probabilities_and_is_zero_for_no_statement() -> None:
    config = SimpleNamespace(**{CONFIDENCE_KEY: [-1.0, 0.3, 0.4], DECLINES_KEY: "I cannot tell."})
    calibration = Calibration.of(config)
    low, high = calibration.confidence([0.4, 0.9], "yes"), calibration.confidence([0.9, 0.99], "yes")
    assert 0 < low < high < 1
    assert calibration.confidence([1.0], "I cannot tell.") == 0
    assert 0 <= calibration.confidence([0.0], "yes") < calibration.confidence([1.0], "yes") <= 1


def test_rows_tell_right_answers_from_refusals() -> None:
    world, rng = World(3, 4.0), np.random.default_rng(0)
    asked = questions(world.visits, world.duration, rng)
    answer_of = {question.text: question.answer for question in asked}

    def ask(texts: Sequence[str]) -> list[tuple[str, float]]:
        return [(answer_of.get(text, "I cannot tell."), 0.9) for text in texts]

    found = figures(replies(ask, asked, rng))
    assert set(ROWS) < set(found["rows"])
    assert found["rows"][OWN]["right"] == 1
    assert found["rows"][OWN]["calibration_error"] == pytest.approx(0.1)
    assert found["rows"][OUT_OF_WORLD]["right"] == found["rows"][OUT_OF_WORLD]["declined"] == 1
    assert found["rows"][OUT_OF_WORLD]["confidence"] == 0
    assert found["rows"]["by people"]["declined"] > 0.8
    assert found["auc"] > 0.5
    assert declines("i cannot tell")
    assert figures([ScoredReply(OWN, True, False, 1.0)])["auc"] is None


def test_the_command_asks_in_every_row_and_in_other_light(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    policies = ["flash", "second look", "recent"]
    options = ["--streams", "1", "--minutes", "0.5", "--wordings", "--only", *policies, "--json", str(file)]
    assert main(["bench", "answers", *options]) == 0
    result, printed = json.loads(file.read_text()), capsys.readouterr().out
    assert set(result["wordings"]) == set(policies)
    for policy, found in result["wordings"].items():
        rows = found["rows"]
        assert set(rows) == {*ROWS, *OUTSIDE, *(LIGHTS if policy != "recent" else ())}
        assert rows[OWN]["right"] == result["policies"][policy]["overall"]
        assert all(rows[name]["right"] == rows[OWN]["right"] for name in EXACT)
        assert f"wording, {policy}" in printed
        assert 0 <= found["auc"] <= 1
        for name, row in rows.items():
            assert row["questions"] > 0
            assert all(0 <= row[share] <= 1 for share in ("right", "declined", "confidence", "calibration_error"))
            assert f"{name} " in printed
    assert "area under the curve" in printed
