"""Draws a contact sheet: images in a grid, each with a caption. For the node's memory view and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

SIDE, CAPTION, GAP = 160, 18, 4  # side of a thumbnail, height of its caption, gap between cells [px]
COLUMNS = 10
BACKGROUND, BROKEN_IMAGE = 24, 90  # grey levels
SYNOPSIS, KEY_FRAME = (255, 220, 170), (150, 230, 255)  # colours of captions, BGR


class Thumbnail(NamedTuple):
    """An image and its caption."""

    caption: str
    colour: tuple[int, int, int]  # of the caption, BGR
    jpeg: bytes


def contact_sheet(thumbnails: Sequence[Thumbnail], columns: int = COLUMNS) -> np.ndarray:
    """Draw the thumbnails in the given order, row by row: [height, width, 3] uint8 BGR."""
    rows = max(-(-len(thumbnails) // columns), 1)
    height, width = SIDE + CAPTION + GAP, SIDE + GAP
    sheet = np.full((rows * height + GAP, columns * width + GAP, 3), BACKGROUND, np.uint8)
    for index, thumbnail in enumerate(thumbnails):
        row, column = divmod(index, columns)
        top, left = GAP + row * height, GAP + column * width
        sheet[top : top + SIDE, left : left + SIDE] = _cell(thumbnail.jpeg)
        foot = (left, top + SIDE + CAPTION - 5)
        cv2.putText(
            sheet,
            thumbnail.caption,
            foot,
            cv2.FONT_HERSHEY_SIMPLEX,
            0.42,
            thumbnail.colour,
            1,
            cv2.LINE_AA,
        )
    return sheet


def sheet_file(thumbnails: Sequence[Thumbnail], suffix: str, columns: int = COLUMNS) -> bytes:
    """A contact sheet as an image file of the format that `suffix` names, such as ".png"."""
    _, image = cv2.imencode(suffix, contact_sheet(thumbnails, columns))
    return image.tobytes()


def _cell(jpeg: bytes) -> np.ndarray:
    """The image, scaled to fit a square cell [SIDE, SIDE, 3]."""
    cell = np.full((SIDE, SIDE, 3), BACKGROUND, np.uint8)
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if image is None:
        cell[:] = BROKEN_IMAGE
        return cell
    scale = SIDE / max(image.shape[:2])
    width, height = (max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    cell[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cell
