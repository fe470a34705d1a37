"""How large the streaming memory is, and how long its slots are."""

from __future__ import annotations

from dataclasses import dataclass, replace

MERGED_PATCHES = 4  # Qwen2-VL's merger makes one token of 2x2 patches


@dataclass(frozen=True)
class FlashMemoryConfig:
    """Sizes of the memory, in slots, and its clock."""

    csm_slots: int = 60
    dam_slots: int = 30
    exemplars: int = 2  # slots kept at full detail for each cluster
    horizon_slots: int = 120  # longest time id the model was trained on; later times are scaled to fit; 0: never
    slot_period_ns: int = 2_000_000_000  # stamp length of one slot: 2 / sample_fps
    recent_slots: int = 1  # the newest slots of each camera, held in DAM whatever their weight
    episode_slots: float = 0.0  # so many slots apart, equal views count as different ones; 0: time does not count
    tokens: int = 0  # scale CSM and DAM alike so that their slots fill so many visual tokens; 0: as given
    patches_per_token: int = MERGED_PATCHES  # low patches that the model makes one token of
    # A cluster stands at the time of its newest slot and the question after the newest of all, so that the distance
    # tells how long ago; False, as published: at their mean time, and after `csm_slots` however long the stream.
    last_seen_ids: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.dam_slots <= self.csm_slots:
            raise ValueError(f"dam_slots must be from 1 to csm_slots ({self.csm_slots}), not {self.dam_slots}")
        if min(self.exemplars, self.slot_period_ns, self.patches_per_token) < 1:
            raise ValueError("exemplars, slot_period_ns and patches_per_token must be at least 1")
        if min(self.recent_slots, self.horizon_slots, self.episode_slots, self.tokens) < 0:
            raise ValueError("recent_slots, horizon_slots, episode_slots and tokens must not be negative")

    @property
    def rows(self) -> tuple[int, int, int]:
        """What the sizes of all tensors follow from."""
        return self.csm_slots, self.exemplars, self.recent_slots

    def fitted(self, csm_tokens: int, dam_tokens: int) -> FlashMemoryConfig:
        """With CSM and DAM, whose slots have so many tokens each, scaled alike to the budget; a slot each at least."""
        if not self.tokens:
            return self
        whole = self.csm_slots * csm_tokens + self.dam_slots * dam_tokens
        csm_slots, dam_slots = (max(1, slots * self.tokens // whole) for slots in (self.csm_slots, self.dam_slots))
        return replace(self, csm_slots=csm_slots, dam_slots=dam_slots, tokens=0)

    def exemplar_rows(self, cameras: int) -> int:
        """Rows for the exemplars of full clusters, each camera's recent slots, and one on its way in."""
        return self.csm_slots * self.exemplars + self.recent_slots * cameras + 1
