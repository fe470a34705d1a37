"""FlashMemory: contents, order, time ids and bounds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference_memory import NaiveMemory
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flash_vstream_ros.instruments.reachable_bytes import reachable_bytes
from flash_vstream_ros.memory import EntryKind, FlashMemory, FlashMemoryConfig, Grid, MemorySnapshot, Slot
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.token_snapshot import TokenSnapshot

SECOND = 1_000_000_000
PERIOD = 2 * SECOND
START = 1_700_000_000_123_456_789


def slot(
    index: int, low: torch.Tensor, camera: str = "front", thumbnail: bytes = b"", start: int = START, **changes: object
) -> Slot:
    """Slot `index` of an evenly spaced stream; its detail tells which one it is."""
    first = start + index * PERIOD
    detail = torch.full((3, 2), float(index), dtype=low.dtype)
    facts = {
        "frame_id": f"{camera} {index}",
        "first_ns": first,
        "last_ns": first + SECOND,
        "low": low,
        "detail": detail,
        "grid": Grid(4, 4),
    }
    return Slot(**{"camera": camera, "thumbnail": thumbnail, **facts, **changes})  # type: ignore[arg-type]


def lows(count: int, seed: int = 0, patches: int = 4, dim: int = 3) -> torch.Tensor:
    return torch.randn(count, patches, dim, generator=torch.Generator().manual_seed(seed))


def filled(count: int, config: FlashMemoryConfig, cameras: Iterable[str] = ("front",), seed: int = 0) -> FlashMemory:
    """A memory that has seen `count` slots, the cameras taking turns."""
    memory, names = FlashMemory(config), list(cameras)
    for index, low in enumerate(lows(count, seed)):
        memory.insert(slot(index, low, names[index % len(names)], b"jpeg"))
    return memory


def shown(snapshot: MemorySnapshot) -> list[int]:
    """Slots shown as DAM."""
    return [int(value) for value in snapshot.dam[:, 0, 0]]


def same(a: MemorySnapshot, b: MemorySnapshot) -> bool:
    tensors = ["dam", "dam_times", "csm", "csm_times"]
    if isinstance(a, TokenSnapshot):
        tensors += ["tokens", "places"]
    return a.entries == b.entries and all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 30),
    capacity=st.integers(2, 7),
    dam=st.integers(1, 7),
    exemplars=st.integers(1, 4),
    recent=st.integers(0, 3),
    cameras=st.integers(1, 2),
    episode=st.sampled_from([0.0, 3.0, 20.0]),
)
def test_the_memory_equals_the_naive_one(
    seed: int, count: int, capacity: int, dam: int, exemplars: int, recent: int, cameras: int, episode: float
) -> None:
    assume(dam <= capacity)
    random = np.random.default_rng(seed)
    maps = random.standard_normal((count, 4, 3)).astype(np.float32)
    names = [f"camera {random.integers(cameras)}" for _ in range(count)]
    naive = NaiveMemory(maps.reshape(count, -1).astype(np.float64), names, capacity, dam, exemplars, recent, episode)
    memory = FlashMemory(FlashMemoryConfig(capacity, dam, exemplars, 0, PERIOD, recent, episode))
    for index in range(count):
        naive.insert()
        memory.insert(slot(index, torch.from_numpy(maps[index]), names[index]))
        assume(naive.margin > 1e-3)
        snapshot, clusters = memory.snapshot(), naive.csm()
        assert shown(snapshot) == naive.dam()
        assert snapshot.dam_times.tolist() == naive.dam()
        expected = np.stack([naive.centroid(cluster) for cluster in clusters])
        np.testing.assert_allclose(snapshot.csm.flatten(1).numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(snapshot.csm_times.numpy(), [np.mean(c.members) for c in clusters], atol=1e-12)
        entries = snapshot.entries[len(snapshot.dam) :]
        assert [entry.weight for entry in entries] == [len(c.members) for c in clusters]
        assert [entry.frame_id for entry in entries] == [f"{names[c.exemplars[0]]} {c.exemplars[0]}" for c in clusters]
        assert [entry.first_ns for entry in entries] == [START + min(c.members) * PERIOD for c in clusters]
        assert [entry.last_ns for entry in entries] == [START + max(c.members) * PERIOD + SECOND for c in clusters]
        assert snapshot.slots_seen == memory.slots_seen == index + 1
        assert snapshot.text_slots == min(index + 1, capacity)
        assert memory.entries == len(snapshot.entries) <= memory.capacity
        assert memory.tokens == 3 * len(snapshot.dam) + len(snapshot.csm)


def test_episodes_keep_equal_views_of_different_times_apart() -> None:
    places = lows(3, seed=5)
    visits = [0, 1, 2, 0, 1, 2]  # each of five slots
    held = {}
    for episode in (0.0, 20.0):
        memory = FlashMemory(FlashMemoryConfig(6, 3, episode_slots=episode))
        for index in range(30):
            noise = 0.2 * lows(1, seed=100 + index)[0]
            memory.insert(slot(index, places[visits[index // 5]] + noise))
        held[episode] = [entry for entry in memory.snapshot().entries if entry.kind is EntryKind.CSM]
    spans = {episode: [entry.last_ns - entry.first_ns for entry in entries] for episode, entries in held.items()}
    assert max(spans[0.0]) > 10 * PERIOD
    assert max(spans[20.0]) < 5 * PERIOD


def test_novelty_depends_on_the_view_and_not_on_the_time() -> None:
    memories = [FlashMemory(FlashMemoryConfig(40, 3, episode_slots=episode)) for episode in (0.0, 5.0)]
    for index, low in enumerate(lows(40)):
        plain, timed = (memory.insert(slot(index, low)) for memory in memories)
        assert timed == pytest.approx(plain, abs=1e-6)


def test_two_runs_are_bitwise_equal() -> None:
    config = FlashMemoryConfig(10, 5)
    assert same(filled(200, config).snapshot(), filled(200, config).snapshot())


def test_time_ids_are_slot_indices_until_they_exceed_the_horizon() -> None:
    config = FlashMemoryConfig(60, 30, horizon_slots=120)
    assert filled(60, config).snapshot().csm_times.tolist() == list(range(60))
    assert max(filled(121, config).snapshot().dam_times) == 120
    scaled = filled(481, config).snapshot()
    assert max(scaled.dam_times) == 120
    assert shown(scaled) == [round(4 * time) for time in scaled.dam_times.tolist()]
    unscaled = filled(481, FlashMemoryConfig(60, 30, horizon_slots=0)).snapshot()
    assert max(unscaled.dam_times) == 480
    torch.testing.assert_close(unscaled.csm_times / 4, scaled.csm_times)


@pytest.mark.parametrize("horizon", [0, 30])
def test_time_ids_follow_when_each_cluster_was_last_seen(horizon: int) -> None:
    config = FlashMemoryConfig(6, 3, horizon_slots=horizon, last_seen_ids=True)
    memory = filled(60, config)
    snapshot = memory.snapshot()
    scale = horizon / 59 if horizon else 1.0
    clusters = snapshot.entries[len(snapshot.dam) :]
    newest = [(entry.last_ns - START - SECOND) / PERIOD * scale for entry in clusters]
    assert newest == sorted(newest)
    assert snapshot.csm_times.tolist() == pytest.approx(newest)
    assert snapshot.text_slots == round(59 * scale) + 1
    recent = memory.snapshot(Scope(since_ns=START + 50 * PERIOD))
    assert recent.text_slots == snapshot.text_slots
    assert memory.snapshot(Scope(("another",))).text_slots == 0


def test_last_seen_ids_change_only_the_time_ids_of_csm() -> None:
    published, last_seen = (
        filled(60, FlashMemoryConfig(6, 3, last_seen_ids=last_seen)).snapshot() for last_seen in (False, True)
    )
    assert {entry.first_ns for entry in published.entries} == {entry.first_ns for entry in last_seen.entries}
    assert torch.equal(published.dam, last_seen.dam)
    assert torch.equal(published.dam_times, last_seen.dam_times)


def test_mean_stamps_are_exact_after_hours() -> None:
    memory = FlashMemory(FlashMemoryConfig(1, 1, horizon_slots=0, slot_period_ns=1))
    stamps = [START + index * 2_000_000_001 for index in range(10_001)]
    for stamp in stamps:
        memory.insert(slot(0, torch.ones(4, 1), first_ns=stamp, last_ns=stamp))
    assert memory.snapshot().csm_times.item() == 5000 * 2_000_000_001


def test_a_second_camera_may_start_before_the_first() -> None:
    memory = FlashMemory(FlashMemoryConfig(4, 4))
    memory.insert(slot(5, torch.ones(4, 1), "front"))
    memory.insert(slot(2, torch.ones(4, 1), "rear"))
    assert memory.snapshot().dam_times.tolist() == [0, 3]
    assert memory.cameras == ("front", "rear")


def test_cameras_never_share_a_cluster_and_can_be_selected() -> None:
    memory = filled(100, FlashMemoryConfig(8, 4, recent_slots=2), ("front", "rear", "left"))
    everything, rear = memory.snapshot(), memory.snapshot(Scope(("rear",)))
    assert (
        (memory.first_ns, memory.last_ns)
        == (everything.first_ns, everything.last_ns)
        == (START, START + 99 * PERIOD + SECOND)
    )
    weights = dict.fromkeys(memory.cameras, 0.0)
    for entry in everything.entries[len(everything.dam) :]:
        weights[entry.camera] += entry.weight
    assert weights == {"front": 34, "rear": 33, "left": 33}
    assert {entry.camera for entry in rear.entries} == {"rear"}
    assert rear.slots_seen == 33
    assert all(index % 3 == 1 for index in shown(rear))
    assert memory.snapshot(Scope(("nobody",))).empty
    assert memory.snapshot(Scope(("nobody",))).csm.shape == (0, 4, 3)


def test_more_cameras_than_clusters_are_refused() -> None:
    memory = filled(6, FlashMemoryConfig(2, 1), ("front", "rear"))
    before = memory.snapshot()
    with pytest.raises(ValueError, match="no room for camera 'third'"):
        memory.insert(slot(6, lows(1)[0], "third"))
    assert same(memory.snapshot(), before)
    assert memory.cameras == ("front", "rear")
    memory.insert(slot(6, lows(1)[0], "rear"))


def test_since_and_until_select_overlapping_entries() -> None:
    memory = filled(20, FlashMemoryConfig(20, 20))
    since, until = START + 5 * PERIOD + SECOND, START + 9 * PERIOD
    assert shown(memory.snapshot(Scope(since_ns=since))) == list(range(5, 20))
    assert shown(memory.snapshot(Scope(until_ns=until))) == list(range(10))
    between = memory.snapshot(Scope(since_ns=since, until_ns=until))
    assert shown(between) == between.csm_times.tolist() == [5, 6, 7, 8, 9]
    assert (between.first_ns, between.last_ns) == (START + 5 * PERIOD, until + SECOND)
    assert between.slots_seen == between.text_slots == 5
    assert memory.snapshot(Scope(since_ns=until + PERIOD, until_ns=since)).empty


def test_a_snapshot_does_not_change_afterwards() -> None:
    memory = filled(30, FlashMemoryConfig(6, 3))
    snapshot = memory.snapshot()
    copies = [tensor.clone() for tensor in (snapshot.dam, snapshot.dam_times, snapshot.csm, snapshot.csm_times)]
    for index, low in enumerate(lows(30, seed=9), start=30):
        memory.insert(slot(index, low))
    memory.reset()
    now = (snapshot.dam, snapshot.dam_times, snapshot.csm, snapshot.csm_times)
    assert all(torch.equal(a, b) for a, b in zip(now, copies, strict=True))


def test_bytes_count_all_tensors_and_thumbnails() -> None:
    memory = FlashMemory(FlashMemoryConfig(5, 3, recent_slots=2))
    assert memory.bytes == 0
    for index, low in enumerate(lows(40).bfloat16()):
        memory.insert(slot(index, low, thumbnail=bytes([index]) * (index + 1)))
        assert memory.bytes == sum(reachable_bytes(memory))
    memory.reset()
    assert memory.bytes == memory.tokens == memory.entries == 0
    assert memory.snapshot().empty
    memory.insert(slot(0, lows(1, patches=8)[0]))


class Work(TorchDispatchMode):
    """Counts the elements that operations read and write: a cost that does not depend on the load of the machine."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = operation(*args, **(kwargs or {}))
        self.elements += sum(leaf.numel() for leaf in tree_leaves((args, kwargs, result)) if torch.is_tensor(leaf))
        return result


def test_size_and_work_per_slot_are_constant_once_the_memory_is_full() -> None:
    memory, work, sizes = FlashMemory(FlashMemoryConfig(csm_slots=20, dam_slots=10)), [], set()
    for index, low in enumerate(lows(10_000)):
        if 100 <= index < 200 or index >= 9_900:
            with Work() as counted:
                memory.insert(slot(index, low))
            work.append(counted.elements)
        else:
            memory.insert(slot(index, low))
        if index >= 100:
            sizes.add((memory.tokens, memory.bytes))
    assert len(sizes) == 1
    assert 0 < sum(work[100:]) < 1.1 * sum(work[:100])


def test_novelty_separates_a_new_view_from_a_known_one() -> None:
    memory = FlashMemory(FlashMemoryConfig(3, 2))
    east, north = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([[0.0, 1.0]] * 4)
    views = [east, east, 2 * east, north, -east, east + north]
    novelty = [memory.insert(slot(index, low)) for index, low in enumerate(views)]
    assert novelty == pytest.approx([1, 0, 0, 1, 1, 1 - 0.5**0.5], abs=1e-6)
    assert memory.insert(slot(9, east, "rear")) == 1.0
    assert memory.insert(slot(10, 0 * east, "rear")) == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_novelty_is_between_0_and_1_for_a_centroid_at_zero(seed: int) -> None:
    memory = FlashMemory(FlashMemoryConfig(1, 1))
    low, scale = lows(2, seed)
    for index, factor in enumerate([0.1, 0.7, -0.8, 1.0]):
        assert 0 <= memory.insert(slot(index, factor * low * scale.norm())) <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": torch.full((4, 3), torch.nan)}, "NaN or infinite"),
        ({"low": torch.full((4, 3), 1e30)}, "not finite, or too large"),
        ({"detail": torch.full((3, 2), torch.inf)}, "NaN or infinite"),
        ({"low": torch.zeros(8, 3)}, "low is .*the memory holds"),
        ({"low": torch.zeros(4, 3).half()}, "low is .*the memory holds"),
        ({"detail": torch.zeros(3, 2, device="meta")}, "detail is .*the memory holds"),
        ({"detail": torch.zeros(4, 2)}, "detail is .*the memory holds"),
        ({"low": torch.zeros(4, 3, dtype=torch.int64)}, "floating point matrix"),
        ({"grid": Grid(8, 2)}, "has Grid.*the memory holds"),
        ({"first_ns": START + 30 * PERIOD + 2}, "before it starts"),
        ({"first_ns": START + 19 * PERIOD + SECOND}, "not after .* the newest stamp"),
    ],
)
@pytest.mark.parametrize("empty", [False, True])
def test_a_bad_slot_is_refused_and_changes_nothing(changes: dict[str, object], message: str, empty: bool) -> None:
    memory = filled(0 if empty else 20, FlashMemoryConfig(5, 3))
    before, size = memory.snapshot(), memory.bytes
    bad = slot(20, torch.ones(4, 3), last_ns=START + 30 * PERIOD + 1)
    bad = Slot(**{**vars(bad), **changes})
    if empty and ("memory holds" in message or "newest stamp" in message):
        return  # nothing to differ from
    with pytest.raises(ValueError, match=message):
        memory.insert(bad)
    assert same(memory.snapshot(), before)
    assert (memory.bytes, memory.slots_seen) == (size, 0 if empty else 20)
    memory.insert(slot(20, torch.ones(4, 3)))


def test_slots_made_in_inference_mode_can_be_followed_by_others() -> None:
    memory = FlashMemory(FlashMemoryConfig(2, 2))
    with torch.inference_mode():
        memory.insert(slot(0, torch.ones(4, 3)))
        memory.snapshot()
    for index in range(1, 5):
        memory.insert(slot(index, torch.ones(4, 3).requires_grad_()))
    assert not memory.snapshot().csm.requires_grad


def test_entries_carry_the_thumbnail_of_their_newest_slot_or_exemplar() -> None:
    memory = FlashMemory(FlashMemoryConfig(2, 2, recent_slots=1))
    for index, value in enumerate([0.0, 1.0, 9.0, 0.4]):
        memory.insert(slot(index, torch.full((4, 1), value), thumbnail=b"image %d" % index))
    snapshot = memory.snapshot()
    assert [entry.kind for entry in snapshot.entries] == [EntryKind.DAM] * 2 + [EntryKind.CSM] * 2
    by_weight = {entry.weight: entry for entry in snapshot.entries[2:]}
    assert by_weight[3.0].thumbnail == b"image 3"
    assert by_weight[3.0].thumbnail_ns == START + 3 * PERIOD + SECOND
    assert by_weight[1.0].frame_id == "front 2"


@pytest.mark.parametrize(
    "sizes", [{"csm_slots": 10}, {"dam_slots": 0}, {"exemplars": 0}, {"slot_period_ns": 0}, {"recent_slots": -1}]
)
def test_contradictory_sizes_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        FlashMemoryConfig(**sizes)


def test_the_newest_slots_of_each_camera_are_key_frames() -> None:
    cameras = ("front", "rear", "left")
    memory = filled(99, FlashMemoryConfig(6, 6, exemplars=1, recent_slots=2), cameras)
    assert shown(memory.snapshot()) == [98, 97, 96, 95, 94, 93]
    assert {94, 97} <= set(shown(memory.snapshot(Scope(("rear",)))))
    for index, low in enumerate(lows(60, seed=5), start=99):
        memory.insert(slot(index, low, "front"))
    assert set(shown(memory.snapshot())) >= {158, 157, 97, 94, 98, 95}


def test_each_further_camera_adds_only_the_bytes_of_its_recent_slots() -> None:
    config = FlashMemoryConfig(6, 3, recent_slots=2)
    sizes = {count: filled(90, config, [f"camera{i}" for i in range(count)]).bytes for count in (1, 2, 3, 6)}
    low, detail, jpeg = lows(1)[0], torch.zeros(3, 2), len(b"jpeg")
    of_one_camera = 2 * 4 * (low.numel() + detail.numel())
    for count, size in sizes.items():
        assert abs(size - sizes[1] - (count - 1) * of_one_camera) <= 20 * jpeg


def test_a_refused_camera_does_not_change_the_size() -> None:
    memory = filled(6, FlashMemoryConfig(2, 1), ("front", "rear"))
    size = memory.bytes
    with pytest.raises(ValueError, match="no room for camera 'third'"):
        memory.insert(slot(6, lows(1)[0], "third"))
    assert memory.bytes == size


def test_a_camera_with_more_varied_views_gets_more_clusters() -> None:
    memory = FlashMemory(FlashMemoryConfig(20, 10))
    for index, low in enumerate(lows(200)):
        still = torch.ones(4, 3) + 0.01 * low
        memory.insert(slot(2 * index, low, "moving"))
        memory.insert(slot(2 * index + 1, still, "still"))
    clusters = [entry.camera for entry in memory.snapshot().entries if entry.kind is EntryKind.CSM]
    assert len(clusters) == 20
    assert 1 <= clusters.count("still") <= 2
