"""The demo's questions: true answers, fair to ask, spread over the past, and scored as they should be."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from flash_vstream_ros.demo.answer_text import patrol_summary
from flash_vstream_ros.demo.past import past_of, seen_until
from flash_vstream_ros.demo.questions import EVERY_THING, questions, seen_once_questions
from flash_vstream_ros.demo.scoring import Question, facts, precision_recall, right
from flash_vstream_ros.demo.wordings import KIND_OF, WORDINGS
from flash_vstream_ros.demo.world import HELD_OUT, Observation, Thing, Visit, World
from flash_vstream_ros.node.answer_parameters import SUMMARY_PROMPT

BALL, BOX, GREEN_BALL, PLANT = Thing("red", "ball"), Thing("blue", "box"), Thing("green", "ball"), Thing("red", "plant")
KINDS_ASKED = set(WORDINGS) - set(KIND_OF)


def visit(room: str, start: float, things: tuple[Thing | None, Thing | None], people: tuple[int, ...] = ()) -> Visit:
    """100 s: 4 s to arrive, 40 s for each corner, 3 s to turn, the rest to leave."""
    observations = (
        Observation(start + 4, start + 44, 0, things[0], 0 in people),
        Observation(start + 47, start + 87, 1, things[1], 1 in people),
    )
    return Visit(room, start, start + 100, observations)


# The ball moves from the kitchen to the office, and a plant appears in the kitchen.
VISITS = (
    visit("kitchen", 0, (BALL, None)),
    visit("hallway", 100, (None, BOX), people=(1,)),
    visit("kitchen", 200, (None, None)),
    visit("office", 300, (BALL, GREEN_BALL)),
    visit("kitchen", 400, (PLANT, None)),
    visit("hallway", 500, (None, BOX)),
)


def asked(now: float, visits: tuple[Visit, ...] = VISITS, times: int = 150) -> set[Question]:
    """All that is asked at a moment, sooner or later."""
    rng = np.random.default_rng(0)
    return {question for _ in range(times) for question in questions(visits, now, rng)}


def answers(now: float, kind: str, *words: str) -> set[str]:
    return {q.answer for q in asked(now) if q.kind == kind and all(word in q.text for word in words)}


@pytest.fixture(scope="module")
def sampled() -> list[tuple[tuple[Visit, ...], float, Question]]:
    rng = np.random.default_rng(1)
    worlds = [World(seed, minutes=minutes).visits for seed, minutes in ((0, 3), (1, 8), (2, 8), (3, 30))]
    moments = [(visits, rng.random() * visits[-1].end) for visits in worlds for _ in range(100)]
    return [(visits, now, question) for visits, now in moments for question in questions(visits, now, rng)]


def test_history_ends_at_what_has_been_in_view_long_enough() -> None:
    assert seen_until(VISITS, 7.9) == ()
    assert seen_until(VISITS, 8.0) == (Visit("kitchen", 0, 8, ()),)
    assert seen_until(VISITS, 12.0)[0].observations == (Observation(4, 12, 0, BALL, False),)
    assert [v.room for v in seen_until(VISITS, 107.9)] == ["kitchen"]
    assert [v.room for v in seen_until(VISITS, 108.0)] == ["kitchen", "hallway"]
    assert seen_until(VISITS, 1000.0) == VISITS


def test_every_kind_has_wordings_and_the_node_s_own_request_for_a_summary_is_one() -> None:
    assert SUMMARY_PROMPT in WORDINGS["patrol"]
    for wordings in WORDINGS.values():
        assert len(set(wordings)) == len(wordings) >= 4
        assert all(wording.isascii() and wording[-1] in "?." for wording in wordings)
    texts = [wording for wordings in WORDINGS.values() for wording in wordings]
    assert len(set(texts)) == len(texts), "one wording, two kinds of answer"


def test_questions_about_the_present_are_answered_from_what_is_in_view() -> None:
    assert answers(330, "scene") == {"a red ball"}
    assert answers(170, "scene") == {"a blue box and a person"}
    assert answers(270, "scene") == {"nothing"}
    assert answers(330, "describe") == {"I am in the office and see a red ball."}
    assert answers(270, "describe") == {"I am in the kitchen and see nothing."}
    assert answers(330, "room_now") == {"the office"}


@pytest.mark.parametrize("now", [303.0, 310.0, 345.0, 395.0], ids=["door", "first observation", "turning", "leaving"])
def test_the_scene_is_not_asked_between_observations_or_at_their_start(now: float) -> None:
    assert not answers(now, "scene")


def test_questions_about_rooms_follow_the_visits() -> None:
    assert answers(520, "room_first") == {"the kitchen"}
    assert answers(520, "room_before", "kitchen") == {"the office"}
    assert answers(520, "room_before", "office") == {"the kitchen"}
    assert answers(520, "room_before", "this one") == {"the kitchen"}
    assert answers(520, "count", "kitchen") == {"3 times"}
    assert answers(520, "count", "hallway") == {"2 times"}, "the visit going on counts"
    assert answers(520, "count", "bedroom") == {"0 times"}
    assert answers(520, "when_room", "hallway") == {"just now"}
    assert answers(520, "when_room", "office") == {"2 minutes ago"}
    assert answers(520, "when_room", "bedroom") == {"never visited"}
    assert not answers(50, "room_before"), "there was none"


def test_questions_about_things_follow_the_last_look_at_them() -> None:
    assert answers(550, "seen", "red ball") == {"yes"}
    assert answers(550, "seen", "blue ball") == {"no"}
    assert answers(550, "where", "last see", "red ball") == {"in the office"}
    assert answers(550, "where", "first see", "red ball") == {"in the kitchen"}
    assert answers(550, "where", "blue ball") == {"never seen"}
    assert answers(550, "when", "red ball") == {"3 minutes ago"}, "206 s"
    assert answers(550, "when", "red box") == {"never seen"}
    assert answers(550, "colour", "ball", "kitchen") == {"red"}
    assert not answers(550, "colour", "ball", "office"), "there were two"


def test_questions_about_people_follow_when_they_were_seen() -> None:
    assert answers(90, "person") == {"no", "never seen"}
    assert answers(300, "person") == {"yes", "in the hallway"}


def test_a_change_is_a_thing_that_came_or_went_between_two_visits() -> None:
    assert answers(210, "change") == set(), "the second visit is not over"
    assert answers(290, "change") == {"the red ball is gone"}
    assert answers(490, "change") == {"a red plant appeared"}
    assert answers(590, "change", "hallway") == {"nothing"}


def test_a_summary_lists_what_was_seen_in_order() -> None:
    assert patrol_summary(VISITS, 0, 4) == "I saw nothing."
    assert patrol_summary(VISITS, 0, 10) == "I was in the kitchen. I saw nothing."
    assert patrol_summary(VISITS, 0, 90) == "I was in the kitchen. I saw a red ball."
    assert (
        patrol_summary(VISITS, 0, 195)
        == "I was in the kitchen and the hallway. I saw a red ball, a blue box and a person."
    )
    assert patrol_summary(VISITS, 96, 195) == "I was in the hallway. I saw a blue box and a person."
    assert answers(195, "patrol") == {patrol_summary(VISITS, 0, 195)}


def test_what_is_just_coming_into_view_is_not_asked_about() -> None:
    for now in (402.0, 405.0, 411.0):
        about = {question.text for question in asked(now) if question.kind in ("seen", "where", "when")}
        assert not any("red plant" in text for text in about)
    for now in (297.0, 305.0):
        about = {question.text for question in asked(now) if question.kind in ("count", "when_room", "room_now")}
        assert not any("office" in text for text in about)
        assert not answers(now, "room_now")


def test_age_is_since_the_evidence() -> None:
    ages = {(q.kind, q.answer): q.age_s for q in asked(550.0)}
    assert ages["room_first", "the kitchen"] == 450
    assert ages["where", "in the office"] in (206, 163), "the red ball, the green ball"
    assert ages["where", "never seen"] is None
    assert ages["count", "3 times"] == 450
    assert ages["room_now", "the hallway"] == 0
    assert ages["change", "a red plant appeared"] == 250
    assert {q.age_s for q in asked(550.0) if q.kind == "seen" and "red ball" in q.text} == {206}


def test_combinations_that_training_never_shows_are_marked() -> None:
    colour, kind, room = min(HELD_OUT)
    there = (
        visit(room, 0, (Thing(colour, kind), None)),
        visit("hallway" if room != "hallway" else "office", 100, (None, None)),
    )
    marked = {q.kind for q in asked(150, there) if q.held_out}
    assert marked == {"seen", "where", "when", "colour", "patrol"}
    assert not any(q.held_out for q in asked(150, there) if q.answer in ("no", "never seen"))
    visits = World(4, minutes=8, held_out=False).visits
    assert not any(q.held_out for q in asked(400, visits, times=20))


def test_questions_are_well_formed_and_their_own_answers_right(
    sampled: list[tuple[tuple[Visit, ...], float, Question]],
) -> None:
    for _, now, question in sampled:
        assert question.kind in KINDS_ASKED
        assert question.text.isascii()
        assert "{" not in question.text
        assert "  " not in question.text
        assert right(question, question.answer), question
        assert not right(question, ""), question
        assert question.age_s is None or 0 <= question.age_s <= now
    assert {question.kind for _, _, question in sampled} == KINDS_ASKED


def test_questions_are_balanced_over_their_answers_and_reach_back(
    sampled: list[tuple[tuple[Visit, ...], float, Question]],
) -> None:
    late = [(now, question) for _, now, question in sampled if now > 120]
    kinds = Counter(question.kind for _, question in late)
    binding = sum(kinds[kind] for kind in ("where", "when", "colour", "seen"))
    assert 0.45 < binding / len(late) < 0.65
    said = {kind: Counter(question.answer for _, question in late if question.kind == kind) for kind in KINDS_ASKED}
    assert abs(said["seen"]["yes"] - said["seen"]["no"]) <= 0.1 * kinds["seen"]
    for kind in ("where", "when"):
        assert 0.12 < said[kind]["never seen"] / kinds[kind] < 0.3
    assert max(said["where"].values()) < 0.35 * kinds["where"]
    assert 0.2 < said["change"]["nothing"] / kinds["change"] < 0.6
    for kind in ("where", "when", "colour"):
        ages = [question.age_s / now for now, question in late if question.kind == kind and question.age_s is not None]
        low, middle, high = np.quantile(ages, [0.1, 0.5, 0.9])
        assert low < 0.15
        assert 0.2 < middle < 0.7
        assert high > 0.6, kind


def test_a_moment_has_about_twenty_questions_quickly() -> None:
    visits, rng = World(0, minutes=60).visits, np.random.default_rng(0)
    spent, counts = [], []
    for _ in range(100):
        now = rng.uniform(120, visits[-1].end)
        began = time.perf_counter()
        counts.append(len(questions(visits, now, rng)))
        spent.append(time.perf_counter() - began)
    assert 16 <= np.mean(counts) <= 24
    assert np.median(spent) < 2e-3


def test_the_same_generator_asks_the_same() -> None:
    assert questions(VISITS, 550, np.random.default_rng(3)) == questions(VISITS, 550, np.random.default_rng(3))


def test_nothing_breaks_before_there_is_a_past_or_after_the_end() -> None:
    for now in (0.0, 3.0, 8.0, 600.0, 5000.0):
        assert all(right(question, question.answer) for question in asked(now))


def test_a_summary_is_split_into_its_facts() -> None:
    assert facts("In the Living\nRoom, a red  ball; no redball, boxer or kitchenette.") == {"living room", "red ball"}
    assert facts("I was in the hallway. I saw a blue box and a person.") == {"hallway", "blue box", "person"}
    assert precision_recall("a red ball and a blue box", "a red ball, a person") == (0.5, 0.5)
    assert precision_recall("", "the kitchen") == (1.0, 0.0)
    assert precision_recall("nothing", "nothing") == (1.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "answer", "good", "bad"),
    [
        ("where", "in the kitchen", ["The kitchen.", "kitchen", "in the kitchen"], ["in the office", "never seen", ""]),
        ("where", "never seen", ["Never seen."], ["in the kitchen", "never"]),
        ("seen", "yes", ["Yes."], ["no", "yes no"]),
        ("scene", "nothing", ["Nothing."], ["", "a red ball"]),
        ("scene", "a red ball", ["red ball", "I see a red ball."], ["a red box", "a red ball and a person", "nothing"]),
        (
            "describe",
            "I am in the kitchen and see nothing.",
            ["The kitchen, with nothing in it."],
            ["I am in the kitchen and see a red ball.", "I am in the office and see nothing.", "nothing"],
        ),
        ("change", "the red ball is gone", ["red ball is gone"], ["a red ball appeared", "nothing"]),
        ("count", "1 time", ["1 time."], ["2 times"]),
        ("patrol", "I was in the office. I saw a red ball.", ["A red ball in the office."], ["I was in the office."]),
    ],
)
def test_an_answer_is_right_by_the_rule_of_its_kind(kind: str, answer: str, good: list[str], bad: list[str]) -> None:
    question = Question(kind, "?", answer, None, False)
    assert [right(question, said) for said in good] == [True] * len(good)
    assert [right(question, said) for said in bad] == [False] * len(bad)


@pytest.mark.parametrize(
    ("minutes", "good", "bad"),
    [
        (0.3, ["just now", "Just now.", "1 minute ago"], ["2 minutes ago", "never seen", "", "long ago"]),
        (3.4, ["3 minutes ago", "4 minutes ago"], ["2 minutes ago", "5 minutes ago", "just now", "never seen"]),
        (40.0, ["30 minutes ago", "50 minutes ago"], ["25 minutes ago", "60 minutes ago", "in the kitchen"]),
    ],
)
def test_minutes_may_be_off_by_one_or_a_quarter(minutes: float, good: list[str], bad: list[str]) -> None:
    question = Question("when", "?", "-", 60 * minutes, False, minutes)
    assert all(right(question, said) for said in good)
    assert not any(right(question, said) for said in bad)


def test_questions_about_things_seen_once_name_each_of_them_and_each_never_seen() -> None:
    glimpse = Visit("office", 300, 340, (Observation(304, 313, 0, GREEN_BALL, False),))
    later = (visit("kitchen", 340, (PLANT, None)), visit("kitchen", 540, (PLANT, None)))
    visits = (*VISITS[:3], glimpse, *later)
    made = seen_once_questions(past_of(visits, 640.0), np.random.default_rng(0))
    assert {one.names.thing for one in made if one.answer == "yes"} == {
        GREEN_BALL.name
    }  # others stood there for longer
    assert {one.age_s for one in made if one.answer == "yes"} == {640.0 - 313.0}
    never = [one.names.thing for one in made if one.answer == "no"]
    assert sorted(never) == sorted(
        {thing.name for thing in EVERY_THING} - {BALL.name, BOX.name, GREEN_BALL.name, PLANT.name}
    )
    assert {one.form for one in made} == {"seen"}
