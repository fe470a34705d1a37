"""Examples of the training: what the memory holds at one moment of a patrol, with questions about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flash_vstream_ros.demo.answer_text import patrol_summary
from flash_vstream_ros.demo.grammar import Part, reworded, spelled
from flash_vstream_ros.demo.out_of_world import out_of_world
from flash_vstream_ros.demo.past import SEEN_S, seen_since
from flash_vstream_ros.demo.questions import hard_questions, questions
from flash_vstream_ros.demo.scoring import Question, facts
from flash_vstream_ros.demo.wordings import WORDINGS
from flash_vstream_ros.demo.world import Visit
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.scope import EVERYTHING, Scope
from flash_vstream_ros.memory.slot import MemoryEntry, MemorySnapshot
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.ages import ages
from flash_vstream_ros.models.household_settings import FRAME_S, SLOT_S

from .curriculum import Lesson
from .drills import Drill, drills

WINDOW_SHARE, SHORTEST_WINDOW_S = 0.35, 40.0  # share of examples limited to a time window, and its shortest length
GLANCE_SHARE, GLANCE_SLOTS = 0.1, 3  # share of a crowded patrol's examples that are glances, and their largest length
MAX_SUMMARY_FACTS = 14
QUESTION_DRAWS = 2  # number of times that all questions are drawn per moment
HARD_DRAWS = 2  # number of times that the hard questions are drawn again per moment of a crowded patrol
OUT_OF_WORLD = 6  # number of out-of-world questions per moment
OWN_WORDING = 0.25  # share of questions with a wording of WORDINGS; others have one of the grammar
BROAD_SHARE, VOICES_SHARE = 0.6, 0.8  # shares of the grammar's wordings that are broad, once they are used
BROAD_OUT_OF_WORLD, VOICES_OUT_OF_WORLD = 4, 12  # number of further out-of-world questions per moment, then
SECOND_LOOK_SHARE = 0.6  # share of a hierarchical memory's examples that have a second look
RELEVANT_SHARE = 0.7  # share of second looks at entries of the questions' answers; others are random
MOMENTS_LOOKED_AT = 3  # moments in a second look at entries of the questions' answers
LARGEST_SECOND_LOOK = 0.25  # largest second look, as a share of the memory's visual tokens


class Entries(NamedTuple):
    """The entries of a snapshot. Times are in slots."""

    dam: Tensor  # [dam_slots, detail_tokens, width] float16
    dam_times: Tensor  # [dam_slots] float64
    csm: Tensor  # [csm_slots, low_patches, dim] float16
    csm_times: Tensor  # [csm_slots] float64
    ages: Tensor  # [dam_slots + csm_slots] float64 [s]

    @classmethod
    def of(cls, snapshot: MemorySnapshot, form: str = "Flash") -> Entries:
        """All entries of a snapshot, or only those of CSM or DAM."""
        entry_ages, details = [*ages(snapshot)], len(snapshot.dam)
        dam, csm = slice(0 if form == "CSM" else None), slice(0 if form == "DAM" else None)
        return cls(
            snapshot.dam[dam].half(),
            snapshot.dam_times[dam],
            snapshot.csm[csm].half(),
            snapshot.csm_times[csm],
            torch.tensor([*entry_ages[:details][dam], *entry_ages[details:][csm]], dtype=torch.float64),
        )


class Example(NamedTuple):
    """A training example: memory and questions at one moment of a patrol."""

    memory: Entries
    details: Entries | None  # entries of a second look, which follow the memory
    text_slots: int
    questions: list[Question]
    drills: list[Drill]


def nanoseconds(t: float) -> int:
    """Stamp [ns] of the moment `t` [s] of a patrol; never zero."""
    return round((t + 1) * SECOND_NS)


@dataclass(frozen=True)
class ExampleMaker:
    """Makes examples of one patrol. `form` is the part of the memory that they show: "Flash" (all), "CSM" or "DAM"."""

    visits: tuple[Visit, ...]
    form: str
    lesson: Lesson
    rng: np.random.Generator

    def example(self, memory: FlashMemory, now: float) -> Example:
        """The example at `now` [s]. Some are limited to a time window that ends now, as summaries are."""
        if self.lesson.crowded and self.rng.random() < GLANCE_SHARE and (glance := self._glance(memory, now)):
            return glance
        is_limited = self.rng.random() < WINDOW_SHARE
        window = SHORTEST_WINDOW_S * (now / SHORTEST_WINDOW_S) ** self.rng.random() if is_limited else now
        scope = Scope(since_ns=nanoseconds(now - window)) if window < now else EVERYTHING
        snapshot = memory.snapshot(scope)
        if snapshot.empty:
            window, scope, snapshot = now, EVERYTHING, memory.snapshot()
        visits = seen_since(self.visits, now - window) if window < now else self.visits
        asked = [question for _ in range(QUESTION_DRAWS) for question in questions(visits, now, self.rng)]
        details = None
        if self.form == "Flash" and memory.config.hierarchical and self.rng.random() < SECOND_LOOK_SHARE:
            details = second_look(memory, scope, [now - one.age_s for one in asked if one.age_s is not None], self.rng)
        if self.lesson.crowded:
            asked += [question for _ in range(HARD_DRAWS) for question in hard_questions(visits, now, self.rng)]
        summaries = _summaries(visits, now, 4 if window < now else 1, self.rng)
        return self._example(snapshot, details, chain(asked, summaries), visits, now)

    def _glance(self, memory: FlashMemory, now: float) -> Example | None:
        """An example with only the newest slots, as a watch shows them; None if what they show has just come."""
        window = FRAME_S + SLOT_S * int(self.rng.integers(1, GLANCE_SLOTS + 1))
        since = now - max(window, SEEN_S)
        seen = tuple(
            visit._replace(start=observation.start, observations=(observation,))
            for visit in self.visits
            for observation in visit.observations
            if observation.start <= since and now <= observation.end
        )
        if not seen:
            return None
        snapshot, asked = memory.snapshot(Scope(since_ns=nanoseconds(now - window))), questions(seen, now, self.rng)
        return None if snapshot.empty else self._example(snapshot, None, asked, seen, now)

    def _example(
        self,
        snapshot: MemorySnapshot,
        details: Entries | None,
        asked: Iterable[Question],
        visits: Sequence[Visit],
        now: float,
    ) -> Example:
        """The example of a snapshot, with random wordings of what is asked, and questions out of the world."""
        part, rng = self.lesson.part, self.rng
        further = {Part.TRAIN: 0, Part.VOICES: VOICES_OUT_OF_WORLD}.get(part, BROAD_OUT_OF_WORLD)
        return Example(
            Entries.of(snapshot, self.form),
            details,
            snapshot.text_slots,
            [
                *(worded(question, rng, part) for question in asked),
                *(_spelled(out_of_world(rng), rng) for _ in range(OUT_OF_WORLD)),
                *(_spelled(out_of_world(rng, part), rng) for _ in range(further)),
            ],
            drills(visits, now, rng),
        )


def second_look(
    memory: FlashMemory, scope: Scope, moments_s: Sequence[float], rng: np.random.Generator
) -> Entries | None:
    """A second look at entries of some moments that are asked about, or at random entries.

    The node looks at the entries that the question attends to, but attention means nothing before training.
    """
    entries = memory.list_entries(scope)
    order = [entries[place] for place in rng.permutation(len(entries))]
    if moments_s and rng.random() < RELEVANT_SHARE:
        wanted = [nanoseconds(moments_s[place]) for place in rng.permutation(len(moments_s))[:MOMENTS_LOOKED_AT]]
        order = [*(min(entries, key=partial(_distance, at)) for at in wanted), *order]
    tokens = int(rng.uniform(0, LARGEST_SECOND_LOOK) * memory.tokens)
    details = memory.second_look(list(dict.fromkeys(order)), tokens, scope)
    return None if details.empty else Entries.of(details)


def _distance(at_ns: int, entry: MemoryEntry) -> tuple[int, int]:
    """Sorting key of entries: distance from a moment [slots], then length of the entry [ns]."""
    away_ns = max(entry.first_ns - at_ns, at_ns - entry.last_ns, 0)
    return away_ns // round(SLOT_S * SECOND_NS), entry.last_ns - entry.first_ns


def worded(question: Question, rng: np.random.Generator, part: Part) -> Question:
    """The question in a random wording and spelling."""
    if rng.random() >= OWN_WORDING:
        is_basic = part is Part.TRAIN or rng.random() >= (VOICES_SHARE if part is Part.VOICES else BROAD_SHARE)
        question = reworded(question, rng, Part.TRAIN if is_basic else part)
    return _spelled(question, rng)


def _spelled(question: Question, rng: np.random.Generator) -> Question:
    return question._replace(text=spelled(question.text, rng))


def _summaries(visits: Sequence[Visit], now: float, count: int, rng: np.random.Generator) -> Iterator[Question]:
    """Additional questions for a summary, in several wordings."""
    truth = patrol_summary(visits, 0.0, now)
    wordings = rng.permutation(WORDINGS["patrol"])[:count] if len(facts(truth)) <= MAX_SUMMARY_FACTS else ()
    for text in wordings:
        yield Question("patrol", str(text), truth, None, False, form="patrol")
