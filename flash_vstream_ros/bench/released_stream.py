"""The streaming procedure of the released code, only as a baseline for the cost of a slot and of a question.

The feature maps of every slot, before the merger, are kept on the host. For each new slot, all of them are copied to
the device and back and searched for DAM, the slot is clustered with the centroids from a random start, and the merger
runs over the whole memory. A question prefills the whole prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flash_vstream_ros.instruments.stopwatch import Stopwatch
from flash_vstream_ros.memory.config import MERGED_PATCHES
from flash_vstream_ros.memory.slot import EntryKind, Grid, MemoryEntry, MemorySnapshot
from flash_vstream_ros.models.preprocess import POOL, normalise, patchify, resize

from .released import released_step


class Maps(NamedTuple):
    """Output of the tower for a slot, before the merger."""

    high: Tensor  # [patches, dim]
    low: Tensor  # [patches / 4, dim]


@torch.inference_mode()
def tower_maps(network: Any, frames: Sequence[np.ndarray], grid: Grid) -> Maps:
    """Maps of two RGB uint8 frames [height, width, 3]."""
    visual, vision = network.model.visual, network.config.vision_config
    images = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    pixels = normalise(resize(images, (grid.height * vision.patch_size, grid.width * vision.patch_size)))
    pixels = pixels.to(visual.device, visual.dtype)
    sizes = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    rows = [patchify(each, *sizes) for each in (pixels, F.avg_pool2d(pixels, POOL))]
    grids = torch.tensor([[1, *grid], [1, grid.height // POOL, grid.width // POOL]], device=visual.device)
    features = visual(torch.cat(rows), grid_thw=grids).last_hidden_state
    high, low = features.split([len(each) for each in rows])
    return Maps(high.clone(), low.clone())


def nearest_slots(low: Tensor, centroids: Tensor, weights: Tensor, count: int) -> Tensor:
    """For each of the `count` heaviest clusters, the slot nearest to its centroid: indices [count].

    Computed in the dtype of `low` [slots, ...] and `centroids` [clusters, ...], as released. If there are at most
    `count` slots, all are chosen.
    """
    if len(low) <= count:
        return torch.arange(len(low), device=low.device)
    heaviest = torch.argsort(weights, descending=True, stable=True)[:count]
    rows, wanted = low.flatten(1), centroids[heaviest].flatten(1)
    norms = torch.linalg.vector_norm(rows, dim=1).square()
    return (norms - 2 * wanted @ rows.T).argmin(1)  # without the centroid's norm, which is the same for all slots


class ReleasedStream:
    """The released memory of a stream. `merger` converts patches [patches, dim] to tokens [patches / 4, width]."""

    def __init__(self, merger: Any, csm_slots: int, dam_slots: int, grid: Grid, seed: int = 0) -> None:
        self.bank: Maps | None = None  # maps of all slots, each [slots, ...], on the host
        self.centroids = self.weights = torch.zeros(0)  # [clusters, low_patches, dim], [clusters]
        self.chosen = torch.zeros(0, dtype=torch.long)  # [dam_slots] slots of DAM
        self.tokens = torch.zeros(0, 0)  # [tokens, width] of DAM, then of CSM
        self._merger = merger
        self._csm_slots = csm_slots
        self._dam_slots = dam_slots
        self._grid = grid
        self._seed = seed

    @property
    def slots(self) -> int:
        return len(self.bank.low) if self.bank else 0

    @property
    def bytes(self) -> int:
        """Bytes of the bank, the centroids and the merged tokens."""
        return sum(tensor.nbytes for tensor in (*(self.bank or ()), self.centroids, self.weights, self.tokens))

    def bytes_after(self, slots: int) -> int:
        """The value of `bytes` after `slots` slots, computed. There must be at least as many slots as clusters."""
        assert self.bank is not None
        return self.bytes + (slots - self.slots) * sum(each[0].nbytes for each in self.bank)

    @torch.inference_mode()
    def fill(self, stream: Iterable[Maps], slots: int) -> None:
        """Insert `slots` slots with a single allocation of the bank, and without retrieval and merger."""
        for index, maps in zip(range(slots), stream, strict=False):
            if self.bank is None:
                self.bank = Maps(*(torch.empty(slots, *each.shape, dtype=each.dtype) for each in maps))
            for own, each in zip(self.bank, maps, strict=True):
                own[index] = each
            self._cluster(maps.low, index)

    @torch.inference_mode()
    def insert(self, maps: Maps, watch: Stopwatch | None = None, init_rows: Sequence[int] | None = None) -> None:
        """Insert one slot. `init_rows` replace the random start of the clustering."""
        watch, device = watch or Stopwatch(maps.low.device), maps.low.device
        with watch.part("bank"):
            bank = self.bank or Maps(*(each.new_empty(0, *each.shape, device="cpu") for each in maps))
            on_device = Maps(*(torch.cat([own.to(device), each[None]]) for own, each in zip(bank, maps, strict=True)))
        with watch.part("k-means"):
            self._cluster(maps.low, len(on_device.low) - 1, init_rows)
        with watch.part("retrieval"):
            self.chosen = nearest_slots(on_device.low, self.centroids, self.weights, self._dam_slots)
        with watch.part("merger"):
            patches = [on_device.high[self.chosen].flatten(0, 1), self.centroids.flatten(0, 1)]
            self.tokens = self._merger(torch.cat(patches))
        with watch.part("bank"):
            self.bank = Maps(*(each.cpu() for each in on_device))

    def snapshot(self) -> MemorySnapshot:
        """The memory for a question. The times of CSM are places in the buffer, as released."""
        dam_tokens = self._grid.height * self._grid.width // MERGED_PATCHES
        dam = self.tokens[: len(self.chosen) * dam_tokens].unflatten(0, (len(self.chosen), dam_tokens))
        kinds = [EntryKind.DAM] * len(dam) + [EntryKind.CSM] * len(self.centroids)
        return MemorySnapshot(
            dam=dam,
            dam_times=self.chosen.double().cpu(),
            csm=self.centroids,
            csm_times=torch.arange(len(self.centroids), dtype=torch.float64),
            grid=self._grid,
            entries=tuple(MemoryEntry(kind, "", "", 0, 0, 1.0, b"", 0) for kind in kinds),
            slots_seen=self.slots,
            text_slots=min(self.slots, self._csm_slots),
        )

    def _cluster(self, low: Tensor, step: int, init_rows: Sequence[int] | None = None) -> None:
        if not len(self.centroids):
            self.centroids, self.weights = low.new_zeros(0, *low.shape), torch.zeros(0, device=low.device)
        found = released_step(self.centroids, self.weights, low, self._csm_slots, self._seed + step, init_rows)
        self.centroids, self.weights = found.centroids, found.weights
