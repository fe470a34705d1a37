"""The published memory of a clip: equal to the streaming one until slots are merged, then within its bounds."""

import pytest
import torch

from flash_vstream_ros.memory import EntryKind, FlashMemory, FlashMemoryConfig, Grid, Slot, video_memory
from flash_vstream_ros.models.load import load_model

SECOND = 1_000_000_000
SQUARE = Grid(4, 4)


def slots(count: int, seed: int = 0, grid: Grid = SQUARE) -> list[Slot]:
    low = torch.randn(count, 4, 8, generator=torch.Generator().manual_seed(seed))
    return [
        Slot("front", "optical", 2 * i * SECOND, (2 * i + 1) * SECOND, low[i], torch.full((4, 2), float(i)), grid)
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_both_memories_are_equal_until_slots_are_merged(count: int) -> None:
    streaming = FlashMemory(FlashMemoryConfig(csm_slots=8, dam_slots=4, recent_slots=0))
    for slot in slots(count):
        streaming.insert(slot)
    offline, online = video_memory(slots(count), 8, 4), streaming.snapshot()
    for name in ("dam", "dam_times", "csm", "csm_times"):
        assert torch.equal(getattr(offline, name), getattr(online, name)), name
    assert offline.entries == online.entries
    assert (offline.grid, offline.slots_seen, offline.text_slots) == (online.grid, online.slots_seen, online.text_slots)


def test_a_long_clip_is_compressed_to_its_bounds_and_every_slot_is_represented() -> None:
    found = video_memory(slots(50), 8, 4)
    csm = [entry for entry in found.entries if entry.kind is EntryKind.CSM]
    assert (len(found.dam), len(found.csm)) == (4, len(csm)) == (4, 8)
    assert sum(entry.weight for entry in csm) == 50
    assert (found.first_ns, found.last_ns) == (0, 99 * SECOND)
    assert found.csm_times.tolist() == sorted(found.csm_times.tolist())


def test_equal_seeds_give_equal_memories_and_different_seeds_different_ones() -> None:
    first, again, other = (video_memory(slots(50), 8, 4, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.csm, again.csm)
    assert not torch.equal(first.csm, other.csm)


def test_slots_of_two_grids_or_none_are_refused() -> None:
    with pytest.raises(ValueError, match="one grid"):
        video_memory([*slots(2), *slots(2, grid=Grid(8, 2))])
    with pytest.raises(ValueError, match="needs slots"):
        video_memory([])


def test_a_model_answers_from_the_memory_of_a_clip() -> None:
    model = load_model("tiny-random", device="cpu", max_pixels=112 * 112)
    grid = model.grid(112, 112)
    frames = torch.randint(0, 255, (20, 112, 112, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen = []
    for i in range(10):
        low, detail = model.encode([frames[2 * i].numpy(), frames[2 * i + 1].numpy()], grid)
        seen.append(Slot("front", "", 2 * i * SECOND, (2 * i + 1) * SECOND, low, detail, grid))
    answering = model.answer(video_memory(seen, 4, 2), "What happened?", 5)
    assert len(list(answering)) == 5
    assert len(answering.attention) == 6
