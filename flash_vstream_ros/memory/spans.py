"""Intervals of stamps, and unions of intervals with a limited number of parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

SECOND_NS = 1_000_000_000

# Spans stored per cluster: enough for the visits of a one-day patrol. A span takes 16 bytes.
MAX_SPANS = 16

Span = tuple[int, int]  # first and last stamp, both included [ns]


class Interval(NamedTuple):
    """Stamps from `since_ns` to `until_ns`, both included [ns]; 0 leaves that end open."""

    since_ns: int = 0
    until_ns: int = 0

    @property
    def is_bounded(self) -> bool:
        """Returns True if at least one end of the interval is not open."""
        return bool(self.since_ns or self.until_ns)

    def touches(self, first_ns: int, last_ns: int) -> bool:
        """Returns True if any moment from `first_ns` to `last_ns` lies inside."""
        return last_ns >= self.since_ns and (not self.until_ns or first_ns <= self.until_ns)

    def covers(self, first_ns: int, last_ns: int) -> bool:
        """Returns True if all moments from `first_ns` to `last_ns` lie inside."""
        return first_ns >= self.since_ns and (not self.until_ns or last_ns <= self.until_ns)


ALWAYS = Interval()


def union(spans: Iterable[Span], max_spans: int = MAX_SPANS) -> tuple[Span, ...]:
    """At most `max_spans` disjoint spans, ordered by time, that cover every moment of `spans`.

    If the exact union has more spans, the narrowest gaps are closed, earlier ones first.
    """
    joined: list[Span] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    while len(joined) > max_spans:
        at = min(range(len(joined) - 1), key=lambda i: joined[i + 1][0] - joined[i][1])
        joined[at : at + 2] = [(joined[at][0], joined[at + 1][1])]
    return tuple(joined)


def any_touches(spans: Sequence[Span], interval: Interval) -> bool:
    """Returns True if any moment of `spans` lies in `interval`."""
    return any(interval.touches(*span) for span in spans)
