"""Decodes frames and fits them to the patch grid of the memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from flash_vstream_ros.memory.pose import NO_POSE, MaybePose
from flash_vstream_ros.models.interface import Grid, VisionLanguageModel

from .faces import FaceDetector, cover_faces
from .mailbox import Frame
from .static_scene import Blocks, StaticSceneFilter, block_means


class DecodedFrame(NamedTuple):
    """A decoded frame and its preprocessed forms."""

    frame: Frame
    rgb: np.ndarray  # [height, width, 3] uint8
    blocks: Blocks  # input of the static-scene filter; empty while it is off
    pixels: Tensor | None  # input of the vision tower; None: not computed yet
    grid: Grid | None  # of `pixels`
    has_faces: bool = False  # True: faces in `rgb` are covered
    pose: MaybePose = NO_POSE


class UnusableSize(ValueError):
    """A frame too small or too narrow for the model."""

    reason = "unusable_size"


class FrameDecoder:
    """Decodes frames on the prefetch thread (`decode`); all other methods run on the worker's thread.

    If the worker changes the grid while a frame is decoded, `pixels` computes the input of the vision tower again.
    With `faces`, faces are covered before anything else is done with a frame.
    """

    def __init__(
        self, model: VisionLanguageModel, static_filter: StaticSceneFilter, faces: FaceDetector | None = None
    ) -> None:
        self._model = model
        self._static_filter = static_filter
        self._faces = faces
        self._grid: Grid | None = None  # of the memory, from its first frame
        self._sizes: dict[str, tuple[int, int]] = {}  # of each camera's last frame

    @property
    def grid_if_known(self) -> Grid | None:
        """The grid of the memory; None before its first frame."""
        return self._grid

    @property
    def grid(self) -> Grid:
        assert self._grid is not None, "no frame was fitted yet"
        return self._grid

    def decode(self, frame: Frame) -> DecodedFrame:
        """Decode a frame and, unless its slot is likely to be static, prepare it for the vision tower.

        Raises FaceDetectionFailed, and exceptions of `frame.decode`.
        """
        rgb, grid, pixels = frame.decode(), self._grid, None
        boxes = self._faces.detect(rgb) if self._faces is not None else ()
        if boxes:
            rgb = cover_faces(rgb, boxes)
        blocks = block_means(rgb) if self._static_filter.config.threshold else ()
        if (
            grid is not None
            and frame.camera in self._sizes
            and not self._static_filter.may_be_static(frame.camera, blocks)
        ):
            pixels = self._model.prepare(rgb, grid)
        return DecodedFrame(frame, rgb, blocks, pixels, grid, has_faces=bool(boxes))

    def pixels(self, decoded: DecodedFrame) -> Tensor:
        """The input of the vision tower for a frame."""
        if decoded.pixels is not None and decoded.grid == self._grid:
            return decoded.pixels
        return self._model.prepare(decoded.rgb, self.grid)

    def fit(self, decoded: DecodedFrame) -> tuple[int, int] | None:
        """Check the size of a frame; the first frame sets the memory's grid. Raises UnusableSize.

        Returns the camera's previous size if it differs, (0, 0) for its first frame; else None.
        """
        camera, (height, width) = decoded.frame.camera, decoded.rgb.shape[:2]
        size = height, width
        before = self._sizes.get(camera, (0, 0))
        if size == before:
            return None
        try:
            own_grid = self._model.grid(*size)
        except ValueError as error:
            raise UnusableSize(error) from error
        self._grid = self._grid or own_grid
        self._sizes[camera] = size
        return before

    def is_letterboxed(self, decoded: DecodedFrame) -> bool:
        """Returns True if a frame's own grid differs from that of the memory."""
        return self._model.grid(*decoded.rgb.shape[:2]) != self._grid

    @property
    def covers_faces(self) -> bool:
        return self._faces is not None

    def close(self) -> None:
        """End the face detector, if any."""
        if self._faces is not None:
            self._faces.close()

    def reset(self, grid: Grid | None = None) -> None:
        """Set the grid; with None, the next frame sets it."""
        self._sizes.clear()
        self._grid = grid
