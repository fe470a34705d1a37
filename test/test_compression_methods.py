"""The release's other methods for CSM and DAM of a clip."""

from __future__ import annotations

import numpy as np
import pytest
import reference_kmeans as reference
import torch

from flash_vstream_ros.memory import CompressionMethods, compress_video
from flash_vstream_ros.memory.video_compression import SPATIAL_METHODS, TEMPORAL_METHODS, project


def maps(slots: int, seed: int = 0, patches: int = 4, dim: int = 8) -> torch.Tensor:
    """Low-resolution maps that vary in some directions much more than in others."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(slots, patches, dim, generator=draw) * torch.logspace(0, -2, dim)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", ["paper", "released"])
def test_kmeans_in_few_dimensions_agrees_with_the_naive_reference(seed: int, rule: str) -> None:
    low, dims, clusters = maps(30, seed), 3, 6
    patches = low.double().numpy().reshape(-1, low.shape[2])
    _, _, axes = np.linalg.svd(patches - patches.mean(0))  # the most important first
    axes = axes[:dims] if rule == "paper" else axes[-dims:]
    rows = ((patches - patches.mean(0)) @ axes.T).reshape(len(low), -1)
    init = np.random.default_rng(seed).permutation(len(low))[:clusters].tolist()
    expected = reference.kmeans(rows, clusters, [1.0] * len(low), init, [])
    assert expected.margin > 1e-4
    methods = CompressionMethods("torchpca_kmeans_ordered", pca_dim=dims, rule=rule)
    found = compress_video(low, clusters, 3, methods=methods, init_rows=init)
    assert found.members == tuple(expected.members)
    assert found.weights.tolist() == expected.weights
    means = [low.double().numpy()[list(own)].mean(0) for own in expected.members]
    np.testing.assert_allclose(found.centroids.numpy(), np.stack(means), atol=1e-4)
    heaviest = sorted(range(clusters), key=lambda c: -expected.weights[c])[:3]
    flat = low.double().numpy().reshape(len(low), -1)
    nearest = [int(((flat - means[c].ravel()) ** 2).sum(1).argmin()) for c in heaviest]
    for slot, other, c in zip(found.dam_slots, nearest, heaviest, strict=True):
        if len(expected.members[c]) != 2:  # both slots of a pair are equally near
            assert slot == other


def test_a_projection_to_all_dimensions_is_a_rotation() -> None:
    low = maps(20)
    projected = project(low, low.shape[2], largest=True).flatten(1)
    assert torch.allclose(torch.cdist(projected, projected), torch.cdist(low.flatten(1), low.flatten(1)), atol=1e-4)


def test_the_fast_method_equals_the_published_one() -> None:
    low = maps(40)
    fast, published = (compress_video(low, 6, 3, methods=CompressionMethods(name)) for name in TEMPORAL_METHODS[1::-1])
    assert torch.equal(fast.centroids, published.centroids)
    assert fast.dam_slots == published.dam_slots


def test_the_nearest_method_retrieves_the_slot_at_the_time_of_each_cluster() -> None:
    views = torch.eye(2)[[0, 1, 0, 1, 1, 1]] + 0.01 * torch.arange(6)[:, None]
    found = compress_video(views[:, None], 2, 2, methods=CompressionMethods(spatial="nearest"), init_rows=[0, 1])
    assert found.members == ((0, 2), (1, 3, 4, 5))
    assert found.dam_slots == (3, 1)  # times 3.25 and 1


def test_the_cosine_distance_ignores_vector_length() -> None:
    low = torch.tensor([[[1.0, 0.0]], [[9.0, 1.0]], [[0.0, 1.0]], [[0.1, 2.0]]])
    weights = {"init_rows": [0, 1, 2]}
    near, alike, unlike = (
        compress_video(low, 3, 1, methods=CompressionMethods(spatial=spatial, rule=rule), **weights).dam_slots
        for spatial, rule in (
            ("klarge_retrieve", "paper"),
            ("klarge_retrieve_cos", "paper"),
            ("klarge_retrieve_cos", "released"),
        )
    )
    assert near == (2,)  # of both members
    assert alike == (3,)
    assert unlike == (0,)


@pytest.mark.parametrize("temporal", TEMPORAL_METHODS)
@pytest.mark.parametrize("spatial", SPATIAL_METHODS)
@pytest.mark.parametrize("slots", [1, 3, 6, 7, 40])
def test_every_pair_of_methods_keeps_the_bounds_or_is_refused(temporal: str, spatial: str, slots: int) -> None:
    if temporal == "sample" and spatial != "sample":
        with pytest.raises(ValueError, match="sampled slots have none"):
            CompressionMethods(temporal, spatial)
        return
    low = maps(slots)
    found = compress_video(low, 6, 3, methods=CompressionMethods(temporal, spatial))
    assert len(found.centroids) == len(found.weights) == len(found.timestamps) == min(slots, 6)
    assert len(found.dam_slots) == min(slots, 3)
    assert all(0 <= slot < slots for slot in found.dam_slots)
    if slots <= 6:
        assert torch.equal(found.centroids, low)


def test_the_error_for_an_unknown_method_lists_the_choices() -> None:
    with pytest.raises(ValueError, match=r"gmm.*kmeans_ordered"):
        CompressionMethods("gmm")
    with pytest.raises(ValueError, match=r"random.*klarge_retrieve"):
        CompressionMethods(spatial="random")
    with pytest.raises(ValueError, match="pca_dim"):
        CompressionMethods(pca_dim=0)
