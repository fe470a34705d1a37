"""A slot that static slots extended lies at all of their known positions, in every policy."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_flash_memory import PERIOD, lows, slot

from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, Memory
from flash_vstream_ros.memory.config import HIERARCHICAL
from flash_vstream_ros.memory.pose import Pose
from flash_vstream_ros.memory.recent import RecentSlots
from flash_vstream_ros.memory.region import Near, Region
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import Extension
from flash_vstream_ros.memory.timechat_online import TimeChatOnline
from flash_vstream_ros.node.conversions import entry_message

SIZES = FlashMemoryConfig(4, 3, 2, 0, PERIOD, 1)
MEMORIES = {
    "flash": FlashMemory(SIZES),
    "hierarchical": FlashMemory(replace(SIZES, retention=HIERARCHICAL, store_factor=3)),
    "recent": RecentSlots(SIZES),
    "timechat_online": TimeChatOnline(SIZES),
}
PATH_M = (0.0, 0.3, -0.2, 0.4)  # positions of a slot and of the static slots after it, along x [m]
AT_THE_END = Scope(near=Near(0.5, 0.0, 0.15, "map"))  # only the last position lies inside


def at(x: float) -> Pose:
    return Pose((x, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), "map")


@pytest.fixture(params=MEMORIES)
def extended(request: pytest.FixtureRequest) -> Memory:
    """A memory of one slot far away, and of one that was extended along PATH_M."""
    memory = MEMORIES[request.param]
    memory.reset()
    far, near = (slot(index, view, "camera") for index, view in enumerate(lows(2, seed=0)))
    memory.insert(replace(far, pose=at(9.0)))
    memory.insert(replace(near, pose=at(PATH_M[0])))
    for x in PATH_M[1:]:
        newest = memory.newest_of("camera")
        assert newest is not None
        memory.extend("camera", Extension(1, newest[0] + 1, newest[0] + 1, newest[1] + 1, Region.of(at(x))))
    return memory


def test_the_spread_of_an_entry_bounds_the_way_to_each_static_slot(extended: Memory) -> None:
    entries = [entry for entry in extended.list_entries() if entry.pose == at(PATH_M[0])]
    assert entries
    for entry in entries:
        assert entry_message(entry).pose_spread == pytest.approx(max(map(abs, PATH_M)))


def test_the_spread_stays_when_a_part_is_forgotten_or_the_memory_is_restored(extended: Memory) -> None:
    extended.forget(Scope(near=Near(9.0, 0.0, 1.0, "map")))
    extended.restore(extended.state(), torch.device("cpu"))
    test_the_spread_of_an_entry_bounds_the_way_to_each_static_slot(extended)
    assert len({entry.pose for entry in extended.list_entries()}) == 1


def test_a_circle_around_a_static_slot_selects_and_forgets_the_slot_it_extended(extended: Memory) -> None:
    assert {entry.pose for entry in extended.list_entries(AT_THE_END)} == {at(PATH_M[0])}
    assert extended.forget(AT_THE_END).slots > 0
    assert not extended.may_contain(AT_THE_END)
    assert {entry.pose for entry in extended.list_entries()} == {at(9.0)}


def test_two_extensions_in_one_have_both_regions() -> None:
    one, other = (Extension(1, stamp, stamp, stamp, Region.of(at(x))) for stamp, x in ((5, 0.1), (6, 0.4)))
    assert one.followed_by(other).region.spread_m(at(0.0)) == 0.4
