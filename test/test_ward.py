"""Online Ward clustering against a brute force that recomputes every cluster from its members at every step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import flash_vstream_ros.memory.ward as ward_module
from flash_vstream_ros.memory import WardClustering


def stream(ward: WardClustering, items: torch.Tensor, groups: list[str] | None = None) -> dict[int, list[int]]:
    """Insert `items`. Returns the members of each row, reconstructed from the merges."""
    members: dict[int, list[int]] = {}
    for index, item in enumerate(items):
        row, merge = ward.insert(item, groups[index] if groups else "")
        assert row not in members
        members[row] = [index]
        if merge:
            members[merge.kept] += members.pop(merge.absorbed)
    return members


def brute_force(items: np.ndarray, capacity: int, groups: list[str]) -> tuple[list[list[int]], float]:
    """Members by birth, and the smallest relative gap between the best and the second best merge."""
    clusters: list[list[int]] = []
    margin = np.inf
    for index in range(len(items)):
        clusters.append([index])
        if len(clusters) <= capacity:
            continue
        costs = []
        for i, j in itertools.combinations(range(len(clusters)), 2):
            a, b = clusters[i], clusters[j]
            if groups[a[0]] == groups[b[0]]:
                gap = items[a].mean(0) - items[b].mean(0)
                costs.append((len(a) * len(b) / (len(a) + len(b)) * float(gap @ gap), i, j))
        costs.sort()
        if len(costs) > 1:
            margin = min(margin, (costs[1][0] - costs[0][0]) / costs[1][0])
        _, i, j = costs[0]
        clusters[i] += clusters.pop(j)
    return clusters, margin


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    features=st.integers(1, 12),
    capacity=st.integers(1, 8),
    cameras=st.integers(1, 3),
    offset=st.sampled_from([0.0, 100.0]),
)
def test_merges_equal_those_of_brute_force(
    seed: int, count: int, features: int, capacity: int, cameras: int, offset: float
) -> None:
    random = np.random.default_rng(seed)
    items = (random.standard_normal((count, features)) + offset).astype(np.float32)
    groups = [f"camera {random.integers(min(cameras, capacity))}" for _ in range(count)]
    expected, margin = brute_force(items.astype(np.float64), capacity, groups)
    if margin < 1e-3:
        return  # decided by rounding
    ward = WardClustering(capacity, features)
    members = stream(ward, torch.from_numpy(items), groups)
    assert [sorted(members[row]) for row in ward.rows] == [sorted(own) for own in expected]
    for row, own in members.items():
        np.testing.assert_allclose(ward.centroids[row].numpy(), items[own].mean(0), atol=1e-5 * (1 + offset))
        assert ward.weights[row] == len(own)
        assert len({groups[index] for index in own}) == 1
        norm = np.square(items[own].astype(np.float64).mean(0)).sum()
        assert ward.squared_norm(row) == pytest.approx(norm, rel=1e-4, abs=1e-4)


def test_equal_costs_merge_the_oldest_pair() -> None:
    ward = WardClustering(4, 1)
    members = stream(ward, torch.tensor([[0.0], [1.0], [10.0], [11.0], [20.0]]))
    assert sorted(members.values()) == [[0, 1], [2], [3], [4]]
    # The newcomer takes the free row, which is not the last one; it still counts as born last.
    row, merge = ward.insert(torch.tensor([21.0]))
    assert ward.rows[-1] == row
    assert merge is not None
    assert (merge.kept, merge.absorbed) == (2, 3)


def test_repeated_items_merge_at_zero_cost_and_never_give_nan() -> None:
    item = torch.full((1000,), 3e3) + torch.randn(1000, generator=torch.Generator().manual_seed(0))
    ward = WardClustering(3, 1000)
    members = stream(ward, item.repeat(50, 1))
    assert sum(len(own) for own in members.values()) == 50
    assert torch.isfinite(ward.centroids).all()
    assert (ward.distances(item)[ward.rows] < 1e-3).all()


def test_stored_distances_equal_those_of_the_centroids_over_a_long_stream() -> None:
    items = torch.randn(3000, 32, generator=torch.Generator().manual_seed(1)) + 20
    ward = WardClustering(10, 32)
    stream(ward, items)
    for row in ward.rows:
        measured = ward.distances(ward.centroids[row])[:-1].double()
        torch.testing.assert_close(ward._squared[row, :-1][ward.rows], measured[ward.rows], rtol=1e-3, atol=1e-3)


def test_clusters_that_are_not_merged_keep_row_and_centroid() -> None:
    ward = WardClustering(5, 4)
    items = torch.randn(40, 4, generator=torch.Generator().manual_seed(2))
    stream(ward, items[:5])
    for item in items[5:]:
        before, rows = ward.centroids.clone(), set(ward.rows)
        row, merge = ward.insert(item)
        assert merge is not None
        untouched = rows - {row, *merge}
        assert untouched <= set(ward.rows)
        assert all(torch.equal(before[other], ward.centroids[other]) for other in untouched)


def test_two_runs_are_bitwise_equal_for_any_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    items = torch.randn(300, 64, generator=torch.Generator().manual_seed(3))
    first, second, chunked = (WardClustering(12, 64) for _ in range(3))
    whole = stream(first, items)
    assert stream(second, items) == whole
    assert torch.equal(first.centroids, second.centroids)
    monkeypatch.setattr(ward_module, "CHUNK_ELEMENTS", 130)
    assert stream(chunked, items) == whole
    assert torch.equal(first.centroids, chunked.centroids)


def test_bfloat16_items_keep_float32_centroids() -> None:
    items = torch.randn(500, 8, generator=torch.Generator().manual_seed(4)).bfloat16()
    ward = WardClustering(1, 8)
    stream(ward, items)
    torch.testing.assert_close(ward.centroids[ward.rows[0]], items.float().mean(0), atol=1e-5, rtol=1e-4)


def test_more_groups_than_clusters_are_refused_without_change() -> None:
    ward = WardClustering(2, 1)
    stream(ward, torch.tensor([[0.0], [0.0], [1.0]]), ["a", "b", "a"])
    before = [tensor.clone() for tensor in ward.tensors]
    with pytest.raises(ValueError, match="no room for group 'c'"):
        ward.insert(torch.zeros(1), "c")
    assert all(torch.equal(now, then) for now, then in zip(ward.tensors, before, strict=True))
    assert ward.insert(torch.zeros(1), "b").merge is not None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_an_item_with_non_finite_or_overflowing_distances_is_refused(bad: float) -> None:
    ward = WardClustering(2, 2)
    ward.insert(torch.zeros(2))
    with pytest.raises(ValueError, match="not finite"):
        ward.insert(torch.tensor([0.0, bad]))
    assert len(ward.rows) == 1


def test_a_capacity_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        WardClustering(0, 4)
