"""A pinhole camera that draws polygons with OpenCV, and the objects of the demo: balls, chairs, a person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

SIZE = 448
FIELD_OF_VIEW = math.radians(78)
FOCAL = SIZE / 2 / math.tan(FIELD_OF_VIEW / 2)  # [px]
NEAR = 0.02  # [m]
SUB = 4  # fractional bits of OpenCV's drawing coordinates

CIRCLE = np.array([(math.cos(a), math.sin(a)) for a in np.arange(20) * math.tau / 20])

Colour = tuple[int, int, int]


class Pose(NamedTuple):
    x: float
    y: float
    z: float  # [m]
    yaw: float  # [rad]


class Part(NamedTuple):
    """Polygons [n, 4, 3] with colours [n, 3]; normals of a solid's faces point outwards."""

    quads: np.ndarray
    colours: np.ndarray


def box(x: float, y: float, width: float, depth: float, bottom: float, top: float, colour: Colour) -> Part:
    """An upright cuboid of five faces, shaded by direction."""
    low = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, depth / 2) + (x, y)
    under, over = (np.column_stack([low, np.full(4, z)]) for z in (bottom, top))
    sides = [[under[i], under[(i + 1) % 4], over[(i + 1) % 4], over[i]] for i in range(4)]
    shades = [0.66, 0.86, 0.74, 0.58, 1.0]
    return Part(np.array([*sides, list(over)]), np.outer(shades, colour))


class View:
    """A pinhole camera that draws into `image`, a window of the full image at (left, top)."""

    def __init__(self, image: np.ndarray, pose: Pose, left: int = 0, top: int = 0) -> None:
        self.image, self.pose, self.left, self.top = image, pose, left, top
        self.eye = np.array(pose[:3])
        cos, sin = math.cos(pose.yaw), math.sin(pose.yaw)
        self.axes = np.array([[sin, -cos, 0], [0, 0, -1], [cos, sin, 0]]).T  # right, down, forward

    def project(self, points: np.ndarray) -> np.ndarray:
        """Window coordinates [..., 2] of camera points [..., 3] in front of the camera."""
        return points[..., :2] * (FOCAL / points[..., 2:]) + (SIZE / 2 - self.left, SIZE / 2 - self.top)

    def outline(self, corners: np.ndarray) -> np.ndarray | None:
        """Fixed-point outline of the part of a polygon, with camera points [n, 3], that is in front of the camera."""
        if (corners[:, 2] < NEAR).any():
            kept = []
            for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
                if a[2] >= NEAR:
                    kept.append(a)
                if (a[2] >= NEAR) != (b[2] >= NEAR):
                    kept.append(a + (b - a) * ((NEAR - a[2]) / (b[2] - a[2])))
            if len(kept) < 3:
                return None
            corners = np.array(kept)
        return np.rint(self.project(corners) * (1 << SUB)).astype(np.int32)

    def faces(self, corners: np.ndarray) -> np.ndarray:
        """Mask of the polygons whose front faces the camera; `corners` are camera points [..., n, 3]."""
        first = corners[..., 0, :]
        normal = np.cross(corners[..., 1, :] - first, corners[..., -1, :] - first)
        return (normal * first).sum(-1) < 0

    def draw(self, part: Part, solid: bool = False) -> None:
        quads = (part.quads - self.eye) @ self.axes
        visible = quads[..., 2].max(1) > NEAR
        if solid:
            visible &= self.faces(quads)
        for index in np.flatnonzero(visible):
            outline = self.outline(quads[index])
            if outline is not None:
                cv2.fillConvexPoly(self.image, outline, part.colours[index].tolist(), cv2.LINE_AA, SUB)

    def distance(self, x: float, y: float) -> float:
        """Horizontal distance from the camera [m]."""
        return math.hypot(x - self.pose.x, y - self.pose.y)

    def spot(self, x: float, y: float, z: float) -> tuple[float, float, float] | None:
        """Window position [px] and scale [px/m] of a point of the house; None if too near or behind the camera."""
        point = (np.array([x, y, z]) - self.eye) @ self.axes
        if point[2] < 0.15:
            return None
        u, v = self.project(point)
        return float(u), float(v), FOCAL / float(point[2])

    def ellipse(
        self, x: float, y: float, z: float, radii: tuple[float, float], colour: Sequence[float], tilt: float = 0
    ) -> None:
        found = self.spot(x, y, z)
        if found is None:
            return
        u, v, scale = found
        centre, axes = (
            (round(u * 16), round(v * 16)),
            (max(round(radii[0] * scale * 16), 1), max(round(radii[1] * scale * 16), 1)),
        )
        cv2.ellipse(self.image, centre, axes, tilt, 0, 360, list(colour), -1, cv2.LINE_AA, SUB)

    def disk(self, x: float, y: float, z: float, radius: float, colour: Sequence[float]) -> None:
        """Draw a flat circle parallel to the floor."""
        outline = self.outline(
            (np.column_stack([CIRCLE * radius + (x, y), np.full(len(CIRCLE), z)]) - self.eye) @ self.axes
        )
        if outline is not None:
            cv2.fillConvexPoly(self.image, outline, list(colour), cv2.LINE_AA, SUB)

    def card(self, x: float, y: float, shape: Sequence[tuple[float, float]], colour: Sequence[float]) -> None:
        """Draw an upright polygon that faces the camera; `shape` has points (right, up) [m]."""
        across, up = np.array(shape).T
        corners = np.column_stack([x + across * self.axes[0, 0], y + across * self.axes[1, 0], up])
        outline = self.outline((corners - self.eye) @ self.axes)
        if outline is not None:
            cv2.fillConvexPoly(self.image, outline, list(colour), cv2.LINE_AA, SUB)


def tint(colour: Sequence[float], share: float) -> list[float]:
    return [min(255.0, c * share) for c in colour]


def draw_ball(view: View, x: float, y: float, colour: Colour) -> None:
    for i in range(6):
        share = i / 5
        radius = 0.36 * (1 - 0.85 * share)
        view.ellipse(x, y, 0.36 + 0.16 * share, (radius, radius), tint(colour, 0.62 + 0.62 * share))


def draw_box(view: View, x: float, y: float, colour: Colour) -> None:
    view.draw(box(x, y, 0.72, 0.72, 0.0, 0.66, colour), solid=True)
    view.draw(box(x, y, 0.74, 0.16, 0.66, 0.67, (225, 205, 165)), solid=True)


def draw_plant(view: View, x: float, y: float, colour: Colour) -> None:
    for i in range(9):
        angle = (i - 4) * 17.0
        lean = math.sin(math.radians(angle))
        side = 0.3 * lean
        view.ellipse(
            x + side * view.axes[0, 0],
            y + side * view.axes[1, 0],
            0.86 - 0.1 * abs(lean),
            (0.11, 0.42),
            tint((62, 140, 66), 0.75 + 0.06 * (i % 5)),
            angle,
        )
    view.card(x, y, [(-0.22, 0.0), (0.22, 0.0), (0.32, 0.5), (-0.32, 0.5)], colour)
    view.card(x, y, [(-0.34, 0.44), (0.34, 0.44), (0.34, 0.54), (-0.34, 0.54)], tint(colour, 1.2))


def draw_chair(view: View, x: float, y: float, colour: Colour) -> None:
    parts = [box(x + dx, y + dy, 0.07, 0.07, 0.0, 0.45, (92, 66, 46)) for dx in (-0.26, 0.26) for dy in (-0.26, 0.26)]
    back = box(x, y + 0.27 * (1 if y % 5 > 2.5 else -1), 0.62, 0.08, 0.5, 1.15, colour)
    for part in by_distance(view, [*parts, box(x, y, 0.62, 0.62, 0.43, 0.52, colour), back]):
        view.draw(part, solid=True)


def draw_lamp(view: View, x: float, y: float, colour: Colour) -> None:
    view.disk(x, y, 0.03, 0.26, (58, 56, 58))
    view.card(x, y, [(-0.03, 0.0), (0.03, 0.0), (0.03, 1.3), (-0.03, 1.3)], (70, 68, 70))
    view.ellipse(x, y, 1.22, (0.16, 0.1), (255, 240, 190))
    view.card(x, y, [(-0.38, 1.2), (0.38, 1.2), (0.22, 1.72), (-0.22, 1.72)], colour)
    view.card(x, y, [(-0.22, 1.2), (0.22, 1.2), (0.12, 1.72), (-0.12, 1.72)], tint(colour, 1.22))


def draw_person(view: View, x: float, y: float) -> None:
    stride = 0.16 * math.sin(8.0 * x)
    for side, swing in ((-0.09, stride), (0.09, -stride)):
        foot = side + swing
        view.card(x, y, [(foot - 0.08, 0.0), (foot + 0.08, 0.0), (side + 0.1, 0.9), (side - 0.1, 0.9)], (48, 52, 80))
        view.card(x, y, [(foot - 0.1, 0.0), (foot + 0.12, 0.0), (foot + 0.08, 0.09), (foot - 0.1, 0.09)], (40, 34, 32))
        hand = 2.6 * side - 0.4 * swing
        view.card(
            x,
            y,
            [(hand - 0.05, 0.82), (hand + 0.05, 0.82), (2.1 * side + 0.06, 1.42), (2.1 * side - 0.06, 1.42)],
            (58, 140, 150),
        )
        view.ellipse(x + hand * view.axes[0, 0], y + hand * view.axes[1, 0], 0.8, (0.055, 0.06), (224, 172, 140))
    view.card(x, y, [(-0.19, 0.86), (0.19, 0.86), (0.24, 1.4), (0.12, 1.5), (-0.12, 1.5), (-0.24, 1.4)], (70, 164, 172))
    view.card(x, y, [(-0.05, 1.44), (0.05, 1.44), (0.05, 1.58), (-0.05, 1.58)], (206, 154, 124))
    view.ellipse(x, y, 1.7, (0.125, 0.15), (72, 46, 32))
    view.ellipse(x, y, 1.67, (0.11, 0.13), (224, 172, 140))


DRAW = {"ball": draw_ball, "box": draw_box, "plant": draw_plant, "chair": draw_chair, "lamp": draw_lamp}


def by_distance(view: View, parts: list[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: -float(np.hypot(*(part.quads.mean((0, 1)) - view.eye)[:2])))
