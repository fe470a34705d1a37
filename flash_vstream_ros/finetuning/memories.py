"""Memories of the moments of a fine-tuning. The engine builds each once, and it is kept in a folder."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.offline import OfflineEngine, read_memory_file
from flash_vstream_ros.evaluation.item import WHOLE_VIDEO
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.models.interface import ModelError, VisionLanguageModel

from .examples import Moment
from .snapshot_file import read_snapshot, write_snapshot

Frames = Iterable[tuple[int, np.ndarray]]  # stamp [ns] and RGB uint8 image [height, width, 3]
OpenFrames = Callable[[str], Frames]  # opens a recording


class BadMoment(ValueError):
    """A moment that its recording does not have; the message says why."""


class MemoryFolder:
    """Snapshots by moment. `made_with` is what they depend on besides the recording: the weights and the parameters."""

    def __init__(self, folder: Path, made_with: Mapping[str, Any]) -> None:
        self._folder, self._made_with = folder, dict(made_with)
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, moment: Moment) -> Path:
        """File of the memory at a moment. It depends on the size and the date of the recording."""
        key = json.dumps([*map(str, moment), _version(moment.source), self._made_with], sort_keys=True)
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"

    def missing(self, moments: Iterable[Moment]) -> list[Moment]:
        """The moments whose memory is not there yet."""
        return [moment for moment in moments if not self.path(moment).exists()]

    def write(self, moment: Moment, snapshot: MemorySnapshot) -> None:
        write_snapshot(self.path(moment), snapshot)

    def read(self, moment: Moment) -> MemorySnapshot:
        """The memory at a moment. Raises ModelError if its file is damaged."""
        path = self.path(moment)
        try:
            return read_snapshot(path)
        except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is damaged ({error}): delete it and run the command again") from error


def snapshots(
    model: VisionLanguageModel,
    config: EngineConfig,
    source: str,
    moments: Sequence[Moment],
    open_frames: OpenFrames,
    warn: Callable[[str], None],
) -> Iterator[tuple[Moment, MemorySnapshot]]:
    """The memory at each moment of one recording; `moments` are sorted by time.

    Raises BadMoment, ModelError, MemoryFileError, and what the frames of `open_frames` raise.
    """
    engine = OfflineEngine(model, config, warn)
    try:
        if _is_memory_file(Path(source)):
            pairs = _of_memory_file(engine, Path(source), moments)
        else:
            pairs = _of_frames(engine, config, open_frames(source), moments)
        for moment, snapshot in pairs:
            if snapshot.empty:
                raise BadMoment(f"the memory has no frames{_interval(moment)}; expected at least two frames before it")
            yield moment, snapshot
    finally:
        engine.close()


def _of_frames(
    engine: OfflineEngine, config: EngineConfig, frames: Frames, moments: Sequence[Moment]
) -> Iterator[tuple[Moment, MemorySnapshot]]:
    """Show the frames to the engine, and take a snapshot before the first frame that is later than a moment."""
    camera, waiting = config.cameras[0], list(moments)
    first_ns = last_ns = 0
    for stamp_ns, rgb in frames:
        last_ns = max(stamp_ns, 1)  # stamp 0 means that a driver sets no stamps
        first_ns = first_ns or last_ns
        while waiting and last_ns - first_ns > waiting[0].time_s * 1e9:
            yield _taken(engine, waiting.pop(0), first_ns)
        if not waiting:
            return
        engine.add(Frame(camera, "", last_ns, lambda rgb=rgb: rgb))  # type: ignore[misc]
    for moment in waiting:
        after_s = moment.time_s - (last_ns - first_ns) / 1e9
        if math.isfinite(moment.time_s) and after_s > config.slot_period_ns / 1e9:
            raise BadMoment(f"time is {moment.time_s:g}, {after_s:.1f} s after the last frame; expected an earlier one")
        yield _taken(engine, moment, first_ns)


def _of_memory_file(
    engine: OfflineEngine, path: Path, moments: Sequence[Moment]
) -> Iterator[tuple[Moment, MemorySnapshot]]:
    state, made_with = read_memory_file(path)
    engine.restore(path, state, made_with)
    first_ns = engine.snapshot().first_ns
    for moment in moments:
        if moment.time_s != WHOLE_VIDEO:
            raise BadMoment(f"time is {moment.time_s:g}, but a memory file is as at its end; expected no time")
        yield _taken(engine, moment, first_ns)


def _taken(engine: OfflineEngine, moment: Moment, first_ns: int) -> tuple[Moment, MemorySnapshot]:
    engine.finish()
    since_ns, until_ns = (
        0 if at_s is None else first_ns + round(at_s * 1e9) for at_s in (moment.since_s, moment.until_s)
    )
    return moment, engine.snapshot(Scope(since_ns=since_ns, until_ns=until_ns))


def _interval(moment: Moment) -> str:
    parts = [("up to", moment.time_s if math.isfinite(moment.time_s) else None)]
    parts += [("since", moment.since_s), ("until", moment.until_s)]
    return "".join(f" {name} {value:g} s" for name, value in parts if value is not None)


def _version(source: str) -> list[Any]:
    """Sizes and dates of the files of a recording; [] for a simulated one."""
    path = Path(source)
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _is_memory_file(path: Path) -> bool:
    """Returns True if `path` is a memory that `remember` or a node has written, of any version."""
    try:
        with safe_open(path, "pt") as file:
            return "flash_vstream_memory" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False
