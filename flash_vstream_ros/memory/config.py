"""How large the streaming memory is, and how long its slots are."""

from __future__ import annotations

from dataclasses import dataclass


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
    # A cluster stands at the time of its newest slot and the question after the newest of all, so that the distance
    # tells how long ago; False, as published: at their mean time, and after `csm_slots` however long the stream.
    last_seen_ids: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.dam_slots <= self.csm_slots:
            raise ValueError(f"dam_slots must be from 1 to csm_slots ({self.csm_slots}), not {self.dam_slots}")
        if self.exemplars < 1 or self.slot_period_ns < 1:
            raise ValueError("exemplars and slot_period_ns must be at least 1")
        if min(self.recent_slots, self.horizon_slots, self.episode_slots) < 0:
            raise ValueError("recent_slots, horizon_slots and episode_slots must not be negative")

    @property
    def rows(self) -> tuple[int, int, int]:
        """What the sizes of all tensors follow from."""
        return self.csm_slots, self.exemplars, self.recent_slots

    def exemplar_rows(self, cameras: int) -> int:
        """Rows for the exemplars of full clusters, each camera's recent slots, and one on its way in."""
        return self.csm_slots * self.exemplars + self.recent_slots * cameras + 1
