"""Training images: observations of the household world, and frames of routes between them, rendered once.

In an observation the robot stands still and sees one corner of a room, with or without a thing and a person.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from flash_vstream_ros.demo.house import Renderer
from flash_vstream_ros.demo.world import (
    CELL,
    CELLS,
    COLOURS,
    HELD_OUT,
    KINDS,
    ROOMS,
    Thing,
    World,
    item,
    person_place,
    standpoint,
)
from flash_vstream_ros.models.household_settings import FRAME_S, SIDE, SLOT_S
from flash_vstream_ros.models.preprocess import resize

SLOTS = 2  # slots per rendering of an observation
VARIANTS, PERSON_VARIANTS = 12, 4  # renderings of a corner with a thing: without a person, and with a person
EMPTY_SHARE = 8  # an empty corner is rendered as often as this many things, but with half the variants
ROUTES = 400  # number of short patrols that give images between observations


class Content(NamedTuple):
    """Content of an observation."""

    room: str
    corner: int
    thing: Thing | None
    person: bool


class Label(NamedTuple):
    """Content of a slot: indices into ROOMS, COLOURS and KINDS. Colours and kinds count from 1; 0 means nothing."""

    room: int
    corner: int  # -1: on a route
    colour: int
    kind: int
    person: int
    group: int  # number of the observation
    from_room: int  # room of the first frame


GROUP = Label._fields.index("group")


class Observations(NamedTuple):
    """Rendered slots with their labels."""

    frames: np.ndarray  # [slots, 2, SIDE, SIDE, 3] uint8
    labels: np.ndarray  # [slots, len(Label)] int


class _Slot(NamedTuple):
    frames: list[np.ndarray]  # two frames in the size of the renderer
    label: Label


def render_observations(folder: Path, seed: int, processes: int) -> Observations:
    """Render the observations of `seed` and store them in `folder`, or read them if they are stored there."""
    file = folder / f"observations_{seed}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rendered = _render_all(seed, processes)
        np.savez(file, frames=rendered.frames, labels=rendered.labels)
    stored = np.load(file)
    return Observations(stored["frames"], stored["labels"])


def _render_all(seed: int, processes: int) -> Observations:
    contents = list(_contents())
    parts = 4 * processes  # more parts than processes, so that no process is idle for long at the end
    arguments = [(seed * 1000 + part, contents[part::parts], ROUTES // parts) for part in range(parts)]
    with get_context("fork").Pool(processes, _use_one_thread) as pool:
        rendered = pool.starmap(_render, arguments)
    groups = 0
    for _, labels in rendered:  # each part counts its groups from 0
        labels[:, GROUP] += groups
        groups = labels[:, GROUP].max() + 1
    return Observations(*(np.concatenate(arrays) for arrays in zip(*rendered, strict=True)))


def _use_one_thread() -> None:
    """Limit this child process to one thread, since there is a process for each core."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _contents() -> Iterator[Content]:
    """Content of each observation to render, without held-out combinations."""
    things = [Thing(colour, kind) for colour in COLOURS for kind in KINDS]
    for room in ROOMS:
        for corner in (0, 1):
            for thing in (*[None] * EMPTY_SHARE, *things):
                if thing is not None and (*thing, room) in HELD_OUT:
                    continue
                for person, variants in ((False, VARIANTS), (True, PERSON_VARIANTS)):
                    count = variants if thing else max(variants // 2, 1)
                    yield from [Content(room, corner, thing, person)] * count


def _render(seed: int, contents: Sequence[Content], routes: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames and labels, as in Observations, of observations with `contents` and of `routes` routes."""
    slots = [*_observed_slots(seed, contents)]
    for route in range(routes):
        slots += _route_slots(seed * 100_000 + route, first_group=len(contents) + len(slots))
    frames = np.stack([[_small(frame) for frame in slot.frames] for slot in slots])
    return frames, np.array([slot.label for slot in slots])


def _observed_slots(seed: int, contents: Sequence[Content]) -> Iterator[_Slot]:
    """SLOTS slots of each observation with the same standpoint and light. The group is the index in `contents`."""
    rng, renderer = np.random.default_rng(seed), Renderer(seed, CELL, CELLS)
    for group, content in enumerate(contents):
        room, corner, thing, person = content
        pose = standpoint(room, corner, rng.standard_normal(4).clip(-2, 2))
        items = [item(thing, room, corner)] if thing else []
        light, side, start = rng.uniform(0.9, 1.18), rng.choice([-1, 1]), rng.uniform(0, 600)
        for _ in range(SLOTS):
            frames = []
            for t in (start, start + FRAME_S):
                somebody = person_place(room, corner, side, t) if person else None
                swayed = pose._replace(yaw=pose.yaw + 0.008 * math.sin(2.1 * t))
                frames.append(renderer.frame(swayed, items, somebody, light, round(t * 1000)))
            yield _Slot(frames, Label(*observation_key(content), group, ROOMS.index(room)))
            start += rng.uniform(4, 40)


def _route_slots(seed: int, first_group: int) -> list[_Slot]:
    """Slots of a short patrol between observations; each slot is a group."""
    world = World(seed, minutes=1.5, pace_s=9.0, held_out=False)
    slots: list[_Slot] = []
    for k in range(int((world.duration - FRAME_S) / SLOT_S)):
        first, second = k * SLOT_S, k * SLOT_S + FRAME_S
        if not _observes_within(world, first, second):
            from_room, room = ROOMS.index(world.room(first)), ROOMS.index(world.room(second))
            label = Label(room, -1, 0, 0, 0, first_group + len(slots), from_room)
            slots.append(_Slot([world.frame(first), world.frame(second)], label))
    return slots


def _observes_within(world: World, first: float, second: float) -> bool:
    """Returns True if one observation lasts from `first` to `second`."""
    observations = (observation for visit in world.visits for observation in visit.observations)
    return any(observation.start <= first and second <= observation.end for observation in observations)


def observation_key(content: Content) -> tuple[int, int, int, int, int]:
    """The first five fields of the labels of an observation's slots."""
    room, corner, thing, person = content
    colour = list(COLOURS).index(thing.colour) + 1 if thing else 0
    kind = KINDS.index(thing.kind) + 1 if thing else 0
    return ROOMS.index(room), corner, colour, kind, int(person)


def _small(frame: np.ndarray) -> np.ndarray:
    """Resize RGB uint8 [height, width, 3] to the model's input [SIDE, SIDE, 3]."""
    image = torch.from_numpy(frame).permute(2, 0, 1)[None]
    return resize(image, (SIDE, SIDE))[0].permute(1, 2, 0).byte().numpy()
