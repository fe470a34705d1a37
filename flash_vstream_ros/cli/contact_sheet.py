"""A contact sheet: small pictures in a grid, each with a caption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

SIDE, CAPTION, GAP = 160, 18, 4  # of a picture, height of its caption, between two cells [px]
COLUMNS = 10
PAPER, UNREADABLE = 24, 90  # grey levels
INK = {"synopsis": (255, 220, 170), "key frame": (150, 230, 255)}  # BGR


class Picture(NamedTuple):
    """One entry of the memory."""

    kind: str  # "synopsis" or "key frame"
    seconds: float  # when its picture was taken, since the patrol began
    weight: float  # slots that it stands for
    jpeg: bytes

    @property
    def caption(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        return f"{self.kind} {minutes}:{seconds:02d} w {self.weight:.3g}"


def contact_sheet(pictures: Sequence[Picture]) -> np.ndarray:
    """The pictures in order of time, row by row: [height, width, 3] uint8 BGR."""
    rows = max(-(-len(pictures) // COLUMNS), 1)
    height, width = SIDE + CAPTION + GAP, SIDE + GAP
    sheet = np.full((rows * height + GAP, COLUMNS * width + GAP, 3), PAPER, np.uint8)
    for index, picture in enumerate(sorted(pictures, key=lambda picture: (picture.seconds, picture.kind))):
        row, column = divmod(index, COLUMNS)
        top, left = GAP + row * height, GAP + column * width
        sheet[top : top + SIDE, left : left + SIDE] = _cell(picture.jpeg)
        foot = (left, top + SIDE + CAPTION - 5)
        cv2.putText(sheet, picture.caption, foot, cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK[picture.kind], 1, cv2.LINE_AA)
    return sheet


def _cell(jpeg: bytes) -> np.ndarray:
    """The picture as large as a square cell allows: [SIDE, SIDE, 3]."""
    cell = np.full((SIDE, SIDE, 3), PAPER, np.uint8)
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if image is None:
        cell[:] = UNREADABLE
        return cell
    scale = SIDE / max(image.shape[:2])
    width, height = (max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    cell[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cell
