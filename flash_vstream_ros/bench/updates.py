"""Compares memory updates with those of the released procedure: time, parts, bytes copied between host and device."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice

import torch

from flash_vstream_ros.instruments.stopwatch import Stopwatch, timed
from flash_vstream_ros.instruments.transfers import TransferCounter
from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, Slot, WardClustering
from flash_vstream_ros.memory.exemplars import ExemplarPool

from .released_stream import Maps, ReleasedStream

# Timed parts of an update: class, method, name.
PARTS = (
    (WardClustering, "distances", "distances"),
    (WardClustering, "insert", "merge"),
    (ExemplarPool, "nearest", "exemplars"),
    (ExemplarPool, "store", "copy"),
)
COUNTED = 8  # number of slots whose transfers are counted


def in_turn(
    memory: FlashMemory, released: ReleasedStream, slot: Slot, maps: Maps, device: torch.device
) -> tuple[float, float]:
    """Durations of both updates for the same slot [s]."""
    return timed(lambda: memory.insert(slot), device), timed(lambda: released.insert(maps), device)


def parts_of_ours(memory: FlashMemory, slots: Sequence[Slot], device: torch.device) -> dict[str, float]:
    """Mean duration of each part of an update [s]. The rest of "whole" is bookkeeping."""
    watch = Stopwatch(device)
    with ExitStack() as stack:
        for owner, method, name in PARTS:
            stack.enter_context(watch.on(owner, method, name))
        for slot in slots:
            with watch.part("whole"):
                memory.insert(slot)
    return watch.means(len(slots))


def parts_of_released(released: ReleasedStream, maps: Sequence[Maps], device: torch.device) -> dict[str, float]:
    watch = Stopwatch(device)
    for each in maps:
        with watch.part("whole"):
            released.insert(each, watch)
    return watch.means(len(maps))


def transfers_of_ours(config: FlashMemoryConfig, slots: Iterator[Slot], device: torch.device) -> float:
    """Bytes between host and device per update of a full memory. `slots` fill the memory first."""
    memory = FlashMemory(config)
    with TransferCounter(device) as transfers:
        for slot in islice(slots, config.csm_slots):
            memory.insert(_put(slot, transfers))
        before = transfers.bytes
        for slot in islice(slots, COUNTED):
            memory.insert(_put(slot, transfers))
    return (transfers.bytes - before) / COUNTED


def transfers_of_released(released: ReleasedStream, maps: Maps, device: torch.device) -> float:
    """Bytes between host and device for a new slot in the released procedure."""
    with TransferCounter(device) as transfers:
        released.insert(Maps(*(transfers.put(each) for each in maps)))
    return float(transfers.bytes)


def percentiles(durations: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile [s]."""
    cuts = statistics.quantiles(durations, n=20, method="inclusive")
    return {"p50_s": cuts[9], "p95_s": cuts[18]}


def _put(slot: Slot, transfers: TransferCounter) -> Slot:
    return replace(slot, low=transfers.put(slot.low), detail=transfers.put(slot.detail))
