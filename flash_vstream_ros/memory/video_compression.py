"""Compression of a whole video to CSM and DAM, as published for Flash-VStream-Qwen (arXiv 2506.23825).

CSM is an ordered weighted k-means over low-resolution maps. DAM consists of the slots nearest to the centroids of the
heaviest clusters. Other methods that work in the release are available under the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from .kmeans import TIE_SHARE, OrderedClusters, direct_distances, klarge_retrieve, ordered_kmeans

TEMPORAL_METHODS = ("kmeans_ordered", "fast_kmeans_ordered", "torchpca_kmeans_ordered", "sample")
SPATIAL_METHODS = ("klarge_retrieve", "klarge_retrieve_cos", "nearest", "sample")


@dataclass(frozen=True)
class CompressionMethods:
    """Methods that compute CSM (`temporal`) and DAM (`spatial`).

    temporal: kmeans_ordered, as published; fast_kmeans_ordered, the same; torchpca_kmeans_ordered, k-means on `pca_dim`
    principal components of each patch; sample, evenly spaced slots.

    spatial chooses a slot for each of the heaviest clusters: klarge_retrieve, the nearest slot, as published;
    klarge_retrieve_cos, the slot most similar by cosine; nearest, the slot at the cluster's time. sample chooses evenly
    spaced slots instead.

    Rule "released" repeats two faults of the release: it uses the components of least variance, and the least similar
    slot.
    """

    temporal: str = "kmeans_ordered"
    spatial: str = "klarge_retrieve"
    pca_dim: int = 32
    rule: Literal["paper", "released"] = "paper"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("temporal", self.temporal, TEMPORAL_METHODS),
            ("spatial", self.spatial, SPATIAL_METHODS),
        ):
            if value not in known:
                raise ValueError(f"the {name} method {value!r} is unknown: use one of {', '.join(known)}")
        if self.temporal == "sample" and self.spatial != "sample":
            raise ValueError(f"{self.spatial} needs cluster weights, and sampled slots have none: use sample for both")
        if self.pca_dim < 1:
            raise ValueError(f"pca_dim must be at least 1, not {self.pca_dim}")


@dataclass(frozen=True, eq=False)
class CompressedVideo:
    """CSM of a video, and the slots whose high-resolution maps are its DAM."""

    centroids: Tensor  # [csm_slots, low_patches, dim]
    weights: Tensor  # [csm_slots] float32
    timestamps: Tensor  # [csm_slots] float64, on the CPU
    members: tuple[tuple[int, ...], ...]
    dam_slots: tuple[int, ...]  # ordered by descending cluster weight; a slot may appear twice


def compress_video(
    low: Tensor,
    csm_slots: int = 60,
    dam_slots: int = 30,
    *,
    methods: CompressionMethods = CompressionMethods(),
    seed: int = 0,
    init_rows: Sequence[int] | None = None,
    reseed_rows: Sequence[int] = (),
) -> CompressedVideo:
    """Compress the low-resolution maps of a video, `low` [slots, low_patches, dim], to CSM and the slots of DAM.

    `seed`, `init_rows`, `reseed_rows` and errors are those of `ordered_kmeans`.
    """
    cluster = partial(ordered_kmeans, seed=seed, init_rows=init_rows, reseed_rows=reseed_rows)
    if methods.temporal == "sample" and len(low) > csm_slots:
        csm = _sampled(low, csm_slots)
    elif methods.temporal == "torchpca_kmeans_ordered" and len(low) > csm_slots:
        projected = project(low, methods.pca_dim, largest=methods.rule == "paper")
        csm = _means(low, cluster(projected, csm_slots, squared_distances=direct_distances))
    else:
        csm = cluster(low, csm_slots)
    dam = dam_slots_of(low, csm, dam_slots, methods)
    return CompressedVideo(csm.centroids, csm.weights, csm.timestamps, csm.members, dam)


def project(low: Tensor, dims: int, *, largest: bool) -> Tensor:
    """Project maps [slots, patches, dim] to the `dims` principal components of largest, or least, variance.

    Returns [slots, patches, dims] float32; the signs of components are arbitrary.
    """
    patches = low.flatten(0, 1).float()
    centred = patches - patches.mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred / max(1, len(centred) - 1))  # ascending
    chosen = directions.flip(1)[:, :dims] if largest else directions[:, :dims]
    return (centred @ chosen).unflatten(0, low.shape[:2])


def dam_slots_of(low: Tensor, csm: OrderedClusters, count: int, methods: CompressionMethods) -> tuple[int, ...]:
    """Choose `count` slots for DAM of a video with maps `low` [slots, low_patches, dim], or all if there are fewer."""
    if len(low) <= count:
        return tuple(range(len(low)))
    if methods.spatial == "sample":
        return tuple(torch.linspace(0, len(low) - 1, count).round().long().tolist())
    if methods.spatial == "klarge_retrieve":
        return klarge_retrieve(low, csm.centroids, csm.weights, count)
    heaviest = torch.argsort(csm.weights, descending=True, stable=True)[:count].cpu()
    if methods.spatial == "nearest":
        return tuple(csm.timestamps[heaviest].round().long().tolist())
    rows, centroids = (torch.nn.functional.normalize(x.flatten(1).float(), dim=1) for x in (low, csm.centroids))
    similarity = centroids[heaviest.to(low.device)] @ rows.T  # [count, slots]
    best = similarity if methods.rule == "paper" else -similarity
    return tuple((best >= best.max(1, keepdim=True).values - TIE_SHARE).int().argmax(1).tolist())


def _means(low: Tensor, found: OrderedClusters) -> OrderedClusters:
    """The same clusters, with the unweighted mean of their members' maps as centroids."""
    means = torch.stack([low[list(own)].float().mean(0) for own in found.members]).to(low.dtype)
    return OrderedClusters(means, found.weights, found.timestamps, found.members)


def _sampled(low: Tensor, count: int) -> OrderedClusters:
    chosen = torch.linspace(0, len(low) - 1, count).long()  # rounded down, as released
    members = tuple((slot,) for slot in chosen.tolist())
    return OrderedClusters(low[chosen.to(low.device)], torch.ones(count, device=low.device), chosen.double(), members)
