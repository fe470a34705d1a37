"""A summary of one interval, and the hours and days that summaries are rolled up into."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from flash_vstream_ros.engine.answering.question import Answer
from flash_vstream_ros.memory.spans import SECOND_NS, Interval


class Level(IntEnum):
    """Kind of the interval of a summary: the constants of msg/ReportSection.msg."""

    PERIOD = 0  # the period of scene_summary, or a part of a report that was summarised on demand
    HOUR = 1
    DAY = 2


MAX_PICTURES = {Level.PERIOD: 1, Level.HOUR: 3, Level.DAY: 4}
"""Largest number of pictures of a summary."""


@dataclass(frozen=True)
class Picture:
    """JPEG of a frame that the summary was made from."""

    camera: str
    frame_id: str
    stamp_ns: int
    jpeg: bytes


@dataclass(frozen=True)
class Summary:
    """What happened between two stamps [ns], both included. `novelty` is the mean of its frames, 0 to 1."""

    level: Level
    since_ns: int
    until_ns: int
    text: str
    cameras: tuple[str, ...]
    frames: int
    novelty: float
    pictures: tuple[Picture, ...] = ()

    @property
    def interval(self) -> Interval:
        return Interval(self.since_ns, self.until_ns)


def summary_of(answer: Answer, level: Level, frames: int, novelty: float) -> Summary:
    """The summary in an answer, with the frames that got most of its attention as pictures."""
    entries = [evidence.entry for evidence in answer.evidence if evidence.entry.thumbnail]
    return Summary(
        level=level,
        since_ns=answer.covered_since_ns,
        until_ns=answer.covered_until_ns,
        text=answer.text,
        cameras=answer.cameras,
        frames=frames,
        novelty=novelty,
        pictures=tuple(
            Picture(entry.camera, entry.frame_id, entry.thumbnail_ns, entry.thumbnail)
            for entry in entries[: MAX_PICTURES[level]]
        ),
    )


def calendar_interval(level: Level, stamp_ns: int) -> Interval:
    """The hour or day of the local time zone that contains a stamp.

    Raises ValueError for a stamp that no calendar has.
    """
    try:
        moment = datetime.fromtimestamp(stamp_ns // SECOND_NS).astimezone()
        start = moment.replace(minute=0, second=0, microsecond=0)
        if level is Level.DAY:
            start = start.replace(hour=0)
        end = start + (timedelta(days=1) if level is Level.DAY else timedelta(hours=1))
    except (OverflowError, OSError) as error:
        raise ValueError(f"the stamp {stamp_ns} ns lies in no calendar") from error
    return Interval(_nanoseconds(start), _nanoseconds(end) - 1)


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp()) * SECOND_NS
