"""Renders the demo's house: five rooms with furniture, and the view through open doors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from .view import DRAW, SIZE, Colour, Part, Pose, View, box, draw_person, tint

WALL, DOOR_TOP, DOOR_HALF = 2.6, 2.1, 0.55  # [m]
STYLES: dict[str, tuple[Colour, Colour, Colour]] = {  # wall, floor, other floor tiles
    "kitchen": ((226, 203, 128), (208, 205, 198), (150, 158, 164)),
    "living room": ((132, 166, 196), (168, 124, 84), (156, 113, 75)),
    "office": ((140, 181, 140), (112, 116, 124), (104, 108, 116)),
    "bedroom": ((190, 150, 190), (196, 168, 132), (186, 157, 121)),
    "hallway": ((216, 168, 142), (134, 92, 66), (170, 128, 96)),
}
# Boxes of each room: x and y of the box's centre from the room's centre, width, depth, bottom, top [m], colour.
FURNITURE: dict[str, list[tuple[float, float, float, float, float, float, Colour]]] = {
    "kitchen": [
        (-1.65, 2.15, 1.6, 0.6, 0.0, 0.9, (236, 236, 232)),
        (-1.65, 2.15, 1.64, 0.64, 0.9, 0.95, (70, 66, 64)),
        (-1.65, 2.3, 1.6, 0.35, 1.5, 2.1, (214, 120, 80)),
        (2.1, -1.7, 0.7, 0.7, 0.0, 1.9, (200, 208, 214)),
    ],
    "living room": [
        (-1.75, 1.9, 1.4, 0.8, 0.0, 0.42, (92, 70, 120)),
        (-1.75, 2.25, 1.4, 0.2, 0.42, 0.9, (92, 70, 120)),
        (1.75, -2.25, 1.4, 0.4, 0.0, 0.5, (92, 62, 40)),
        (1.75, -2.3, 1.1, 0.08, 0.6, 1.25, (24, 26, 30)),
    ],
    "office": [
        (-1.7, 2.0, 1.5, 0.7, 0.68, 0.74, (216, 188, 140)),
        (-2.35, 2.0, 0.08, 0.6, 0.0, 0.68, (60, 60, 64)),
        (-1.05, 2.0, 0.08, 0.6, 0.0, 0.68, (60, 60, 64)),
        (-1.7, 2.2, 0.7, 0.06, 0.84, 1.25, (20, 30, 46)),
        (2.15, -1.7, 0.5, 1.2, 0.0, 1.8, (128, 88, 58)),
    ],
    "bedroom": [
        (-1.6, 1.6, 1.5, 1.7, 0.0, 0.42, (236, 232, 226)),
        (-1.6, 1.35, 1.54, 1.24, 0.42, 0.5, (86, 108, 168)),
        (-1.6, 2.2, 0.9, 0.35, 0.42, 0.58, (250, 250, 246)),
        (-1.6, 2.42, 1.6, 0.1, 0.0, 1.0, (120, 80, 54)),
        (2.1, -1.8, 0.6, 1.1, 0.0, 2.0, (150, 108, 74)),
    ],
    "hallway": [
        (-2.2, 1.7, 0.4, 1.1, 0.0, 0.8, (240, 236, 226)),
        (2.2, -1.7, 0.4, 1.2, 0.0, 0.45, (88, 100, 84)),
    ],
}
DOORS = (
    ("hallway", "bedroom"),
    ("hallway", "living room"),
    ("living room", "kitchen"),
    ("living room", "office"),
    ("bedroom", "kitchen"),
)


SIDES = {"north": (0, -1), "south": (0, 1), "east": (-1, 0), "west": (1, 0)}  # inward normals
SIDE_SHADE = {"north": 1.0, "south": 0.9, "east": 0.84, "west": 0.94}
POSTERS: dict[str, tuple[Colour, Colour]] = {
    "kitchen": ((250, 246, 232), (196, 62, 52)),
    "living room": ((32, 46, 78), (238, 196, 96)),
    "office": ((246, 246, 246), (64, 96, 150)),
    "bedroom": ((252, 232, 220), (206, 130, 160)),
    "hallway": ((44, 62, 58), (216, 220, 200)),
}


class Item(NamedTuple):
    """An object to draw: its kind (a key of DRAW), its colour and its place in the house [m]."""

    kind: str
    colour: Colour
    x: float
    y: float


class _Door(NamedTuple):
    """An open door to another room."""

    corners: np.ndarray  # [4, 3] [m]
    room: str  # the other room


class _Shell(NamedTuple):
    """The fixed parts of a room."""

    surfaces: Part
    doors: list[_Door]
    furniture: list[Part]


class _Painter:
    """Collects the inner surfaces of one room; a later surface covers earlier ones."""

    def __init__(self, middle: np.ndarray, cell: float) -> None:
        self.middle, self.half = middle, cell / 2
        self.quads: list[np.ndarray] = []
        self.colours: list[list[float]] = []

    def flat(self, x0: float, x1: float, y0: float, y1: float, z: float, colour: Sequence[float]) -> None:
        corners = [(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]
        quad = np.array(corners) + (*self.middle, 0)
        self.quads.append(quad if z == 0 else quad[::-1])
        self.colours.append(tint(colour, 1))

    def on_wall(self, side: str, s0: float, s1: float, z0: float, z1: float, colour: Sequence[float]) -> np.ndarray:
        """Add a rectangle on a wall; s is the distance to the left of the wall's middle [m]."""
        normal = np.array(SIDES[side])
        along = np.array((-normal[1], normal[0]))
        foot = self.middle - normal * self.half
        quad = np.array([(*(foot + along * s), z) for s, z in ((s0, z0), (s1, z0), (s1, z1), (s0, z1))])
        self.quads.append(quad)
        self.colours.append(tint(colour, SIDE_SHADE[side]))
        return quad


def _shell(room: str, cells: Mapping[str, tuple[int, int]], cell: float) -> _Shell:
    """Build the fixed parts of a room. `cells` are places of rooms in a grid of squares with sides of `cell` [m]."""
    middle = (np.array(cells[room]) + 0.5) * cell
    wall, floor, tile = STYLES[room]
    paint, half, doors = _Painter(middle, cell), cell / 2, []
    paint.flat(-half, half, -half, half, WALL, (238, 236, 230))
    paint.flat(-0.5, 0.5, -0.5, 0.5, WALL - 1e-3, (255, 252, 238))
    _floor(paint, half, floor, tile, planks=room in ("living room", "bedroom"))
    free = []
    for side, normal in SIDES.items():
        paint.on_wall(side, -half, half, 0, WALL, wall)
        for k in range(8):
            dim = 1.0 - 0.012 * (k - 3.5) ** 2
            paint.on_wall(side, -half + k * half / 4, -half + (k + 1) * half / 4, 0, WALL, tint(wall, dim))
        paint.on_wall(side, -half, half, 0, 0.12, tint(wall, 0.55))
        paint.on_wall(side, -half, half, WALL - 0.1, WALL, tint(wall, 1.12))
        place = cells[room][0] - normal[0], cells[room][1] - normal[1]
        beyond = next((name for name, at in cells.items() if at == place), None)
        if beyond is None or not ({(room, beyond), (beyond, room)} & set(DOORS)):
            free.append(side)
            continue
        paint.on_wall(side, -DOOR_HALF - 0.09, DOOR_HALF + 0.09, 0, DOOR_TOP + 0.09, (244, 240, 232))
        corners = paint.on_wall(side, -DOOR_HALF, DOOR_HALF, 0, DOOR_TOP, (244, 240, 232))
        doors.append(_Door(corners, beyond))
    _window(paint, free[0])
    for side in free[1:]:
        ground, figure = POSTERS[room]
        paint.on_wall(side, -0.5, 0.5, 1.0, 1.9, (70, 56, 46))
        paint.on_wall(side, -0.45, 0.45, 1.05, 1.85, ground)
        paint.on_wall(side, -0.2, 0.25, 1.2, 1.62, figure)
        paint.on_wall(side, -0.36, 0.02, 1.42, 1.74, tint(figure, 0.7))
    furniture = [
        box(middle[0] + x, middle[1] + y, width, depth, bottom, top, colour)
        for x, y, width, depth, bottom, top, colour in FURNITURE[room]
    ]
    return _Shell(Part(np.array(paint.quads), np.array(paint.colours)), doors, furniture)


def _floor(paint: _Painter, half: float, floor: Colour, tile: Colour, planks: bool) -> None:
    paint.flat(-half, half, -half, half, 0, floor)
    if planks:
        for y in np.arange(-half, half, 0.5):
            paint.flat(-half, half, y, y + 0.25, 0, tile)
        paint.flat(-1.0, 1.0, -0.75, 0.75, 0, (176, 84, 76))
        paint.flat(-0.85, 0.85, -0.6, 0.6, 0, (214, 196, 168))
        return
    for row in range(5):
        for column in range(row % 2, 5, 2):
            x, y = -half + column, -half + row
            paint.flat(x, x + 1, y, y + 1, 0, tile)


def _window(paint: _Painter, side: str) -> None:
    paint.on_wall(side, -0.75, 0.75, 0.95, 2.15, (250, 248, 244))
    for k in range(5):
        z = 1.42 + 0.13 * k
        paint.on_wall(side, -0.67, 0.67, z, z + 0.131, (176 - 22 * k, 214 - 12 * k, 246))
    paint.on_wall(side, -0.67, 0.67, 1.03, 1.42, (122, 168, 96))
    paint.on_wall(side, -0.67, -0.1, 1.03, 1.52, (84, 132, 78))
    paint.on_wall(side, -0.03, 0.03, 1.03, 2.07, (250, 248, 244))
    paint.on_wall(side, -0.82, 0.82, 0.9, 0.97, (226, 222, 214))


class Renderer:
    """Renders images of the house. Everything that does not change between frames is computed once."""

    def __init__(self, seed: int, cell: float, cells: Mapping[str, tuple[int, int]]) -> None:
        self.cell, self.cells = cell, cells
        self.shells = {room: _shell(room, cells, cell) for room in cells}
        rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
        falloff = 250 - 42 * (rows**2 + columns**2)
        self._vignette = np.repeat(falloff[..., None], 3, 2).astype(np.uint8)
        noise = np.random.default_rng(seed).normal(0, 3.2, (SIZE + 64, SIZE + 64, 3))
        self._brighter, self._darker = (np.clip(n, 0, 20).astype(np.uint8) for n in (noise, -noise))

    def room_at(self, x: float, y: float) -> str | None:
        place = int(x // self.cell), int(y // self.cell)
        return next((room for room, at in self.cells.items() if at == place), None)

    def frame(
        self, pose: Pose, items: Sequence[Item], person: tuple[float, float] | None, light: float, noise: int
    ) -> np.ndarray:
        """Render an image [448, 448, 3] uint8 RGB; `light` is the brightness, about 1, and `noise` a seed."""
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        # The wall around the camera cannot be drawn in a doorway, so the next room begins a little earlier.
        ahead = self.room_at(pose.x + 0.05 * math.cos(pose.yaw), pose.y + 0.05 * math.sin(pose.yaw))
        self._draw_room(ahead or next(iter(self.cells)), View(image, pose), items, person, door_depth=2)
        image = cv2.multiply(image, self._vignette, scale=light / 255)
        top, left = np.random.default_rng(noise).integers(0, 64, 2)
        window = np.s_[top : top + SIZE, left : left + SIZE]
        return cv2.subtract(cv2.add(image, self._brighter[window]), self._darker[window])

    def _draw_room(
        self, room: str, view: View, items: Sequence[Item], person: tuple[float, float] | None, door_depth: int
    ) -> None:
        """Draw a room and, through its doors, the rooms up to `door_depth` doors away."""
        shell = self.shells[room]
        view.draw(shell.surfaces, solid=True)
        if door_depth:
            for door in shell.doors:
                self._draw_beyond(door, view, items, person, door_depth - 1)
        drawn: list[tuple[float, Callable[[], None]]] = [
            (view.distance(*part.quads[-1, :, :2].mean(0)), partial(view.draw, part, solid=True))
            for part in shell.furniture
        ]
        drawn += [
            (view.distance(item.x, item.y), partial(_draw_item, view, item, tint(STYLES[room][1], 0.6)))
            for item in items
            if self.room_at(item.x, item.y) == room
        ]
        if person and self.room_at(*person) == room:
            drawn.append((view.distance(*person), partial(draw_person, view, *person)))
        for _, draw in sorted(drawn, key=lambda pair: -pair[0]):
            draw()

    def _draw_beyond(
        self, door: _Door, view: View, items: Sequence[Item], person: tuple[float, float] | None, door_depth: int
    ) -> None:
        """Draw the room behind a door into the outline of the door."""
        corners = (door.corners - view.eye) @ view.axes
        outline = view.outline(corners) if view.faces(corners) else None  # never back into the camera's room
        if outline is None:
            return
        height, width = view.image.shape[:2]
        (left, top), (right, bottom) = (outline.min(0) >> 4), (outline.max(0) >> 4) + 1
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if left >= right or top >= bottom:
            return
        image = np.zeros((bottom - top, right - left, 3), np.uint8)
        self._draw_room(door.room, View(image, view.pose, view.left + left, view.top + top), items, person, door_depth)
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, outline - np.array([left, top], np.int32) * 16, 255, cv2.LINE_8, 4)
        cv2.copyTo(image, mask, view.image[top:bottom, left:right])


def _draw_item(view: View, item: Item, shadow: Sequence[float]) -> None:
    view.disk(item.x, item.y, 0.0, 0.42, shadow)
    DRAW[item.kind](view, item.x, item.y, item.colour)
