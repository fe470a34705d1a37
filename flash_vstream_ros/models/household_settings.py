"""What the household model sees and remembers. config/household.yaml gives the node the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flash_vstream_ros.memory.config import FlashMemoryConfig

SIDE = 112  # of the frames [px]
MAX_PIXELS = SIDE * SIDE
FRAME_S, SLOT_S = 2.0, 4.0  # between the frames of a slot; between slots
AGE_TEXT = "{minutes}"  # before each memory entry
THREADS = 1  # its matrices are so small that a second thread costs more than it computes
LOADING: dict[str, Any] = {"max_pixels": MAX_PIXELS, "age_text": AGE_TEXT, "threads": THREADS}  # for load_model
MEMORY = FlashMemoryConfig(
    csm_slots=72,
    dam_slots=4,
    horizon_slots=0,
    slot_period_ns=round(SLOT_S * 1e9),
    last_seen_ids=True,
    episode_slots=150,
)
# Details are learned from more key slots than there are best; the budget is the same.
TRAINED_MEMORY = replace(MEMORY, csm_slots=48, dam_slots=10)


def slots_by(now: float) -> int:
    """How many slots of a patrol are complete at a moment of it [s]."""
    return int((now - FRAME_S) / SLOT_S) + 1
