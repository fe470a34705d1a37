"""The simulated patrol: a robot drives through a house and observes its rooms; the ground truth is known.

Equal seeds and arguments give equal images. In every room the robot stops twice, and each time observes one corner.
Objects appear, vanish and move while the robot is elsewhere; a person comes and goes; light and viewpoint vary.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .house import DOORS, Item, Renderer
from .view import FIELD_OF_VIEW, Pose

CELL = 5.0  # side of a room [m]
CELLS = {"bedroom": (0, 0), "hallway": (1, 0), "kitchen": (0, 1), "living room": (1, 1), "office": (2, 1)}
CORNERS = ((1.5, 1.5), (-1.5, -1.5))  # corners with objects, relative to the room's centre [m]; others have furniture
ROOMS = ("kitchen", "living room", "office", "bedroom", "hallway")
COLOURS = {
    "red": (205, 40, 38),
    "blue": (40, 82, 205),
    "green": (38, 150, 62),
    "yellow": (235, 200, 40),
    "purple": (135, 58, 165),
}
KINDS = ("ball", "box", "plant", "chair", "lamp")
STEP, EYE = 0.55, 1.05  # distance of the robot from the room's centre, and height of its camera [m]
TURN_S, LEAVE_S, CROSS_S, ARRIVE_S = 3.0, 2.0, 4.0, 2.0
SHORTEST_OBSERVATION_S, LONGEST_OBSERVATION = 9.0, 6.0  # [s], [multiple of the pace]
THINGS = 6  # number of things at the start
# Probabilities: of a change per revisit, of a person per observation, of driving back per room with another exit.
CHANGE, PERSON, BACKTRACK = 0.6, 0.15, 0.25


class Thing(NamedTuple):
    """A coloured object; no two in the house are equal."""

    colour: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.colour} {self.kind}"


# Combinations of colour, kind and room that training never shows, to test generalisation.
HELD_OUT = frozenset(
    (colour, kind, room)
    for c, colour in enumerate(COLOURS)
    for k, kind in enumerate(KINDS)
    for r, room in enumerate(ROOMS)
    if (c + 2 * k + 4 * r) % 9 == 0
)


class Observation(NamedTuple):
    """The robot stands still and observes one corner of a room."""

    start: float
    end: float  # [s] since the patrol began
    corner: int
    thing: Thing | None
    person: bool


class Visit(NamedTuple):
    """A stay in one room, from door to door. A visit starts when the previous one ends."""

    room: str
    start: float
    end: float  # [s] since the patrol began
    observations: tuple[Observation, ...]


class Truth(NamedTuple):
    """What one frame shows of the robot's room, without rooms seen through a door."""

    room: str
    things: tuple[str, ...]  # names such as "red ball" of things whose centre is in the image
    person: bool


Contents = dict[str, list[Thing | None]]  # things in the corners of each room


def centre(room: str) -> np.ndarray:
    return (np.array(CELLS[room]) + 0.5) * CELL


def place(room: str, corner: int) -> tuple[float, float]:
    """Position of an object in a corner [m]."""
    x, y = centre(room) + CORNERS[corner]
    return float(x), float(y)


def standpoint(room: str, corner: int, jitter: np.ndarray) -> Pose:
    """Pose from which the robot observes a corner; `jitter` [4] are standard normal deviations."""
    towards = np.array(CORNERS[corner]) / math.hypot(*CORNERS[corner])
    x, y = centre(room) + towards * STEP + 0.07 * jitter[:2]
    target = place(room, corner)
    yaw = math.atan2(target[1] - y, target[0] - x) + 0.05 * float(jitter[2])
    return Pose(float(x), float(y), EYE + 0.02 * float(jitter[3]), yaw)


def person_place(room: str, corner: int, side: float, t: float) -> tuple[float, float]:
    """Position of a person who paces to the right (`side` 1) or left (-1) of a corner's object [m]."""
    towards = np.array(CORNERS[corner]) / math.hypot(*CORNERS[corner])
    aside = side * (0.72 + 0.16 * math.sin(0.9 * t))
    x, y = centre(room) + towards * 2.0 + aside * np.array([towards[1], -towards[0]])
    return float(x), float(y)


class World:
    """A patrol of at least `minutes`, whose observations have the median duration `pace_s` [s].

    `glimpses` is the share of visits with a glimpse: a thing stands in an empty corner during this visit only, and is
    observed for the shortest duration, one or two slots.
    """

    def __init__(
        self,
        seed: int = 0,
        minutes: float = 8.0,
        pace_s: float = 15.0,
        held_out: bool = True,
        glimpses: float = 0.0,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._glimpses = glimpses
        self._held_out = held_out
        self._phase = self._rng.uniform(0, math.tau, 2)
        self._keys: list[tuple[float, Pose]] = []
        self._contents: list[Contents] = []
        self._sides: list[float] = []
        self.visits = self._patrol(60 * minutes, pace_s)
        self._starts = [visit.start for visit in self.visits]
        self._times = [t for t, _ in self._keys]
        self.duration = self.visits[-1].end
        self._seed = seed

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self._seed, CELL, CELLS)

    def room(self, t: float) -> str:
        return self.visits[self._visit(t)].room

    def light(self, t: float) -> float:
        """Brightness, about 1, which varies with the time of day and clouds."""
        slow, fast = math.sin(t / 900 + self._phase[0]), math.sin(t / 41 + self._phase[1])
        return 1.04 + 0.11 * slow + 0.03 * fast

    def pose(self, t: float) -> Pose:
        index = min(max(bisect_right(self._times, t), 1), len(self._keys) - 1)
        (t0, p0), (t1, p1) = self._keys[index - 1], self._keys[index]
        share = _eased(min(max((t - t0) / (t1 - t0), 0.0), 1.0))
        turn = (p1.yaw - p0.yaw + math.pi) % math.tau - math.pi
        sway = 0.008 * math.sin(2.1 * t)
        x, y, z = (a + (b - a) * share for a, b in zip(p0[:3], p1[:3], strict=True))
        return Pose(x, y, z + 0.005 * math.sin(5.3 * t), p0.yaw + turn * share + sway)

    def person(self, t: float) -> tuple[float, float] | None:
        """Position of the person [m]; None if nobody is in the house."""
        index = self._visit(t)
        visit = self.visits[index]
        for observation in visit.observations:
            if observation.person and observation.start - TURN_S / 2 <= t <= observation.end + TURN_S / 2:
                return person_place(visit.room, observation.corner, self._sides[index], t)
        return None

    def truth(self, t: float) -> Truth:
        index, pose, person = self._visit(t), self.pose(t), self.person(t)
        room = self.visits[index].room
        seen = [
            thing.name
            for corner, thing in enumerate(self._contents[index][room])
            if thing and _in_view(pose, *place(room, corner))
        ]
        return Truth(room, tuple(seen), person is not None and _in_view(pose, *person))

    def frame(self, t: float) -> np.ndarray:
        """Render the camera image t seconds after the start: [448, 448, 3] uint8 RGB."""
        contents = self._contents[self._visit(t)]
        items = [item(thing, room, corner) for room in ROOMS for corner, thing in enumerate(contents[room]) if thing]
        noise = round(t * 1000)
        return self._renderer.frame(self.pose(t), items, self.person(t), self.light(t), noise)

    def _visit(self, t: float) -> int:
        return max(bisect_right(self._starts, t) - 1, 0)

    def _patrol(self, seconds: float, pace_s: float) -> tuple[Visit, ...]:
        rng, contents = self._rng, self._furnish()
        visits: list[Visit] = []
        rooms = [ROOMS[rng.integers(len(ROOMS))]]
        touched: set[str] = set()  # rooms changed since the last visit
        start = clock = 0.0
        while True:
            room, following = rooms[-1], self._next_room(rooms)
            here = {name: list(corners) for name, corners in contents.items()}
            glimpsed = self._glimpse(contents, here[room], room)
            self._contents.append(here)
            self._sides.append(float(rng.choice([-1, 1])))
            observations = []
            for turn, corner in enumerate(rng.permutation(2).tolist()):
                clock += TURN_S * turn
                stand = standpoint(room, corner, rng.standard_normal(4).clip(-2, 2))
                longest = max(LONGEST_OBSERVATION * pace_s, SHORTEST_OBSERVATION_S)
                lasts = float(np.clip(pace_s * math.exp(0.6 * rng.standard_normal()), SHORTEST_OBSERVATION_S, longest))
                if corner == glimpsed:
                    lasts = SHORTEST_OBSERVATION_S
                observations.append(
                    Observation(clock, clock + lasts, corner, here[room][corner], bool(rng.random() < PERSON))
                )
                self._keys += [(clock, stand), (clock + lasts, stand)]
                clock += lasts
            if clock >= seconds:
                return (*visits, Visit(room, start, clock, tuple(observations)))
            door = clock + LEAVE_S + CROSS_S / 2
            visits.append(Visit(room, start, door, tuple(observations)))
            heading = math.atan2(*(centre(following) - centre(room))[::-1])
            for into, through in ((LEAVE_S, room), (LEAVE_S + CROSS_S, following)):
                x, y = centre(through)
                self._keys.append((clock + into, Pose(float(x), float(y), EYE, heading)))
            start, clock = door, clock + LEAVE_S + CROSS_S + ARRIVE_S
            touched.discard(room)
            if following in rooms and following not in touched and rng.random() < CHANGE:
                self._change(contents, following, touched)
            rooms.append(following)

    def _glimpse(self, contents: Contents, corners: list[Thing | None], room: str) -> int | None:
        """Place a thing in an empty corner for one visit. Returns the corner, or None."""
        if not self._glimpses or self._rng.random() >= self._glimpses or None not in corners:
            return None
        corner = corners.index(None)
        corners[corner] = self._new_thing(contents, room)
        return corner

    def _next_room(self, rooms: list[str]) -> str:
        ways = [b if a == rooms[-1] else a for a, b in DOORS if rooms[-1] in (a, b)]
        onward = [room for room in ways if room not in rooms[-2:]]
        options = onward if onward and self._rng.random() > BACKTRACK else ways
        return options[self._rng.integers(len(options))]

    def _furnish(self) -> Contents:
        contents: Contents = {room: [None, None] for room in ROOMS}
        places = [(room, corner) for room in ROOMS for corner in (0, 1)]
        for index in self._rng.permutation(len(places))[:THINGS]:
            room, corner = places[index]
            contents[room][corner] = self._new_thing(contents, room)
        return contents

    def _new_thing(self, contents: Contents, room: str) -> Thing | None:
        """A thing that is not in the house. Half of them share colour or kind with one there, so that both matter."""
        there = [thing for corners in contents.values() for thing in corners if thing]
        free = [
            Thing(colour, kind) for colour in COLOURS for kind in KINDS if self._may_stand(Thing(colour, kind), room)
        ]
        free = [thing for thing in free if thing not in there]
        alike = [thing for thing in free if any(thing.kind == t.kind or thing.colour == t.colour for t in there)]
        options = alike if alike and self._rng.random() < 0.5 else free
        return options[self._rng.integers(len(options))]

    def _may_stand(self, thing: Thing, room: str) -> bool:
        return self._held_out or (*thing, room) not in HELD_OUT

    def _change(self, contents: Contents, room: str, touched: set[str]) -> None:
        """Change one corner: place a new thing, or remove its thing, which moves to another room half of the time."""
        corner = int(self._rng.integers(2))
        thing = contents[room][corner]
        if thing is None:
            contents[room][corner] = self._new_thing(contents, room)
            return
        contents[room][corner] = None
        empty = [(r, c) for r in ROOMS for c in (0, 1) if r != room and r not in touched and not contents[r][c]]
        empty = [(r, c) for r, c in empty if self._may_stand(thing, r)]
        if empty and self._rng.random() < 0.5:
            other, free = empty[self._rng.integers(len(empty))]
            contents[other][free] = thing
            touched.add(other)


def item(thing: Thing, room: str, corner: int) -> Item:
    return Item(thing.kind, COLOURS[thing.colour], *place(room, corner))


def _eased(share: float) -> float:
    return share * share * (3 - 2 * share)


def _in_view(pose: Pose, x: float, y: float) -> bool:
    bearing = math.atan2(y - pose.y, x - pose.x) - pose.yaw
    return bool(abs((bearing + math.pi) % math.tau - math.pi) < FIELD_OF_VIEW / 2)
