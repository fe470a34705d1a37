"""Questions about early intervals of a patrol, and searches in them, in the archive and in the live memory alone.

A trained model watches a patrol of the demo's robot in a world that training never saw, with an archive. Afterwards it
is asked about every other interval of the first four fifths of the patrol: what was seen in the interval, and where.
Then it searches each interval for what was seen in it, and at last all times for what was ever seen.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from flash_vstream_ros.demo.past import past_of, seen_since, seen_until
from flash_vstream_ros.demo.questions import interval_questions
from flash_vstream_ros.demo.scoring import right
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.engine.answering.question import ErrorCode, Question
from flash_vstream_ros.engine.answering.search import SEARCH_PROMPT
from flash_vstream_ros.engine.archive.archive import COMMIT_S
from flash_vstream_ros.engine.archive.archive_config import ArchiveConfig
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.household_settings import FRAME_S, LOADING, MEMORY, SECOND_LOOK_SHARE, THREADS
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.model_kind import without_label
from flash_vstream_ros.models.names import HOUSEHOLD
from flash_vstream_ros.process import set_torch_threads
from flash_vstream_ros.progress import tracked

from .patrol_evaluation import PACE_S
from .running_engine import ingest, running_engine
from .search import BEST, searches, shows

START_S = 1000.0  # stamp of the first frame
ASKED_SHARE = 0.8  # share of the patrol that is asked about
QUESTION_SLOTS = {"archive": 32, "live memory": 0}  # archive.question_slots of each row
WHOLE = {"whole archive": True, "whole live memory": False}  # Question.archived of each row
WHOLE_DRAWS = 5  # times that searches of all times are drawn
DEADLINE_S = 3600.0


def run(minutes: float = 200.0, interval: float = 5.0, seed: int = 12) -> dict[str, Any]:
    """Ask about intervals of `interval` minutes of a patrol of `minutes`; `seed` determines the world."""
    set_torch_threads(THREADS)
    world = World(seed, minutes, pace_s=np.random.default_rng(seed).uniform(*PACE_S))
    model = load_model(HOUSEHOLD, device="cpu", **LOADING)
    with tempfile.TemporaryDirectory() as folder:
        archive = ArchiveConfig(folder, max_gib=4.0)
        config = EngineConfig(
            sample_fps=1 / FRAME_S, memory=MEMORY, archive=archive, max_new_tokens=48, second_look=SECOND_LOOK_SHARE
        )
        with running_engine(config, model, print) as engine:
            _watch(engine, world)
            scores = {name: _score(engine, config, world, interval, slots) for name, slots in QUESTION_SLOTS.items()}
            whole = {name: _score_whole(engine, world, archived) for name, archived in WHOLE.items()}
            archived = engine.status().archive.key_frames
    return {"minutes": minutes, "interval_minutes": interval, "seed": seed, "key_frames": archived, **scores, **whole}


def _watch(engine: Engine, world: World) -> None:
    times = np.arange(0.0, world.duration, FRAME_S)
    for at in tracked(times, "patrol", len(times)):
        image = world.frame(float(at))
        ingest(engine, Frame("camera", "camera", round((START_S + at) * SECOND_NS), partial(np.copy, image)))
    before = -1
    while (written := engine.status().archive.written) > before:  # the last commit is a second away
        before = written
        time.sleep(2 * COMMIT_S)


def _intervals(world: World, seconds: float) -> Iterator[tuple[float, float]]:
    """Begin and end of every other interval of this length [s], up to ASKED_SHARE of the patrol."""
    until = seconds
    while until < ASKED_SHARE * world.duration:
        yield until - seconds, until
        until += 2 * seconds


def _score(engine: Engine, config: EngineConfig, world: World, interval: float, slots: int) -> dict[str, Any]:
    engine.reconfigure(replace(config, archive=replace(config.archive, question_slots=slots)))
    draw = np.random.default_rng(0)
    is_right: list[bool] = []
    is_found: list[bool] = []
    from_archive = 0
    for since, until in _intervals(world, 60 * interval):
        scope = Scope(since_ns=round((START_S + since) * SECOND_NS) + 1, until_ns=round((START_S + until) * SECOND_NS))
        past = past_of(seen_since(seen_until(world.visits, until), since), until)
        for question in interval_questions(past, draw):
            answer = engine.ask(Question(question.text, scope, DEADLINE_S)).answer()
            is_answered = answer.error_code is ErrorCode.NONE
            is_right.append(is_answered and right(question, without_label(answer.text)))
            from_archive += bool(answer.adjustments)
        for search in searches(past, draw):
            asked = replace(search.question(world, SEARCH_PROMPT), scope=scope, deadline_s=DEADLINE_S)
            moments = engine.ask(asked).answer().evidence
            is_found.append(any(shows(world, search, moment.entry, START_S) for moment in moments))
    return {
        "questions": len(is_right),
        "from_archive": from_archive,
        "right": float(np.mean(is_right)),
        "searches": len(is_found),
        "found": float(np.mean(is_found)),
    }


def _score_whole(engine: Engine, world: World, archived: bool) -> dict[str, Any]:
    """Searches of all times."""
    draw = np.random.default_rng(1)
    past = past_of(world.visits, world.duration)
    wanted = list({search.text: search for _ in range(WHOLE_DRAWS) for search in searches(past, draw)}.values())
    is_found = []
    for search in tracked(wanted, "archive" if archived else "live memory"):
        asked = replace(search.question(world, SEARCH_PROMPT), archived=archived, deadline_s=DEADLINE_S)
        moments = engine.ask(asked).answer().evidence
        is_found.append(any(shows(world, search, moment.entry, START_S) for moment in moments))
    return {"searches": len(is_found), "found": float(np.mean(is_found))}


def show(result: dict[str, Any]) -> None:
    print(
        f"a patrol of {result['minutes']:g} minutes, {result['key_frames']} key frames; intervals of"
        f" {result['interval_minutes']:g} minutes"
    )
    for name in QUESTION_SLOTS:
        score = result[name]
        print(
            f"  {name:>12}: {100 * score['right']:.1f} % of {score['questions']} answers are right,"
            f" {score['from_archive']} from archived key frames; {100 * score['found']:.1f} % of"
            f" {score['searches']} searches find it in their first {BEST} moments"
        )
    for name in WHOLE:
        score = result[name]
        print(
            f"  {name:>17}: {100 * score['found']:.1f} % of {score['searches']} searches of all times find it in their"
            f" first {BEST} moments"
        )
