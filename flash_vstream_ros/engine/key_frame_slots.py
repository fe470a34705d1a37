"""Encodes an archived key frame as a slot of the memory."""

from __future__ import annotations

from flash_vstream_ros.memory.slot import Grid, Slot
from flash_vstream_ros.models.interface import VisionLanguageModel

from .archive.recall import RecalledFrame


def slot_of(recalled: RecalledFrame, model: VisionLanguageModel, grid: Grid | None) -> Slot:
    """A slot that has the image twice, as the published system pads a video with an odd number of frames.

    If `grid` is None, the slot has the grid that the model chooses for the image. Raises ValueError if the image does
    not fit the model, and what the vision tower raises.
    """
    frame, rgb, thumbnail = recalled
    grid = grid or model.grid(*rgb.shape[:2])
    pixels = model.prepare(rgb, grid)
    ((low, detail),) = model.encode_slots([[pixels, pixels]], grid)
    return Slot(
        camera=frame.camera,
        frame_id=frame.frame_id,
        first_ns=frame.first_ns,
        last_ns=frame.last_ns,
        low=low,
        detail=detail,
        grid=grid,
        thumbnail=thumbnail,
        thumbnail_ns=frame.stamp_ns,
        pose=frame.pose,
    )
