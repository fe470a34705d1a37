"""What is done to the memory at a user's word: pause, forget, reset, list."""

from __future__ import annotations

from collections.abc import Mapping

from flash_vstream_ros.engine.answering.dialogue import Dialogue
from flash_vstream_ros.engine.answering.uncached_reader import UncachedReader
from flash_vstream_ros.engine.ingest.ingest import Ingest
from flash_vstream_ros.engine.ingest.mailbox import Mailbox
from flash_vstream_ros.memory.interface import Forgotten, Memory
from flash_vstream_ros.memory.scope import BadScope, Scope, check_scope
from flash_vstream_ros.memory.slot import MemoryEntry


class MemoryCommands:
    """The memory and everything on its way into it or out of it. Owned by the engine's worker."""

    def __init__(
        self,
        memory: Memory,
        ingest: Ingest,
        dialogue: Dialogue,
        reader: UncachedReader,
        mailboxes: Mapping[str, Mailbox],
    ) -> None:
        self.paused = False
        self._memory = memory
        self._ingest = ingest
        self._dialogue = dialogue
        self._reader = reader
        self._mailboxes = mailboxes

    def pause(self) -> bool:
        """Take in no more frames; those that come are dropped as `paused`. False when it was so already."""
        before, self.paused = self.paused, True
        for camera, mailbox in self._mailboxes.items():
            mailbox.pause()
            self._ingest.ahead.let_go(camera, "paused")
        return not before

    def resume(self) -> bool:
        """Take in frames again. False when it was so already."""
        before, self.paused = self.paused, False
        for mailbox in self._mailboxes.values():
            mailbox.resume()
        return before

    def reset(self) -> int:
        """Forget everything, of time as well: the next stamps may be any. Returns the slots that went.

        A pause goes on. An answer under way ends as cancelled.
        """
        slots = self._memory.forget().slots
        self._memory.reset()
        self._ingest.reset()
        for mailbox in self._mailboxes.values():
            mailbox.reset()
        self._dialogue.forget(Scope())
        self._reader.clear()
        return slots

    def forget(self, scope: Scope) -> Forgotten:
        """Forget a part of what was seen, by the rule of FlashMemory.forget, and of what waits to be taken in.

        An answer under way that was made from it ends as cancelled. What comes after this is kept, whatever its stamp.
        Raises BadScope, and forgets nothing, when the scope is wrong or bounded by nothing.
        """
        check_scope(scope, self._mailboxes)
        if scope.everything:
            raise BadScope("nothing bounds what to forget: give cameras, since or until; reset forgets everything")
        for camera in scope.cameras or self._mailboxes:
            self._mailboxes[camera].forget(scope.interval)
            self._ingest.forget(camera, scope.interval)
        self._dialogue.forget(scope)
        self._reader.clear()
        return self._memory.forget(scope)

    def entries(self, scope: Scope) -> tuple[MemoryEntry, ...]:
        """What a question about a part of what was seen is answered from. Raises BadScope."""
        check_scope(scope, self._mailboxes)
        return self._memory.list_entries(scope)
