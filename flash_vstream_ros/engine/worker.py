"""Worker: ingests frames, answers questions and runs commands on one model and one memory."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.interface import VisionLanguageModel

from .answering.caching_prefiller import prefiller_for
from .answering.dialogue import Dialogue
from .answering.prefix_cache_config import PrefixCacheStatus
from .answering.request_queue import RequestQueue
from .answering.throughput import PrefillThroughput
from .archive.archive import Archive
from .archive.archive_folder import ArchiveFolder
from .archive.archive_status import ArchiveStatus
from .archive.recall import newest, spread
from .config import EngineConfig
from .context import Context
from .control.memory_commands import MemoryCommands
from .ingest.ingest import Ingest
from .ingest.mailbox import Mailbox
from .memory_policies import config_for, memory_of
from .restart.rebuild import MemoryStart, Rebuild
from .restart.snapshots import Snapshots, SnapshotStatus
from .status import MemoryStats
from .watches.watch import WatchesStatus
from .watches.watches import Watches

MAX_BATCH_SLOTS = 4  # slots of several cameras that are encoded in one pass while no answer waits for a token
LAST_COMMIT_S = 3.0  # longest wait for the archive when the engine stops
WAIT_SLOTS = 0.25  # slot periods that frames may wait for a new answer, or for a chunk of its prompt


@dataclass(frozen=True)
class WorkerStatus:
    """Status of the worker, published to other threads."""

    memory: MemoryStats = field(default_factory=MemoryStats)
    prefix_cache: PrefixCacheStatus = field(default_factory=PrefixCacheStatus)
    snapshots: SnapshotStatus = field(default_factory=SnapshotStatus)
    archive: ArchiveStatus = field(default_factory=ArchiveStatus)
    memory_start: MemoryStart = field(default_factory=MemoryStart)
    paused: bool = False
    watches: WatchesStatus = field(default_factory=WatchesStatus)


class Worker:
    """Ingests frames, answers questions and prefills in the background. Owned by the worker's thread.

    Other threads may call `ingest.prefetch.fetch` only.
    """

    def __init__(
        self, context: Context, config: EngineConfig, mailboxes: Mapping[str, Mailbox], requests: RequestQueue
    ) -> None:
        self._context = context
        self._memory = context.memory
        self._prefiller = prefiller_for(context, config.prefix_cache)
        self._folder = ArchiveFolder(config.archive.path) if config.archive.path else None
        self.archive = Archive(self._folder, config.archive, context.log)
        self.ingest = Ingest(context, config, mailboxes, self.archive)
        self._rebuild = Rebuild(
            context, self.ingest, lambda: memory_of(self._config.policy, self._config.timed_memory, context.model)
        )
        self._dialogue = Dialogue(
            context, config, self._prefiller, requests, self.archive, lambda: self._rebuild.notice
        )
        self.snapshots = Snapshots(context, self.ingest, config, self._folder, self._rebuild)
        prefiller = self._prefiller
        self.watches = Watches(
            context,
            config.cameras,
            config.watch,
            lambda: prefiller.background_chunk_tokens,
            context.watch_event,
            frames=self.ingest.newest_frames,
        )
        self.commands = MemoryCommands(
            context,
            self.ingest,
            self._dialogue,
            self._prefiller,
            self.snapshots,
            self.archive,
            self._rebuild,
            self.watches,
        )
        self._apply(config)

    @property
    def model(self) -> VisionLanguageModel:
        return self._context.model

    def set_throughput(self, throughput: PrefillThroughput) -> None:
        """Start from a measured prefill throughput."""
        self._prefiller.throughput = throughput

    def begin(self, stop: threading.Event) -> str:
        """Restore the memory, or else prepare its rebuild from the archive. Returns a sentence for the log, or "".

        While the archive is read, `stop` ends the wait.
        """
        began = self.snapshots.restore()
        if began.is_restored:
            self._rebuild.status = MemoryStart(began.sentence)
            return began.sentence
        if self._folder is None:
            return ""
        choose = newest if self._config.policy == "recent" else spread
        sampled = self.archive.sample(Scope(self._config.cameras), self._memory.capacity, choose)
        return self._rebuild.begin(began.sentence, sampled, stop)

    @property
    def memory_start(self) -> MemoryStart:
        return self._rebuild.status

    def rebuild(self, is_answering: bool) -> bool:
        """Run one step of the rebuild. Returns False if there was none: answers go first, as long as that is possible.

        A frame waits for one step at most.
        """
        if not self._rebuild.under_way or (is_answering and not self._rebuild.is_urgent):
            return False
        try:
            self._rebuild.step()
        except torch.OutOfMemoryError as error:
            self._rebuild.end(f"the device ran out of memory: {error}")
            self._prefiller.free_device_memory()
        if not self._rebuild.under_way:
            self._resize(config_for(self._context.model, self._config.timed_memory))
            self._prefiller.note_memory_change()
        return True

    def apply(self, config: EngineConfig) -> bool:
        """Adopt new rates and limits. Returns False if nothing changed."""
        if config is self._config:
            return False
        self._apply(config)
        self._resize(config_for(self._context.model, config.timed_memory))
        return True

    def ingest_frames(self) -> bool:
        """Ingest the decoded frames. Returns False if there was none, or if a new answer has priority.

        A new answer has priority because a short answer would be slowed most by the wait for a slot.
        """
        if self._dialogue.started_within(self._prefiller.chunk_s) and not self.ingest.prefetch.full:
            return False
        any_frame = self.ingest.step(1 if self._dialogue.busy else MAX_BATCH_SLOTS)
        if self.ingest.out_of_memory:
            self.ingest.out_of_memory = False
            self._prefiller.free_device_memory()
        self._prefiller.note_memory_change()
        return any_frame

    def answer(self, asked_before: float = math.inf) -> bool:
        """Start the next question that was `asked_before`, or continue with one. Returns False if there is none."""
        return self._dialogue.step(asked_before)

    def background_step(self) -> float | None:
        """Check a watch, or run one unit of background prefill, so that a question waits for one of them at most.

        Returns the time [s] after which to call again; None: not before the memory changes.
        """
        check_s = self.watches.check()
        if check_s == 0.0:
            return check_s
        return min(
            (wait_s for wait_s in (check_s, self._prefiller.background_prefill()) if wait_s is not None), default=None
        )

    def cancel_answer(self, message: str) -> None:
        """Cancel the answer being generated; its text so far is kept."""
        self._dialogue.close(message)

    def close(self) -> None:
        """Stop decoding frames, save the memory, close the archive, and drop the prefix cache.

        Another node can use the folder once the archive's thread has ended.
        """
        self.ingest.close()
        self.snapshots.close()
        self._rebuild.end("the node ended, and the next start begins it again")
        is_written = self.archive.close(LAST_COMMIT_S)
        if not is_written:
            self._context.log.report(
                "archive",
                f"the archive was not written within {LAST_COMMIT_S:.0f} s: the disk is slow, and the last key frames "
                "may be lost",
            )
        if self._folder is not None and is_written:
            self._folder.close()
        self._prefiller.clear()
        self.watches.close()

    def memory_changed(self, status: WorkerStatus) -> bool:
        """Returns True if the memory has changed since `status`."""
        return (self._memory.slots_seen, self._memory.revision) != (status.memory.slots, status.memory.revision)

    def prefix_cache_status(self) -> PrefixCacheStatus:
        return self._prefiller.status

    def status(self) -> WorkerStatus:
        memory, device = self._memory, self._context.model.device
        stats = MemoryStats(
            slots=memory.slots_seen,
            entries=memory.entries,
            capacity=memory.capacity,
            tokens=memory.tokens,
            bytes=memory.bytes,
            device_bytes=torch.cuda.memory_allocated(device) if device.type == "cuda" else 0,
            first_ns=memory.first_ns,
            last_ns=memory.last_ns,
            newest_ns=memory.newest[1],
            revision=memory.revision,
            novelty_sum=self.ingest.novelty_sum,
            encode_s=self.ingest.encode_s.p50_p95(),
            update_s=self.ingest.update_s.p50_p95(),
        )
        return WorkerStatus(
            stats,
            self._prefiller.status,
            self.snapshots.status,
            self.archive.status,
            self.memory_start,
            self.commands.paused,
            self.watches.status,
        )

    def _apply(self, config: EngineConfig) -> None:
        self._config = config
        self.ingest.apply(config)
        self._dialogue.apply(config)
        self._prefiller.config = config.prefix_cache
        self.snapshots.config = config.archive
        self.archive.config = config.archive
        self.watches.config = config.watch
        self._prefiller.chunk_s = WAIT_SLOTS * config.slot_period_ns / 1e9
        self._context.model.instruction = config.instruction

    def _resize(self, wanted: FlashMemoryConfig) -> None:
        """Resize the memory; if there is no room for it, keep its size, adopt the slot period and log the reason."""
        before = self._memory.config
        try:
            self._memory.resize(wanted)
        except Exception as error:
            self._memory.resize(replace(before, slot_period_ns=wanted.slot_period_ns))
            self._context.log.report(
                "memory", f"the memory keeps its {before.csm_slots} CSM and {before.dam_slots} DAM slots: {error}"
            )
