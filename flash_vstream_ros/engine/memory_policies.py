"""Retention policies: which memory the engine uses, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.fluxmem import FluxMem
from flash_vstream_ros.memory.infinipot_v import InfiniPotV
from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.recent import RecentSlots
from flash_vstream_ros.memory.star_memory import StarMemory
from flash_vstream_ros.memory.timechat_online import TimeChatOnline
from flash_vstream_ros.memory.uniform import UniformSlots
from flash_vstream_ros.models.interface import ModelError, VisionLanguageModel

# Policies that run with every model.
_KINDS: Mapping[str, Callable[[FlashMemoryConfig], Memory]] = {
    "flash": FlashMemory,
    "recent": RecentSlots,
    "uniform": UniformSlots,
    "timechat_online": TimeChatOnline,
    "infinipot_v": InfiniPotV,
    "fluxmem": FluxMem,
}
POLICIES = (*_KINDS, "star")


def memory_of(policy: str, config: FlashMemoryConfig, model: VisionLanguageModel) -> Memory:
    """An empty memory for slots that `model` encodes. Raises ModelError if the model does not support the policy."""
    config = config_for(model, config)
    if policy == "star":
        networks = model.star_networks
        if networks is None:
            raise ModelError(
                f"memory.policy star needs networks for its abstract memory, and {model.name} has none: "
                f"use Flash-VStream-LLaVA, or one of the policies {', '.join(_KINDS)}."
            )
        try:
            return StarMemory(config, networks.star, networks.attention)
        except ValueError as error:
            raise ModelError(f"{model.name} does not run with memory.policy star: {error}") from error
    return _KINDS[policy](config)


def config_for(model: VisionLanguageModel, config: FlashMemoryConfig) -> FlashMemoryConfig:
    """`config`, adapted to the patches of `model`."""
    return replace(config, patches_per_token=model.patches_per_token)
