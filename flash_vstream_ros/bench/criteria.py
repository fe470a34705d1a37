"""Criteria that a run of `bench speed` must meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Criterion(NamedTuple):
    """A bound for one figure."""

    figure: str
    bound: float
    at_most: bool  # True: the bound is an upper bound; False: a lower one
    description: str

    def holds(self, value: float) -> bool:
        """Returns True if `value` is within the bound."""
        return value <= self.bound if self.at_most else value >= self.bound


ALWAYS = (
    Criterion("cached_over_uncached", 0.1, True, "first token of a cached question over an uncached one, after 10 h"),
    Criterion("second_look_over_uncached", 0.2, True, "first token with a second look, cached, over uncached"),
    Criterion("cached_10h_over_10min", 1.1, True, "first token of a cached question after 10 h over after 10 min"),
    Criterion("update_speedup_over_released", 10.0, False, "time of an update, the released over ours, at 1 h"),
    Criterion("traffic_over_released", 0.01, True, "bytes between host and device per slot, ours over the released"),
    Criterion("memory_10h_over_10min", 1.0, True, "bytes of the memory after 10 h over after 10 min"),
    Criterion("static_over_moving", 0.05, True, "time for a static slot over that for a moving one"),
)
OF_7B_ON_A_GPU = (
    Criterion("cached_first_token_s", 0.020, True, "first token of a cached question [s]"),
    Criterion("uncached_first_token_s", 0.400, True, "first token of an uncached question [s]"),
    Criterion("frames_per_s", 300.0, False, "frames ingested each second"),
    Criterion("decode_over_floor", 1 / 0.7, True, "time per token over its lower bound"),
)


def evaluated(figures: Mapping[str, float], large: bool) -> list[dict[str, Any]]:
    """The criteria whose figures are known, with value and result. `large`: the 7B shape on a GPU."""
    return [
        {**criterion._asdict(), "value": figures[criterion.figure], "met": criterion.holds(figures[criterion.figure])}
        for criterion in (*ALWAYS, *(OF_7B_ON_A_GPU if large else ()))
        if criterion.figure in figures
    ]
