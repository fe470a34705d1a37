"""Asks the model yes/no questions about the newest slots of one camera.

Questions about the same slots share a prefix of their prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.newest_frames import Age, NewestFrames
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import EntryKind, MemoryEntry, MemorySnapshot
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.interface import Generation, PrefixCache
from flash_vstream_ros.models.yes_no import YesNo

NO_SLOT = YesNo(0.0, 0.0)


class NoSlot(LookupError):
    """The newest slots cannot be asked about; the message says why and what to do."""


class Newest(NamedTuple):
    """The newest slots of a camera. `slots` stays the same while they only last longer."""

    slots: tuple[int, ...]  # stamp of the thumbnail of each [ns]
    stamp_ns: int  # of the newest frame
    age: Age = Age()  # of the newest frame when they were looked up


class View(NamedTuple):
    """What the model says of the newest slots of a camera."""

    slots: tuple[int, ...]
    stamp_ns: int
    answer: YesNo
    age: Age = Age()  # of the newest frame at the last check

    @property
    def probability(self) -> float:
        """Probability of yes against no; 0 without an answer."""
        return self.answer.probability if sum(self.answer) else 0.0


class SlotQuestions:
    """One prefix of a prompt, which holds the newest slots of one camera. Owned by the engine's worker.

    With a model that has no prefix cache each question prefills its whole prompt, which is short.
    """

    def __init__(self, context: Context, chunk_tokens: Callable[[], int], frames: NewestFrames | None = None) -> None:
        self._frames = frames  # None: every frame counts as just received
        self._model = context.model
        self._memory = context.memory
        self._chunk_tokens = chunk_tokens
        self._cache: PrefixCache | None = context.model.prefix_cache()
        self._prefix: tuple[str, Newest] | None = None  # camera and slots in the prefix
        self._snapshot: MemorySnapshot | None = None  # of the prefix; without tensors if a prefix cache holds them
        self._generation: Generation | None = None  # of the question under way

    def newest(self, camera: str, slots: int) -> Newest | None:
        """The newest slots of `camera` in the memory; None if it has none. Raises NoSlot."""
        scope = self._scope(camera, slots)
        if scope is None:
            return None
        stamps = sorted({entry.thumbnail_ns for entry in self._memory.list_entries(scope)})
        if not stamps:
            raise NoSlot(
                f"the newest slot of camera {camera} is not stored individually: set memory.recent_slots to 1 or more"
            )
        return Newest(tuple(stamps), scope.until_ns, self.age(camera, scope.until_ns))

    def age(self, camera: str, stamp_ns: int) -> Age:
        """The age of the frame with this stamp; infinite unless `camera` sent it last."""
        if self._frames is None:
            return Age()
        return self._frames.age(camera, stamp_ns, self._memory.config.slot_period_ns / SECOND_NS)

    def entry(self, camera: str, view: View) -> MemoryEntry | None:
        """The newest slot of `view`, with its thumbnail; None if it is not in the memory any more."""
        entries = self._memory.list_entries(Scope((camera,), view.slots[0], view.stamp_ns))
        shown = (entry for entry in entries if entry.thumbnail_ns in view.slots)
        return max(shown, key=lambda entry: (entry.thumbnail_ns, entry.kind is EntryKind.DAM), default=None)

    def show(self, camera: str, slots: int) -> None:
        """Put the newest slots of `camera` into the prefix, unless it holds them. Raises NoSlot."""
        newest, scope = self.newest(camera, slots), self._scope(camera, slots)
        if newest is None or scope is None:
            raise NoSlot(f"the memory has no slot of camera {camera} any more")
        before, self._prefix = self._prefix, (camera, newest)
        if before is not None and (before[0], before[1].slots) == (camera, newest.slots):
            return
        self._snapshot = self._memory.snapshot(scope)
        if self._cache is not None:
            self._cache.set_snapshot(self._snapshot)
            self._snapshot = self._snapshot.without_features()

    def ask(self, question: str) -> View | None:
        """Run one pass for a question about the slots in the prefix. Returns the answer once it is known.

        Until then, call it again with the same question.
        """
        if self._generation is None:
            if self._cache is not None and self._cache.remaining_tokens:
                self._prefill(self._cache)
                return None
            self._generation = self._start(question)
        if self._generation.remaining_tokens > self._chunk_tokens():
            self._prefill(self._generation)
            return None
        answer = self._generation.yes_no()
        self.end_question()
        assert self._prefix is not None
        newest = self._prefix[1]
        return View(newest.slots, newest.stamp_ns, answer, newest.age)

    def end_question(self) -> None:
        """Drop the question under way, if any."""
        self._generation = None
        if self._cache is not None:
            self._cache.end_answer()

    def clear(self) -> None:
        """Drop everything that was computed from slots; keys and values are overwritten with zeros."""
        self.end_question()
        self._prefix = self._snapshot = None
        if self._cache is not None:
            self._cache.clear()

    def _start(self, question: str) -> Generation:
        if self._cache is not None:
            self._cache.update_instruction()
            return self._cache.answer(question, 1)[0]
        assert self._snapshot is not None
        return self._model.answer(self._snapshot, question, 1)

    def _prefill(self, prompt: Generation | PrefixCache) -> None:
        prompt.prefill(self._chunk_tokens())
        if self._model.device.type == "cuda":
            torch.cuda.synchronize(self._model.device)  # otherwise all chunks would be queued at once

    def _scope(self, camera: str, slots: int) -> Scope | None:
        """The scope of the newest slots of `camera`; None if the memory has no slot of it."""
        newest = self._memory.newest_of(camera)
        if newest is None:
            return None
        stamp_ns = newest[1]
        return Scope((camera,), max(1, stamp_ns - slots * self._memory.config.slot_period_ns + 1), stamp_ns)
