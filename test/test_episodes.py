"""Time as a coordinate of the clustering, while stamps jump and parts are forgotten."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference_memory import NaiveMemory
from test_forget import MOST_SLOTS, PERIOD, SECOND, everything_in, in_details, make, same, seen

from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, Slot
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.spans import Interval

START = 1_700_000_000 * SECOND
CAMERAS = ("camera 0", "camera 1")
COUNT = 16  # spans that a cluster stores exactly


@dataclass(frozen=True)
class Patrol:
    """Slots of two cameras at irregular times; after a jump back of the stamps, a shift keeps the order."""

    slots: tuple[Slot, ...]

    @classmethod
    def of(cls, random: np.random.Generator) -> Patrol:
        times = np.cumsum(random.choice([1, 1, 2, 25], COUNT))
        jump = int(random.integers(1, COUNT))
        back = int(random.integers(1, times[-1] + 1))
        slots = []
        for index, time in enumerate(times):
            shift = back if index >= jump else 0
            low = torch.zeros(MOST_SLOTS + 4)
            low[MOST_SLOTS + int(random.integers(4))] = 3.0
            low[index] = float(random.uniform(0.5, 2.0))
            stamp_ns = START + int(time - shift) * PERIOD
            slots.append(make(index, low, CAMERAS[random.integers(2)], stamp_ns, shift * PERIOD))
        return cls(tuple(slots))

    def naive(self, config: FlashMemoryConfig) -> NaiveMemory:
        return NaiveMemory(
            np.stack([slot.low.flatten().double().numpy() for slot in self.slots]),
            [slot.camera for slot in self.slots],
            config.csm_slots,
            config.dam_slots,
            config.exemplars,
            config.recent_slots,
            config.episode_slots,
            times=[(slot.time_ns - START) / PERIOD for slot in self.slots],
        )


def some_interval(random: np.random.Generator, slots: tuple[Slot, ...]) -> tuple[tuple[str, ...], Interval]:
    """Cameras and stamps around one of `slots`, or no bound at all."""
    cameras = [(), (), CAMERAS[:1], CAMERAS[1:]][random.integers(4)]
    if random.integers(6) == 0:
        return cameras, Interval()
    since = slots[random.integers(len(slots))].first_ns
    return cameras, Interval(since, since + int(random.integers(1, 5)) * PERIOD)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    capacity=st.integers(2, 5),
    exemplars=st.integers(1, 3),
    recent=st.integers(0, 2),
    episode=st.sampled_from([2.0, 8.0, 40.0]),
)
def test_a_memory_with_episodes_forgets_and_continues_like_the_naive_one(
    seed: int, capacity: int, exemplars: int, recent: int, episode: float
) -> None:
    random = np.random.default_rng(seed)
    patrol = Patrol.of(random)
    config = FlashMemoryConfig(capacity, capacity, exemplars, 0, PERIOD, recent, episode)
    memory, naive = FlashMemory(config), patrol.naive(config)
    gone: set[int] = set()
    for index, slot in enumerate(patrol.slots):
        expected = naive.novelty()
        naive.insert()
        assert memory.insert(slot) == pytest.approx(expected, abs=1e-5)
        if random.integers(3) == 0:
            cameras, interval = some_interval(random, patrol.slots[: index + 1])
            touched = {
                at
                for at, other in enumerate(patrol.slots[: index + 1])
                if (not cameras or other.camera in cameras) and interval.touches(other.first_ns, other.last_ns)
            }
            naive.forget(touched)
            memory.forget(Scope(cameras, *interval))
            gone |= touched
        assume(naive.margin > 1e-3)
        assert not everything_in(memory) & gone
        snapshot, clusters = memory.snapshot(), naive.csm()
        assert in_details(snapshot.dam) == {*naive.dam()}
        entries = snapshot.entries[len(snapshot.dam) :]
        assert [entry.weight for entry in entries] == [len(cluster.members) for cluster in clusters]
        for features, cluster in zip(snapshot.csm.flatten(1).numpy(), clusters, strict=True):
            np.testing.assert_allclose(features, naive.centroid(cluster), atol=1e-5)
        since_first = [naive.time(cluster) - naive.time(clusters[0]) for cluster in clusters]
        np.testing.assert_allclose(snapshot.csm_times - snapshot.csm_times[:1], since_first, atol=1e-9)
        cameras, interval = some_interval(random, patrol.slots[: index + 1])
        inside = {
            at
            for at, other in enumerate(patrol.slots)
            if (not cameras or other.camera in cameras) and interval.touches(other.first_ns, other.last_ns)
        }
        assert seen(memory.snapshot(Scope(cameras, *interval))) <= inside - gone


@pytest.mark.parametrize("restart_s", [1, 4_000_000_000])
def test_time_ids_restart_after_everything_was_forgotten(restart_s: int) -> None:
    """This holds for any earlier time scale, and for a first slot that is all zero."""
    config = FlashMemoryConfig(4, 2, 1, 0, PERIOD, 0, 3.0)
    random = np.random.default_rng(1)
    lows = torch.from_numpy(random.standard_normal((12, MOST_SLOTS + 4)).astype(np.float32))
    forgetful, fresh = FlashMemory(config), FlashMemory(config)
    forgetful.insert(make(0, torch.zeros(MOST_SLOTS + 4), "camera 0", START))
    forgetful.insert(make(1, lows[0], "camera 0", START + PERIOD))
    forgetful.forget()
    for index, low in enumerate(lows):
        slot = make(index, low, "camera 0", restart_s * SECOND + index * PERIOD)
        assert forgetful.insert(slot) == fresh.insert(slot)
        assert same(forgetful.snapshot(), fresh.snapshot())


def test_the_second_slot_sets_the_scale_of_time_once_the_first_is_forgotten() -> None:
    """The view of a lens cap has norm zero, so time would have no weight."""
    config = FlashMemoryConfig(3, 3, 1, 0, PERIOD, 0, 2.0)
    places = torch.eye(2, MOST_SLOTS + 4)
    visits = [0, 1, 0, 1, 0, 1]
    capped, clear = FlashMemory(config), FlashMemory(replace(config))
    capped.insert(make(40, torch.zeros(MOST_SLOTS + 4), "camera 0", START))
    for index, place in enumerate(visits):
        if index == 1:
            capped.forget(Scope((), 0, START))
        slot = make(index, places[place], "camera 0", START + (index + 1) * 3 * PERIOD)
        capped.insert(slot)
        clear.insert(slot)
    assert same(capped.snapshot(), clear.snapshot())
    spans = [entry.last_ns - entry.first_ns for entry in clear.snapshot().entries[3:]]
    assert max(spans) < 4 * PERIOD, "neighbours in time went together, not equal views"
