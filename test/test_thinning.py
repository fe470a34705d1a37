"""Thinning of the archive: age costs detail, not existence, and the disk stays within the bound."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from flash_vstream_ros.engine.archive.archive_config import ArchiveConfig
from flash_vstream_ros.engine.archive.database import bytes_on_disk
from flash_vstream_ros.engine.archive.key_frame import KeyFrame
from flash_vstream_ros.engine.archive.store import KeyFrameStore, batch
from flash_vstream_ros.engine.archive.thinning import DAY_NS, HOUR_NS, RECENT_NS, Candidate, chosen, present_ns

START_NS = 1_700_000_000 * 10**9 // DAY_NS * DAY_NS
MIB = 2**-10  # GiB


def week(cameras: tuple[str, ...] = ("front", "rear"), per_hour: int = 6, days: int = 7) -> list[Candidate]:
    draw = np.random.default_rng(0)
    stamps = [START_NS + n * HOUR_NS // per_hour for n in range(days * 24 * per_hour)]
    return [
        Candidate(len(cameras) * n + index + 1, camera, stamp, float(draw.random()), 1000)
        for n, stamp in enumerate(stamps)
        for index, camera in enumerate(cameras)
    ]


def left(candidates: list[Candidate], now_ns: int, free_bytes: int) -> list[Candidate]:
    gone = chosen(candidates, now_ns, free_bytes)
    assert len(gone) == len(set(gone))
    return [each for each in candidates if each.id not in set(gone)]


def hours(candidates: list[Candidate]) -> dict[tuple[str, int], list[Candidate]]:
    found: dict[tuple[str, int], list[Candidate]] = {}
    for each in candidates:
        found.setdefault((each.camera, each.stamp_ns // HOUR_NS), []).append(each)
    return found


def test_no_more_is_chosen_than_needed() -> None:
    candidates = week()
    for free_bytes in (-5, 0, 1, 999, 1000, 1001, 123_456):
        assert len(chosen(candidates, START_NS, free_bytes)) == max(0, -(-free_bytes // 1000))
    assert sorted(chosen(candidates, START_NS, 10**12)) == [each.id for each in candidates]
    assert chosen([], START_NS, 10) == []


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_each_hour_keeps_its_most_novel_key_frame_and_the_last_hours_all(share: float) -> None:
    candidates = week()
    now_ns = candidates[-1].stamp_ns
    kept = left(candidates, now_ns, round(share * 1000 * len(candidates)))
    before, after = hours(candidates), hours(kept)
    assert before.keys() == after.keys()
    for hour, frames in before.items():
        assert max(frames, key=lambda frame: frame.novelty) in after[hour]
    recent = [each for each in candidates if now_ns - each.stamp_ns <= RECENT_NS]
    assert set(recent) <= set(kept)


def test_detail_falls_with_age() -> None:
    candidates = week(per_hour=30)
    kept = hours(left(candidates, candidates[-1].stamp_ns, 1000 * len(candidates) // 2))
    days = [
        sum(len(frames) for (_, hour), frames in kept.items() if (hour * HOUR_NS - START_NS) // DAY_NS == day)
        for day in range(7)
    ]
    assert days == sorted(days)
    assert days[0] < days[3] < days[6]


def test_beyond_a_week_each_day_keeps_a_key_frame() -> None:
    candidates = week(days=28)
    kept = left(candidates, candidates[-1].stamp_ns, 1000 * (len(candidates) - 2 * (21 + 7 * 24) - 200))
    assert {(each.camera, each.stamp_ns // DAY_NS) for each in candidates} == {
        (each.camera, each.stamp_ns // DAY_NS) for each in kept
    }
    newest_week = [each for each in candidates if candidates[-1].stamp_ns - each.stamp_ns < 7 * DAY_NS]
    assert hours(newest_week).keys() <= hours(kept).keys()


def test_stamps_of_a_wrong_clock_are_thinned_as_old_ones() -> None:
    candidates = week()
    wrong = [each._replace(id=each.id + 10**6, stamp_ns=each.stamp_ns + 300 * DAY_NS) for each in candidates[-200:]]
    kept = left(candidates + wrong, candidates[-1].stamp_ns, 1000 * 150)
    assert set(candidates) <= set(kept)
    assert present_ns([5, 6, 7, 10**18, 8]) == 7


class Week:
    """A store, and a stream into it of small images; stamps are simulated."""

    def __init__(self, path: Path, config: ArchiveConfig) -> None:
        self.store, self.config, self.path = KeyFrameStore(path), config, path
        self.most = 0
        self._draw = np.random.default_rng(0)
        self.stamp_ns = START_NS

    def day(self, key_frames: int, cameras: int = 2) -> None:
        frames: list[KeyFrame] = []
        for number in range(key_frames):
            self.stamp_ns += DAY_NS // key_frames
            jpeg = self._draw.bytes(int(self._draw.integers(1000, 9000)))
            camera, novelty = f"camera{number % cameras}", float(self._draw.random())
            frames.append(
                KeyFrame(camera, "", self.stamp_ns - 10**9, self.stamp_ns, self.stamp_ns, novelty, None, jpeg)
            )
            if len(frames) == 8:
                self._write(frames)
                frames.clear()
        self._write(frames)

    def _write(self, frames: list[KeyFrame]) -> None:
        while not self.store.make_room(self.config):
            pass
        while frames:
            count = batch(frames, self.config)
            self.store.write(frames[:count], {}, self.config)
            frames = frames[count:]
            self.most = max(self.most, bytes_on_disk(self.path))
            assert self.store.bytes == bytes_on_disk(self.path)


def test_a_week_stays_within_the_bound_and_every_hour_of_it_has_key_frames(tmp_path: Path) -> None:
    bound = 6 << 20
    week = Week(tmp_path / "archive.sqlite", ArchiveConfig(max_gib=6 * MIB))
    for _ in range(7):
        week.day(600)
    assert week.most <= bound
    assert week.most > bound // 2
    week.store.close()
    connection = sqlite3.connect(tmp_path / "archive.sqlite")
    rows = connection.execute(
        "SELECT camera, last_ns / 3600000000000, count(*), sum(bytes) FROM key_frames GROUP BY 1, 2"
    ).fetchall()
    assert len(rows) >= 2 * (7 * 24)
    assert sum(size for *_, size in rows) > bound // 3  # the bound is used
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
