"""The demo's camera: a robot's patrol through a small house, drawn from a seed, with its ground truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .house import Item, Renderer
from .view import FIELD_OF_VIEW, Pose

CELL = 5.0  # side of a room [m]
LOOK_S, DRIVE_S = 12.0, 6.0  # turning once around in a room; from a room's centre to the next
LEG_S = LOOK_S + DRIVE_S

COLOURS = {
    "red": (205, 40, 38),
    "blue": (40, 82, 205),
    "green": (38, 150, 62),
    "yellow": (235, 200, 40),
    "purple": (135, 58, 165),
    "orange": (240, 130, 30),
}
KINDS = ("ball", "box", "plant", "chair", "lamp")
ROUND = ("hallway", "living room", "office", "living room", "kitchen", "bedroom")
CELLS = {"bedroom": (0, 0), "hallway": (1, 0), "kitchen": (0, 1), "living room": (1, 1), "office": (2, 1)}
CORNERS = ((1.5, 1.5), (-1.5, -1.5))  # of a room that hold objects; the other two hold furniture


@dataclass(frozen=True)
class Thing:
    """A coloured object. Stands at (x, y) of the house [m] from time `since` on [s]."""

    kind: str
    colour: str
    room: str
    x: float
    y: float
    since: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.colour} {self.kind}"


class Visit(NamedTuple):
    room: str
    start: float  # [s]
    end: float  # [s]


class Truth(NamedTuple):
    """What one frame shows. Only the robot's own room counts, not what a door lets see of the next."""

    room: str
    things: tuple[str, ...]  # "red ball", ...; centre inside the picture
    person: bool


def centre(room: str) -> np.ndarray:
    return (np.array(CELLS[room]) + 0.5) * CELL


class DemoWorld:
    """A patrol of six room visits in `duration` seconds; then the robot drives on, round after round.

    Same seed, same pictures. Seeds differ in where the round starts, its direction, and in the objects.
    """

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        start, step = int(rng.integers(len(ROUND))), int(rng.choice([1, -1]))
        self.rooms = [ROUND[(start + step * i) % len(ROUND)] for i in range(len(ROUND))]
        self.duration = self.visits()[-1].end
        self._headings = self._plan()
        self.things = self._furnish(rng)
        quiet = [i for i, room in enumerate(self.rooms) if i > 0 and room != "living room"]
        self._person_visit = int(rng.choice(quiet))
        self._renderer = Renderer(seed, CELL, CELLS)

    def _plan(self) -> list[tuple[float, float]]:
        """Headings [rad] at the start and at the end of each look around, the turn of a full circle included."""
        count = len(self.rooms)
        leaving = []
        for here, after in zip(self.rooms, self.rooms[1:] + self.rooms[:1], strict=True):
            dx, dy = centre(after) - centre(here)
            leaving.append(math.atan2(dy, dx))
        plan, heading = [], leaving[-1]
        for i in range(count):
            turn = (leaving[i] - heading + math.pi) % math.tau - math.pi
            turn += math.copysign(math.tau, turn)
            plan.append((heading, heading + turn))
            heading = leaving[i]
        return plan

    def _furnish(self, rng: np.random.Generator) -> tuple[Thing, ...]:
        pairs = [(kind, colour) for kind in KINDS for colour in COLOURS if (kind, colour) != ("ball", "red")]
        order = [("ball", "red"), *(pairs[i] for i in rng.permutation(len(pairs)))]
        rooms = [room for room in CELLS if room != "living room"]
        rng.shuffle(rooms)
        places = [(room, 0) for room in [*rooms, "living room"]] + [(room, 1) for room in rooms]
        between = self.rooms.index("living room") + 1  # the late object comes between two visits
        things = []
        for (kind, colour), (room, corner) in zip(order, places, strict=False):
            x, y = centre(room) + CORNERS[corner]
            things.append(Thing(kind, colour, room, float(x), float(y)))
        x, y = centre("living room") + CORNERS[1]
        kind, colour = order[len(things)]
        things.append(Thing(kind, colour, "living room", float(x), float(y), between * LEG_S + 0.5))
        return tuple(things)

    def pose(self, t: float) -> Pose:
        index, into = divmod(t % (LEG_S * len(self.rooms)), LEG_S)
        here = int(index)
        first, last = self._headings[here]
        start, end = centre(self.rooms[here]), centre(self.rooms[(here + 1) % len(self.rooms)])
        x, y = start + (end - start) * _eased(max(into - LOOK_S, 0.0) / DRIVE_S)
        heading = first + (last - first) * _eased(min(into / LOOK_S, 1.0))
        sway = 0.012 * math.sin(2.1 * t)
        return Pose(float(x), float(y), 1.05 + 0.006 * math.sin(5.3 * t), heading + sway)

    def room(self, t: float) -> str:
        pose = self.pose(t)
        cell = int(pose.x // CELL), int(pose.y // CELL)
        return next(room for room, place in CELLS.items() if place == cell)

    def visits(self) -> list[Visit]:
        """Rooms in the order of the first round; a visit lasts from door to door."""
        doors = [i * LEG_S + LOOK_S + DRIVE_S / 2 for i in range(len(self.rooms))]
        return [Visit(*visit) for visit in zip(self.rooms, [0.0, *doors], doors, strict=False)]

    def person(self, t: float) -> tuple[float, float] | None:
        """Where the person walks [m]: once, across one room, while the robot looks around there."""
        share = (t - self._person_visit * LEG_S) / LOOK_S
        if not 0.0 <= share <= 1.0:
            return None
        x, y = centre(self.rooms[self._person_visit])
        return float(x + 1.9 - 3.8 * share), float(y + 0.95 + 0.25 * math.sin(3 * share))

    def truth(self, t: float) -> Truth:
        room, pose, person = self.room(t), self.pose(t), self.person(t)
        seen = [
            thing.name
            for thing in self.things
            if thing.room == room and t >= thing.since and _in_view(pose, thing.x, thing.y)
        ]
        return Truth(
            room, tuple(seen), person is not None and room == self.rooms[self._person_visit] and _in_view(pose, *person)
        )

    def frame(self, t: float) -> np.ndarray:
        """The camera's picture t seconds after the start: [448, 448, 3] uint8 RGB."""
        items = [Item(thing.kind, COLOURS[thing.colour], thing.x, thing.y) for thing in self.things if t >= thing.since]
        return self._renderer.frame(t, self.pose(t), items, self.person(t))

    def questions(self) -> list[tuple[str, str]]:
        """Questions about the first round, and the answers."""
        ball, late = self.things[0], self.things[-1]
        chosen = self.things[1]
        absent = next(f"{c} {k}" for k in KINDS for c in COLOURS if all(f"{c} {k}" != t.name for t in self.things))
        return [
            ("Which rooms did you visit, in order?", ", ".join(self.rooms)),
            ("Did you see a red ball, and in which room?", f"yes, in the {ball.room}"),
            ("Did a person appear, and in which room?", f"yes, in the {self.rooms[self._person_visit]}"),
            ("How many times did you visit the living room?", str(self.rooms.count("living room"))),
            ("Which object appeared in the living room between two visits?", f"a {late.name}"),
            (f"In which room was the {chosen.name}?", f"in the {chosen.room}"),
            (f"Did you see a {absent}?", "no"),
        ]


def _eased(share: float) -> float:
    return share * share * (3 - 2 * share)


def _in_view(pose: Pose, x: float, y: float) -> bool:
    bearing = math.atan2(y - pose.y, x - pose.x) - pose.yaw
    return bool(abs((bearing + math.pi) % math.tau - math.pi) < FIELD_OF_VIEW / 2)
