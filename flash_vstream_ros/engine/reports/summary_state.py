"""Summaries as tensors and values for the file of the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from flash_vstream_ros.memory.state import MemoryState, packed, refused_if_malformed, unpacked

from .summary import Level, Picture, Summary

PICTURES = "summary_pictures"
"""Name of the tensor with all JPEGs."""


def state_of(summaries: Sequence[Summary]) -> MemoryState:
    pictures = [picture for summary in summaries for picture in summary.pictures]
    values = [
        {**asdict(summary), "pictures": [{**vars(each), "jpeg": len(each.jpeg)} for each in summary.pictures]}
        for summary in summaries
    ]
    return MemoryState({PICTURES: packed(picture.jpeg for picture in pictures)}, {"summaries": values})


def summaries_of(state: MemoryState) -> list[Summary]:
    """The summaries that `state_of` saved; none if the file has none. Raises UnsupportedState."""
    if "summaries" not in state.values:
        return []
    with refused_if_malformed():
        values = state.values["summaries"]
        sizes = [picture["jpeg"] for each in values for picture in each["pictures"]]
        jpegs = unpacked(state.tensors[PICTURES], sizes)
        return [
            Summary(
                level=Level(each["level"]),
                since_ns=int(each["since_ns"]),
                until_ns=int(each["until_ns"]),
                text=str(each["text"]),
                cameras=tuple(map(str, each["cameras"])),
                frames=int(each["frames"]),
                novelty=float(each["novelty"]),
                pictures=tuple(
                    Picture(str(picture["camera"]), str(picture["frame_id"]), int(picture["stamp_ns"]), next(jpegs))
                    for picture in each["pictures"]
                ),
            )
            for each in values
        ]
