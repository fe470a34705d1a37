"""STAR memory of Flash-VStream-LLaVA (arXiv 2406.08085, "STAR Memory"): spatial, temporal, abstract, retrieved.

The spatial memory is the newest frame. The other three see all frames but that one: the temporal memory are clusters
of their pooled maps, the retrieved memory are whole frames, the abstract memory is updated by attention.
Arithmetic is float32 at least, whatever the dtype of the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kmeans import direct_distances, klarge_retrieve, lloyd, members_of

# paper: what the paper describes. released: what the released offline code computes; its weights were trained so.
StarRule = Literal["paper", "released"]


@dataclass(frozen=True)
class StarConfig:
    """Sizes of the four memories. A side is that of a square of tokens."""

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
    """How much each token of the abstract memory takes of each new token: softmax(q(M) k(N)^T / sqrt(width))."""

    def __init__(self, dim: int, width: int = 32) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, width)
        self.k_proj = nn.Linear(dim, width)

    @torch.no_grad()
    def update(self, memory: Tensor, new: Tensor, ratio: float) -> Tensor:
        """`memory` [tokens, dim] after `new` [new_tokens, dim] came, both float32."""
        queries, keys = (
            F.linear(tokens, part.weight.float(), part.bias.float())
            for part, tokens in ((self.q_proj, memory), (self.k_proj, new))
        )
        weights = ratio * torch.softmax(queries @ keys.T / queries.shape[1] ** 0.5, dim=1)
        return memory * (1 - weights.sum(1, keepdim=True)) + weights @ new


class AbstractMemory:
    """The abstract memory as frames come in. The first ones fill it; then as many as it has slots update it together.

    What waits for its chunk to be complete updates what is read, and is kept until then: at any time `read` gives
    what the whole clip up to then would.
    """

    def __init__(self, attention: AbstractAttention, config: StarConfig) -> None:
        self._attention, self._config = attention, config
        self._slots: list[Tensor] = []  # each [tokens, dim] float32
        self._waiting: list[Tensor] = []

    def add(self, frame: Tensor) -> None:
        """Take in `frame` [tokens, dim], pooled to the abstract side."""
        full = len(self._slots) == self._config.abstract_slots
        (self._waiting if full else self._slots).append(frame.detach().float().clone())
        if len(self._waiting) == self._config.abstract_slots:
            self._slots, self._waiting = list(self.read()), []

    def read(self) -> Tensor:
        """What it holds now [slots, tokens, dim], float32; at least one frame must have come."""
        slots = torch.stack(self._slots)
        if not self._waiting:
            return slots
        new = torch.cat(self._waiting)
        return self._attention.update(slots.flatten(0, 1), new, self._config.update_ratio).view_as(slots)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that it holds."""
        return (*self._slots, *self._waiting)


@dataclass(frozen=True, eq=False)
class StarClip:
    """The STAR memory of a clip; features in the dtype of the frames. The first three are empty for a single frame."""

    abstract: Tensor  # [slots, abstract_side ** 2, dim]
    temporal: Tensor  # [clusters, temporal_side ** 2, dim], not in the order of time
    retrieved: Tensor  # [frames, tokens, dim], of the heaviest cluster first
    spatial: Tensor  # [frames, tokens, dim]
    temporal_weights: Tensor  # [clusters] float32: frames in each
    temporal_members: tuple[tuple[int, ...], ...]
    retrieved_frames: tuple[int, ...]

    @property
    def sequence(self) -> Tensor:
        """All tokens [tokens, dim], in the order in which the language model is shown them."""
        return torch.cat([part.flatten(0, 1) for part in (self.abstract, self.temporal, self.retrieved, self.spatial)])


@torch.no_grad()
def star_clip(
    frames: Tensor,
    attention: AbstractAttention,
    config: StarConfig | None = None,
    *,
    rule: StarRule = "paper",
    seed: int = 0,
    init_rows: Sequence[int] | None = None,
    reseed_rows: Sequence[int] = (),
) -> StarClip:
    """The STAR memory of a whole clip of `frames` [frames, tokens, dim], whose tokens are a square by rows.

    The initial centroids are `init_rows` in place of a draw from `seed`; `reseed_rows` are taken first, one by one,
    where a cluster needs a random row. By the rule "paper" the retrieved frames are those nearest to the centroids of
    the heaviest clusters; by "released" those whose numbers are the heaviest clusters' ids, or their first duplicates.
    Raises ValueError when there is no frame, a value is not finite, or the tokens cannot be pooled.
    """
    config = config or StarConfig()
    if frames.dim() != 3 or not frames.numel() or not bool(torch.isfinite(frames).all()):
        raise ValueError(f"a STAR memory needs finite frames [frames, tokens, dim], not {list(frames.shape)}")
    seen = frames[: max(0, len(frames) - config.spatial_frames)]
    rows = pool_tokens(seen.float(), config.temporal_side)
    centroids, weights, members = star_kmeans(rows, config.temporal_clusters, seed, init_rows, reseed_rows)
    if rule == "released":
        retrieved = _numbered_as_heaviest(rows, weights, config.retrieved_frames)
    else:
        retrieved = klarge_retrieve(rows, centroids, weights, config.retrieved_frames) if len(rows) else ()
    abstract = AbstractMemory(attention, config)
    pooled = pool_tokens(seen.float(), config.abstract_side)
    for frame in pooled:
        abstract.add(frame)
    return StarClip(
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
    """Centroids [clusters, ...], weights and members of clusters of `rows` [rows, ...] float32, in no order of time.

    Up to `clusters` rows are all kept. A cluster that has no member at the end keeps the row that it was given, with
    weight 0, as published.
    """
    count = len(rows)
    if count <= clusters:
        return rows, torch.ones(count, device=rows.device), tuple((row,) for row in range(count))
    generator = torch.Generator().manual_seed(seed)
    initial = torch.randperm(count, generator=generator)[:clusters] if init_rows is None else torch.tensor(init_rows)
    # In float64 the mean of equal rows is exactly that row, so that ties among equal frames are not left to rounding.
    flat, ones = rows.flatten(1).double(), torch.ones(count, device=rows.device, dtype=torch.float64)
    start = flat[initial.to(rows.device)]
    centroids, labels, totals = lloyd(flat, ones, start, list(reseed_rows), generator, direct_distances)
    members = tuple(members_of(labels, clusters))
    return centroids.float().view(clusters, *rows.shape[1:]), totals.float(), members


def pool_tokens(frames: Tensor, side: int) -> Tensor:
    """Square maps [frames, tokens, dim] averaged to [frames, side ** 2, dim]; ValueError where that does not go up."""
    count, tokens, dim = frames.shape
    own = round(tokens**0.5)
    if own * own != tokens or own % side:
        raise ValueError(f"{tokens} tokens are no square that can be pooled to {side}x{side}")
    if own == side:
        return frames
    step = own // side
    squares = frames.reshape(count, side, step, side, step, dim)
    return squares.float().mean((2, 4)).view(count, side * side, dim).to(frames.dtype)


def _numbered_as_heaviest(rows: Tensor, weights: Tensor, count: int) -> tuple[int, ...]:
    numbers = torch.argsort(weights, descending=True, stable=True)[:count].tolist()
    return tuple(int((rows == rows[number]).flatten(1).all(1).int().argmax()) for number in numbers)
