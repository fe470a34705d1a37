"""The streaming Flash Memory: bounded, deterministic, and timed by message stamps.

CSM is an online Ward clustering of low-resolution maps. Each cluster stores its exemplars, the slots nearest to its
centroid, and DAM is chosen among them. So no feature bank and no search at question time are needed. The published
memory ("Flash Memory" of arXiv 2506.23825) keeps every slot; see video_memory.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from . import forgetting, insertion, resizing
from .cluster import Cluster
from .config import FlashMemoryConfig
from .contents import MemoryContents
from .flash_state import config_of, contents_of, state_of
from .interface import Forgotten, Memory
from .scope import EVERYTHING, Scope
from .second_look import second_look
from .similar import most_similar
from .slot import Extension, Grid, MemoryEntry, MemorySnapshot, Slot, empty_snapshot
from .slot_checks import check_extension, check_slot
from .snapshot_entries import SnapshotEntries
from .snapshots import snapshot_after, snapshot_of
from .state import MemoryState, refused_if_malformed
from .time_ids import MemoryClock


class FlashMemory(Memory):
    """CSM and DAM of a stream. A slot's stamp is that of its second frame.

    The first slot determines the sizes that fit a token budget and allocates all tensors. The first slot of another
    camera allocates exemplar rows for its recent slots.
    """

    def __init__(self, config: FlashMemoryConfig | None = None) -> None:
        self._requested = config or FlashMemoryConfig()
        self.revision = -1
        self.reset()

    def reset(self) -> None:
        self.config = self._requested
        self._contents: MemoryContents | None = None  # None before the first slot
        self._all_entries: SnapshotEntries | None = None  # of a full snapshot; None after a change
        self.slots_seen = 0
        self.revision += 1

    @property
    def parts(self) -> Collection[Cluster]:
        """The clusters."""
        return self._contents.clusters.values() if self._contents else ()

    def cluster_of_newest(self, camera: str) -> int | None:
        return self._contents.row_of_newest(camera) if self._contents else None

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras that the memory has slots of, in order of first appearance."""
        return self._contents.cameras if self._contents else ()

    @property
    def version(self) -> tuple[int, FlashMemoryConfig, int]:
        """Version of the contents: equal versions give equal snapshots. Inserts change only the last element."""
        return self.revision, self.config, self.slots_seen

    @property
    def entries(self) -> int:
        return self._csm_slots + self._dam_slots

    @property
    def capacity(self) -> int:
        return self.config.csm_slots + self.config.dam_slots

    @property
    def tokens(self) -> int:
        if self._contents is None:
            return 0
        csm_tokens = self._contents.pool.low.shape[1] // self.config.patches_per_token
        return csm_tokens * self._csm_slots + self._contents.pool.detail.shape[1] * self._dam_slots

    @property
    def bytes(self) -> int:
        return self._contents.bytes if self._contents else 0

    @torch.no_grad()
    def insert(self, slot: Slot) -> float:
        """Insert a slot. Its novelty is 1 - cosine similarity to the camera's nearest centroid; see Memory."""
        contents = self._contents
        grid = contents.grid if contents else Grid(0, 0)
        stored = contents.pool if contents else None
        check_slot(slot, stored, grid, self.newest_of(slot.camera), self.config.patches_per_token)
        config = self.config if contents else _within_budget(self._requested, slot.low, slot.detail)
        # A tensor made in inference mode could not be updated outside of it.
        with torch.inference_mode(False):
            contents = contents or MemoryContents.for_slots_like(slot, config)
            novelty = insertion.insert(contents, slot, config)
        self._contents, self.config, self._all_entries = contents, config, None
        self.slots_seen += 1
        return novelty

    def extend(self, camera: str, extension: Extension) -> None:
        check_extension(camera, extension, self.newest_of(camera))
        assert self._contents is not None
        self._contents.extend(camera, extension)
        self._all_entries = None
        self.slots_seen += extension.slots

    @torch.no_grad()
    def forget(self, scope: Scope = EVERYTHING) -> Forgotten:
        """Forget at least everything in `scope`; clusters without a slot in scope do not change."""
        if self._contents is None:
            return Forgotten()
        self._all_entries = None
        with torch.inference_mode(False):
            forgotten = forgetting.forget(self._contents, scope, self.config)
        self.revision += forgotten.slots > 0
        return forgotten

    @torch.no_grad()
    def resize(self, config: FlashMemoryConfig) -> None:
        """Change sizes: clusters beyond `csm_slots` are merged as in the stream, and surplus exemplars are freed.

        Raises ValueError if there are more cameras than CSM slots, or torch's error if allocation fails; nothing
        changes then.
        """
        contents, requested, self._all_entries = self._contents, config, None
        if contents is not None:
            config = _within_budget(requested, contents.pool.low[0], contents.pool.detail[0])
            if len(contents.cameras) > config.csm_slots:
                raise ValueError(
                    f"{len(contents.cameras)} cameras need as many CSM slots, not {config.csm_slots}; raise "
                    "memory.synopsis_slots or memory.tokens"
                )
            with torch.inference_mode(False):
                resizing.resize(contents, self.config, config)
        self._requested, self.config = requested, config

    @torch.no_grad()
    def snapshot(self, scope: Scope = EVERYTHING) -> MemorySnapshot:
        """Copy of the part in `scope`; time ids keep the origin and the scale of the whole memory."""
        if self._contents is None:
            return empty_snapshot(self.config.slot_period_ns * 1e-9)
        return snapshot_of(self._contents, self._entries_in(scope), self.config)

    @torch.no_grad()
    def snapshot_after(self, clock: MemoryClock, count: int) -> MemorySnapshot:
        """Up to `count` of the newest slots that a snapshot with `clock` lacks, as DAM only, oldest first.

        Time ids continue those of that snapshot. Only slots that are still stored as exemplars are included.
        """
        return snapshot_after(self._contents, clock, count) if self._contents else empty_snapshot()

    @torch.no_grad()
    def second_look(
        self,
        entries: Sequence[MemoryEntry],
        tokens: int,
        scope: Scope = EVERYTHING,
        clock: MemoryClock | None = None,
    ) -> MemorySnapshot:
        """Snapshot of the stored clusters behind `entries` of `snapshot(scope)`, with at most `tokens` visual tokens.

        Earlier entries take precedence. `clock` is the clock of `snapshot(scope)`; None: the present clock. A published
        memory has no clusters behind its entries, only exemplars.
        """
        if self._contents is None:
            return empty_snapshot(self.config.slot_period_ns * 1e-9)
        first_look = self._entries_in(scope)
        return second_look(self._contents, first_look, entries, tokens, self.config, clock or self.clock)

    @property
    def grid(self) -> Grid:
        return self._contents.grid if self._contents else Grid(0, 0)

    @torch.no_grad()
    def similar(self, low: Tensor, scope: Scope = EVERYTHING) -> list[tuple[MemoryEntry, float]]:
        return most_similar(self._contents, low, scope) if self._contents else []

    def is_covered_by(self, scope: Scope = EVERYTHING) -> bool:
        """Returns True if `scope` selects everything stored."""
        return scope.everything or all(scope.covers(cluster) for cluster in self.parts)

    def list_entries(self, scope: Scope = EVERYTHING) -> tuple[MemoryEntry, ...]:
        return self._entries_in(scope).entries if self._contents else ()

    def may_contain(self, scope: Scope = EVERYTHING) -> bool:
        return any(cluster.may_touch(scope) for cluster in self.parts)

    def state(self) -> MemoryState:
        return state_of(self._contents, self.config, self.slots_seen)

    @torch.no_grad()
    def restore(self, state: MemoryState, device: torch.device) -> None:
        restored = FlashMemory()
        with refused_if_malformed(), torch.inference_mode(False):
            restored.config, restored.slots_seen = config_of(state), int(state.values["slots_seen"])
            restored._contents = contents_of(state, device)
            restored.resize(self._requested)
        self._contents, self.config, self._all_entries = restored._contents, restored.config, None
        self.slots_seen = restored.slots_seen
        self.revision += 1

    @property
    def _csm_slots(self) -> int:
        return min(len(self.parts), self.config.csm_slots)

    @property
    def _dam_slots(self) -> int:
        return min(len(self._contents.exemplars), self.config.dam_slots) if self._contents else 0

    def _entries_in(self, scope: Scope) -> SnapshotEntries:
        assert self._contents is not None
        if not scope.everything:
            return SnapshotEntries.of(self._contents, scope, self.config)
        if self._all_entries is None:
            self._all_entries = SnapshotEntries.of(self._contents, scope, self.config)
        return self._all_entries


def _within_budget(config: FlashMemoryConfig, low: Tensor, detail: Tensor) -> FlashMemoryConfig:
    """`config` with the sizes that its token budget allows for slots of these shapes."""
    return config.within_budget(low.shape[0] // config.patches_per_token, detail.shape[0])
