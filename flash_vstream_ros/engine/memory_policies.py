"""Retention policies: which memory the engine uses, by name."""

from __future__ import annotations

from dataclasses import replace

from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.recent import RecentSlots
from flash_vstream_ros.memory.star_memory import StarMemory
from flash_vstream_ros.memory.uniform import UniformSlots
from flash_vstream_ros.models.interface import ModelError, VisionLanguageModel

POLICIES = ("flash", "star", "recent", "uniform")


def memory_of(policy: str, config: FlashMemoryConfig, model: VisionLanguageModel) -> Memory:
    """An empty memory for slots that `model` encodes. Raises ModelError if the model does not support the policy."""
    config = config_for(model, config)
    if policy == "star":
        networks = model.star_networks
        if networks is None:
            raise ModelError(
                f"memory.policy star needs networks for its abstract memory, and {model.name} has none: "
                "use Flash-VStream-LLaVA, or policy flash, recent or uniform."
            )
        try:
            return StarMemory(config, networks.star, networks.attention)
        except ValueError as error:
            raise ModelError(f"{model.name} does not run with memory.policy star: {error}") from error
    kinds: dict[str, type[FlashMemory] | type[RecentSlots] | type[UniformSlots]] = {
        "flash": FlashMemory,
        "recent": RecentSlots,
        "uniform": UniformSlots,
    }
    return kinds[policy](config)


def config_for(model: VisionLanguageModel, config: FlashMemoryConfig) -> FlashMemoryConfig:
    """`config`, adapted to the patches of `model`."""
    return replace(config, patches_per_token=model.patches_per_token)
