"""Training images: every possible observation, and the routes between them, rendered once."""

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

SLOTS = 2  # per observation
VARIANTS, PERSON_VARIANTS = 12, 4
ROUTES = 400  # short patrols from which images between observations are taken


class Label(NamedTuple):
    """Content of a slot, as indices into ROOMS, COLOURS and KINDS; the latter two count from 1, 0 is nothing."""

    room: int
    corner: int  # -1: on a route
    colour: int
    kind: int
    person: int
    group: int  # number of the observation
    from_room: int  # room of the first frame


class Observations(NamedTuple):
    """Rendered slots with their labels."""

    frames: np.ndarray  # [slots, 2, SIDE, SIDE, 3] uint8
    labels: np.ndarray  # [slots, len(Label)] int


def render_observations(folder: Path, seed: int, processes: int) -> Observations:
    """Render the observations of `seed`, or read them from `folder` if they are there."""
    file = folder / f"observations_{seed}.npz"
    if not file.exists():
        keys = list(_keys())
        parts = [(seed * 1000 + i, keys[i :: 4 * processes], ROUTES // (4 * processes)) for i in range(4 * processes)]
        with get_context("fork").Pool(processes) as pool:
            made = pool.starmap(_render, parts)
        folder.mkdir(parents=True, exist_ok=True)
        groups = 0
        for _, labels in made:
            labels[:, Label._fields.index("group")] += groups
            groups = labels[:, Label._fields.index("group")].max() + 1
        np.savez(file, frames=np.concatenate([f for f, _ in made]), labels=np.concatenate([la for _, la in made]))
    stored = np.load(file)
    return Observations(stored["frames"], stored["labels"])


def _keys() -> Iterator[tuple[str, int, Thing | None, bool]]:
    things: list[Thing | None] = [Thing(colour, kind) for colour in COLOURS for kind in KINDS]
    for room in ROOMS:
        for corner in (0, 1):
            for thing in [None] * 8 + things:
                if thing is None or (*thing, room) not in HELD_OUT:
                    yield from [(room, corner, thing, False)] * (VARIANTS if thing else max(VARIANTS // 2, 1))
                    yield from [(room, corner, thing, True)] * (
                        PERSON_VARIANTS if thing else max(PERSON_VARIANTS // 2, 1)
                    )


def _render(
    seed: int, keys: Sequence[tuple[str, int, Thing | None, bool]], routes: int
) -> tuple[np.ndarray, np.ndarray]:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    rng, renderer = np.random.default_rng(seed), Renderer(seed, CELL, CELLS)
    slots: list[list[np.ndarray]] = []
    labels: list[Label] = []
    for group, (room, corner, thing, person) in enumerate(keys):
        pose = standpoint(room, corner, rng.standard_normal(4).clip(-2, 2))
        items = [item(thing, room, corner)] if thing else []
        light, side, start = rng.uniform(0.9, 1.18), rng.choice([-1, 1]), rng.uniform(0, 600)
        for _ in range(SLOTS):
            shown = []
            for t in (start, start + FRAME_S):
                somebody = person_place(room, corner, side, t) if person else None
                swayed = pose._replace(yaw=pose.yaw + 0.008 * math.sin(2.1 * t))
                shown.append(renderer.frame(swayed, items, somebody, light, round(t * 1000)))
            slots.append(shown)
            labels.append(_label(room, corner, thing, person, group, room))
            start += rng.uniform(4, 40)
    for route in range(routes):
        world = World(seed * 100_000 + route, minutes=1.5, pace_s=9.0, held_out=False)
        for k in range(int((world.duration - FRAME_S) / SLOT_S)):
            t = k * SLOT_S
            if not any(
                observation.start <= t and t + FRAME_S <= observation.end
                for visit in world.visits
                for observation in visit.observations
            ):
                slots.append([world.frame(t), world.frame(t + FRAME_S)])
                labels.append(_label(world.room(t + FRAME_S), -1, None, False, len(keys) + len(labels), world.room(t)))
    return np.stack([[_small(frame) for frame in slot] for slot in slots]), np.array(labels)


def observation_key(room: str, corner: int, thing: Thing | None, person: bool) -> tuple[int, int, int, int, int]:
    """Content of an observation: the first five fields of its slots' labels."""
    colour = list(COLOURS).index(thing.colour) + 1 if thing else 0
    kind = KINDS.index(thing.kind) + 1 if thing else 0
    return ROOMS.index(room), corner, colour, kind, int(person)


def _label(room: str, corner: int, thing: Thing | None, person: bool, group: int, from_room: str) -> Label:
    return Label(*observation_key(room, corner, thing, person), group, ROOMS.index(from_room))


def _small(frame: np.ndarray) -> np.ndarray:
    image = torch.from_numpy(frame).permute(2, 0, 1)[None]
    return resize(image, (SIDE, SIDE))[0].permute(1, 2, 0).byte().numpy()
