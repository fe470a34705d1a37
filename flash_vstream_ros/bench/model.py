"""Settings that a benchmark's model was trained with."""

from __future__ import annotations

from typing import Any

from flash_vstream_ros.memory import FlashMemoryConfig
from flash_vstream_ros.models.household_settings import LOADING, MEMORY, THREADS
from flash_vstream_ros.models.names import HOUSEHOLD


def settings_of(model: str) -> tuple[FlashMemoryConfig, dict[str, Any]]:
    """The memory that a model was trained with, and its arguments for `load_model`."""
    return (MEMORY, LOADING) if model == HOUSEHOLD else (FlashMemoryConfig(), {})


def threads_of(model: str) -> int:
    """Number of CPU threads with which a model is fastest; 0: PyTorch's own choice."""
    return THREADS if model == HOUSEHOLD else 0
