"""Sizes and clock of the streaming memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

MERGED_PATCHES = 4  # patches per token: Qwen2-VL's merger joins 2x2
PUBLISHED, HIERARCHICAL = RETENTIONS = ("published", "hierarchical")
BY_WEIGHT, BY_AGE = GROUPINGS = ("by_weight", "by_age")


@dataclass(frozen=True)
class FlashMemoryConfig:
    """Sizes of the memory, in slots, and its clock."""

    csm_slots: int = 60
    dam_slots: int = 30
    exemplars: int = 2  # slots stored at full detail per cluster
    horizon_slots: int = 120  # largest time id in training; longer spans are scaled to it; 0: never scaled
    slot_period_ns: int = 2_000_000_000  # duration of one slot: 2 / sample_fps
    recent_slots: int = 1  # newest slots of each camera that are always in DAM
    episode_slots: float = 0.0  # distance in time at which equal views count as different visits [slots]; 0: never
    tokens: int = 0  # budget of visual tokens; CSM and DAM are scaled by the same factor to fit it; 0: no budget
    patches_per_token: int = MERGED_PATCHES  # low-resolution patches per visual token
    # True: the time id of a cluster is the time of its newest slot, and the question's id follows that of the newest
    # slot, so that their distance is the cluster's age. False, as published: the cluster's mean time, and `csm_slots`.
    last_seen_ids: bool = False
    # published: a snapshot has an entry for every stored cluster. hierarchical: an entry may stand for several stored
    # clusters, and light but stable clusters are preserved.
    retention: str = PUBLISHED
    store_factor: int = 4  # stored clusters per CSM slot; hierarchical only
    # How stored clusters are grouped into entries; hierarchical only. by_weight: weights count a little, time linearly.
    # by_age: all but transient clusters count equally, and their distance in time is that of logarithmic ages.
    grouping: str = BY_WEIGHT

    def __post_init__(self) -> None:
        if not 1 <= self.dam_slots <= self.csm_slots:
            raise ValueError(f"dam_slots must be from 1 to csm_slots ({self.csm_slots}), not {self.dam_slots}")
        if min(self.exemplars, self.slot_period_ns, self.patches_per_token) < 1:
            raise ValueError("exemplars, slot_period_ns and patches_per_token must be at least 1")
        if min(self.recent_slots, self.horizon_slots, self.episode_slots, self.tokens) < 0:
            raise ValueError("recent_slots, horizon_slots, episode_slots and tokens must not be negative")
        if self.retention not in RETENTIONS or self.store_factor < 1:
            raise ValueError(f"retention must be one of {', '.join(RETENTIONS)}, and store_factor at least 1")
        if self.grouping not in GROUPINGS:
            raise ValueError(f"grouping must be one of {', '.join(GROUPINGS)}, not {self.grouping!r}")

    @property
    def hierarchical(self) -> bool:
        return self.retention == HIERARCHICAL

    @property
    def stored_clusters(self) -> int:
        """Number of clusters in memory; a snapshot has at most `csm_slots` entries of them."""
        return self.csm_slots * (self.store_factor if self.hierarchical else 1)

    @property
    def stored_exemplars(self) -> int:
        """Number of exemplars per stored cluster. In total, there are at least `exemplars` for each CSM slot."""
        return -(-self.exemplars // self.store_factor) if self.hierarchical else self.exemplars

    @property
    def shape_settings(self) -> tuple[int, int, int, str]:
        """The settings that determine the shapes of all tensors."""
        return self.stored_clusters, self.stored_exemplars, self.recent_slots, self.retention

    def within_budget(self, csm_tokens: int, dam_tokens: int) -> FlashMemoryConfig:
        """Scale CSM and DAM to the token budget, to at least one slot each. `*_tokens` are the tokens of one slot."""
        if not self.tokens:
            return self
        whole = self.csm_slots * csm_tokens + self.dam_slots * dam_tokens
        csm_slots, dam_slots = (max(1, slots * self.tokens // whole) for slots in (self.csm_slots, self.dam_slots))
        return replace(self, csm_slots=csm_slots, dam_slots=dam_slots, tokens=0)

    def exemplar_rows(self, cameras: int) -> int:
        """Rows for the exemplars of all clusters, the recent slots of each camera, and a slot being inserted."""
        return self.stored_clusters * self.stored_exemplars + self.recent_slots * cameras + 1
