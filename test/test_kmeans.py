"""The published k-means and DAM choice against a naive float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
import reference_kmeans as reference
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flash_vstream_ros.memory import compress_video, klarge_retrieve, ordered_kmeans


@st.composite
def clips(draw: st.DrawFn) -> tuple[np.ndarray, int, list[float]]:
    """Rows with duplicates, a number of clusters and weights, some of them zero."""
    t, patches, dim = draw(st.integers(1, 24)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pool = random.standard_normal((draw(st.integers(1, t)), patches, dim)).astype(np.float32)
    rows = pool[random.integers(0, len(pool), t)] if draw(st.booleans()) else random.standard_normal((t, patches, dim))
    kind = draw(st.sampled_from(["ones", "integers", "reals"]))
    weights = {"ones": np.ones(t), "integers": random.integers(0, 4, t), "reals": random.uniform(0.1, 4, t)}[kind]
    return rows.astype(np.float32), draw(st.integers(1, 10)), [float(np.float32(w)) for w in weights]


def distinct_rows(rows: np.ndarray, seed: int, count: int) -> list[int]:
    """`count` random rows that differ, or all where there are fewer."""
    first = np.unique(rows.reshape(len(rows), -1), axis=0, return_index=True)[1]
    return np.random.default_rng(seed).permutation(first)[:count].tolist()


@settings(max_examples=300, deadline=None)
@given(clips(), st.integers(0, 1000))
def test_kmeans_agrees_with_the_naive_reference(clip: tuple[np.ndarray, int, list[float]], seed: int) -> None:
    rows, clusters, weights = clip
    init = distinct_rows(rows, seed, clusters)
    reseed = np.random.default_rng(seed + 1).integers(0, len(rows), 200).tolist()
    expected = reference.kmeans(rows.reshape(len(rows), -1), clusters, weights, init, reseed)
    assume(expected.margin > 1e-4)
    assume(not any(1e-5 < shift < 1e-3 for shift in expected.shifts))
    found = ordered_kmeans(torch.from_numpy(rows), clusters, torch.tensor(weights), init_rows=init, reseed_rows=reseed)
    assert found.members == tuple(expected.members)
    assert found.centroids.shape[1:] == rows.shape[1:]
    np.testing.assert_allclose(found.centroids.flatten(1).numpy(), expected.centroids, atol=1e-4)
    np.testing.assert_allclose(found.weights.numpy(), expected.weights, atol=1e-4)
    np.testing.assert_allclose(found.timestamps.numpy(), expected.timestamps, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(clips(), st.integers(1, 8))
def test_dam_agrees_with_the_naive_reference(clip: tuple[np.ndarray, int, list[float]], count: int) -> None:
    rows, clusters, _ = clip
    found = compress_video(torch.from_numpy(rows), clusters, count, seed=3)
    centroids = found.centroids.flatten(1).double().numpy()
    assert list(found.dam_slots) == reference.dam_slots(
        rows.reshape(len(rows), -1), centroids, found.weights.tolist(), count
    )


@settings(max_examples=100, deadline=None)
@given(clips(), st.integers(0, 5))
def test_every_row_is_in_one_cluster_and_clusters_are_in_time_order(
    clip: tuple[np.ndarray, int, list[float]], seed: int
) -> None:
    rows, clusters, weights = clip
    distinct = len(np.unique(rows.reshape(len(rows), -1), axis=0))
    found = ordered_kmeans(torch.from_numpy(rows), clusters, torch.tensor(weights), seed=seed)
    again = ordered_kmeans(torch.from_numpy(rows), clusters, torch.tensor(weights), seed=seed)
    assert torch.equal(found.centroids, again.centroids)
    assert found.members == again.members
    assert torch.isfinite(found.centroids).all()
    assert len(found.centroids) <= clusters
    if distinct >= clusters or len(rows) <= clusters:
        assert sorted(row for members in found.members for row in members) == list(range(len(rows)))
        assert found.weights.sum().item() == pytest.approx(sum(weights), rel=1e-5)
        assert found.timestamps.tolist() == sorted(found.timestamps.tolist())


@pytest.mark.parametrize("seed", [2, 4, 8, 10, 13, 21])  # still moving in step ten, no close decision
def test_kmeans_stops_after_ten_iterations(seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((200, 1, 2)).astype(np.float32)
    init = list(range(8))
    expected = reference.kmeans(rows.reshape(200, 2), 8, [1.0] * 200, init, [])
    assert len(expected.shifts) == 10
    assert expected.shifts[-1] > 0.01
    assert expected.margin > 1e-4
    found = ordered_kmeans(torch.from_numpy(rows), 8, init_rows=init)
    assert found.members == tuple(expected.members)
    np.testing.assert_allclose(found.centroids.flatten(1).numpy(), expected.centroids, atol=1e-4)


def test_a_shift_below_the_limit_returns_the_previous_centroids() -> None:
    rows = torch.tensor([[0.0], [1e-5], [5e-5], [6e-5]])
    found = ordered_kmeans(rows, 2, init_rows=[0, 3])
    assert found.members == ((0, 1), (2, 3))
    assert torch.equal(found.centroids, rows[[0, 3]])


def test_bfloat16_is_clustered_in_float32_and_cast_back() -> None:
    rows = torch.randn(30, 4, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = ordered_kmeans(rows, 5, init_rows=range(5))
    exact = ordered_kmeans(rows.float(), 5, init_rows=range(5))
    assert found.centroids.dtype == torch.bfloat16
    assert torch.equal(found.centroids, exact.centroids.bfloat16())


def test_an_empty_cluster_is_left_out() -> None:
    # All weight is on row 0, so the clusters of rows 1 and 2 are re-seeded, by row 0, until the limit.
    rows = torch.tensor([[0.0], [5.0], [9.0], [9.5]])
    weights = torch.tensor([1.0, 0.0, 0.0, 0.0])
    found = ordered_kmeans(rows, 3, weights, init_rows=[0, 1, 2], reseed_rows=[0] * 30)
    assert len(found.members) < 3
    assert sorted(row for members in found.members for row in members) == [0, 1, 2, 3]
    assert torch.isfinite(found.centroids).all()
    assert found.weights.sum() == 1


def test_ties_go_to_the_earlier_cluster_and_the_earlier_slot() -> None:
    low = torch.tensor([[0.0], [1.0], [4.0], [5.0], [9.0]])
    assert klarge_retrieve(low, torch.tensor([[0.5], [4.5], [9.0]]), torch.tensor([2.0, 2.0, 1.0]), 2) == (0, 2)
    assert klarge_retrieve(low, torch.tensor([[0.5], [4.5], [9.0]]), torch.tensor([1.0, 2.0, 2.0]), 2) == (2, 4)
    # Weights above 16 entries: a sort that is not stable would show here.
    many = torch.arange(40.0)[:, None]
    assert klarge_retrieve(many, many, torch.ones(40), 30) == tuple(range(30))


def test_up_to_the_capacity_every_slot_is_kept() -> None:
    low = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0))
    found = compress_video(low, 6, 3)
    assert torch.equal(found.centroids, low)
    assert found.timestamps.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.weights.tolist() == [1] * 6
    assert found.dam_slots == (0, 1, 2)
    assert compress_video(low, 6, 6).dam_slots == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("rows", "clusters", "weights"),
    [
        (torch.zeros(0, 2), 3, None),
        (torch.zeros(4, 2), 0, None),
        (torch.full((4, 2), torch.nan), 2, None),
        (torch.zeros(4, 2), 2, torch.tensor([1.0, -1.0, 1.0, 1.0])),
        (torch.zeros(4, 2), 2, torch.ones(3)),
    ],
)
def test_bad_input_is_refused(rows: torch.Tensor, clusters: int, weights: torch.Tensor | None) -> None:
    with pytest.raises(ValueError, match="k-means needs"):
        ordered_kmeans(rows, clusters, weights)
