"""Which memory the node has, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flash_vstream_ros.memory.config import MERGED_PATCHES, FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.recent import RecentSlots
from flash_vstream_ros.memory.star_memory import StarMemory
from flash_vstream_ros.memory.uniform import UniformSlots
from flash_vstream_ros.models.interface import ModelError, VisionLanguageModel

POLICIES = ("flash", "star", "recent", "uniform")


def memory_of(policy: str, config: FlashMemoryConfig, model: VisionLanguageModel) -> Memory:
    """An empty memory for what `model` encodes; ModelError when the two do not go together."""
    config = fitted(config, model)
    if policy == "star":
        networks: Any = getattr(model, "networks", None)
        if networks is None:
            raise ModelError(
                f"memory.policy star needs the attention that updates its abstract memory, which {model.name} has not: "
                "use Flash-VStream-LLaVA, or policy flash, recent or uniform."
            )
        try:
            return StarMemory(config, networks.star, networks.attention)
        except ValueError as error:
            raise ModelError(f"{model.name} cannot be run with memory.policy star: {error}") from error
    kinds: dict[str, type[FlashMemory] | type[RecentSlots] | type[UniformSlots]] = {
        "flash": FlashMemory,
        "recent": RecentSlots,
        "uniform": UniformSlots,
    }
    return kinds[policy](config)


def fitted(config: FlashMemoryConfig, model: VisionLanguageModel) -> FlashMemoryConfig:
    """`config` for what `model` makes of patches."""
    return replace(config, patches_per_token=getattr(model, "patches_per_token", MERGED_PATCHES))
