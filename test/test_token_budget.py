"""memory.tokens: CSM and DAM are scaled alike to fit a number of visual tokens, for any number of tokens in a slot."""

from __future__ import annotations

import pytest
import torch

from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.slot import Grid, Slot

PERIOD_NS = 2_000_000_000


def slot_of(index: int, rows: int = 8, columns: int = 8) -> Slot:
    """A random slot of [rows, columns] patches."""
    random = torch.Generator().manual_seed(index)
    patches = rows * columns // 4
    low, detail = (torch.randn(patches, 6, generator=random) for _ in range(2))
    return Slot("camera", "", index * PERIOD_NS, index * PERIOD_NS + 1, low, detail, Grid(rows, columns))


def filled(config: FlashMemoryConfig, slots: int, **shape: int) -> FlashMemory:
    memory = FlashMemory(config)
    for index in range(slots):
        memory.insert(slot_of(index, **shape))
    return memory


@pytest.mark.parametrize("tokens", [40, 100, 288, 575, 576, 577, 2000, 12_000])
def test_the_memory_fills_its_budget_to_within_one_slot_of_each_kind(tokens):
    """60 slots of 4 tokens and 30 of 16 are 720."""
    memory = filled(FlashMemoryConfig(tokens=tokens), 1)
    low, detail = 4, 16
    csm, dam = memory.config.csm_slots, memory.config.dam_slots
    used = csm * low + dam * detail
    assert used <= tokens < used + low + detail
    assert csm / dam == pytest.approx(2, rel=1 / dam)


def test_a_full_memory_fills_its_budget_and_stays_within_it():
    memory = filled(FlashMemoryConfig(csm_slots=12, dam_slots=6, tokens=100), 40)
    assert (memory.config.csm_slots, memory.config.dam_slots) == (8, 4)
    assert memory.tokens == memory.capacity * 4 + 4 * 12 == 96
    snapshot = memory.snapshot()
    assert (len(snapshot.csm), len(snapshot.dam)) == (8, 4)


def test_without_a_budget_the_configured_sizes_are_used():
    assert filled(FlashMemoryConfig(csm_slots=5, dam_slots=3), 1).config == FlashMemoryConfig(csm_slots=5, dam_slots=3)


def test_slots_of_a_finer_grid_are_fewer():
    coarse, fine = (filled(FlashMemoryConfig(tokens=500), 1, rows=side, columns=side) for side in (8, 16))
    assert fine.config.csm_slots < coarse.config.csm_slots
    assert 0 < fine.config.dam_slots < coarse.config.dam_slots


def test_a_budget_below_two_slots_leaves_one_of_each():
    memory = filled(FlashMemoryConfig(tokens=1), 3)
    assert (memory.config.csm_slots, memory.config.dam_slots) == (1, 1)


def test_the_budget_of_a_full_memory_can_change_and_a_reset_measures_tokens_again():
    memory = filled(FlashMemoryConfig(tokens=500), 60)
    memory.resize(FlashMemoryConfig(tokens=200))
    assert memory.tokens <= 200
    assert memory.slots_seen == 60
    memory.reset()
    memory.insert(slot_of(0, rows=4, columns=4))
    assert (memory.config.csm_slots, memory.config.dam_slots) == (66, 33)  # of 1 and 4 tokens
    memory.resize(FlashMemoryConfig())
    assert (memory.config.csm_slots, memory.config.dam_slots) == (60, 30)


def test_a_negative_budget_is_refused():
    with pytest.raises(ValueError, match="tokens"):
        FlashMemoryConfig(tokens=-1)
