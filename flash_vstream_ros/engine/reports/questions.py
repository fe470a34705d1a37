"""Questions that a model is asked for summaries of longer intervals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flash_vstream_ros.engine.answering.question import Question
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.spans import SECOND_NS

from .kept_summaries import RollUp
from .summary import Summary


def roll_up_question(roll_up: RollUp, prompt: str, max_new_tokens: int, max_chars: int) -> Question:
    """A question for one summary of an interval, from its frames and the summaries of its parts.

    If the question would be too long, the parts with the least novelty are left out.
    """
    room = max_chars - len(prompt)
    kept: list[Summary] = []
    for part in sorted(roll_up.parts, key=lambda each: -each.novelty):
        room -= len(_line(part))
        if room < 0:
            break
        kept.append(part)
    scope = Scope(since_ns=roll_up.interval.since_ns, until_ns=roll_up.interval.until_ns)
    return Question(_text(kept, prompt), scope, max_new_tokens=max_new_tokens)


def frames_and_novelty(parts: Sequence[Summary]) -> tuple[int, float]:
    """Number of frames of all parts, and their mean novelty."""
    frames = sum(part.frames for part in parts)
    return frames, sum(part.novelty * part.frames for part in parts) / max(frames, 1)


def _text(parts: Sequence[Summary], prompt: str) -> str:
    return "".join(map(_line, sorted(parts, key=lambda each: each.since_ns))) + prompt


def _line(part: Summary) -> str:
    return f"{_time_of_day(part.since_ns)} to {_time_of_day(part.until_ns)}: {' '.join(part.text.split())}\n"


def _time_of_day(stamp_ns: int) -> str:
    return f"{datetime.fromtimestamp(stamp_ns // SECOND_NS):%H:%M}"
