"""The archive over a simulated week: its size, the cost of a key frame, of reading an hour, and for ingest."""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flash_vstream_ros.engine.archive.archive import Archive
from flash_vstream_ros.engine.archive.archive_config import ArchiveConfig
from flash_vstream_ros.engine.archive.archive_folder import ArchiveFolder
from flash_vstream_ros.engine.archive.database import bytes_on_disk, hours_of, read_key_frames, reading
from flash_vstream_ros.engine.archive.key_frame import KeyFrame
from flash_vstream_ros.engine.archive.store import KeyFrameStore
from flash_vstream_ros.engine.archive.thinning import DAY_NS, HOUR_NS
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.ingest.ingest import Ingest
from flash_vstream_ros.engine.ingest.mailbox import Frame, Mailbox
from flash_vstream_ros.engine.ingest.static_scene import StaticSceneConfig
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory import FlashMemory
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.load import load_model

START_NS = 20_000 * DAY_NS
DAYS = 7
JPEG_BYTES = 40_000  # mean
GIB = 2**30
SIZE = (480, 640)


def run(key_frames: int = 1000, slots: int = 60) -> dict[str, Any]:
    """Archive `key_frames` a day, up to a bound of 1.3 days, and ingest `slots` with and without an archive."""
    with tempfile.TemporaryDirectory() as folder:
        week = simulated_week(Path(folder) / "archive.sqlite", key_frames)
    with tempfile.TemporaryDirectory() as folder:
        return {"week": week, "ingest": ingest_with_archive(Path(folder), slots)}


def simulated_week(path: Path, key_frames: int) -> dict[str, Any]:
    """Archive DAYS days of `key_frames` random images each, with one commit for each, as in a node."""
    bound = round(1.3 * JPEG_BYTES * key_frames)
    config = ArchiveConfig(max_gib=bound / GIB)
    store, draw, most, stamp_ns = KeyFrameStore(path), np.random.default_rng(0), 0, START_NS
    cpu_s: list[list[float]] = []
    for _ in range(DAYS):
        cpu_s.append([])
        for _ in range(key_frames):
            stamp_ns += DAY_NS // key_frames
            jpeg = draw.bytes(int(draw.integers(JPEG_BYTES // 2, 3 * JPEG_BYTES // 2)))
            frame = KeyFrame("camera", "", stamp_ns - SECOND_NS, stamp_ns, stamp_ns, float(draw.random()), None, jpeg)
            began = time.process_time()
            while not store.make_room(config):
                pass
            store.write([frame], {}, config)
            cpu_s[-1].append(time.process_time() - began)
            most = max(most, bytes_on_disk(path))
    reported = store.bytes / sum(file.stat().st_size for file in path.parent.iterdir())
    store.close()
    with reading(path) as connection:
        hours = hours_of(connection, Scope())
        reads = [_reading_s(path, hour.begin_ns) for hour in (hours[0], hours[len(hours) // 2], hours[-1])]
    kept = {hour.begin_ns: hour.key_frames for hour in hours}
    means = [statistics.fmean(day) for day in cpu_s]
    return {
        "key_frames": key_frames * DAYS,
        "bound_bytes": bound,
        "most_bytes_over_bound": most / bound,
        "reported_over_measured": reported,
        "hours_without_key_frames": DAYS * 24 - sum(START_NS <= begin_ns < stamp_ns for begin_ns in kept),
        "kept_per_day": [
            sum(count for begin_ns, count in kept.items() if (begin_ns - START_NS) // DAY_NS == day)
            for day in range(DAYS)
        ],
        "key_frame_cpu_s": means,
        "last_day_over_first": means[-1] / means[0],
        "last_day_over_second": means[-1] / means[1],
        "read_an_hour_s": reads,
    }


def _reading_s(path: Path, begin_ns: int) -> float:
    began = time.perf_counter()
    with reading(path) as connection:
        list(read_key_frames(connection, Scope(since_ns=begin_ns, until_ns=begin_ns + HOUR_NS - 1)))
    return time.perf_counter() - began


class _Track:
    """Mailbox and ingest of one camera, with or without an archive."""

    def __init__(self, model: Any, archive: Archive | None) -> None:
        self.mailbox, self._stamp_ns = Mailbox(sample_fps=1.0), 0
        config = EngineConfig(static_scene=StaticSceneConfig(threshold=0.0))
        self.ingest = Ingest(
            Context(model, FlashMemory(), ThrottledLog(print)), config, {"camera": self.mailbox}, archive
        )

    def slot_s(self, images: list[np.ndarray]) -> float:
        """Ingest two images as a slot. Returns the duration [s], without decoding."""
        for image in images:
            self._stamp_ns += SECOND_NS
            self.mailbox.offer(Frame("camera", "", self._stamp_ns, partial(np.copy, image)))
            self.ingest.prefetch.fetch("camera")
            self.ingest.prefetch.submit(lambda: None).result()
        began = time.perf_counter()
        for _ in images:
            assert self.ingest.step()
        return time.perf_counter() - began


def ingest_with_archive(folder: Path, slots: int) -> dict[str, Any]:
    """Ratio of the durations of a slot on the worker's thread with and without an archive, measured alternately."""
    config = ArchiveConfig(str(folder), max_gib=1.0)
    archive_folder = ArchiveFolder(str(folder))
    archive = Archive(archive_folder, config, ThrottledLog(print))
    model = load_model("tiny-random", device="cpu")
    tracks, draw = {"with": _Track(model, archive), "without": _Track(model, None)}, np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in tracks}
    for number in range(slots):
        images = [draw.integers(0, 255, (*SIZE, 3), dtype=np.uint8) for _ in range(2)]
        for name in sorted(tracks, reverse=bool(number % 2)):
            seconds[name].append(tracks[name].slot_s(images))
    for track in tracks.values():
        track.ingest.prefetch.close()
    archive.close(60.0)
    archive_folder.close()
    medians = {name: statistics.median(times[slots // 10 :]) for name, times in seconds.items()}
    status = archive.status
    return {
        "slots": slots,
        "slot_s": medians,
        "slot_with_over_without": medians["with"] / medians["without"],
        "written": status.written,
        "dropped": status.dropped,
    }


def show(result: dict[str, Any]) -> None:
    week, ingest = result["week"], result["ingest"]
    print(
        f"a week of {week['key_frames']} key frames in {week['bound_bytes'] / 1e6:.0f} MB: at most"
        f" {week['most_bytes_over_bound']:.3f} of the bound on the disk, reported over measured"
        f" {week['reported_over_measured']:.3f}"
    )
    print(f"  hours without key frames: {week['hours_without_key_frames']}; key frames by day: {week['kept_per_day']}")
    print(
        f"  processor time for a key frame {1e3 * week['key_frame_cpu_s'][-1]:.2f} ms; the last day over the first"
        f" {week['last_day_over_first']:.2f}, over the second {week['last_day_over_second']:.2f}"
    )
    reads = ", ".join(f"{1e3 * seconds:.1f} ms" for seconds in week["read_an_hour_s"])
    print(f"  reading the first, the middle, the last hour: {reads}")
    print(
        f"a slot with the archive over one without: {ingest['slot_with_over_without']:.3f}"
        f" ({ingest['written']} key frames written, {ingest['dropped']} dropped)"
    )
