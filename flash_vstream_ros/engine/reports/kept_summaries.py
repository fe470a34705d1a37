"""Keeps a bounded number of summaries of each level, and chooses those of a report."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.spans import Interval

from .summary import Level, Summary, calendar_interval

MAX_SUMMARIES = {Level.PERIOD: 240, Level.HOUR: 168, Level.DAY: 400}
"""Largest number of summaries of each level; those kept first are dropped first.

All together take about 20 MB with pictures of 160 pixels.
"""


@dataclass(frozen=True)
class RollUp:
    """Summaries of one level to be summarised as one of the next level."""

    level: Level
    interval: Interval
    parts: tuple[Summary, ...]


class KeptSummaries:
    """Summaries by level, each level in order of arrival, since a clock may be set back. Thread safe.

    `generation` counts calls of `forget` and `restore`, so that `add` refuses a summary that was begun before the last
    of these calls.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._levels: dict[Level, list[Summary]] = {level: [] for level in Level}
        self._tried: dict[Level, set[Interval]] = {Level.HOUR: set(), Level.DAY: set()}
        self._added = 0
        self.generation = 0

    @property
    def version(self) -> tuple[int, int]:
        """Changes whenever the summaries do."""
        return self.generation, self._added

    def add(self, summary: Summary, generation: int) -> None:
        """Keep a summary, unless something was forgotten since `generation`."""
        with self._lock:
            if generation != self.generation:
                return
            level = self._levels[summary.level]
            level.append(summary)
            del level[: -MAX_SUMMARIES[summary.level]]
            self._added += 1

    def forget(self, scope: Scope) -> int:
        """Drop every summary that may mention something in `scope`. Returns their number."""
        with self._lock:
            before = len(self._all)
            for level, summaries in self._levels.items():
                self._levels[level] = [each for each in summaries if not _may_mention(each, scope)]
            self.generation += 1
            return before - len(self._all)

    @property
    def all(self) -> tuple[Summary, ...]:
        with self._lock:
            return tuple(self._all)

    def restore(self, summaries: Sequence[Summary]) -> None:
        """Replace all summaries."""
        with self._lock:
            for level in Level:
                self._levels[level] = [each for each in summaries if each.level is level][-MAX_SUMMARIES[level] :]
            for level in self._tried:
                newest_ns = max((each.since_ns for each in self._levels[level]), default=-1)
                parts = [part for part in self._levels[Level(level - 1)] if part.since_ns <= newest_ns]
                known = (*parts, *self._levels[level])
                self._tried[level] = {calendar_interval(level, each.since_ns) for each in known}
            self.generation += 1

    def report(self, interval: Interval) -> tuple[Summary, ...]:
        """The summaries of `interval` in order of time: days and hours that lie inside it, periods for the rest."""
        chosen: list[Summary] = []
        with self._lock:
            for level in sorted(Level, reverse=True):
                fits = interval.touches if level is Level.PERIOD else interval.covers
                chosen += [
                    each
                    for each in self._levels[level]
                    if fits(each.since_ns, each.until_ns) and not _any_overlaps(chosen, each)
                ]
        return tuple(sorted(chosen, key=lambda each: each.since_ns))

    def due(self, newest_ns: int) -> RollUp | None:
        """The next hour or day to summarise, hours first: one that ended before `newest_ns` and was not tried yet.

        Returns None if there is none.
        """
        with self._lock:
            for level in (Level.HOUR, Level.DAY):
                for part in sorted(self._levels[Level(level - 1)], key=lambda each: each.since_ns):
                    interval = calendar_interval(level, part.since_ns)
                    if interval not in self._tried[level] and interval.until_ns < newest_ns:
                        return RollUp(level, interval, self._parts(Level(level - 1), interval))
        return None

    def tried(self, roll_up: RollUp) -> None:
        """Record that a roll-up succeeded or failed for good: `due` does not return it again."""
        with self._lock:
            tried, parts = self._tried[roll_up.level], self._levels[Level(roll_up.level - 1)]
            tried.add(roll_up.interval)
            tried &= {calendar_interval(roll_up.level, part.since_ns) for part in parts}

    @property
    def _all(self) -> list[Summary]:
        return [each for summaries in self._levels.values() for each in summaries]

    def _parts(self, level: Level, interval: Interval) -> tuple[Summary, ...]:
        parts = (each for each in self._levels[level] if interval.touches(each.since_ns, each.since_ns))
        return tuple(sorted(parts, key=lambda each: each.since_ns))


def gaps(interval: Interval, covered: Iterable[Summary], shortest_ns: int) -> list[Interval]:
    """The parts of a bounded `interval` without a summary that last at least `shortest_ns`."""
    found, since_ns = [], interval.since_ns
    for summary in covered:
        found.append(Interval(since_ns, summary.since_ns - 1))
        since_ns = max(since_ns, summary.until_ns + 1)
    found.append(Interval(since_ns, interval.until_ns))
    return [gap for gap in found if gap.until_ns - gap.since_ns >= shortest_ns]


def _may_mention(summary: Summary, scope: Scope) -> bool:
    is_seen = not scope.cameras or not set(scope.cameras).isdisjoint(summary.cameras)
    return is_seen and scope.interval.touches(summary.since_ns, summary.until_ns)


def _any_overlaps(summaries: Sequence[Summary], other: Summary) -> bool:
    return any(each.interval.touches(other.since_ns, other.until_ns) for each in summaries)
