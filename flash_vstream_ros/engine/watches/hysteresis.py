"""Hysteresis: turns a series of probabilities into the moments at which something began and ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum


class Change(IntEnum):
    """What happened; values as in msg/Event."""

    BEGAN = 0
    ENDED = 1


@dataclass(frozen=True)
class Thresholds:
    """It begins once the probability has been at least `on` for `hold_ns`.

    It ends once the probability has been below `off` for `release_ns`. After an end, nothing begins for `cooldown_ns`.
    """

    on: float
    off: float
    hold_ns: int = 0
    release_ns: int = 0
    cooldown_ns: int = 0


@dataclass(frozen=True)
class Phase:
    """Where a watch stands. Stamps in message time [ns]."""

    active: bool = False
    above_since_ns: int | None = None  # stamp since which the probability is at least `on`; kept while active
    below_since_ns: int | None = None  # stamp since which it is below `off`, while active
    ended_ns: int | None = None  # stamp of the last end
    newest_ns: int = 0  # stamp of the newest probability

    @property
    def interrupted(self) -> Phase:
        """The phase once no probability is known any more: `hold` and `release` start anew, what is active stays so."""
        return replace(self, above_since_ns=self.above_since_ns if self.active else None, below_since_ns=None)


def step(phase: Phase, thresholds: Thresholds, stamp_ns: int, probability: float) -> tuple[Phase, Change | None]:
    """The phase after the probability at `stamp_ns`, and what changed. All times start anew if stamps jump back."""
    if stamp_ns < phase.newest_ns:
        phase = replace(phase, above_since_ns=stamp_ns if phase.active else None, below_since_ns=None, ended_ns=None)
    phase = replace(phase, newest_ns=stamp_ns)
    if phase.active:
        if probability >= thresholds.off:
            return replace(phase, below_since_ns=None), None
        since_ns = stamp_ns if phase.below_since_ns is None else phase.below_since_ns
        if stamp_ns - since_ns < thresholds.release_ns:
            return replace(phase, below_since_ns=since_ns), None
        return Phase(ended_ns=stamp_ns, newest_ns=stamp_ns), Change.ENDED
    if probability < thresholds.on:
        return replace(phase, above_since_ns=None), None
    since_ns = stamp_ns if phase.above_since_ns is None else phase.above_since_ns
    is_quiet = phase.ended_ns is not None and stamp_ns < phase.ended_ns + thresholds.cooldown_ns
    begins = stamp_ns - since_ns >= thresholds.hold_ns and not is_quiet
    return replace(phase, active=begins, above_since_ns=since_ns), Change.BEGAN if begins else None
