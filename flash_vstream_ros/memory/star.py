"""STAR memory of Flash-VStream-LLaVA (arXiv 2406.08085, "STAR Memory"): spatial, temporal, abstract, retrieved.

The spatial memory is the newest frame. The other three are made from all frames before it: the temporal memory by
clustering pooled maps, the retrieved memory by choosing whole frames, the abstract memory by attention. Arithmetic is
float32 or float64 for any dtype of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kmeans import direct_distances, klarge_retrieve, lloyd, members_of

# paper: as the paper describes. released: as the released offline code, which its weights were trained with.
StarRule = Literal["paper", "released"]


@dataclass(frozen=True)
class StarConfig:
    """Sizes of the four memories. Sides are those of square token maps."""

    spatial_frames: int = 1
    temporal_clusters: int = 25
    temporal_side: int = 4
    abstract_slots: int = 25
    abstract_side: int = 1
    retrieved_frames: int = 3
    update_ratio: float = 0.2

    def __post_init__(self) -> None:
        if min(self.spatial_frames, self.temporal_clusters, self.abstract_slots) < 1 or self.retrieved_frames < 0:
            raise ValueError(f"a STAR memory needs at least one frame, one cluster and one slot, not {self}")
        if min(self.temporal_side, self.abstract_side) < 1 or not 0 <= self.update_ratio <= 1:
            raise ValueError(f"a STAR memory needs sides of at least 1 and an update ratio from 0 to 1, not {self}")


class AbstractAttention(nn.Module):
    """Attention of the abstract memory M to new tokens N: softmax(q(M) k(N)^T / sqrt(width))."""

    def __init__(self, dim: int, width: int = 32) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, width)
        self.k_proj = nn.Linear(dim, width)

    @torch.no_grad()
    def update(self, memory: Tensor, new: Tensor, ratio: float) -> Tensor:
        """Update `memory` [tokens, dim] with `new` [new_tokens, dim], both float32; returns the new memory."""
        queries, keys = (
            F.linear(tokens, part.weight.float(), part.bias.float())
            for part, tokens in ((self.q_proj, memory), (self.k_proj, new))
        )
        weights = ratio * torch.softmax(queries @ keys.T / queries.shape[1] ** 0.5, dim=1)
        return memory * (1 - weights.sum(1, keepdim=True)) + weights @ new


class AbstractMemory:
    """Abstract memory of a stream. The first frames fill its slots; later ones update them in chunks of that size.

    `read` applies an incomplete chunk to a copy. So it always equals the abstract memory of the video so far.
    """

    def __init__(self, attention: AbstractAttention, config: StarConfig) -> None:
        self._attention, self._config = attention, config
        self._slots: list[Tensor] = []  # each [tokens, dim] float32
        self._chunk: list[Tensor] = []  # frames of the incomplete chunk

    def add(self, frame: Tensor) -> None:
        """Add `frame` [tokens, dim], pooled to the abstract side."""
        full = len(self._slots) == self._config.abstract_slots
        (self._chunk if full else self._slots).append(frame.detach().float().clone())
        if len(self._chunk) == self._config.abstract_slots:
            self._slots, self._chunk = list(self.read()), []

    def read(self) -> Tensor:
        """The current memory [slots, tokens, dim], float32; needs at least one frame."""
        slots = torch.stack(self._slots)
        if not self._chunk:
            return slots
        new = torch.cat(self._chunk)
        return self._attention.update(slots.flatten(0, 1), new, self._config.update_ratio).view_as(slots)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All stored tensors, for accounting."""
        return (*self._slots, *self._chunk)


@dataclass(frozen=True, eq=False)
class StarVideoMemory:
    """The STAR memory of a video, in the dtype of its frames. With a single frame, only `spatial` is not empty."""

    abstract: Tensor  # [slots, abstract_side ** 2, dim]
    temporal: Tensor  # [clusters, temporal_side ** 2, dim], not ordered by time
    retrieved: Tensor  # [frames, tokens, dim], heaviest cluster first
    spatial: Tensor  # [frames, tokens, dim]
    temporal_weights: Tensor  # [clusters] float32, number of frames
    temporal_members: tuple[tuple[int, ...], ...]
    retrieved_frames: tuple[int, ...]

    @property
    def sequence(self) -> Tensor:
        """All tokens [tokens, dim], in the order of the prompt."""
        return torch.cat([part.flatten(0, 1) for part in (self.abstract, self.temporal, self.retrieved, self.spatial)])


@torch.no_grad()
def star_video_memory(
    frames: Tensor,
    attention: AbstractAttention,
    config: StarConfig | None = None,
    *,
    rule: StarRule = "paper",
    seed: int = 0,
    init_rows: Sequence[int] | None = None,
    reseed_rows: Sequence[int] = (),
) -> StarVideoMemory:
    """Compute the STAR memory of a video, `frames` [frames, tokens, dim] with square token maps in row order.

    `init_rows` replace the initial rows that `seed` draws, `reseed_rows` the first random rows that reseed empty
    clusters. Rule "paper" retrieves the frames nearest to the centroids of the heaviest clusters. Rule "released" takes
    the ids of the heaviest clusters as frame numbers, and retrieves the first exact duplicate of each of these frames.
    Raises ValueError if there is no frame, a value is not finite, or the tokens cannot be pooled.
    """
    config = config or StarConfig()
    if frames.dim() != 3 or not frames.numel() or not bool(torch.isfinite(frames).all()):
        raise ValueError(f"a STAR memory needs finite frames [frames, tokens, dim], not {list(frames.shape)}")
    seen = frames[: max(0, len(frames) - config.spatial_frames)]
    rows = pool_tokens(seen.float(), config.temporal_side)
    centroids, weights, members = star_kmeans(rows, config.temporal_clusters, seed, init_rows, reseed_rows)
    if rule == "released":
        retrieved = _retrieved_as_released(rows, weights, config.retrieved_frames)
    else:
        retrieved = klarge_retrieve(rows, centroids, weights, config.retrieved_frames) if len(rows) else ()
    abstract = AbstractMemory(attention, config)
    pooled = pool_tokens(seen.float(), config.abstract_side)
    for frame in pooled:
        abstract.add(frame)
    return StarVideoMemory(
        abstract=(abstract.read() if len(seen) else pooled).to(frames.dtype),
        temporal=centroids.to(frames.dtype),
        retrieved=frames[list(retrieved)],
        spatial=frames[len(seen) :],
        temporal_weights=weights,
        temporal_members=members,
        retrieved_frames=retrieved,
    )


def star_kmeans(
    rows: Tensor, clusters: int, seed: int, init_rows: Sequence[int] | None, reseed_rows: Sequence[int]
) -> tuple[Tensor, Tensor, tuple[tuple[int, ...], ...]]:
    """Cluster `rows` [rows, ...] float32; returns centroids [clusters, ...], weights and members, not ordered by time.

    If there are at most `clusters` rows, each is a cluster. A cluster that ends without a member keeps the row that
    reseeded it, with weight 0, as published.
    """
    count = len(rows)
    if count <= clusters:
        return rows, torch.ones(count, device=rows.device), tuple((row,) for row in range(count))
    generator = torch.Generator().manual_seed(seed)
    initial = torch.randperm(count, generator=generator)[:clusters] if init_rows is None else torch.tensor(init_rows)
    # In float64 the mean of equal rows is exactly that row, so rounding does not decide ties among equal frames.
    flat, ones = rows.flatten(1).double(), torch.ones(count, device=rows.device, dtype=torch.float64)
    start = flat[initial.to(rows.device)]
    centroids, labels, totals = lloyd(flat, ones, start, list(reseed_rows), generator, direct_distances)
    members = tuple(members_of(labels, clusters))
    return centroids.float().view(clusters, *rows.shape[1:]), totals.float(), members


def pool_tokens(frames: Tensor, side: int) -> Tensor:
    """Average square token maps [frames, tokens, dim] to [frames, side ** 2, dim]. Raises ValueError if impossible."""
    count, tokens, dim = frames.shape
    own = round(tokens**0.5)
    if own * own != tokens or own % side:
        raise ValueError(f"{tokens} tokens are not a square map that can be pooled to {side}x{side}")
    if own == side:
        return frames
    step = own // side
    squares = frames.reshape(count, side, step, side, step, dim)
    return squares.float().mean((2, 4)).view(count, side * side, dim).to(frames.dtype)


def _retrieved_as_released(rows: Tensor, weights: Tensor, count: int) -> tuple[int, ...]:
    """Frames retrieved by the rule "released" of `star_video_memory`."""
    numbers = torch.argsort(weights, descending=True, stable=True)[:count].tolist()
    return tuple(int((rows == rows[number]).flatten(1).all(1).int().argmax()) for number in numbers)
