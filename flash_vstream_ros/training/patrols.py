"""Composed patrols: what the node's Flash Memory holds at moments of a patrol.

A composed patrol has the timetable of the simulated world, but its slots are drawn from encoded observations with the
same content. So a patrol of hours takes a second and needs no rendering.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flash_vstream_ros.demo.world import ROOMS, World
from flash_vstream_ros.memory.config import HIERARCHICAL, PUBLISHED
from flash_vstream_ros.memory.flash_memory import FlashMemory, FlashMemoryConfig
from flash_vstream_ros.memory.slot import Grid, Slot
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.household_settings import FRAME_S, MEMORY, SLOT_S, TRAINED_MEMORY, complete_slots

from .curriculum import Lesson
from .examples import Example, ExampleMaker, nanoseconds
from .network import GRID, encode_batch
from .observations import GROUP, Content, Label, Observations, observation_key
from .vision import brightened, brightness, patch_rows

CSM_SLOTS, CSM_SHARES = (8, 12, 16, 24, 48), (0.4, 0.15, 0.1, 0.1, 0.25)  # sizes of the memory, and their shares
# Below 1, since routes take clusters too, and an observation without a cluster cannot be learned.
MAX_OBSERVATIONS_PER_CLUSTER = 0.7
SLOW_SHARE = 0.5  # share of patrols that are slow
# Some training with only key frames or only clusters, for a fair comparison with such memories.
FORMS, FORM_SHARES = ("Flash", "CSM", "DAM"), (0.8, 0.1, 0.1)
FIRST_SLOTS, LATER_ONE_IN = 6, 3  # an observation's first six slots are used, then one in three
UNTHINNED_MIN = 170.0  # if a patrol is longer, proportionally fewer of its slots are used [min]
GLIMPSES = (0.0, 0.25, 0.5)  # shares of visits with a thing that is seen once, for 9 s
TWO_CAMERAS = 0.15  # share of patrols with two cameras that look in the same direction
MOMENTS = 32  # examples per patrol
FULL_SIZE_MOMENTS = 64  # the same for patrols with a memory of the node's sizes, and for crowded ones
HIERARCHICAL_SHARE = 0.75  # share of patrols with a hierarchical memory; others have a published one
CROWDED_OBSERVATIONS = 2.5  # most observations of a crowded patrol, per cluster of TRAINED_MEMORY
NODE_MEMORY_SHARE = 0.5  # share of crowded patrols with the node's division into clusters and key frames


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


def random_world(rng: np.random.Generator, csm_slots: int, longest_min: float, lesson: Lesson) -> World:
    """A random patrol. A patrol of hours is slow, like a real robot.

    Its observations fit into `csm_slots` clusters, unless it is crowded. With a memory of the node's sizes, it has at
    least half of the observations that fit.
    """
    most = min(MAX_OBSERVATIONS_PER_CLUSTER * csm_slots, 4 * longest_min)
    least_observations = most / 2 if lesson.full_size else min(3, most)
    if lesson.crowded and lesson.full_size:
        most = min(CROWDED_OBSERVATIONS * csm_slots, 4 * longest_min)
        observations = float(np.exp(rng.uniform(np.log(least_observations), np.log(most))))
    else:
        observations = rng.uniform(least_observations, most)
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
    lesson: Lesson,
    moments: int | None = None,
) -> Iterator[Example]:
    """Yield `moments` examples of one patrol, the last one at its end. Equal seeds give equal examples."""
    full_size = lesson.full_size
    moments = moments or (FULL_SIZE_MOMENTS if full_size or lesson.crowded else MOMENTS)
    rng = np.random.default_rng(seed)
    composer.rng = np.random.default_rng((*seed, 1))
    config = TRAINED_MEMORY if full_size else random_memory(rng)
    world = random_world(rng, config.csm_slots, longest_min, lesson)
    if lesson.crowded and full_size and np.random.default_rng((*seed, 4)).random() < NODE_MEMORY_SHARE:
        config = replace(MEMORY, grouping=TRAINED_MEMORY.grouping)
    is_hierarchical = np.random.default_rng((*seed, 2)).random() < HIERARCHICAL_SHARE
    config = replace(config, retention=HIERARCHICAL if is_hierarchical else PUBLISHED)
    places = rng.random(moments - 1) ** (0.5 if full_size else 1)
    stops = sorted({*(20 + places * (world.duration - 20)).tolist(), world.duration})
    form = str(rng.choice(FORMS, p=FORM_SHARES))
    if form == "DAM":
        config = replace(config, dam_slots=config.csm_slots)
    cameras = ("left", "right") if rng.random() < TWO_CAMERAS else ("camera",)
    memory, maker = FlashMemory(config), ExampleMaker(world.visits, form, lesson, rng)
    least_one_in = 1 if full_size else LATER_ONE_IN
    one_in = max(round(least_one_in * world.duration / 60 / UNTHINNED_MIN), least_one_in)
    for stamp, index in composer.thinned(composer.slots(world, world.duration), one_in):
        while stops and stops[0] < stamp:
            stop = stops.pop(0)
            if memory.slots_seen:
                yield maker.example(memory, stop)
        for lag, camera in enumerate(cameras):
            memory.insert(
                _slot(composer, index if not lag else composer.similar_slot(index), camera, stamp + 0.1 * lag)
            )
    yield maker.example(memory, world.duration)


def _slot(composer: Composer, index: int, camera: str, stamp: float) -> Slot:
    ns = nanoseconds(stamp)
    low, detail = composer.features.low[index].float(), composer.features.detail[index].float()
    return Slot(camera, "", ns - round(FRAME_S * SECOND_NS), ns, low, detail, Grid(GRID, GRID))


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
