"""Settings that the household model was trained with; config/household.yaml sets the same in the node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flash_vstream_ros.memory.config import FlashMemoryConfig

SIDE = 112  # of its frames [px]
MAX_PIXELS = SIDE * SIDE
FRAME_S, SLOT_S = 2.0, 4.0  # period of the frames of a slot, and of slots [s]
AGE_TEXT = "{minutes}"  # before each memory entry
THREADS = 1  # of PyTorch, for the program to set: with matrices this small, a second thread costs more than it saves
# Arguments of load_model.
LOADING: dict[str, Any] = {
    "max_pixels": MAX_PIXELS,
    "age_text": AGE_TEXT,
}
MEMORY = FlashMemoryConfig(
    csm_slots=72,
    dam_slots=4,
    horizon_slots=0,
    slot_period_ns=round(SLOT_S * 1e9),
    last_seen_ids=True,
    episode_slots=150,
)
# Training uses more key slots within the same token budget, so that details are learned.
TRAINED_MEMORY = replace(MEMORY, csm_slots=48, dam_slots=10)


def slots_by(now: float) -> int:
    """Number of complete slots of a patrol at the time `now` [s]."""
    return int((now - FRAME_S) / SLOT_S) + 1
