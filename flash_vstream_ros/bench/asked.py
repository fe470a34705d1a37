"""A question at a moment of a patrol, and which policies answered it right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flash_vstream_ros.demo.scoring import Question


class Asked(NamedTuple):
    """A question at a moment of a patrol, and which policies answered it right."""

    minute: float  # the planned moment; the real one is later by up to an observation
    question: Question
    right: dict[str, bool]  # by policy


def by_moment(asked: Sequence[Asked]) -> dict[str, list[Asked]]:
    """The questions of each moment [min], the earliest moment first."""
    minutes = sorted({one.minute for one in asked})
    return {f"{minute:g}": [one for one in asked if one.minute == minute] for minute in minutes}
