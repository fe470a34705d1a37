"""Watches, their limits, events and status: frozen values passed between threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flash_vstream_ros.engine.log_text import one_line
from flash_vstream_ros.memory.slot import MemoryEntry
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.model_kind import ModelKind

from .hysteresis import Change, Thresholds

ON, OFF = 0.7, 0.3  # default thresholds of the probability
PERIOD_S = 1.0  # default period of the checks
RELEASE_S = 3.0  # default: one slot in which it is hidden ends nothing, at slots of 2 to 4 s
MIN_PERIOD_S, MAX_S = 0.05, 86400.0
WATCH_PROMPT = "Is it true now that {}? Answer yes or no."


class BadWatch(ValueError):
    """A watch that is refused; the message says why and what to do."""


@dataclass(frozen=True)
class WatchConfig:
    """Limits of all watches together. The parameters watch.* have the same names."""

    max_watches: int = 16
    max_chars: int = 256
    device_share: float = 0.2  # largest share of the worker's time for checks; 0: none
    slots: int = 1  # newest slots of a camera that a check sees
    prompt: str = WATCH_PROMPT
    path: str = ""  # file that the watches are kept in; "": they end with the node


@dataclass(frozen=True)
class Watch:
    """A yes/no question about the newest slots of `cameras` (empty: all), checked every `period_s`.

    `period_s` is steady time, since it costs device time; the other times are message time.
    """

    id: str
    text: str  # a question that ends with a question mark, or a statement such as "a person is in view"
    cameras: tuple[str, ...] = ()
    period_s: float = PERIOD_S
    hold_s: float = 0.0
    release_s: float = RELEASE_S
    cooldown_s: float = 0.0
    on: float = ON
    off: float = OFF

    @property
    def thresholds(self) -> Thresholds:
        hold_ns, release_ns, cooldown_ns = (
            round(seconds * SECOND_NS) for seconds in (self.hold_s, self.release_s, self.cooldown_s)
        )
        return Thresholds(self.on, self.off, hold_ns, release_ns, cooldown_ns)

    def question(self, prompt: str) -> str:
        """The question that the model reads: the text, or the text in `prompt` if it is no question."""
        text = self.text.strip()
        return text if text.endswith("?") else prompt.replace("{}", text.rstrip("."))


def problem_of_watch(watch: Watch, cameras: Sequence[str], max_chars: int) -> str:
    """The reason to refuse a watch; "" if it is valid. `cameras` are the engine's."""
    if not watch.text.strip():
        return "the text of the watch is empty: say what to watch for, such as 'a person is in view'"
    if len(watch.text) > max_chars:
        return f"the text of the watch has {len(watch.text)} characters; watch.max_chars allows {max_chars}"
    if not watch.text.isprintable():
        return f"the text of the watch has a control character: {one_line(watch.text)}"
    if unknown := sorted(set(watch.cameras) - set(cameras)):
        return f"unknown camera {', '.join(map(one_line, unknown))}; the cameras are {', '.join(cameras)}"
    if not MIN_PERIOD_S <= watch.period_s <= MAX_S:
        return f"period must be from {MIN_PERIOD_S:g} to {MAX_S:g} s, not {watch.period_s:g}"
    if not all(0 <= seconds <= MAX_S for seconds in (watch.hold_s, watch.release_s, watch.cooldown_s)):
        return f"hold, release and cooldown must be from 0 to {MAX_S:g} s"
    if not (math.isfinite(watch.on) and math.isfinite(watch.off) and 0 < watch.off <= watch.on < 1):
        return f"on and off must be probabilities with 0 < off <= on < 1, not on {watch.on:g} and off {watch.off:g}"
    return ""


@dataclass(frozen=True)
class WatchEvent:
    """Something that a watch waits for began or ended."""

    watch: Watch
    change: Change
    probability: float
    stamp_ns: int  # of the newest frame that the probability is based on
    camera: str  # with the highest probability; "" if `reason` is not ""
    entry: MemoryEntry | None  # the slot that shows it; None if `reason` is not ""
    model_kind: ModelKind  # of the model that checked
    reason: str = ""  # why it ended other than by its probability


@dataclass(frozen=True)
class WatchStatus:
    """A watch, and what was found last."""

    watch: Watch
    active: bool
    checks: int  # of frames that were not old, since it was added; 0: the probability is not known yet
    missed: int  # checks that were left out, since the device was busy or the share of the watches was used up
    probability: float
    answered: float  # probability that the model answers with yes or no at all
    stamp_ns: int  # of the newest frame checked; 0: none yet
    problem: str  # why it cannot be checked as asked, or which camera has stopped; "" if there is none


@dataclass(frozen=True)
class WatchesStatus:
    """All watches, for any thread."""

    watches: tuple[WatchStatus, ...] = ()
    device_share: float = 0.0  # share of the last seconds that was spent on checks
    events: int = 0
    failures: int = 0  # checks that ended with an error
    missed: int = 0  # of all watches since the start, removed ones included
