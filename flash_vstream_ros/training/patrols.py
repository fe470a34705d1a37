"""Training examples: snapshots of the node's Flash Memory during composed patrols, with questions.

A composed patrol has the timetable of the simulated world, but its slots are drawn from encoded observations with the
same content. So a patrol of hours takes a second and needs no rendering.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flash_vstream_ros.demo.answer_text import patrol_summary
from flash_vstream_ros.demo.grammar import Part, reworded, spelled
from flash_vstream_ros.demo.out_of_world import out_of_world
from flash_vstream_ros.demo.past import seen_since
from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.scoring import Question, facts
from flash_vstream_ros.demo.wordings import WORDINGS
from flash_vstream_ros.demo.world import ROOMS, Visit, World
from flash_vstream_ros.memory.config import HIERARCHICAL, PUBLISHED
from flash_vstream_ros.memory.flash_memory import FlashMemory, FlashMemoryConfig
from flash_vstream_ros.memory.scope import EVERYTHING, Scope
from flash_vstream_ros.memory.slot import Grid, MemoryEntry, MemorySnapshot, Slot
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.ages import ages
from flash_vstream_ros.models.household_settings import FRAME_S, SLOT_S, TRAINED_MEMORY, complete_slots

from .drills import Drill, drills
from .network import GRID, encode_batch
from .observations import GROUP, Content, Label, Observations, observation_key
from .vision import brightened, brightness, patch_rows

CSM_SLOTS, CSM_SHARES = (8, 12, 16, 24, 48), (0.4, 0.15, 0.1, 0.1, 0.25)  # sizes of the memory, and their shares
# Below 1, since routes take clusters too, and an observation without a cluster cannot be learned.
MAX_OBSERVATIONS_PER_CLUSTER = 0.7
SLOW_SHARE = 0.5  # share of patrols that are slow
# Some training with only key frames or only clusters, for a fair comparison with such memories.
FORMS, FORM_SHARES = ("Flash", "CSM", "DAM"), (0.8, 0.1, 0.1)
WINDOW_SHARE, SHORTEST_WINDOW_S = 0.35, 40.0  # share of examples limited to a time window, and its shortest length
MAX_SUMMARY_FACTS = 14
FIRST_SLOTS, LATER_ONE_IN = 6, 3  # an observation's first six slots are used, then one in three
UNTHINNED_MIN = 170.0  # if a patrol is longer, proportionally fewer of its slots are used [min]
QUESTION_DRAWS = 2  # number of times that all questions are drawn per moment
OUT_OF_WORLD = 6  # number of out-of-world questions per moment
OWN_WORDING = 0.25  # share of questions with a wording of WORDINGS; others have one of the grammar
BROAD_SHARE = 0.6  # share of the grammar's wordings that are broad, once they are used
BROAD_OUT_OF_WORLD = 4  # number of further out-of-world questions per moment, then
GLIMPSES = (0.0, 0.25, 0.5)  # shares of visits with a thing that is seen once, for 9 s
TWO_CAMERAS = 0.15  # share of patrols with two cameras that look in the same direction
MOMENTS = 32  # examples per patrol
FULL_SIZE_MOMENTS = 64  # the same for patrols with a memory of the node's sizes
HIERARCHICAL_SHARE = 0.75  # share of patrols with a hierarchical memory; others have a published one
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


class Features(NamedTuple):
    """Observations encoded by the vision tower."""

    low: Tensor  # [slots, low_patches, dim]
    detail: Tensor  # [slots, detail_tokens, width]
    labels: np.ndarray  # [slots, len(Label)]


class Composer:
    """Draws encoded slots for the timetable of a world.

    `observations` are groups by content, `members` slots by group, and `routes` slots by start and end room.
    """

    def __init__(self, features: Features, seed: int = 0) -> None:
        self.features, self.rng = features, np.random.default_rng(seed)
        self.observations: dict[tuple[int, ...], list[int]] = defaultdict(list)
        self.routes: dict[tuple[int, int], list[int]] = defaultdict(list)
        self.members: dict[int, list[int]] = defaultdict(list)
        for index, row in enumerate(features.labels.tolist()):
            label = Label(*row)
            if label.corner < 0:
                self.routes[label.from_room, label.room].append(index)
            else:
                self.members[label.group].append(index)
                if len(self.members[label.group]) == 1:
                    self.observations[label[:5]].append(label.group)

    def slots(self, world: World, until: float) -> Iterator[tuple[float, int]]:
        """Yields (stamp of the second frame [s], index of the features) for each slot up to `until` [s]."""
        timetable = [(observation, visit.room) for visit in world.visits for observation in visit.observations]
        position, group = 0, -1
        for k in range(complete_slots(until)):
            t = k * SLOT_S
            while position < len(timetable) and timetable[position][0].end < t + FRAME_S:
                position, group = position + 1, -1
            if position < len(timetable) and timetable[position][0].start <= t:
                observation, room = timetable[position]
                if group < 0:
                    content = Content(room, observation.corner, observation.thing, observation.person)
                    group = int(self.rng.choice(self.observations[observation_key(content)]))
                yield t + FRAME_S, int(self.rng.choice(self.members[group]))
            else:
                rooms = ROOMS.index(world.room(t)), ROOMS.index(world.room(t + FRAME_S))
                yield t + FRAME_S, int(self.rng.choice(self.routes[rooms] or self.routes[rooms[1], rooms[1]]))

    def similar_slot(self, index: int) -> int:
        """Another slot with the same content, for a second camera."""
        label = Label(*self.features.labels[index].tolist())
        if label.corner < 0:
            return int(self.rng.choice(self.routes[label.from_room, label.room]))
        return int(self.rng.choice(self.members[int(self.rng.choice(self.observations[label[:5]]))]))

    def thinned(self, slots: Iterable[tuple[float, int]], one_in: int) -> Iterator[tuple[float, int]]:
        """The first FIRST_SLOTS slots of each observation, then every `one_in`-th."""
        group = run = -1
        for stamp, index in slots:
            own_group = int(self.features.labels[index, GROUP])
            group, run = own_group, run + 1 if own_group == group else 0
            if run < FIRST_SLOTS or run % one_in == 0:
                yield stamp, index


def random_memory(rng: np.random.Generator) -> FlashMemoryConfig:
    """Sizes of a memory, mostly smaller than the node's: a small one is cheaper, and full after a short patrol."""
    csm_slots = int(rng.choice(CSM_SLOTS, p=CSM_SHARES))
    details = csm_slots * TRAINED_MEMORY.dam_slots // TRAINED_MEMORY.csm_slots
    return replace(TRAINED_MEMORY, csm_slots=csm_slots, dam_slots=max(2, details))


def random_world(rng: np.random.Generator, csm_slots: int, longest_min: float, eventful: bool = False) -> World:
    """A random patrol whose observations fit into `csm_slots` clusters. A patrol of hours is slow, like a real robot.

    `eventful`: the patrol has at least half of the observations that fit.
    """
    most = min(MAX_OBSERVATIONS_PER_CLUSTER * csm_slots, 4 * longest_min)
    observations = rng.uniform(most / 2 if eventful else 3, most)
    shortest = observations * 15 / 60
    least = shortest * (8 if rng.random() < SLOW_SHARE else 1)
    minutes = float(np.exp(rng.uniform(np.log(min(least, longest_min)), np.log(min(longest_min, 96 * shortest)))))
    pace_s = 60 * minutes / observations / 1.2 - 5
    glimpses = float(rng.choice(GLIMPSES))
    return World(int(rng.integers(1 << 40)), minutes, pace_s, held_out=False, glimpses=glimpses)


def patrol_examples(
    composer: Composer,
    seed: Sequence[int],
    longest_min: float,
    full_size: bool = False,
    moments: int = MOMENTS,
    part: Part = Part.TRAIN,
) -> Iterator[Example]:
    """Yield `moments` examples of one patrol, the last one at its end. Equal seeds give equal examples.

    `part` is the part of the grammar that some of the wordings come from, beside those of WORDINGS and Part.TRAIN. Any
    other part than TRAIN adds out-of-world questions.

    `full_size`: the memory has the node's sizes, the patrol is eventful and the moments are late. Otherwise the memory
    has any size, and slots of long observations are thinned for speed.
    """
    rng = np.random.default_rng(seed)
    composer.rng = np.random.default_rng((*seed, 1))
    config = TRAINED_MEMORY if full_size else random_memory(rng)
    is_hierarchical = np.random.default_rng((*seed, 2)).random() < HIERARCHICAL_SHARE
    config = replace(config, retention=HIERARCHICAL if is_hierarchical else PUBLISHED)
    world = random_world(rng, config.csm_slots, longest_min, eventful=full_size)
    places = rng.random(moments - 1) ** (0.5 if full_size else 1)
    stops = sorted({*(20 + places * (world.duration - 20)).tolist(), world.duration})
    form = str(rng.choice(FORMS, p=FORM_SHARES))
    if form == "DAM":
        config = replace(config, dam_slots=config.csm_slots)
    cameras = ("left", "right") if rng.random() < TWO_CAMERAS else ("camera",)
    memory = FlashMemory(config)
    least_one_in = 1 if full_size else LATER_ONE_IN
    one_in = max(round(least_one_in * world.duration / 60 / UNTHINNED_MIN), least_one_in)
    for stamp, index in composer.thinned(composer.slots(world, world.duration), one_in):
        while stops and stops[0] < stamp:
            stop = stops.pop(0)
            if memory.slots_seen:
                yield _example(memory, world, stop, form, rng, part)
        for lag, camera in enumerate(cameras):
            memory.insert(
                _slot(composer, index if not lag else composer.similar_slot(index), camera, stamp + 0.1 * lag)
            )
    yield _example(memory, world, world.duration, form, rng, part)


def _slot(composer: Composer, index: int, camera: str, stamp: float) -> Slot:
    ns = nanoseconds(stamp)
    low, detail = composer.features.low[index].float(), composer.features.detail[index].float()
    return Slot(camera, "", ns - round(FRAME_S * SECOND_NS), ns, low, detail, Grid(GRID, GRID))


def nanoseconds(t: float) -> int:
    """Stamp [ns] of the moment `t` [s] of a patrol; never zero."""
    return round((t + 1) * SECOND_NS)


def _example(memory: FlashMemory, world: World, now: float, form: str, rng: np.random.Generator, part: Part) -> Example:
    """The example at `now`. Some are limited to a time window that ends now, as summaries are."""
    window = SHORTEST_WINDOW_S * (now / SHORTEST_WINDOW_S) ** rng.random() if rng.random() < WINDOW_SHARE else now
    scope = Scope(since_ns=nanoseconds(now - window)) if window < now else EVERYTHING
    snapshot = memory.snapshot(scope)
    if snapshot.empty:
        window, scope, snapshot = now, EVERYTHING, memory.snapshot()
    visits = seen_since(world.visits, now - window) if window < now else world.visits
    asked = [question for _ in range(QUESTION_DRAWS) for question in questions(visits, now, rng)]
    details = None
    if form == "Flash" and memory.config.hierarchical and rng.random() < SECOND_LOOK_SHARE:
        details = second_look(memory, scope, [now - one.age_s for one in asked if one.age_s is not None], rng)
    return Example(
        Entries.of(snapshot, form),
        details,
        snapshot.text_slots,
        [
            *(worded(question, rng, part) for question in asked),
            *(worded(question, rng, part) for question in _summaries(visits, now, 4 if window < now else 1, rng)),
            *(_spelled(out_of_world(rng), rng) for _ in range(OUT_OF_WORLD)),
            *(_spelled(out_of_world(rng, part), rng) for _ in range(0 if part is Part.TRAIN else BROAD_OUT_OF_WORLD)),
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
        is_basic = part is Part.TRAIN or rng.random() >= BROAD_SHARE
        question = reworded(question, rng, Part.TRAIN if is_basic else part)
    return _spelled(question, rng)


def _spelled(question: Question, rng: np.random.Generator) -> Question:
    return question._replace(text=spelled(question.text, rng))


def _summaries(visits: Sequence[Visit], now: float, count: int, rng: np.random.Generator) -> list[Question]:
    """Additional questions for a summary, in several wordings."""
    truth = patrol_summary(visits, 0.0, now)
    wordings = rng.permutation(WORDINGS["patrol"])[:count] if len(facts(truth)) <= MAX_SUMMARY_FACTS else ()
    return [Question("patrol", str(text), truth, None, False, form="patrol") for text in wordings]


@torch.no_grad()
def encode_observations(network: Any, observations: Observations, seed: int) -> Features:
    """Encode all observations with the vision tower. Slots of one observation have the same random brightness."""
    visual, device = network.model.visual, network.device
    groups = observations.labels[:, GROUP]
    factors = brightness(int(groups.max()) + 1, np.random.default_rng(seed))[groups]
    low, detail = [], []
    for chosen in np.array_split(np.arange(len(groups)), max(len(groups) // 64, 1)):
        frames = brightened(observations.frames[chosen], factors[chosen])
        low_map, _, high = encode_batch(visual, *patch_rows(torch.from_numpy(frames).to(device)))
        low.append(low_map.half().cpu())
        detail.append(high.half().cpu())
    return Features(torch.cat(low), torch.cat(detail), observations.labels)
