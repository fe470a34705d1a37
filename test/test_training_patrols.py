"""What the household model is trained on: composed patrols, their memories and questions, by step."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from flash_vstream_ros.demo.grammar import Part
from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.world import COLOURS, KINDS, ROOMS, World
from flash_vstream_ros.memory.config import HIERARCHICAL
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.scope import EVERYTHING
from flash_vstream_ros.memory.slot import Grid, Slot
from flash_vstream_ros.models.household_settings import FRAME_S, MEMORY, SLOT_S
from flash_vstream_ros.training import curriculum, examples, patrols
from flash_vstream_ros.training.curriculum import Curriculum, Lesson
from flash_vstream_ros.training.examples import Example
from flash_vstream_ros.training.network import GRID
from flash_vstream_ros.training.observations import Label
from flash_vstream_ros.training.patrols import Composer, Features, patrol_examples
from flash_vstream_ros.training.plan import Plan

CROWDED = Lesson(full_size=True, part=Part.BROADER, crowded=True)


@pytest.fixture(scope="module")
def features() -> Features:
    """Random features of two slots of each content, and of each pair of rooms on a route."""
    seen = product(range(len(ROOMS)), (0, 1), range(len(COLOURS) + 1), range(len(KINDS) + 1), (0, 1))
    contents = [content for content in seen if bool(content[2]) == bool(content[3])]
    labels = [Label(*content, group, content[0]) for group, content in enumerate(contents)]
    rooms = product(range(len(ROOMS)), range(len(ROOMS)))
    labels += [Label(to, -1, 0, 0, 0, len(labels) + i, start) for i, (start, to) in enumerate(rooms)]
    array = np.repeat(np.array(labels), 2, axis=0)
    draw = torch.Generator().manual_seed(0)
    low, detail = (torch.randn(len(labels), 16, 128, generator=draw).half().repeat_interleave(2, 0) for _ in range(2))
    return Features(low, detail, array)


def made(features: Features, lesson: Lesson, seed: int, longest_min: float = 6.0) -> list[Example]:
    return [*patrol_examples(Composer(features), (4, seed), longest_min, lesson, moments=6)]


def test_a_composed_patrol_shows_what_the_world_shows(features: Features) -> None:
    world = World(11, 3.0, 10.0, held_out=False)
    composer = Composer(features, 0)
    looked = 0
    for stamp, index in composer.slots(world, world.duration):
        label = Label(*features.labels[index].tolist())
        observation = next(
            (o for v in world.visits for o in v.observations if o.start <= stamp - FRAME_S and stamp <= o.end), None
        )
        if observation is None:
            assert label.corner < 0
            continue
        looked += 1
        assert (label.corner, bool(label.person)) == (observation.corner, observation.person)
        assert ROOMS[label.room] == world.room(stamp)
        named = f"{[*COLOURS][label.colour - 1]} {KINDS[label.kind - 1]}" if label.colour else None
        assert named == (observation.thing.name if observation.thing else None)
    assert looked > 20


def test_two_cameras_and_glimpses_are_trained_on(features: Features) -> None:
    world = World(4, 20.0, 60.0, held_out=False, glimpses=1.0)
    short = [o for v in world.visits for o in v.observations if o.end - o.start == 9.0 and o.thing]
    assert len(short) >= 4
    assert World(4, 20.0, 60.0).visits == World(4, 20.0, 60.0, glimpses=0.0).visits
    composer = Composer(features)
    label = Label(*features.labels[0].tolist())
    assert Label(*features.labels[composer.similar_slot(0)].tolist())[:5] == label[:5]


def test_second_looks_to_train_on_hold_what_is_asked_about_more_often_than_chance(features: Features) -> None:
    memory = FlashMemory(replace(MEMORY, csm_slots=16, retention=HIERARCHICAL))
    draw = torch.Generator().manual_seed(1)
    for index in range(200):
        ns = examples.nanoseconds(4.0 * index)
        if index % 5 == 0:
            view = torch.randn(16, 128, generator=draw)
        low, detail = (view + 0.1 * torch.randn(16, 128, generator=draw) for _ in range(2))
        memory.insert(Slot("camera", "", ns - 2 * 10**9, ns, low, detail, Grid(GRID, GRID)))
    rng, near, most = np.random.default_rng(0), {}, 0
    for moments in ([100.0], []):
        ages = []
        for _ in range(200):
            if (details := examples.second_look(memory, EVERYTHING, moments, rng)) is not None:
                ages.append((details.ages - 696.0).abs().min())
                most = max(most, len(details.csm) * 4 + len(details.dam) * 16)
        assert len(ages) > 100
        near[len(moments)] = float(np.mean([float(age) < 20 for age in ages]))
    assert near[1] > near[0] + 0.15
    assert 0.15 * memory.tokens < most <= examples.LARGEST_SECOND_LOOK * memory.tokens


def test_memories_to_train_on_are_of_all_sizes(features: Features) -> None:
    several = [made(features, Lesson(), seed)[-1] for seed in range(6)]
    assert len({len(example.memory.csm) for example in several}) > 2
    full_size = (example for seed in range(6) for example in made(features, Lesson(full_size=True), seed))
    example = next(example for example in full_size if len(example.memory.csm) and len(example.memory.dam))
    assert len(example.memory.dam) <= patrols.TRAINED_MEMORY.dam_slots
    world = World(2)
    assert questions(world.visits, world.duration, np.random.default_rng(0))


def test_broad_wordings_ask_the_same_in_other_words(features: Features) -> None:
    asked: dict[Part, list[Example]] = {}
    for part in (Part.TRAIN, Part.BROAD):
        asked[part] = [*patrol_examples(Composer(features), (4, 0), 6.0, Lesson(part=part), moments=3)]
    basic, broad = asked[Part.TRAIN][0].questions, asked[Part.BROAD][0].questions
    outside = [[question.kind for question in each].count("out_of_world") for each in (basic, broad)]
    assert outside == [examples.OUT_OF_WORLD, examples.OUT_OF_WORLD + examples.BROAD_OUT_OF_WORLD]
    assert [question.answer for question in basic][:4] == [question.answer for question in broad][:4]
    assert [question.text for question in basic] != [question.text for question in broad][: len(basic)]


def test_crowded_patrols_have_more_observations_than_others() -> None:
    counts: dict[bool, list[int]] = {}
    for crowded in (False, True):
        lesson = replace(CROWDED, crowded=crowded)
        worlds = [patrols.random_world(np.random.default_rng(seed), 48, 720.0, lesson) for seed in range(40)]
        counts[crowded] = [sum(len(visit.observations) for visit in world.visits) for world in worlds]
    assert max(counts[False]) < 60 < max(counts[True])
    assert min(counts[True]) < 40


def test_some_examples_of_a_crowded_patrol_show_the_newest_slots_alone(features: Features) -> None:
    glances = []
    for seed in range(20):
        for example in made(features, CROWDED, seed, longest_min=3.0)[1:]:
            if len(example.memory.csm) + len(example.memory.dam) <= 2 and example.details is None:
                glances.append(example)
                now = [question for question in example.questions if question.form in ("room_now", "scene")]
                assert now
                assert example.memory.ages.max() <= examples.GLANCE_SLOTS * SLOT_S + FRAME_S
                rooms = {question.answer for question in example.questions if question.form == "room_first"}
                assert rooms <= {question.answer for question in now}
    assert glances


def test_crowded_patrols_ask_more_of_the_hardest_questions(features: Features) -> None:
    shares = []
    for lesson in (replace(CROWDED, crowded=False), CROWDED):
        asked = [q.kind for seed in range(6) for e in made(features, lesson, seed) for q in e.questions]
        shares.append(np.mean([kind in ("count", "change") for kind in asked]))
    assert shares[1] > 1.5 * shares[0]


def test_lessons_become_harder_from_cycle_to_cycle() -> None:
    sizes = {"first_steps": 800, "first_cooling_steps": 400, "second_steps": 1600, "third_steps": 2400}
    course = Curriculum(Plan(**sizes, language_steps=9000))
    starts = [course.patrols_by(step) for step in (0, 400, 800, 1600, 2400)]
    per_step = course.plan.batch / curriculum.DRAWS_PER_PATROL
    assert starts == [24 + round(per_step * steps) for steps in (0, 400, 600, 1000, 1800)]
    first, full_size, broad = (course.lesson(start) for start in starts[:3])
    assert (first, full_size, broad) == (Lesson(), Lesson(True), Lesson(True, Part.BROAD))
    assert [course.lesson(start - 1) for start in starts[1:4]] == [first, full_size, broad]
    third = [course.lesson(patrol) for patrol in range(starts[3], starts[4])]
    last = [course.lesson(patrol) for patrol in range(starts[4], starts[4] + 100)]
    for lessons, part, least, most in ((third, Part.BROADER, 0.1, 0.4), (last, Part.VOICES, 0.35, 0.65)):
        assert {(lesson.part, lesson.crowded) for lesson in lessons} == {(part, True)}
        assert least < np.mean([not lesson.full_size for lesson in lessons]) < most


def test_the_last_cycle_has_more_questions_and_fewer_drills_per_prompt() -> None:
    plan = Plan(third_steps=24_000, questions=10, drills=2)
    assert [Curriculum(plan).texts_per_prompt(step) for step in (0, 23_999, 24_000)] == [(10, 2), (10, 2), (20, 1)]
