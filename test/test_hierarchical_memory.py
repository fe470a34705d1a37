"""The hierarchical memory: its stored clusters and shown groups; nothing leaks or is counted twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from reference_store import NaiveStore, flat
from test_flash_memory import PERIOD, START, filled, lows, same, shown, slot
from test_forget import Case, Story, cases, everything_in, holdings_of, in_details, in_features, seen

from flash_vstream_ros.bench.fits import memory_bytes
from flash_vstream_ros.instruments.reachable_bytes import reachable_bytes
from flash_vstream_ros.memory import EntryKind, FlashMemory, FlashMemoryConfig, Grid
from flash_vstream_ros.memory.config import BY_AGE, GROUPINGS, HIERARCHICAL
from flash_vstream_ros.memory.dam import choose_key_frames
from flash_vstream_ros.memory.grouping import group_distances, reduce_to_groups
from flash_vstream_ros.memory.scope import EVERYTHING, Scope
from flash_vstream_ros.memory.scoped import feature_map
from flash_vstream_ros.memory.slot import Extension
from flash_vstream_ros.memory.snapshot_entries import GROUPING_EXPONENT, csm_map

SECOND = 1_000_000_000
SMALL = FlashMemoryConfig(4, 3, 2, 0, PERIOD, 1, retention=HIERARCHICAL, store_factor=3)


# Streams in which two merges cost almost the same are left out: rounding decides there.
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 30),
    csm=st.integers(2, 5),
    factor=st.integers(1, 4),
    cameras=st.integers(1, 2),
    grouping=st.sampled_from(GROUPINGS),
)
def test_the_hierarchical_memory_equals_the_naive_one(
    seed: int, count: int, csm: int, factor: int, cameras: int, grouping: str
) -> None:
    random = np.random.default_rng(seed)
    maps = random.standard_normal((count, 4, 3)).astype(np.float32)
    maps[1::3] = maps[: len(maps[1::3]) * 3 : 3][: len(maps[1::3])] + 0.1 * maps[1::3]  # some resemble their neighbour
    names = [f"camera {random.integers(cameras)}" for _ in range(count)]
    naive = NaiveStore(maps.reshape(count, -1).astype(np.float64), names, csm, csm * factor, grouping == BY_AGE)
    config = replace(SMALL, csm_slots=csm, dam_slots=1, store_factor=factor, grouping=grouping)
    memory = FlashMemory(config)
    for index in range(count):
        memory.insert(slot(index, torch.from_numpy(maps[index]), names[index]))
        naive.insert()
    groups = naive.groups()
    assume(naive.margin > 1e-3)
    groups.sort(key=lambda group: np.mean(flat(group)))
    snapshot = memory.snapshot()
    stored = sorted(cluster.slots for cluster in memory.parts)
    assert stored == sorted(map(len, naive.clusters))
    members = [flat(group) for group in groups]
    entries = snapshot.entries[len(snapshot.dam) :]
    assert [entry.weight for entry in entries] == [len(slots) for slots in members]
    assert [entry.first_ns for entry in entries] == [START + min(slots) * PERIOD for slots in members]
    assert [entry.last_ns for entry in entries] == [START + max(slots) * PERIOD + SECOND for slots in members]
    expected = np.stack([naive.centroid(slots) for slots in members])
    np.testing.assert_allclose(snapshot.csm.flatten(1).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(snapshot.csm_times.numpy(), [np.mean(slots) for slots in members], atol=1e-9)


def hierarchical(case: Case) -> FlashMemory:
    return case.story.remembered(replace(case.config, retention=HIERARCHICAL, store_factor=3))


@settings(max_examples=40, deadline=None)
@given(cases())
def test_an_interval_shows_nothing_from_outside_it_and_each_slot_once(case: Case) -> None:
    memory = hierarchical(case)
    scope = case.scope
    inside = case.inside
    snapshot = memory.snapshot(scope)
    assert seen(snapshot) <= inside
    assert memory.list_entries(scope) == snapshot.entries
    stored = {int(exemplar.frame_id.split()[1]) for exemplar in holdings_of(memory).exemplars}
    assert stored & inside <= in_features(snapshot.csm)
    csm = snapshot.entries[len(snapshot.dam) :]
    assert len(csm) == len(snapshot.csm) <= case.config.csm_slots
    represented: set[int] = set()
    for entry, features in zip(csm, snapshot.csm, strict=True):
        members = in_features(features[None])
        assert entry.weight == len(members)
        assert not represented & members
        represented |= members
        assert entry.first_ns == min(case.story.slots[index].first_ns for index in members)
        assert entry.last_ns == max(case.story.slots[index].last_ns for index in members)
    assert snapshot.slots_seen == len(represented)
    assert snapshot.csm_times.tolist() == sorted(snapshot.csm_times.tolist())
    assert len(snapshot.dam) <= case.config.dam_slots
    detailed = memory.second_look(snapshot.entries, 12, scope)
    assert seen(detailed) <= inside


@settings(max_examples=40, deadline=None)
@given(cases())
def test_forgotten_slots_leave_no_trace_and_other_clusters_stay(case: Case) -> None:
    memory = hierarchical(case)
    doomed = case.inside
    contents = holdings_of(memory)
    memory.snapshot()
    before = {row: (cluster, contents.ward.centroids[row].clone()) for row, cluster in contents.clusters.items()}
    whole = sum(cluster.slots for cluster, _ in before.values())
    forgotten = memory.forget(case.scope)
    assert not everything_in(memory) & doomed
    for row, (cluster, centroid) in before.items():
        if not in_features(centroid[None]) & doomed and contents.clusters.get(row) is cluster:
            assert torch.equal(contents.ward.centroids[row], centroid)
    assert forgotten.slots == whole - sum(cluster.slots for cluster in memory.parts)
    assert case.near or memory.forget(case.scope) == (0, 0, 0)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_slot_counts_add_up_after_any_sequence_of_operations(data: st.DataObject, seed: int) -> None:
    random = np.random.default_rng(seed)
    memory, quiet = FlashMemory(SMALL), FlashMemory(SMALL)  # `quiet` is never asked for a snapshot
    represented, now = 0, 0
    for _ in range(data.draw(st.integers(1, 40))):
        action = data.draw(st.sampled_from(["insert", "insert", "insert", "insert", "extend", "forget", "resize"]))
        camera = f"camera {random.integers(2)}"
        if action == "insert":
            now += 1
            value = torch.from_numpy(random.standard_normal((4, 3)).astype(np.float32))
            for each in (memory, quiet):
                each.insert(slot(now, value, camera, b"%d" % now))
            represented += 1
        elif action == "extend" and camera in memory.cameras:
            now += 1
            stamp = START + now * PERIOD + SECOND
            for each in (memory, quiet):
                each.extend(camera, Extension(1, stamp, stamp, stamp))
            represented += 1
        elif action == "forget":
            first = int(random.integers(max(1, now)))
            scope = Scope((), START + first * PERIOD, START + (first + 2) * PERIOD)
            gone = memory.forget(scope)
            assert quiet.forget(scope) == gone
            represented -= gone.slots
        elif action == "resize":
            csm = int(random.integers(2, 7))
            config = replace(SMALL, csm_slots=csm, dam_slots=min(csm, 3), store_factor=int(random.integers(1, 5)))
            for each in (memory, quiet):
                each.resize(config)
        snapshot = memory.snapshot()
        csm = snapshot.entries[len(snapshot.dam) :]
        assert sum(entry.weight for entry in csm) == snapshot.slots_seen == represented
        assert sum(cluster.slots for cluster in memory.parts) == represented
        assert memory.entries == len(snapshot.entries) <= memory.capacity
        if memory.entries:
            assert memory.tokens == 3 * len(snapshot.dam) + len(snapshot.csm)
        assert memory.bytes == sum(reachable_bytes(memory))
        assert [entry.kind for entry in csm] == [EntryKind.CSM] * len(csm)
        times = snapshot.dam_times.tolist()
        assert times == sorted(times)
    assert same(memory.snapshot(), quiet.snapshot())


def test_cameras_never_share_an_entry_and_more_cameras_than_entries_are_refused() -> None:
    memory = filled(60, replace(SMALL, csm_slots=3), ("front", "rear", "left"))
    assert len({entry.camera for entry in memory.snapshot().entries if entry.kind is EntryKind.CSM}) == 3
    before = memory.snapshot()
    with pytest.raises(ValueError, match="no room for camera 'fourth'"):
        memory.insert(slot(60, lows(1)[0], "fourth"))
    assert same(memory.snapshot(), before)


def test_a_rare_event_is_stored_for_hours_and_shown_in_a_second_look() -> None:
    draw = torch.Generator().manual_seed(1)
    places = 3 * torch.randn(12, 4, 8, generator=draw)
    event = places[2].clone()
    event[1] += 4.0
    config = FlashMemoryConfig(8, 4, 2, 0, PERIOD, 1)
    stored = {}
    for retention in ("published", HIERARCHICAL):
        memory = FlashMemory(replace(config, retention=retention))
        noise = torch.Generator().manual_seed(2)
        for index in range(1200):
            view = event if index in (300, 301) else places[index // 12 % 12] * (1 + 0.1 * np.sin(index / 300))
            memory.insert(slot(index, view + 0.3 * torch.randn(4, 8, generator=noise)))
        snapshot = memory.snapshot()
        looked = memory.second_look(snapshot.entries[len(snapshot.dam) :], 10**6)
        rows = torch.cat([snapshot.csm, looked.csm]).flatten(1)
        stored[retention] = float((rows - event.flatten()).square().sum(1).min()) < 0.25 * 4.0**2 * 8
    assert stored == {"published": False, HIERARCHICAL: True}


def test_a_light_cluster_unlike_others_keeps_its_group_while_heavy_ones_that_look_alike_share_one() -> None:
    places, weights = np.array([0.0, 3.0, 100.0, 103.0, 8.0]), np.array([500.0, 500.0, 500.0, 500.0, 2.0])
    squared = (places[:, None] - places) ** 2
    by_weight, by_root = (reduce_to_groups(squared, weights, ["a"] * 5, 4, e) for e in (1.0, GROUPING_EXPONENT))
    assert by_weight[4] == by_weight[1]
    assert (by_root == by_root[4]).sum() == 1
    assert by_root[0] == by_root[1] or by_root[2] == by_root[3]


def test_a_key_frame_shows_the_light_stable_cluster_that_its_group_shows_worst() -> None:
    memory = filled(200, replace(SMALL, csm_slots=4, dam_slots=3, store_factor=4))
    contents, entries = holdings_of(memory), memory._entries_in(EVERYTHING)
    median = np.median([cluster.slots for cluster in memory.parts])
    distances = {
        part.cluster.exemplars[0]: float((feature_map(contents, part) - csm_map(contents, group)).square().sum())
        for group in entries.csm
        for part in group.parts
        if part.cluster.slots <= median and not contents.ward.is_transient(part.row)
    }
    worst = max(distances, key=lambda exemplar: distances[exemplar])
    assert distances[worst] > 0
    assert worst in entries.dam


def test_a_second_look_stays_in_its_budget_and_shows_the_first_entries_first() -> None:
    memory = filled(100, replace(SMALL, store_factor=4))
    snapshot = memory.snapshot()
    csm = snapshot.entries[len(snapshot.dam) :]
    for tokens in range(20):
        looked = memory.second_look(csm, tokens)
        assert len(looked.csm) + 3 * len(looked.dam) <= tokens
        assert len(looked.entries) == len(looked.csm) + len(looked.dam)
    heaviest = max(csm, key=lambda entry: entry.weight)
    looked = memory.second_look([heaviest], 100)
    assert sum(entry.weight for entry in looked.entries) == heaviest.weight
    assert min(entry.first_ns for entry in looked.entries) == heaviest.first_ns
    assert looked.csm_times.tolist() == sorted(looked.csm_times.tolist())
    grown = replace(heaviest, weight=heaviest.weight + 1, last_ns=heaviest.last_ns + 1)
    assert same(memory.second_look([grown], 100), looked), "a cluster that grew after the snapshot is still found"
    assert memory.second_look([replace(grown, thumbnail_ns=1)], 100).empty
    assert FlashMemory(SMALL).second_look([heaviest], 100).empty
    by_key_frame = memory.second_look(snapshot.entries[:1], 100)
    assert shown(snapshot)[0] * PERIOD + START >= by_key_frame.first_ns


def test_a_second_look_adds_only_details_not_shown_before() -> None:
    memory = filled(5, replace(SMALL, csm_slots=6, dam_slots=2, exemplars=4))
    snapshot = memory.snapshot()
    looked = memory.second_look(snapshot.entries[2:], 100)
    assert in_details(looked.dam)
    assert not set(shown(looked)) & set(shown(snapshot))


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_groups_are_bounded_in_number_and_lower_the_distortion(exponent: float) -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((60, 4)) + 6 * random.standard_normal((8, 4))[random.integers(8, size=60)]
    weights = random.integers(1, 30, 60).astype(float)
    squared = ((rows[:, None] - rows) ** 2).sum(-1)
    labels = reduce_to_groups(squared, weights, ["a"] * 60, 8, exponent)
    assert set(labels) == set(range(8))
    distances = group_distances(squared, weights, labels)
    means = np.stack([np.average(rows[labels == g], axis=0, weights=weights[labels == g]) for g in range(8)])
    np.testing.assert_allclose(distances, ((rows[:, None] - means) ** 2).sum(-1), atol=1e-9)
    whole = (weights * ((rows - np.average(rows, axis=0, weights=weights)) ** 2).sum(1)).sum()
    assert (weights * distances[np.arange(60), labels]).sum() < 0.2 * whole


def test_key_frames_are_the_newest_the_heaviest_and_rare_ones_apart_in_time() -> None:
    memory = Story.of(3, 40).remembered(replace(SMALL, csm_slots=8, dam_slots=4, exemplars=4))
    contents = holdings_of(memory)
    clusters = [cluster for _, cluster in contents.by_age]
    newest = list(contents.recent)
    rare = [cluster.exemplars[0] for cluster in clusters]
    chosen = choose_key_frames(newest, clusters, rare, 4)
    assert len(chosen) == 4
    assert set(newest) <= set(chosen)
    assert [exemplar.time_ns for exemplar in chosen] == sorted(exemplar.time_ns for exemplar in chosen)
    heaviest = max(clusters, key=lambda cluster: cluster.slots)
    assert heaviest.exemplars[0] in choose_key_frames(newest, clusters, [], 4)
    assert rare[0] in chosen


def test_two_runs_are_bitwise_equal_and_sizes_are_constant() -> None:
    first, second = (filled(120, replace(SMALL, csm_slots=6)) for _ in range(2))
    assert same(first.snapshot(), second.snapshot())
    size = first.bytes
    for index, low in enumerate(lows(60, seed=3), start=120):
        first.insert(slot(index, low, thumbnail=b"jpeg"))
    assert abs(first.bytes - size) <= 40 * len(b"jpeg")


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_memory_size_is_the_computed_one_and_at_most_four_times_the_published_one(factor: int) -> None:
    config = FlashMemoryConfig(60, 30, retention=HIERARCHICAL, store_factor=factor)
    low, detail = torch.zeros(16, 128), torch.zeros(16, 128)
    memory = FlashMemory(config)
    memory.insert(slot(0, low, detail=detail, grid=Grid(8, 8)))
    assert memory.bytes == memory_bytes(config, low, detail)
    assert memory.bytes <= 4 * memory_bytes(FlashMemoryConfig(60, 30), low, detail)


def test_a_refused_slot_changes_nothing() -> None:
    memory = filled(20, SMALL)
    before = memory.snapshot()
    with pytest.raises(ValueError, match="not finite, or too large"):
        memory.insert(slot(20, torch.full((4, 3), 1e30)))
    assert same(memory.snapshot(), before)
    memory.insert(slot(20, torch.ones(4, 3)))
