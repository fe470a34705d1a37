"""An engine on the caller's thread, for recordings: it ingests every due frame, as fast as the machine can."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flash_vstream_ros.memory.memory_file import MemoryFileError, read_memory, write_memory
from flash_vstream_ros.memory.scope import EVERYTHING, Scope
from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.memory.state import MemoryState, UnsupportedState
from flash_vstream_ros.models.interface import VisionLanguageModel

from .answering.question import Answer, ErrorCode, Question, problem_of
from .answering.request import Request
from .answering.request_queue import RequestQueue
from .archive.archive_config import ArchiveConfig
from .config import EngineConfig
from .context import Context
from .ingest.mailbox import Frame, FrameCounts, Mailbox, log_stamp_problem
from .memory_policies import memory_of
from .restart.snapshots import about, differences, restore_state, state_of
from .throttled_log import ThrottledLog
from .worker import Worker

FRAME_TIMEOUT_S = 1.0


class OfflineEngine:
    """One model and one memory on the caller's thread. Frames are paired, filtered and encoded as in the node.

    Raises ModelError if the model does not support the memory policy.
    """

    def __init__(self, model: VisionLanguageModel, config: EngineConfig, warn: Callable[[str], None]) -> None:
        self._config = config = replace(config, archive=ArchiveConfig())
        self._log = ThrottledLog(warn)
        self._context = Context(model, memory_of(config.policy, config.timed_memory, model), self._log)
        self._mailboxes = {camera: Mailbox(config.sample_fps, config.stamp_watch()) for camera in config.cameras}
        self._requests = RequestQueue(1)
        self._worker = Worker(self._context, config, self._mailboxes, self._requests)
        self._about = about(model, config.policy)

    def add(self, frame: Frame) -> None:
        """Start to decode a frame if it is due. Earlier frames are ingested if there is no room for more."""
        result = self._mailboxes[frame.camera].offer(frame)
        log_stamp_problem(result, frame.camera, self._config.on_jump_back, self._log)
        if not result.is_due:
            return
        prefetch = self._worker.ingest.prefetch
        prefetch.fetch(frame.camera)
        while prefetch.full:  # another frame would replace the one in the mailbox
            self._step()

    def skip(self, frames: Iterable[Frame]) -> None:
        """Skip the frames that a restored memory has seen: they are sampled again, but not decoded."""
        for mailbox in self._mailboxes.values():
            mailbox.reset()
        for frame in frames:
            mailbox = self._mailboxes[frame.camera]
            mailbox.offer(frame)
            if mailbox.take() is not None:
                mailbox.count_encoded()

    def finish(self) -> FrameCounts:
        """Ingest the frames that are being decoded. Returns the counts of all frames."""
        while (counts := FrameCounts.total([mailbox.counts() for mailbox in self._mailboxes.values()])).pending:
            self._step()
        return counts

    def ask(self, question: Question) -> Answer:
        """Answer a question from the present memory."""
        if problem := problem_of(question, self._config.cameras, self._config.max_question_chars):
            return Answer(ErrorCode.INVALID_REQUEST, problem)
        request = Request(question, question.deadline_s or self._config.deadline_s, self._context.memory.newest[1])
        self._requests.push(request)
        while not request.is_finished:
            self._worker.answer()
        return request.answer()

    def snapshot(self, scope: Scope = EVERYTHING) -> MemorySnapshot:
        """Copy of the part of the present memory in `scope`: what a question about it is answered from."""
        return self._context.memory.snapshot(scope)

    def save(self, path: Path, more: Mapping[str, Any]) -> int:
        """Write the memory and `more` values to a file. Returns its size. Raises OSError and UnsupportedState."""
        return write_memory(path, state_of(self._context.memory, self._worker.ingest, more=more), self._about)

    def restore(self, path: Path, state: MemoryState, made_with: Mapping[str, str]) -> None:
        """Replace the memory by the state that `read_memory(path)` returned. Raises MemoryFileError."""
        if wrong := differences(made_with, self._about):
            raise MemoryFileError(f"{path} was made with {wrong}")
        try:
            restore_state(state, self._context.memory, self._worker.ingest, self._context.model.device)
        except (UnsupportedState, LookupError) as error:
            raise MemoryFileError(f"{path} is not a memory of policy {self._config.policy}: {error}") from error

    @property
    def is_between_slots(self) -> bool:
        """Returns True if no frame waits for the second one of its slot, so a memory saved now is complete."""
        return self._worker.ingest.is_between_slots

    @property
    def slots(self) -> int:
        """Number of slots that the memory has seen."""
        return self._context.memory.slots_seen

    @property
    def memory_bytes(self) -> int:
        """Size of the memory [bytes]."""
        return self._context.memory.bytes

    @property
    def newest_ns(self) -> int:
        """Stamp of the newest frame in the memory [ns]; 0 when empty."""
        return self._context.memory.newest[1]

    def close(self) -> None:
        self._worker.close()

    def _step(self) -> None:
        self._context.wake.clear()
        if not self._worker.ingest_frames():
            self._context.wake.wait(FRAME_TIMEOUT_S)


def read_memory_file(path: Path) -> tuple[MemoryState, dict[str, str]]:
    """Like `read_memory`, but a file that cannot be opened raises MemoryFileError too."""
    try:
        return read_memory(path)
    except OSError as error:
        raise MemoryFileError(f"{path} cannot be read: {error.strerror or error}") from error
