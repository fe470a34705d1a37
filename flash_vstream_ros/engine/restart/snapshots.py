"""Snapshots: the worker copies the memory, a thread writes the copy, and the next start restores it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch

from flash_vstream_ros.engine.archive.archive_folder import ArchiveFolder
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.ingest.ingest import Ingest
from flash_vstream_ros.engine.reports import summary_state
from flash_vstream_ros.engine.reports.summary import Summary
from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.memory_file import MemoryFileError, delete_memory, read_memory, write_memory
from flash_vstream_ros.memory.state import MemoryState, UnsupportedState
from flash_vstream_ros.models.interface import VisionLanguageModel

from .rebuild import Rebuild

LAST_WRITE_S = 5.0  # longest wait for the disk when the engine stops


class CannotSave(RuntimeError):
    """A snapshot was not written or read; the message says why and what to do."""


@dataclass(frozen=True)
class SnapshotStatus:
    """State of the snapshots, for any thread."""

    path: str = ""
    saved: int = 0
    failed: int = 0
    bytes: int = 0  # of the file
    copy_s: float = 0.0  # of the last copy, for which the worker stops
    write_s: float = 0.0  # of the last write
    restored_slots: int = 0
    problem: str = ""  # why the last snapshot failed; "" if it succeeded


class Restored(NamedTuple):
    """Whether a memory was restored, and a sentence: of what, or why not. "" without a folder."""

    is_restored: bool
    sentence: str


def about(model: VisionLanguageModel, policy: str) -> dict[str, str]:
    """The model and policy of a memory, as stored in its file: only the same ones can use its features and layout."""
    return {"model": model.name, "weights": model.fingerprint(), "dtype": str(model.dtype), "policy": policy}


def differences(made_with: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """The differences between `made_with` and `wanted`, in words; "" if there are none."""
    return ", ".join(
        f"{name} {made_with.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if made_with.get(name) != value
    )


def state_of(
    memory: Memory, ingest: Ingest, summaries: Sequence[Summary] = (), more: Mapping[str, Any] | None = None
) -> MemoryState:
    """The contents of a file: the state of memory and ingest, the summaries, and `more` values.

    Raises UnsupportedState.
    """
    state, kept = memory.state(), summary_state.state_of(summaries)
    return MemoryState(
        {**state.tensors, **kept.tensors},
        {"memory": state.values, "ingest": ingest.state(), **kept.values, **(more or {})},
    )


def restore_state(state: MemoryState, memory: Memory, ingest: Ingest, device: torch.device) -> None:
    """Restore the state from `state_of`. Raises UnsupportedState or LookupError without changing the memory."""
    values, added = state.values["memory"], state.values["ingest"]
    tensors = {name: tensor for name, tensor in state.tensors.items() if name != summary_state.PICTURES}
    memory.restore(MemoryState(tensors, values), device)
    ingest.restore(added)


class Snapshots:
    """Saves the memory of one worker and restores it. Owned by the worker's thread.

    Without a folder, or if another node holds it, nothing is written or read. Until a rebuild has ended nothing is
    written either: the next start would take a file of a part of the memory for the whole, and would not rebuild it.
    """

    def __init__(
        self,
        context: Context,
        ingest: Ingest,
        config: EngineConfig,
        folder: ArchiveFolder | None,
        rebuild: Rebuild,
    ) -> None:
        self.config = config.archive
        self.status = SnapshotStatus(config.archive.path)
        self._memory = context.memory
        self._device = context.model.device
        self._log = context.log
        self._wake = context.wake
        self._ingest = ingest
        self._summaries = context.summaries
        self._rebuild = rebuild
        self._about: dict[str, str] = {}
        self._folder: ArchiveFolder | None = None
        self._lock = threading.Lock()  # of the status
        self._writer = ThreadPoolExecutor(1, "flash-vstream-snapshots")
        self._writing: Future[int] | None = None
        self._saved = self._version
        self._changed_at = 0.0
        if folder is not None:
            self._about = about(context.model, config.policy)
            self._use(folder)

    @property
    def enabled(self) -> bool:
        """Returns True if the memory is saved to a folder."""
        return self._folder is not None

    def restore(self) -> Restored:
        """Restore the memory from the folder."""
        folder = self._folder
        if folder is None:
            return Restored(False, self.status.problem)
        try:
            if not folder.memory.exists():
                return Restored(False, f"there is no {folder.memory} yet")
            return Restored(True, self._restored(folder))
        except (CannotSave, OSError) as error:
            self._fail(str(error))
            return Restored(False, f"{error}{self._set_aside(folder)}")

    def load(self) -> str:
        """Replace the memory by the file's, and drop waiting frames. Returns a sentence. Raises CannotSave."""
        folder = self._opened()
        try:
            return self._restored(folder)
        except OSError as error:
            raise CannotSave(str(error)) from error

    def save(self, erase: bool = False) -> Future[int]:
        """Copy the memory and write it. The future returns the size of the file in bytes, or raises CannotSave.

        With `erase`, after something was forgotten, the previous file is overwritten. If the new file cannot be
        written, the previous one is deleted. Raises CannotSave if nothing can be saved now.
        """
        folder = self._opened()
        if self._rebuild.under_way:
            if not erase:
                raise CannotSave(f"nothing is saved yet, since {self._rebuild.notice}; save again later")
            self._writing = self._writer.submit(_delete_all, folder)
            return self._writing
        began = time.perf_counter()
        state = state_of(self._memory, self._ingest, self._summaries.all)
        self._saved = self._version
        self._update_status(copy_s=time.perf_counter() - began)
        self._writing = self._writer.submit(partial(self._write, folder, state, erase))
        self._writing.add_done_callback(lambda _: self._wake.set())  # what changed meanwhile is due
        return self._writing

    def save_if_due(self) -> float | None:
        """Save if the memory changed `snapshot_s` ago. Returns the seconds until then; None if nothing changed."""
        if not self._is_due:
            self._changed_at = 0.0
            return None
        now = time.monotonic()
        self._changed_at = self._changed_at or now
        remaining = self._changed_at + self.config.snapshot_s - now
        if remaining > 0:
            return remaining
        self._changed_at = 0.0
        self.save()
        return None

    def close(self) -> None:
        """Save the memory if it has changed, and wait for the disk, at most LAST_WRITE_S."""
        end = time.monotonic() + LAST_WRITE_S
        self._wait_for_disk(LAST_WRITE_S)
        if self._is_due:
            self.save()
            self._wait_for_disk(max(0.0, end - time.monotonic()))
        self._writer.shutdown(wait=False)
        self._folder = None

    @property
    def _version(self) -> tuple[int, int, tuple[int, int]]:
        return self._memory.slots_seen, self._memory.revision, self._summaries.version

    @property
    def _is_due(self) -> bool:
        """Returns True if the file differs from the memory, and no file is being written."""
        is_writing = self._writing is not None and not self._writing.done()
        if self._folder is None or is_writing or self._rebuild.under_way:
            return False
        failed = self._writing is not None and self._writing.exception() is not None
        return failed or self._version != self._saved

    def _wait_for_disk(self, timeout_s: float) -> None:
        if self._writing is not None and not wait([self._writing], timeout_s).done:
            self._log.report("snapshots", f"a snapshot was not written within {timeout_s:.1f} s")

    def _use(self, folder: ArchiveFolder) -> None:
        problem = folder.problem
        try:
            self._memory.state()
        except UnsupportedState as error:
            problem = str(error)
        if problem:
            self._fail(f"nothing is saved: {problem}")
        else:
            self._folder = folder

    def _opened(self) -> ArchiveFolder:
        if self._folder is None:
            raise CannotSave(self._why_closed())
        return self._folder

    def _why_closed(self) -> str:
        return self.status.problem or "nothing is saved: set archive.path to a folder, and configure the node again"

    def _restored(self, folder: ArchiveFolder) -> str:
        """Restore the memory and return a sentence. Raises CannotSave and OSError without changing anything."""
        try:
            state, made_with = read_memory(folder.memory)
            self._check_fit(folder, made_with)
            summaries = summary_state.summaries_of(state)
            restore_state(state, self._memory, self._ingest, self._device)
            self._summaries.restore(summaries)
        except (MemoryFileError, UnsupportedState, LookupError) as error:
            raise CannotSave(f"{folder.memory} is not used: {error}") from error
        self._saved, slots = self._version, self._memory.slots_seen
        self._update_status(restored_slots=slots)
        return f"restored a memory of {slots} slots from {folder.memory}"

    def _check_fit(self, folder: ArchiveFolder, made_with: Mapping[str, str]) -> None:
        if wrong := differences(made_with, self._about):
            raise CannotSave(f"{folder.memory} is not used: it was made with {wrong}")

    def _set_aside(self, folder: ArchiveFolder) -> str:
        """Keep a file that does not fit. Returns the end of a sentence about it."""
        try:
            folder.set_aside()
        except OSError as error:
            return f"; it is overwritten by the next snapshot, since it could not be moved: {error}"
        return f"; it is kept as {folder.unusable}"

    def _write(self, folder: ArchiveFolder, state: MemoryState, erase: bool) -> int:
        """Write the file, on the writer's thread. Returns its size. Raises CannotSave."""
        began = time.perf_counter()
        try:
            if erase:
                folder.delete_unusable()
            size = write_memory(folder.memory, state, self._about, erase)
        except Exception as error:
            sentence = f"the memory was not saved to {folder.memory}: {error}"
            if erase:
                sentence += _deleted(folder)
            self._fail(sentence)
            raise CannotSave(sentence) from error
        self._update_status(bytes=size, write_s=time.perf_counter() - began, problem="", saved=1)
        return size

    def _fail(self, sentence: str) -> None:
        self._update_status(problem=sentence, failed=1)
        self._log.report("snapshots", sentence)

    def _update_status(self, saved: int = 0, failed: int = 0, **changes: Any) -> None:
        """Update the status, from the worker's or writer's thread: add the counts, replace the fields in `changes`."""
        with self._lock:
            status = self.status
            self.status = replace(status, saved=status.saved + saved, failed=status.failed + failed, **changes)


def _deleted(folder: ArchiveFolder) -> str:
    """Delete the files with forgotten things. Returns the end of a sentence about it."""
    try:
        delete_memory(folder.memory)
        folder.delete_unusable()
    except OSError as error:
        return f"; what was forgotten is still in {folder.path}, which could not be deleted: {error}"
    return "; the file before it, which held what was forgotten, is deleted"


def _delete_all(folder: ArchiveFolder) -> int:
    """Delete every file of the memory, on the writer's thread. Returns the bytes written: 0. Raises CannotSave."""
    try:
        folder.delete_unusable()
        if folder.memory.exists():
            delete_memory(folder.memory)
    except OSError as error:
        raise CannotSave(f"what was forgotten may still be in {folder.path}: {error}") from error
    return 0
