"""The streaming Flash Memory: bounded, deterministic, and timed by message stamps.

CSM are the clusters of an online Ward clustering over low-resolution maps. Each cluster carries the few slots
nearest to its centroid, its exemplars, and DAM is read off them: no feature bank, no search at question time.
What is published ("Flash Memory" of arXiv 2506.23825) keeps every slot; clip.py has that for clips.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from . import forgetting, insertion, resizing
from .admission import check, check_extension
from .cluster import Cluster
from .config import FlashMemoryConfig
from .contents import MemoryContents
from .interface import Forgotten, Memory
from .scope import EVERYTHING, Scope
from .slot import Extension, Grid, MemoryEntry, MemorySnapshot, Slot, nothing_seen
from .time_ids import TimeIds, clock_of
from .visible import Visible, dam_of, newer_than, snapshot_of


class FlashMemory(Memory):
    """A slot's stamp is that of its second frame.

    Where the sizes follow from a budget of tokens, the first slot decides them. Tensors are allocated with the first
    slot of all and, for what each camera saw last, with the first slot of a further camera.
    """

    def __init__(self, config: FlashMemoryConfig | None = None) -> None:
        self._wanted = config or FlashMemoryConfig()
        self.revision = -1
        self.reset()

    def reset(self) -> None:
        self.config = self._wanted
        self._held: MemoryContents | None = None  # from the first slot on
        self.slots_seen = 0
        self.revision += 1

    @property
    def parts(self) -> Collection[Cluster]:
        """Its clusters."""
        return self._held.clusters.values() if self._held else ()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras that the memory holds something of, in order of appearance."""
        return self._held.cameras if self._held else ()

    @property
    def version(self) -> tuple[int, FlashMemoryConfig, int]:
        """Equal as long as a snapshot would be the same. Its last part alone changes with a further slot."""
        return self.revision, self.config, self.slots_seen

    @property
    def clock(self) -> TimeIds:
        """By which a snapshot is timed now."""
        return clock_of(self.parts, self.config)

    @property
    def entries(self) -> int:
        return len(self.parts) + self._dam_slots

    @property
    def capacity(self) -> int:
        return self.config.csm_slots + self.config.dam_slots

    @property
    def tokens(self) -> int:
        if self._held is None:
            return 0
        csm_tokens = self._held.pool.low.shape[1] // self.config.patches_per_token
        return csm_tokens * len(self.parts) + self._held.pool.detail.shape[1] * self._dam_slots

    @property
    def bytes(self) -> int:
        return self._held.bytes if self._held else 0

    @torch.no_grad()
    def insert(self, slot: Slot) -> float:
        """Novelty is 1 - cosine similarity with the camera's nearest centroid; see Memory."""
        held = self._held
        grid = held.grid if held else Grid(0, 0)
        check(slot, held.pool if held else None, grid, self.newest_of(slot.camera), self.config.patches_per_token)
        config = self.config if held else _fitted(self._wanted, slot.low, slot.detail)
        # A tensor made in inference mode could not be updated outside of it.
        with torch.inference_mode(False):
            held = held or MemoryContents.for_slots_like(slot, config)
            novelty = insertion.insert(held, slot, config)
        self._held, self.config = held, config
        self.slots_seen += 1
        return novelty

    def stay(self, camera: str, stay: Extension) -> None:
        check_extension(camera, stay, self.newest_of(camera))
        assert self._held is not None
        self._held.stay(camera, stay)
        self.slots_seen += stay.slots

    @torch.no_grad()
    def forget(self, scope: Scope = EVERYTHING) -> Forgotten:
        """More may go than was asked for, never less; clusters that hold no such slot stay as they are."""
        if self._held is None:
            return Forgotten()
        with torch.inference_mode(False):
            forgotten = forgetting.forget(self._held, scope, self.config)
        self.revision += forgotten.slots > 0
        return forgotten

    @torch.no_grad()
    def resize(self, config: FlashMemoryConfig) -> None:
        """Clusters beyond `csm_slots` are merged by the rule of the stream, and what falls out is freed.

        Raises ValueError when there are more cameras than CSM slots, or what torch raises when there is no room;
        nothing has changed then.
        """
        held, wanted = self._held, config
        if held is not None:
            config = _fitted(wanted, held.pool.low[0], held.pool.detail[0])
            if len(held.cameras) > config.csm_slots:
                raise ValueError(f"{len(held.cameras)} cameras need as many CSM slots, not {config.csm_slots}")
            with torch.inference_mode(False):
                resizing.resize(held, self.config, config)
        self._wanted, self.config = wanted, config

    @torch.no_grad()
    def snapshot(self, scope: Scope = EVERYTHING) -> MemorySnapshot:
        """What is visible of a part; time ids keep the origin and the scale of the whole memory."""
        if self._held is None:
            return nothing_seen(self.config.slot_period_ns * 1e-9)
        return snapshot_of(self._held, scope, self.config)

    @torch.no_grad()
    def newer(self, clock: TimeIds, count: int) -> MemorySnapshot:
        """Up to `count` slots that came after the newest one of `clock`, in detail and timed by it, oldest first.

        The newest of those that are held by themselves: DAM alone, as what continues a snapshot of that clock.
        """
        return newer_than(self._held, clock, count) if self._held else nothing_seen()

    def lies_within(self, scope: Scope = EVERYTHING) -> bool:
        """Whether a snapshot with these bounds is that of everything."""
        return all(scope.covers(cluster) for cluster in self.parts)

    def listed(self, scope: Scope = EVERYTHING) -> tuple[MemoryEntry, ...]:
        return Visible.of(self._held, scope, self.config).entries if self._held else ()

    def saw(self, scope: Scope = EVERYTHING) -> bool:
        return any(cluster.may_reach(scope) for cluster in self.parts)

    @property
    def _dam_slots(self) -> int:
        return len(dam_of(self._held, self.parts, EVERYTHING, self.config)) if self._held else 0


def _fitted(config: FlashMemoryConfig, low: Tensor, detail: Tensor) -> FlashMemoryConfig:
    """`config` as its budget of tokens has it for slots with features like these."""
    return config.fitted(low.shape[0] // config.patches_per_token, detail.shape[0])
