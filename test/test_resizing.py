"""A memory that is resized while it is in use: its contents and its size afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference_memory import NaiveMemory
from test_flash_memory import PERIOD, filled, lows, same, shown, slot

from flash_vstream_ros.instruments.reachable_bytes import reachable_bytes
from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, WardClustering

SIZES = st.builds(
    lambda csm, dam, exemplars, recent, episode: FlashMemoryConfig(
        csm, min(csm, dam), exemplars, 0, PERIOD, recent, episode
    ),
    st.integers(2, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(0, 4),
    st.sampled_from([0.0, 3.0, 20.0]),
)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    stretches=st.lists(st.tuples(SIZES, st.integers(0, 12)), min_size=2, max_size=5),
    cameras=st.integers(1, 2),
)
def test_a_resized_memory_equals_the_naive_one(
    seed: int, stretches: list[tuple[FlashMemoryConfig, int]], cameras: int
) -> None:
    random = np.random.default_rng(seed)
    total = sum(count for _, count in stretches)
    maps = random.standard_normal((total, 4, 3)).astype(np.float32)
    names = [f"camera {random.integers(cameras)}" for _ in range(total)]
    naive = NaiveMemory(maps.reshape(total, 12).astype(np.float64), names, 9, 9, 1, 0)
    memory = FlashMemory(stretches[0][0])
    for config, count in stretches:
        naive.resize(config.csm_slots, config.dam_slots, config.exemplars, config.recent_slots, config.episode_slots)
        memory.resize(config)
        for step in range(count + 1):
            assume(naive.margin > 1e-3)
            snapshot, clusters = memory.snapshot(), naive.csm()
            assert shown(snapshot) == naive.dam() if naive.seen else snapshot.empty
            assert [entry.weight for entry in snapshot.entries[len(snapshot.dam) :]] == [
                len(c.members) for c in clusters
            ]
            if clusters:
                expected = np.stack([naive.centroid(cluster) for cluster in clusters])
                np.testing.assert_allclose(snapshot.csm.flatten(1).numpy(), expected, atol=1e-5)
            assert sum(cluster.slots for cluster in memory.parts) == memory.slots_seen == naive.seen
            assert memory.entries == len(snapshot.entries) <= memory.capacity == config.csm_slots + config.dam_slots
            assert memory.bytes == sum(reachable_bytes(memory))
            if step < count:
                memory.insert(slot(naive.seen, torch.from_numpy(maps[naive.seen]), names[naive.seen]))
                naive.insert()


@settings(max_examples=25, deadline=None)
@given(early=SIZES, late=SIZES, count=st.integers(0, 20), seed=st.integers(0, 1000))
def test_a_resized_memory_has_the_bytes_of_a_fresh_one(
    early: FlashMemoryConfig, late: FlashMemoryConfig, count: int, seed: int
) -> None:
    resized, fresh = FlashMemory(early), FlashMemory(late)
    for index, low in enumerate(lows(count, seed)):
        resized.insert(slot(index, low))
    resized.resize(late)
    for index, low in enumerate(lows(12, seed + 1), start=count):
        resized.insert(slot(index, low))
        fresh.insert(slot(index, low))
    assert resized.bytes == fresh.bytes
    assert resized.entries <= resized.capacity == fresh.capacity


@pytest.mark.parametrize("late", [FlashMemoryConfig(20, 10), FlashMemoryConfig(6, 3), FlashMemoryConfig(6, 3, 1)])
def test_a_resize_before_any_merge_equals_a_memory_of_the_new_size(late: FlashMemoryConfig) -> None:
    resized = filled(6, FlashMemoryConfig(8, 4, late.exemplars))
    resized.resize(late)
    assert same(resized.snapshot(), filled(6, late).snapshot())
    for index, low in enumerate(lows(60, seed=5), start=6):
        resized.insert(slot(index, low))
    always = filled(6, late)
    for index, low in enumerate(lows(60, seed=5), start=6):
        always.insert(slot(index, low))
    assert same(resized.snapshot(), always.snapshot())


def test_growing_and_shrinking_back_changes_nothing() -> None:
    config = FlashMemoryConfig(7, 4, recent_slots=2)
    memory, untouched = filled(50, config, ("front", "rear")), filled(50, config, ("front", "rear"))
    memory.resize(replace(config, csm_slots=30, dam_slots=20))
    memory.resize(config)
    assert same(memory.snapshot(), untouched.snapshot())
    assert memory.bytes == untouched.bytes
    for index, low in enumerate(lows(30, seed=3), start=50):
        assert memory.insert(slot(index, low)) == untouched.insert(slot(index, low))
    assert same(memory.snapshot(), untouched.snapshot())


def test_a_resize_does_not_change_earlier_snapshots_and_every_stamp_stays_represented() -> None:
    memory = filled(40, FlashMemoryConfig(20, 10))
    before = memory.snapshot()
    copies = before.csm.clone(), before.dam.clone()
    first_ns, last_ns = memory.first_ns, memory.last_ns
    memory.resize(FlashMemoryConfig(3, 2))
    assert torch.equal(before.csm, copies[0])
    assert torch.equal(before.dam, copies[1])
    after = memory.snapshot()
    assert (after.first_ns, after.last_ns) == (first_ns, last_ns) == (before.first_ns, before.last_ns)
    assert sum(entry.weight for entry in after.entries[len(after.dam) :]) == 40


def test_fewer_clusters_than_cameras_are_refused_and_change_nothing() -> None:
    memory = filled(12, FlashMemoryConfig(6, 3), ("front", "rear", "left"))
    before, size = memory.snapshot(), memory.bytes
    with pytest.raises(ValueError, match="3 cameras"):
        memory.resize(FlashMemoryConfig(2, 1))
    assert memory.config == FlashMemoryConfig(6, 3)
    assert same(memory.snapshot(), before)
    assert memory.bytes == size
    memory.resize(FlashMemoryConfig(3, 1))
    assert {entry.camera for entry in memory.snapshot().entries[1:]} == {"front", "rear", "left"}


def test_a_failed_allocation_changes_nothing() -> None:
    memory = filled(12, FlashMemoryConfig(6, 3))
    before = memory.snapshot()
    with pytest.raises(RuntimeError):
        memory.resize(FlashMemoryConfig(10**9, 3))
    assert memory.config == FlashMemoryConfig(6, 3)
    assert same(memory.snapshot(), before)


def test_a_new_period_rescales_every_time_id() -> None:
    config = FlashMemoryConfig(10, 10, horizon_slots=0, slot_period_ns=PERIOD)
    memory = filled(5, config)
    memory.resize(replace(config, slot_period_ns=PERIOD // 2))
    assert memory.snapshot().dam_times.tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("count", [1, 2, 7, 19])
def test_merging_many_at_once_equals_merging_one_by_one(count: int) -> None:
    items = torch.randn(40, 5, generator=torch.Generator().manual_seed(count))
    items[20:] = items[:20]  # ties
    once, often = WardClustering(40, 5), WardClustering(40, 5)
    for item in items:
        once.insert(item)
        often.insert(item)
    merges = list(once.reduce(count))
    assert merges == [merge for left in range(39, count - 1, -1) for merge in often.reduce(left)]
    assert all(torch.equal(a, b) for a, b in zip(once.tensors, often.tensors, strict=True))


def test_adopting_a_clustering_larger_than_the_capacity_is_refused() -> None:
    full = WardClustering(4, 2)
    for item in torch.eye(4, 2):
        full.insert(item)
    with pytest.raises(ValueError, match="do not fit"):
        WardClustering(3, 2).copy_from(full)
    with pytest.raises(ValueError, match="must all be free"):
        full.copy_from(WardClustering(4, 2))
