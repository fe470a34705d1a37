"""A published benchmark: its items, its rates and its official scoring rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flash_vstream_ros.evaluation.annotations import check_counts
from flash_vstream_ros.evaluation.item import DataError, Item
from flash_vstream_ros.evaluation.records import Record

if TYPE_CHECKING:
    from flash_vstream_ros.evaluation.sampled_video import OpenVideo


@dataclass(frozen=True)
class Benchmark:
    """A published benchmark.

    `published_rule` is the score of a record by the official scorer, 0 to 1; None if the scorer leaves it out.
    `averages` are the published averages, each of the macro averages of some parts.
    """

    name: str
    title: str
    fps: float  # published sampling rate [1/s]
    max_new_tokens: int
    instruction: str  # prepended to every prompt; "": the prompts have their own
    counts: Mapping[str, int]  # questions of each task in the published files
    read: Callable[[Path], Sequence[Item]]
    published_rule: Callable[[Item, Record], float | None] | None = None  # None: an open answer, scored by a judge
    averages: Mapping[str, tuple[str, ...]] | None = None
    open_video: OpenVideo | None = None  # for videos in a format of the benchmark's own


def load_items(benchmark: Benchmark, folder: Path, partial: bool = False) -> tuple[list[Item], int]:
    """The items of a benchmark, and the number of items left out because their video is missing.

    Raises DataError if annotations are wrong, or if they or the videos are incomplete and `partial` is False.
    """
    items = read_items(benchmark, folder, partial)
    missing = sorted({item.video for item in items if not item.video.exists()})
    found = [item for item in items if item.video not in set(missing)]
    if missing and (not partial or not found):
        names = ", ".join(map(str, missing[:3]))
        raise DataError(
            f"{len(missing)} videos are missing: {names}{', ...' if len(missing) > 3 else ''}; "
            "--partial leaves their questions out"
        )
    return found, len(items) - len(found)


def read_items(benchmark: Benchmark, folder: Path, partial: bool = False) -> list[Item]:
    """The items in the annotations; their videos may be missing. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: --data names the folder with the data of {benchmark.title}")
    items = list(benchmark.read(folder))
    repeated = [name for name, times in Counter(item.id for item in items).items() if times > 1]
    if repeated:
        raise DataError(f"{folder}: several questions have the id {repeated[0]}")
    if not partial:
        check_counts(Counter(item.task for item in items), benchmark.counts, folder)
    return items
