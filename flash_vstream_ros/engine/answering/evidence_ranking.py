"""Ranks memory entries by the attention on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from flash_vstream_ros.memory.slot import MemoryEntry

PEAK = 2.0  # least attention on the strongest entry of a moment, as a multiple of the background
MOMENT_SHARE = 0.2  # least attention on an entry of a moment: this share of the way from background to peak


def ranked_by_attention(entries: Sequence[MemoryEntry], attention: Sequence[float]) -> list[tuple[MemoryEntry, float]]:
    """`entries` with their `steadied` shares of attention, largest first; ties keep their order."""
    return sorted(zip(entries, steadied(entries, attention), strict=True), key=lambda pair: -pair[1])


def strongest_first(entries: Sequence[MemoryEntry], attention: Sequence[float]) -> list[MemoryEntry]:
    """`entries` in the order of `ranked_by_attention`."""
    return [entry for entry, _ in ranked_by_attention(entries, attention)]


def steadied(entries: Sequence[MemoryEntry], attention: Sequence[float]) -> list[float]:
    """Attention on each entry, exchanged within each moment so that its middle entry has the most.

    A moment is a row of consecutive entries of one camera that stand out from the background, which is the lower
    quartile of the camera's attention. Its middle entry has half of the moment's attention before and after it. At the
    edge of a moment, the first frame of a slot may show what the model attends to, and the second one, which is the
    thumbnail, what comes next.
    """
    shares = list(attention[: len(entries)])
    if not all(map(math.isfinite, shares)):
        return shares  # the next token is checked, with a clear error
    for row in _rows(entries):
        free = set(row)
        background = sorted(attention[place] for place in row)[len(row) // 4]
        for peak in sorted(row, key=lambda place: -attention[place]):
            if peak in free and attention[peak] > PEAK * background:
                least = background + MOMENT_SHARE * (attention[peak] - background)
                moment = _moment_around(peak, row, [place in free and attention[place] >= least for place in row])
                free -= set(moment)
                middle = _middle(moment, attention)
                shares[peak], shares[middle] = attention[middle], attention[peak]
    return shares


def _rows(entries: Sequence[MemoryEntry]) -> list[list[int]]:
    """Places of each camera's entries, in the order of their thumbnails."""
    by_camera: dict[str, list[int]] = {}
    for place in sorted(range(len(entries)), key=lambda place: entries[place].thumbnail_ns):
        by_camera.setdefault(entries[place].camera, []).append(place)
    return list(by_camera.values())


def _moment_around(peak: int, row: Sequence[int], belongs: Sequence[bool]) -> list[int]:
    """The longest part of `row` around `peak` in which all entries belong to its moment."""
    first = last = row.index(peak)
    while first > 0 and belongs[first - 1]:
        first -= 1
    while last + 1 < len(row) and belongs[last + 1]:
        last += 1
    return list(row[first : last + 1])


def _middle(moment: Sequence[int], attention: Sequence[float]) -> int:
    """The entry up to which a moment has half of its attention."""
    sums = list(accumulate(attention[place] for place in moment))
    return next(place for place, upto in zip(moment, sums, strict=True) if 2 * upto >= sums[-1])
