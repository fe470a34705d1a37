"""The slots that remain visible after forgetting or in a scope. Each slot has a unique value that identifies it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_vstream_ros.memory import EntryKind, FlashMemory, FlashMemoryConfig, Grid, MemorySnapshot, Slot
from flash_vstream_ros.memory.contents import MemoryContents
from flash_vstream_ros.memory.pose import MaybePose, Pose, UnknownPose
from flash_vstream_ros.memory.region import Near
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.spans import Interval, union

SECOND = 1_000_000_000
PERIOD = 2 * SECOND
MOST_SLOTS = 48
UPRIGHT = (0.0, 0.0, 0.0, 1.0)
POSES: tuple[MaybePose, ...] = (
    UnknownPose("late"),
    Pose((0.0, 0.0, 0.0), UPRIGHT, "map", "upstairs"),
    *(Pose((x, y, 0.0), UPRIGHT, "map", "ground") for x, y in ((0.0, 0.0), (0.0, 3.0), (4.0, 0.0), (2.0, 2.0))),
)


@dataclass(frozen=True)
class Story:
    """Slots `0..count-1` on cameras, at random stamps; slot i alone has a value in place i of its map."""

    slots: tuple[Slot, ...]

    @classmethod
    def of(cls, seed: int, count: int, cameras: int = 1) -> Story:
        random = np.random.default_rng(seed)
        stamps = np.cumsum(random.choice([2, 2, 2, 2, 50, 4000], count)) * SECOND
        kinds = random.integers(0, 4, count)  # slots of a kind look alike, so that clusters span a long time
        slots = []
        for index in range(count):
            low = torch.zeros(MOST_SLOTS + 4)
            low[MOST_SLOTS + int(kinds[index])] = 10.0
            low[index] = float(random.uniform(0.5, 2.0))
            camera = f"camera {random.integers(cameras)}"
            pose = POSES[int(random.integers(len(POSES)))]
            slots.append(replace(make(index, low, camera, int(stamps[index])), pose=pose))
        return cls(tuple(slots))

    def inside(self, interval: Interval, cameras: Sequence[str] = (), near: Near | None = None) -> set[int]:
        return {
            index
            for index, slot in enumerate(self.slots)
            if (not cameras or slot.camera in cameras)
            and interval.touches(slot.first_ns, slot.last_ns)
            and (near is None or is_near(slot.pose, near))
        }

    def remembered(self, config: FlashMemoryConfig) -> FlashMemory:
        memory = FlashMemory(config)
        for slot in self.slots:
            memory.insert(slot)
        return memory


def is_near(pose: MaybePose, near: Near) -> bool:
    """Whether a pose is known and lies in a circle of its map, worked out without boxes."""
    if not isinstance(pose, Pose) or (pose.frame_id, pose.map_id) != ("map", "ground"):
        return False
    return (pose.position[0] - near.x) ** 2 + (pose.position[1] - near.y) ** 2 <= near.radius**2


def make(index: int, low: torch.Tensor, camera: str, last_ns: int, shift_ns: int = 0) -> Slot:
    return Slot(
        camera=camera,
        frame_id=f"frame {index}",
        first_ns=last_ns - SECOND,
        last_ns=last_ns,
        low=low.reshape(4, -1),
        detail=torch.full((3, 2), float(index + 1)),
        grid=Grid(4, 4),
        thumbnail=b"image %d" % index,
        shift_ns=shift_ns,
    )


def in_features(rows: torch.Tensor) -> set[int]:
    """The slots whose values occur in low-resolution maps."""
    return {place for place in rows.flatten(1).abs().sum(0).nonzero().flatten().tolist() if place < MOST_SLOTS}


def in_details(details: torch.Tensor) -> set[int]:
    return {int(value) - 1 for value in details.unique().tolist() if value}


def seen(snapshot: MemorySnapshot) -> set[int]:
    """Every slot that contributes to a snapshot."""
    in_entries = {int(entry.frame_id.removeprefix("frame ")) for entry in snapshot.entries}
    with_thumbnail = {int(entry.thumbnail.removeprefix(b"image ")) for entry in snapshot.entries}
    return in_entries | with_thumbnail | in_features(snapshot.csm) | in_details(snapshot.dam)


def holdings_of(memory: FlashMemory) -> MemoryContents:
    assert memory._contents is not None
    return memory._contents


def everything_in(memory: FlashMemory) -> set[int]:
    """Every slot that left a trace in any tensor or record of the memory, in use or not."""
    held = holdings_of(memory)
    records = {int(exemplar.frame_id.removeprefix("frame ")) for exemplar in held.exemplars}
    maps = in_features(held.ward.centroids) | in_features(held.pool.low)
    return maps | in_details(held.pool.detail) | records | seen(memory.snapshot())


def same(a: MemorySnapshot, b: MemorySnapshot) -> bool:
    tensors = ("dam", "dam_times", "csm", "csm_times")
    return a.entries == b.entries and all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)


def sizes() -> st.SearchStrategy[FlashMemoryConfig]:
    return st.builds(
        lambda csm, dam, exemplars, recent: FlashMemoryConfig(csm, min(dam, csm), exemplars, 0, PERIOD, recent),
        st.integers(2, 8),
        st.integers(1, 8),
        st.integers(1, 3),
        st.integers(0, 3),
    )


@dataclass(frozen=True)
class Case:
    story: Story
    config: FlashMemoryConfig
    cameras: tuple[str, ...]
    interval: Interval
    near: Near | None

    @property
    def scope(self) -> Scope:
        return Scope(self.cameras, *self.interval, self.near)

    @property
    def inside(self) -> set[int]:
        return self.story.inside(self.interval, self.cameras, self.near)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    story = Story.of(draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, MOST_SLOTS)), draw(st.integers(1, 2)))
    stamps = [stamp + shift for slot in story.slots for stamp in (slot.first_ns, slot.last_ns) for shift in (-1, 0, 1)]
    bounds = st.one_of(st.just(0), st.sampled_from(stamps))
    since, until = draw(bounds), draw(bounds)
    if until and since > until:
        since, until = until, since
    cameras = draw(st.sampled_from([(), ("camera 0",), ("camera 1",), ("camera 0", "camera 1")]))
    circles = st.builds(
        partial(Near, frame_id="map", map_id="ground"),
        *[st.sampled_from([0.0, 1.0, 2.0, 4.0])] * 2,
        st.sampled_from([0.5, 2.0, 3.0, 9.0]),
    )
    near = draw(st.none() | circles)
    return Case(story, draw(sizes()), cameras, Interval(since, until), near)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_forgotten_slots_leave_no_trace_and_unrelated_clusters_stay(case: Case) -> None:
    memory = case.story.remembered(case.config)
    doomed = case.inside
    kept = holdings_of(memory)
    before = {row: (cluster, in_features(kept.ward.centroids[[row]])) for row, cluster in kept.clusters.items()}
    held = {row: {int(e.frame_id.split()[1]) for e in kept.exemplars_of(row)} for row in before}
    weight = sum(cluster.slots for cluster, _ in before.values())

    forgotten = memory.forget(case.scope)

    assert not everything_in(memory) & doomed
    for row, (cluster, members) in before.items():
        if row in kept.clusters and kept.clusters[row] is cluster:
            assert not members & doomed
            assert in_features(kept.ward.centroids[[row]]) == members
        else:  # touched by the interval: only the slots stored outside of it remain
            left = in_features(kept.ward.centroids[[row]])
            assert left == held[row] - doomed
            assert (row in kept.clusters) == bool(left)
            assert row not in kept.clusters or kept.clusters[row].slots == len(left)
    assert forgotten.slots == weight - sum(cluster.slots for cluster in kept.clusters.values())
    assert forgotten.removed == len(before) - len(kept.clusters)
    assert memory.revision == (forgotten.slots > 0)
    again = memory.forget(case.scope)
    assert case.near or again == (0, 0, 0)  # times and places of a cluster are kept apart: more may be forgotten
    assert not everything_in(memory) & doomed


@settings(max_examples=150, deadline=None)
@given(cases())
def test_an_interval_shows_every_stored_slot_inside_and_none_outside(case: Case) -> None:
    memory = case.story.remembered(case.config)
    inside = case.inside
    snapshot = memory.snapshot(case.scope)
    assert seen(snapshot) <= inside
    assert memory.list_entries(case.scope) == snapshot.entries
    held = {int(exemplar.frame_id.split()[1]) for exemplar in holdings_of(memory).exemplars}
    assert held & inside <= in_features(snapshot.csm)
    assert snapshot.empty == (not held & inside)
    csm = snapshot.entries[len(snapshot.dam) :]
    assert len(snapshot.csm) == len(csm) <= case.config.csm_slots
    for entry, features in zip(csm, snapshot.csm, strict=True):
        members = in_features(features[None])
        assert entry.weight == len(members)
        assert entry.kind is EntryKind.CSM
        assert entry.first_ns == min(case.story.slots[index].first_ns for index in members)
        assert entry.last_ns == max(case.story.slots[index].last_ns for index in members)
    assert snapshot.csm_times.tolist() == sorted(snapshot.csm_times.tolist())
    assert snapshot.slots_seen == sum(entry.weight for entry in csm)


@settings(max_examples=50, deadline=None)
@given(cases(), st.integers(0, 2**32 - 1))
def test_a_memory_of_unmerged_slots_forgets_as_if_it_had_never_stored_them(case: Case, seed: int) -> None:
    """The streams then continue far beyond the capacity, and stay bitwise equal."""
    config = FlashMemoryConfig(MOST_SLOTS, 8, case.config.exemplars, 120, PERIOD, 0)
    doomed = case.inside
    forgetful, spared = case.story.remembered(config), FlashMemory(config)
    for index, slot in enumerate(case.story.slots):
        if index not in doomed:
            spared.insert(slot)
    forgetful.forget(case.scope)
    assert len(doomed) == len(case.story.slots) or same(forgetful.snapshot(), spared.snapshot())
    start = case.story.slots[-1].last_ns
    random = np.random.default_rng(seed)
    for index in range(30):
        low = torch.from_numpy(random.standard_normal(MOST_SLOTS + 4).astype(np.float32))
        slot = make(index, low, "camera 0", start + (index + 1) * PERIOD)
        assert forgetful.insert(slot) == spared.insert(slot)
    assert same(forgetful.snapshot(), spared.snapshot())


def restless(count: int) -> Iterator[FlashMemory]:
    """A memory that forgets something after every few slots."""
    memory = FlashMemory(FlashMemoryConfig(6, 4, 2, 120, PERIOD, 2))
    random = np.random.default_rng(3)
    for index in range(count):
        low = torch.from_numpy(random.standard_normal(MOST_SLOTS + 4).astype(np.float32))
        memory.insert(make(index, low, f"camera {random.integers(2)}", (index + 1) * PERIOD))
        if index % 7 == 6:
            since = int(random.integers(index + 1)) * PERIOD
            memory.forget(Scope((), since, since + int(random.integers(1, 5)) * PERIOD))
        yield memory


def test_repeated_forgetting_keeps_the_memory_size() -> None:
    allocated = set()
    for memory in restless(1000):
        assert memory.entries <= memory.capacity
        assert memory.entries == len(memory.snapshot().entries)
        assert all(len(cluster.spans) <= 16 for cluster in memory.parts)
        allocated.add(memory.bytes - sum(len(exemplar.thumbnail) for exemplar in holdings_of(memory).exemplars))
    assert len(allocated) == 2, "with the first slot, and for what the second camera sees last"
    assert memory.slots_seen == 1000


def test_two_runs_that_forget_are_bitwise_equal() -> None:
    first, second = [list(restless(200))[-1].snapshot() for _ in range(2)]
    assert same(first, second)


def test_a_memory_that_forgot_everything_accepts_new_slots() -> None:
    memory = Story.of(5, 40).remembered(FlashMemoryConfig(6, 3))
    assert memory.forget().slots == 40
    assert not everything_in(memory)
    assert memory.snapshot().empty
    assert (memory.first_ns, memory.last_ns, memory.newest, memory.cameras) == (0, 0, (0, 0), ())
    assert memory.snapshot().csm.shape == (0, 4, (MOST_SLOTS + 4) // 4)
    memory.insert(make(0, torch.ones(MOST_SLOTS + 4), "camera 0", 5 * SECOND))  # earlier stamps are accepted now
    assert memory.entries == 2
    assert memory.slots_seen == 41


def test_single_visits_of_a_cluster_can_be_forgotten() -> None:
    """A cluster stores the spans of its visits, so forgetting an hour between two visits removes none of them."""
    memory = FlashMemory(FlashMemoryConfig(1, 1, 1, 0, PERIOD, 0))
    for visit in range(5):
        for index in range(3):
            memory.insert(make(index, torch.ones(MOST_SLOTS + 4), "camera 0", (3600 * visit + 2 * index + 2) * SECOND))
    assert memory.forget(Scope((), 1800 * SECOND, 3000 * SECOND)) == (0, 0, 0)
    assert memory.snapshot().entries[-1].weight == 15
    assert memory.snapshot(Scope((), 1800 * SECOND, 3000 * SECOND)).empty
    assert memory.forget(Scope((), 3600 * SECOND, 3700 * SECOND)) == (14, 0, 1)
    assert memory.snapshot().entries[-1].weight == 1


def test_after_a_jump_back_shift_ns_keeps_the_order_and_stamps_are_unchanged() -> None:
    memory = FlashMemory(FlashMemoryConfig(8, 8, 1, 0, PERIOD, 0))
    values = torch.eye(8, MOST_SLOTS + 4)
    for index in range(4):
        memory.insert(make(index, values[index], "camera 0", (100 + 2 * index) * SECOND))
    again = [make(4 + index, values[4 + index], "camera 0", (50 + 2 * index) * SECOND) for index in range(4)]
    with pytest.raises(ValueError, match="not after 106000000000 ns, the newest stamp"):
        memory.insert(again[0])
    for slot in again:
        memory.insert(Slot(**{**vars(slot), "shift_ns": 58 * SECOND}))
    snapshot = memory.snapshot()
    assert snapshot.dam_times.tolist() == snapshot.csm_times.tolist() == list(range(8))
    stamps = [entry.last_ns // SECOND for entry in snapshot.entries[8:]]
    assert stamps == [100, 102, 104, 106, 50, 52, 54, 56]
    assert memory.newest == (114 * SECOND, 56 * SECOND)
    assert (memory.first_ns, memory.last_ns) == (49 * SECOND, 106 * SECOND)
    assert seen(memory.snapshot(Scope(until_ns=60 * SECOND))) == {4, 5, 6, 7}
    assert seen(memory.snapshot(Scope(since_ns=60 * SECOND))) == {0, 1, 2, 3}
    memory.forget(Scope(until_ns=60 * SECOND))
    assert everything_in(memory) == {0, 1, 2, 3}


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 9)), max_size=40), st.integers(1, 6))
def test_a_union_of_spans_contains_all_and_closes_the_narrowest_gaps(pairs: list[tuple[int, int]], most: int) -> None:
    spans = [(first, first + length) for first, length in pairs]
    exact, bounded = union(spans, max_spans=1000), union(spans, most)
    moments = {moment for first, last in spans for moment in range(first, last + 1)}
    assert {moment for first, last in exact for moment in range(first, last + 1)} == moments
    assert len(bounded) <= most
    assert all(any(a <= first and last <= b for a, b in bounded) for first, last in exact)
    if len(exact) <= most:
        assert bounded == exact
    else:
        gaps = sorted(after[0] - before[1] for before, after in itertools.pairwise(exact))
        left = [after[0] - before[1] for before, after in itertools.pairwise(bounded)]
        assert sorted(left) == gaps[len(gaps) - (most - 1) :]
