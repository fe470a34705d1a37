"""Thinning: chooses the key frames to delete when the archive is full. Older times lose detail, but do not vanish."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS
RECENT_NS = 6 * HOUR_NS  # up to this age, key frames are thinned after older ones
HOURLY_UNTIL_NS = 7 * DAY_NS  # up to this age, each hour keeps its most novel key frame; beyond it, each day does
PRESENT_SAMPLE = 32  # newest key frames; their median stamp is the present, so a wrong stamp does not age the others


class Candidate(NamedTuple):
    """A key frame that may be deleted."""

    id: int
    camera: str
    stamp_ns: int
    novelty: float
    bytes: int


def present_ns(newest: Collection[int]) -> int:
    """The present in message time: the median of the PRESENT_SAMPLE stamps archived last; 0 without any."""
    return sorted(newest)[len(newest) // 2] if newest else 0


def chosen(candidates: Sequence[Candidate], now_ns: int, free_bytes: int) -> list[int]:
    """Ids of key frames to delete, first ones first, with at least `free_bytes` together, or of all.

    There are five turns: (1) all but the most novel one of each hour and camera, if older than RECENT_NS; (2) all but
    the most novel one of each day and camera, if older than HOURLY_UNTIL_NS; (3) as 1, of any age; (4) as 2, of any
    age; (5) all others, oldest first. Within turns 1 to 4, the largest product of rank and age goes first. The rank is
    by novelty in the hour or day, 0 for the most novel; the age is the distance from `now_ns`, also of future stamps.
    So an hour keeps fewer key frames as it gets older.
    """
    if not candidates or free_bytes <= 0:
        return []
    ids, cameras, stamps, novelty, sizes = zip(*candidates, strict=True)
    stamp = np.asarray(stamps, np.int64)
    camera = np.unique(np.asarray(cameras), return_inverse=True)[1]
    age = np.abs(stamp.astype(np.float64) - now_ns)
    novel = np.nan_to_num(np.asarray(novelty, np.float64))
    in_hour, in_day = (_rank(camera, stamp // unit_ns, novel, stamp) for unit_ns in (HOUR_NS, DAY_NS))
    turns = [(age > RECENT_NS) & (in_hour > 0), (age > HOURLY_UNTIL_NS) & (in_day > 0), in_hour > 0, in_day > 0]
    turn = np.select(turns, range(len(turns)), len(turns))
    rank = np.select([turn % 2 == 0, turn % 2 == 1], [in_hour, in_day])
    weight = np.where(turn == len(turns), 1, rank) * age
    order = np.lexsort((stamp, -weight, turn))
    enough = np.searchsorted(np.cumsum(np.asarray(sizes, np.int64)[order]), free_bytes) + 1
    return [ids[place] for place in order[:enough]]


def _rank(camera: np.ndarray, bucket: np.ndarray, novelty: np.ndarray, stamp: np.ndarray) -> np.ndarray:
    """Rank of each key frame in its camera's bucket: 0 for the most novel one. Of equals, the later one is first."""
    order = np.lexsort((-stamp, -novelty, bucket, camera))
    begins = np.ones(len(order), bool)
    begins[1:] = (np.diff(camera[order]) != 0) | (np.diff(bucket[order]) != 0)
    first = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - first
    return rank
