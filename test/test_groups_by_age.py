"""Groups by age: old visits share entries, and what was seen once keeps its own; transient slots are told from it."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
import torch
from test_flash_memory import PERIOD, slot
from test_forget import holdings_of

from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig
from flash_vstream_ros.memory.config import BY_AGE, BY_WEIGHT, HIERARCHICAL
from flash_vstream_ros.memory.episodes import EpisodeTime, FirstView
from flash_vstream_ros.memory.scope import EVERYTHING
from flash_vstream_ros.memory.sublinear_ward import SublinearWard

EPISODE, STAY = 40, 20  # lengths of an episode and of a visit [slots]
PLACES, PATCHES, DIM = 6, 4, 8
CONFIG = FlashMemoryConfig(32, 2, 2, 0, PERIOD, 1, EPISODE, retention=HIERARCHICAL, grouping=BY_AGE)
NOISE = 0.05


def views(count: int, glimpses: tuple[int, ...] = (), seed: int = 0) -> torch.Tensor:
    """Visits to PLACES in turn [count, PATCHES, DIM], with a slot of turning between two.

    Two slots from each of `glimpses` show half of the patches changed, each its own way.
    """
    draw = torch.Generator().manual_seed(seed)
    places = 3 * torch.randn(PLACES, PATCHES, DIM, generator=draw)
    turns = 3 * torch.randn(count, PATCHES, DIM, generator=draw)
    found = torch.stack([turns[k] if k % STAY == STAY - 1 else places[k // STAY % PLACES] for k in range(count)])
    for at in glimpses:
        found[at : at + 2, : PATCHES // 2] = 3 * torch.randn(PATCHES // 2, DIM, generator=draw)
    return found + NOISE * torch.randn(found.shape, generator=draw)


def remembered(slots: torch.Tensor, config: FlashMemoryConfig = CONFIG) -> FlashMemory:
    memory = FlashMemory(config)
    for index, low in enumerate(slots):
        memory.insert(slot(index, low))
    return memory


def test_distances_by_age_are_those_in_appearance_and_in_logarithmic_age() -> None:
    random = np.random.default_rng(0)
    times, looks, linear = random.uniform(0, 500, 9), random.standard_normal((9, 5)), 20.0
    look = ((looks[:, None] - looks) ** 2).sum(-1)
    episodes = EpisodeTime(FirstView(squared_norm=7.0), 60.0, PERIOD)
    sums = [(round(at * PERIOD) * 3, 3) for at in times]
    squared = look + 7.0 * ((times[:, None] - times) / 60.0) ** 2
    found = episodes.by_age(squared, sums, round(510 * PERIOD), linear)
    ages = linear * np.log1p((510 - times) / linear)
    np.testing.assert_allclose(found, look + 7.0 * ((ages[:, None] - ages) / (2 * linear)) ** 2, atol=1e-6)
    assert EpisodeTime().by_age(squared, sums, 0, 0.0) is squared, "without episodes, time does not count"


@pytest.mark.parametrize("seed", range(2))
def test_what_was_seen_once_long_ago_keeps_an_entry(seed: int) -> None:
    glimpses = (123, 164, 211, 345)
    slots = views(2400, glimpses, seed)

    def shown(grouping: str) -> int:
        csm = remembered(slots, replace(CONFIG, grouping=grouping)).snapshot().csm.flatten(1)
        changes = [(slots[at] - slots[at - 1]).square().sum() for at in glimpses]
        nearest = [(csm - slots[at].flatten()).square().sum(1).min() for at in glimpses]
        return sum(bool(found < 0.25 * change) for found, change in zip(nearest, changes, strict=True))

    assert shown(BY_AGE) >= 3
    assert shown(BY_WEIGHT) <= 1


@pytest.mark.parametrize("seed", range(2))
def test_recent_visits_share_entries_less_than_old_ones(seed: int) -> None:
    entries = remembered(views(2400, seed=seed))._entries_in(EVERYTHING).csm
    newest_ns = max(entry.cluster.newest[0] for entry in entries)
    stable = [entry.cluster for entry in entries if entry.cluster.slots > 1]
    recent = [cluster for cluster in stable if newest_ns - cluster.newest[0] < PLACES * STAY * PERIOD]
    old = [cluster for cluster in stable if cluster not in recent]
    assert len(recent) >= PLACES - 1, "most of the last visits have an entry of their own"
    assert fmean(cluster.slots for cluster in old) > 2 * fmean(cluster.slots for cluster in recent)


@pytest.mark.parametrize("minutes", [2, 20])
def test_slots_of_turning_are_transient_and_those_of_a_glimpse_are_not(minutes: int) -> None:
    """However often the same was seen, and however little it changed."""
    count = minutes * 30
    glimpse = count - 2 * STAY + 3
    memory = FlashMemory(replace(CONFIG, csm_slots=count, dam_slots=1))  # so that nothing is merged
    for index, low in enumerate(views(count, (glimpse,))):
        memory.insert(slot(index, low))
    ward = holdings_of(memory).ward
    assert isinstance(ward, SublinearWard)
    transient = [row for row in ward.rows if ward.is_transient(row)]
    assert transient == list(range(STAY - 1, count - 1, STAY))


def test_a_cluster_of_any_number_of_transient_slots_is_transient() -> None:
    ward = SublinearWard(7, 1)
    for step in range(7):
        ward.mark_transient(ward.insert(torch.tensor([float(step)])).row)
    assert len([*ward.reduce(1)]) == 6
    (row,) = ward.rows
    assert (float(ward.weights[row]), ward.is_transient(row)) == (7.0, True)
    ward.add_weight(row, 1)
    assert not ward.is_transient(row)
