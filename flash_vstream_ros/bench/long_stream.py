"""A stream of 10 h: questions to the memory at four lengths, and the released procedure compared after 1 h."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, MemorySnapshot, Slot
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.progress import tracked

from .prefix_cache import KINDS, QUESTIONS, SIDE, Desk, ask_in_turn, mixed, stream, times_of
from .released_stream import Maps, ReleasedStream, tower_maps
from .stopwatch import timed
from .updates import crossing_of_ours, crossing_of_theirs, in_turn, parts_of_ours, parts_of_theirs, spread

if TYPE_CHECKING:
    from flash_vstream_ros.models.qwen2_vl import Qwen2VL

LENGTHS_S = {"1 min": 60.0, "10 min": 600.0, "1 h": 3600.0, "10 h": 36_000.0}
HOUR = "1 h"
PARTS_OF_OURS, PARTS_OF_THEIRS = 32, 3  # updates that are taken apart


class Source(NamedTuple):
    """A patrol, encoded once, from which slots come without end, the same for whoever takes them."""

    model: Qwen2VL
    features: list[tuple[Tensor, Tensor]]  # low and detail of each slot
    high: list[Tensor]  # and its high-resolution map, before the merger
    config: FlashMemoryConfig

    @classmethod
    def of(cls, model: Qwen2VL, pictures: Sequence[np.ndarray], config: FlashMemoryConfig) -> Source:
        """`pictures`, two a slot."""
        grid = model.grid(SIDE, SIDE)
        pairs = [pictures[index : index + 2] for index in range(0, len(pictures), 2)]
        high = [tower_maps(model.network, pair, grid).high for pair in pairs]
        return cls(model, [model.encode(pair, grid) for pair in pairs], high, config)

    def slots(self, first: int = 0) -> Iterator[Slot]:
        return islice(stream(self.features, self.model, self.config.slot_period_ns), first, None)

    def maps(self, first: int = 0) -> Iterator[Maps]:
        """What the released procedure takes of the same slots."""
        both = [(high, low) for high, (low, _) in zip(self.high, self.features, strict=True)]
        return (Maps(*each) for each in islice(mixed(both), first, None))


def grown(source: Source) -> dict[str, FlashMemory]:
    """The memory of the stream after each length of it."""
    config, memory = source.config, FlashMemory(source.config)
    marks = {int(seconds * 1e9 / config.slot_period_ns): length for length, seconds in LENGTHS_S.items()}
    found = {}
    slots = tracked(islice(source.slots(), max(marks)), "10 h of stream", max(marks))
    for number, slot in enumerate(slots, 1):
        memory.insert(slot)
        if number in marks:
            found[marks[number]] = copy.deepcopy(memory)
    return found


def asked_along(model: VisionLanguageModel, memories: Mapping[str, FlashMemory], rounds: int) -> dict[str, Any]:
    """Uncached and cached questions to each memory, in turn."""
    desks = {kind: {length: Desk.of(model, memory, kind) for length, memory in memories.items()} for kind in KINDS}
    for desk in desks["cached"].values():
        desk.warm_up()
    asked = ask_in_turn(desks, rounds)
    complaints = [line for kind in KINDS for desk in desks[kind].values() for line in desk.complaints]
    if complaints:
        raise RuntimeError(f"questions went wrong: {complaints}")
    return {
        length: {
            "slots": memory.slots_seen,
            "memory_tokens": asked["uncached", length][0].answer.memory_tokens,
            "memory_bytes": memory.bytes,
            "prefix_cache_bytes": desks["cached"][length].reader.status.bytes,
            **{kind: times_of(asked[kind, length]) for kind in KINDS},
        }
        for length, memory in memories.items()
    }


def beside_released(source: Source, memory: FlashMemory, updates: int, rounds: int) -> dict[str, Any]:
    """Updates of `memory` and of the released procedure, which has seen the same stream; and its questions."""
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
        "released": parts_of_theirs(released, list(islice(maps, PARTS_OF_THEIRS)), device),
    }
    crossing = {
        "ours": crossing_of_ours(config, source.slots(), device),
        "released": crossing_of_theirs(released, next(maps), device),
    }
    uncached = [_first_token_s(model, released.snapshot(), QUESTIONS[at % len(QUESTIONS)]) for at in range(rounds)]
    slots_after = {length: int(seconds * 1e9 / config.slot_period_ns) for length, seconds in LENGTHS_S.items()}
    return {
        "update": {
            name: {**spread(times), "parts": parts[name]} for name, times in (("ours", ours), ("released", theirs))
        },
        "released_slots": seen,
        "update_crossing_bytes": crossing,
        "released_question": spread(uncached),
        "released_bytes": {
            length: released.bytes_after(count) for length, count in slots_after.items() if count >= config.csm_slots
        },
    }


def _first_token_s(model: VisionLanguageModel, snapshot: MemorySnapshot, question: str) -> float:
    return timed(lambda: next(iter(model.answer(snapshot, question, 1))), model.device)
