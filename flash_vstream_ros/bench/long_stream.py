"""A stream of 10 h: questions after four lengths of it, and a comparison with the released procedure after 1 h."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from flash_vstream_ros.instruments.stopwatch import timed
from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, MemorySnapshot, Slot
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.progress import tracked

from .prefix_cache import KINDS, QUESTIONS, SIDE, Asker, ask_in_turn, mixed, stream, times_of
from .released_stream import Maps, ReleasedStream, tower_maps
from .updates import in_turn, parts_of_ours, parts_of_released, percentiles, transfers_of_ours, transfers_of_released

if TYPE_CHECKING:
    from flash_vstream_ros.models.qwen2_vl import Qwen2VL

LENGTHS_S = {"1 min": 60.0, "10 min": 600.0, "1 h": 3600.0, "10 h": 36_000.0}
HOUR = "1 h"
PARTS_OF_OURS, PARTS_OF_RELEASED = 32, 3  # updates whose parts are timed


class Source(NamedTuple):
    """A patrol that is encoded once and repeated as an endless stream of slots. Every iteration is the same."""

    model: Qwen2VL
    features: list[tuple[Tensor, Tensor]]  # low and detail of each slot
    high: list[Tensor]  # high-resolution map of each slot, before the merger
    config: FlashMemoryConfig

    @classmethod
    def of(cls, model: Qwen2VL, images: Sequence[np.ndarray], config: FlashMemoryConfig) -> Source:
        """Encode `images`, two per slot."""
        grid = model.grid(SIDE, SIDE)
        pairs = [images[index : index + 2] for index in range(0, len(images), 2)]
        high = [tower_maps(model.network, pair, grid).high for pair in pairs]
        return cls(model, [model.encode(pair, grid) for pair in pairs], high, config)

    def slots(self, first: int = 0) -> Iterator[Slot]:
        return islice(stream(self.features, self.model, self.config.slot_period_ns), first, None)

    def maps(self, first: int = 0) -> Iterator[Maps]:
        """The slots as input of the released procedure."""
        both = [(high, low) for high, (low, _) in zip(self.high, self.features, strict=True)]
        return (Maps(*each) for each in islice(mixed(both), first, None))


def memories_along(source: Source) -> dict[str, FlashMemory]:
    """Copies of the memory after each of LENGTHS_S."""
    config, memory = source.config, FlashMemory(source.config)
    marks = {int(seconds * 1e9 / config.slot_period_ns): length for length, seconds in LENGTHS_S.items()}
    found = {}
    slots = tracked(islice(source.slots(), max(marks)), "10 h of stream", max(marks))
    for number, slot in enumerate(slots, 1):
        memory.insert(slot)
        if number in marks:
            found[marks[number]] = copy.deepcopy(memory)
    return found


def ask_memories(model: VisionLanguageModel, memories: Mapping[str, FlashMemory], rounds: int) -> dict[str, Any]:
    """Times of uncached and cached questions to each memory, asked alternately."""
    askers = {kind: {length: Asker.of(model, memory, kind) for length, memory in memories.items()} for kind in KINDS}
    for asker in askers["cached"].values():
        asker.fill_cache()
    asked = ask_in_turn(askers, rounds)
    warnings = [line for kind in KINDS for asker in askers[kind].values() for line in asker.warnings]
    if warnings:
        raise RuntimeError(f"questions failed: {warnings}")
    return {
        length: {
            "slots": memory.slots_seen,
            "memory_tokens": asked["uncached", length][0].answer.memory_tokens,
            "memory_bytes": memory.bytes,
            "prefix_cache_bytes": askers["cached"][length].prefiller.status.bytes,
            **{kind: times_of(asked[kind, length]) for kind in KINDS},
        }
        for length, memory in memories.items()
    }


def against_released(source: Source, memory: FlashMemory, updates: int, rounds: int) -> dict[str, Any]:
    """Times of updates by `memory` and by the released procedure on one stream, and of questions to the latter."""
    model, config, seen = source.model, source.config, memory.slots_seen
    device, maps, slots = model.vision_device, source.maps(), source.slots(seen)
    released = ReleasedStream(
        model.network.model.visual.merger, config.csm_slots, config.dam_slots, model.grid(SIDE, SIDE)
    )
    released.fill(tracked(maps, "released procedure, 1 h of stream", seen), seen)
    steps = tracked(range(updates), "updates in turn", updates)
    both = [in_turn(memory, released, next(slots), next(maps), device) for _ in steps]
    ours, theirs = zip(*both, strict=True)
    parts = {
        "ours": parts_of_ours(memory, list(islice(slots, PARTS_OF_OURS)), device),
        "released": parts_of_released(released, list(islice(maps, PARTS_OF_RELEASED)), device),
    }
    transfers = {
        "ours": transfers_of_ours(config, source.slots(), device),
        "released": transfers_of_released(released, next(maps), device),
    }
    uncached = [_first_token_s(model, released.snapshot(), QUESTIONS[at % len(QUESTIONS)]) for at in range(rounds)]
    slots_after = {length: int(seconds * 1e9 / config.slot_period_ns) for length, seconds in LENGTHS_S.items()}
    return {
        "update": {
            name: {**percentiles(times), "parts": parts[name]} for name, times in (("ours", ours), ("released", theirs))
        },
        "released_slots": seen,
        "update_transfer_bytes": transfers,
        "released_question": percentiles(uncached),
        "released_bytes": {
            length: released.bytes_after(count) for length, count in slots_after.items() if count >= config.csm_slots
        },
    }


def _first_token_s(model: VisionLanguageModel, snapshot: MemorySnapshot, question: str) -> float:
    return timed(lambda: next(iter(model.answer(snapshot, question, 1))), model.device)
