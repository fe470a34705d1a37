"""Admin commands on the memory: pause, resume, reset, forget, list, save, load."""

from __future__ import annotations

from concurrent.futures import Future
from typing import NamedTuple

from flash_vstream_ros.engine.answering.dialogue import Dialogue
from flash_vstream_ros.engine.answering.prefiller import Prefiller
from flash_vstream_ros.engine.archive.archive import Archive
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.ingest.ingest import Ingest
from flash_vstream_ros.engine.restart.rebuild import Rebuild
from flash_vstream_ros.engine.restart.snapshots import Snapshots
from flash_vstream_ros.engine.watches.watches import Watches
from flash_vstream_ros.memory.interface import Forgotten
from flash_vstream_ros.memory.scope import EVERYTHING, BadScope, Scope, check_scope
from flash_vstream_ros.memory.slot import MemoryEntry


class Erasures(NamedTuple):
    """Erasures on the disk, in progress on other threads; None if there can be no such file."""

    snapshot: Future[int] | None  # returns the size of the new file in bytes, or raises CannotSave
    archive: Future[int] | None  # returns the number of key frames deleted, or raises ArchiveError


class MemoryCommands:
    """Acts on the memory, the frames that are not ingested yet and the current answer. Owned by the engine's worker."""

    def __init__(
        self,
        context: Context,
        ingest: Ingest,
        dialogue: Dialogue,
        prefiller: Prefiller,
        snapshots: Snapshots,
        archive: Archive,
        rebuild: Rebuild,
        watches: Watches,
    ) -> None:
        self.paused = False
        self.watches = watches
        self._memory = context.memory
        self._summaries = context.summaries
        self._ingest = ingest
        self._dialogue = dialogue
        self._prefiller = prefiller
        self._snapshots = snapshots
        self._archive = archive
        self._rebuild = rebuild
        self._mailboxes = ingest.mailboxes

    def pause(self) -> bool:
        """Stop ingest; frames that arrive are dropped as `paused`. Returns False if it was paused already."""
        before, self.paused = self.paused, True
        for camera, mailbox in self._mailboxes.items():
            mailbox.pause()
            self._ingest.prefetch.drop(camera, "paused")
        return not before

    def resume(self) -> bool:
        """Resume ingest. Returns False if it was not paused."""
        before, self.paused = self.paused, False
        for mailbox in self._mailboxes.values():
            mailbox.resume()
        return before

    def reset(self) -> int:
        """Forget everything; the next frames may have any stamps. Returns the number of slots forgotten.

        A paused memory stays paused. An answer being generated is cancelled.
        """
        self._rebuild.forget(EVERYTHING)
        self._rebuild.end("the memory was reset")
        slots = self._memory.forget().slots
        self._memory.reset()
        self._ingest.reset()
        for mailbox in self._mailboxes.values():
            mailbox.reset()
        self._dialogue.forget(EVERYTHING)
        self.watches.forget(EVERYTHING)
        self._prefiller.clear()
        self._summaries.forget(EVERYTHING)
        return slots

    def forget(self, scope: Scope) -> Forgotten:
        """Forget what the memory has of `scope` (see Memory.forget), and the frames in `scope` that wait for ingest.

        An answer being generated from `scope` is cancelled. Frames that arrive later are kept, whatever their stamps.
        Raises BadScope, and forgets nothing, if the scope is invalid or unbounded.
        """
        check_scope(scope, self._mailboxes)
        if scope.everything:
            raise BadScope("the scope is unbounded: give cameras, since, until or near; reset forgets everything")
        for camera in scope.cameras or self._mailboxes:
            self._mailboxes[camera].forget(scope.interval)
            self._ingest.forget(camera, scope.interval)
        self._dialogue.forget(scope)
        self.watches.forget(scope)
        self._prefiller.clear()
        self._summaries.forget(scope)
        self._rebuild.forget(scope)
        return self._memory.forget(scope)

    def entries(self, scope: Scope) -> tuple[MemoryEntry, ...]:
        """The entries that a question in this scope is answered from. Raises BadScope."""
        check_scope(scope, self._mailboxes)
        return self._memory.list_entries(scope)

    def save(self) -> Future[int]:
        """Save the memory. The future returns the size of the file in bytes, or raises CannotSave."""
        return self._snapshots.save()

    def erase_from_disk(self, scope: Scope) -> Erasures:
        """Erase what was just forgotten from the disk. See Snapshots.save and Archive.erase."""
        snapshot = self._snapshots.save(erase=True) if self._snapshots.enabled else None
        return Erasures(snapshot, self._archive.erase(scope))

    def load(self) -> str:
        """Replace the memory by the one saved last. An answer being generated is cancelled. Raises CannotSave."""
        self._dialogue.forget(EVERYTHING)
        self.watches.forget(EVERYTHING)
        self._prefiller.clear()
        loaded = self._snapshots.load()
        self._rebuild.end("the memory was replaced by the one saved last")
        return loaded
