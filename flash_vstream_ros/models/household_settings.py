"""Settings of the household model; config/household.yaml has the same for the node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flash_vstream_ros.memory.config import BY_AGE, BY_WEIGHT, HIERARCHICAL, FlashMemoryConfig

SIDE = 112  # side of a frame [px]
MAX_PIXELS = SIDE * SIDE
FRAME_S, SLOT_S = 2.0, 4.0  # time between frames, and between slots [s]
AGE_TEXT = "{minutes}"  # text before each memory entry
THREADS = 1  # PyTorch threads, set by the program; matrices are so small that a second thread slows them down
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
    retention=HIERARCHICAL,
    grouping=BY_AGE,
)
SECOND_LOOK_SHARE = 1 / 16  # of the memory's visual tokens
# Training uses more DAM slots within the same token budget, so that the model learns to use details.
TRAINED_MEMORY = replace(MEMORY, csm_slots=48, dam_slots=10, grouping=BY_WEIGHT)


def complete_slots(now: float) -> int:
    """Number of complete slots of a patrol after `now` seconds."""
    return int((now - FRAME_S) / SLOT_S) + 1
