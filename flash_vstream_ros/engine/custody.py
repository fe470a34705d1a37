"""What is done to the memory at a user's word: pause, forget, reset, list."""

from __future__ import annotations

from collections.abc import Mapping

from flash_vstream_ros.memory.interface import Forgotten, Memory
from flash_vstream_ros.memory.slot import MemoryEntry
from flash_vstream_ros.memory.spans import Interval

from .dialogue import Dialogue
from .frames import Mailbox
from .ingest import Ingest
from .reading import ColdReader
from .selection import BadSelection, Selection, check_selection


class Custody:
    """The memory and everything on its way into it or out of it. Owned by the engine's worker."""

    def __init__(
        self,
        memory: Memory,
        ingest: Ingest,
        dialogue: Dialogue,
        reader: ColdReader,
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
        self._dialogue.forget(Selection())
        self._reader.clear()
        return slots

    def forget(self, selection: Selection) -> Forgotten:
        """Forget a part of what was seen, by the rule of FlashMemory.forget, and of what waits to be taken in.

        An answer under way that was made from it ends as cancelled. What comes after this is kept, whatever its stamp.
        Raises BadSelection, and forgets nothing, when the selection is wrong or bounded by nothing.
        """
        check_selection(selection, self._mailboxes)
        if selection.everything:
            raise BadSelection("nothing bounds what to forget: give cameras, since or until; reset forgets everything")
        interval = Interval(selection.since_ns, selection.until_ns)
        for camera in selection.cameras or self._mailboxes:
            self._mailboxes[camera].forget(interval)
            self._ingest.forget(camera, interval)
        self._dialogue.forget(selection)
        self._reader.clear()
        return self._memory.forget(selection.cameras, *interval)

    def entries(self, selection: Selection) -> tuple[MemoryEntry, ...]:
        """What a question about a part of what was seen is answered from. Raises BadSelection."""
        check_selection(selection, self._mailboxes)
        return self._memory.listed(selection.cameras, selection.since_ns, selection.until_ns)
