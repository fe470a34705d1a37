"""What the worker does with a model and a memory: takes in frames, answers, and reads ahead when there is neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.models.interface import VisionLanguageModel

from .answering.cached_reader import reader_of
from .answering.dialogue import Dialogue
from .answering.request_queue import Answer, Request, RequestQueue
from .answering.throughput import PrefillThroughput
from .config import EngineConfig
from .control.memory_commands import MemoryCommands
from .ingest.ingest import Ingest
from .ingest.mailbox import Mailbox
from .memory_policies import fitted
from .status import MemoryStats
from .throttled_log import ThrottledLog

MOST_SLOTS = 4  # of several cameras that go through the tower together while no answer waits for a token
WAIT_SLOTS = 0.25  # slot periods that frames may wait for an answer that has begun, or for a portion of its prompt


class Worker:
    """One model and one memory at work. Owned by the engine's worker, but for `ingest.ahead.fetch`."""

    def __init__(
        self,
        model: VisionLanguageModel,
        memory: Memory,
        config: EngineConfig,
        mailboxes: Mapping[str, Mailbox],
        log: ThrottledLog,
        line: RequestQueue,
        finish: Callable[[Request, Answer], None],
        wake: Callable[[], object],
        pace: PrefillThroughput,
    ) -> None:
        self._model = model
        self._memory = memory
        self._log = log
        self.reader = reader_of(model, memory, log, config.warm)
        self.reader.pace = pace
        self.ingest = Ingest(
            model,
            memory,
            mailboxes,
            log,
            config.slot_period_ns,
            on_jump_back=config.on_jump_back,
            make_room=self.reader.relieve,
            wake=wake,
            static=config.static,
        )
        self._dialogue = Dialogue(
            self.reader,
            model.kind,
            memory,
            log,
            line,
            finish,
            max_new_tokens=config.max_new_tokens,
            evidence=config.evidence,
        )
        self.commands = MemoryCommands(memory, self.ingest, self._dialogue, self.reader, mailboxes)
        self._set(config)

    def follow(self, config: EngineConfig) -> bool:
        """Go on with other rates and bounds; False where these are in force already."""
        if config is self._config:
            return False
        self._set(config)
        self._resize(fitted(config.timed_memory, self._model))
        return True

    def take_in(self) -> bool:
        """Handle the frames that are ready. False when there was none, or when a short answer goes first.

        One that is over sooner than it takes to encode a slot would else be slowed more by that slot than by anything.
        """
        if self._dialogue.began_within(self.reader.chunk_s) and not self.ingest.ahead.full:
            return False
        took_in = self.ingest.step(1 if self._dialogue.busy else MOST_SLOTS)
        self.reader.follow()
        return took_in

    def answer(self) -> bool:
        """Begin the next question, or go on with one. False when there is none."""
        return self._dialogue.step()

    def close(self, message: str) -> None:
        """Cancel the question being answered, and keep nothing but the memory."""
        self.ingest.ahead.close()
        self._dialogue.close(message)
        self.reader.clear()

    def differs_from(self, figures: MemoryStats) -> bool:
        """Whether the memory has changed since."""
        return (self._memory.slots_seen, self._memory.revision) != (figures.slots, figures.revision)

    @property
    def figures(self) -> MemoryStats:
        memory, device = self._memory, self._model.device
        return MemoryStats(
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

    def _set(self, config: EngineConfig) -> None:
        self._config = config
        self.ingest.slot_period_ns = config.slot_period_ns
        self.ingest.gate.limits = config.static
        self._dialogue.max_new_tokens, self._dialogue.evidence = config.max_new_tokens, config.evidence
        self.reader.limits = config.warm
        self.reader.chunk_s = WAIT_SLOTS * config.slot_period_ns / 1e9
        self._model.instruction = config.instruction

    def _resize(self, wanted: FlashMemoryConfig) -> None:
        """The clock is followed in any case; what there is no room for costs a message, and the memory stays."""
        before = self._memory.config
        try:
            self._memory.resize(wanted)
        except Exception as error:
            self._memory.resize(replace(before, slot_period_ns=wanted.slot_period_ns))
            self._log.report(
                "memory", f"the memory keeps its {before.csm_slots} CSM and {before.dam_slots} DAM slots: {error}"
            )
