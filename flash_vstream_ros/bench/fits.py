"""Finds the published models that fit into a given memory, with their Flash Memory. Sizes are computed, not measured.

The networks of transformers and the tensors of the memory are created on torch's meta device, which has shapes but no
storage.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import nn

from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.contents import clustering_of
from flash_vstream_ros.memory.exemplars import ExemplarPool
from flash_vstream_ros.memory.slot import Grid
from flash_vstream_ros.models.decoding.kv_size import cache_bytes, head_size
from flash_vstream_ros.models.options import QUANTIZATIONS
from flash_vstream_ros.models.preprocess import MAX_PIXELS, MIN_PIXELS, POOL, Preprocessor
from flash_vstream_ros.models.weights.quantised import BITS

from .published import PUBLISHED, Published

GB = 1e9
MACHINES_GB = (8, 16, 24, 64)
HALF = 2  # bytes of a number in bfloat16 or float16
FRAME = (480, 640)  # height and width of the camera's frames [px]
TEXT_TOKENS = 1024  # text tokens of prompt and answer
RUNTIME_GB = 1.0  # the CUDA context, and fragmentation of its allocator
OTHER_SHARE = 0.1  # share of a machine's memory for other programs
BUDGET_STEP = 500  # step of memory.tokens if the published memory does not fit


class Weights(NamedTuple):
    """Numbers of a network's parameters."""

    quantisable: int  # of the language model's linear layers
    other: int

    def bytes(self, quantization: str) -> float:
        """Bytes of all weights for a `quantization`, one of QUANTIZATIONS."""
        bits = BITS.get(quantization, 8 * HALF)
        return self.quantisable * bits / 8 + self.other * HALF


class Sizes(NamedTuple):
    """Sizes of the parts of a model's memory and prompt."""

    low_width: int  # elements of a low-resolution patch
    detail_width: int  # elements of a detail token
    cache_bytes: int  # per token in the KV cache
    step_bytes: int  # working memory per prompt token while a layer runs


def run() -> dict[str, Any]:
    """Sizes [GB] of every model with the published memory, and what fits into each machine."""
    return {"frame": FRAME, "models": {published.name: _measured(published) for published in PUBLISHED}}


def show(result: dict[str, Any]) -> None:
    print(table(result))


def memory_bytes(config: FlashMemoryConfig, low: torch.Tensor, detail: torch.Tensor) -> int:
    """Bytes that FlashMemory allocates for one camera with slots of the shapes of `low` and `detail` (meta tensors)."""
    pool = ExemplarPool(config.exemplar_rows(cameras=1), low, detail)
    ward = clustering_of(config, low.numel(), low.device)
    return sum(tensor.nbytes for tensor in (*ward.tensors, pool.low, pool.detail))


def table(result: dict[str, Any]) -> str:
    """Two tables in Markdown."""
    sizes = [
        "| Model | Parameters | bf16 | 8bit | 4bit | KV cache | Memory | Prefill | Tokens |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    fits = [
        "| Model | " + " | ".join(f"{size} GB" for size in MACHINES_GB) + " |",
        "|---" * (len(MACHINES_GB) + 1) + "|",
    ]
    for name, found in result["models"].items():
        weights = " | ".join(f"{found['weights'][kind]:.1f}" for kind in QUANTIZATIONS)
        rest = " | ".join(f"{found[part]:.2f}" for part in ("cache", "memory", "working"))
        sizes.append(f"| {name} | {found['parameters'] / 1e9:.2f} G | {weights} | {rest} | {found['tokens']} |")
        fits.append(f"| {name} | " + " | ".join(found["fits"][str(size)] for size in MACHINES_GB) + " |")
    return "\n".join([*sizes, "", *fits])


def _measured(published: Published) -> dict[str, Any]:
    config, weights, parameters = _network(published)
    sizes, grid = _sizes(config), _grid(config)
    published_memory = _Need(weights, sizes, grid, FlashMemoryConfig())
    return {
        "parameters": parameters,
        "weights": {kind: weights.bytes(kind) / GB for kind in QUANTIZATIONS},
        "cache": published_memory.cache / GB,
        "memory": published_memory.memory / GB,
        "working": published_memory.working / GB,
        "tokens": published_memory.tokens,
        "fits": {str(size): _fitting(size, weights, sizes, grid) for size in MACHINES_GB},
    }


class _Need(NamedTuple):
    """Bytes that a model needs together with its memory."""

    weights: Weights
    sizes: Sizes
    grid: Grid
    config: FlashMemoryConfig

    @property
    def tokens(self) -> int:
        """Visual tokens of the full memory."""
        low, detail = _slot_tokens(self.grid)
        return self.config.csm_slots * low + self.config.dam_slots * detail

    @property
    def cache(self) -> int:
        return (self.tokens + TEXT_TOKENS) * self.sizes.cache_bytes

    @property
    def working(self) -> int:
        return (self.tokens + TEXT_TOKENS) * self.sizes.step_bytes

    @property
    def memory(self) -> int:
        detail_tokens, patches = _slot_tokens(self.grid)[1], self.grid.height * self.grid.width // POOL**2
        low = torch.empty(patches, self.sizes.low_width, dtype=torch.bfloat16, device="meta")
        detail = torch.empty(detail_tokens, self.sizes.detail_width, dtype=torch.bfloat16, device="meta")
        return memory_bytes(self.config, low, detail)

    def total(self, quantization: str) -> float:
        return self.weights.bytes(quantization) + self.cache + self.memory + self.working + RUNTIME_GB * GB


def _fitting(machine_gb: int, weights: Weights, sizes: Sizes, grid: Grid) -> str:
    """The smallest change that makes the model fit: none, a lower precision, or a smaller memory."""
    free_bytes, published = machine_gb * (1 - OTHER_SHARE) * GB, FlashMemoryConfig()
    for kind in QUANTIZATIONS:
        if _Need(weights, sizes, grid, published).total(kind) <= free_bytes:
            return "bf16" if kind == "none" else kind
    low, detail = _slot_tokens(grid)
    tokens = _Need(weights, sizes, grid, published).tokens // BUDGET_STEP * BUDGET_STEP
    for budget in range(tokens, 0, -BUDGET_STEP):
        smaller = FlashMemoryConfig(tokens=budget).within_budget(low, detail)
        if _Need(weights, sizes, grid, smaller).total(QUANTIZATIONS[-1]) <= free_bytes:
            return f"4bit, `memory.tokens` {budget}"
    return "no"


def _network(published: Published) -> tuple[Any, Weights, int]:
    """The configuration of a model, the sizes of its weights, and its number of parameters."""
    family = import_module(f"flash_vstream_ros.models.families.{published.model_type}")
    architecture = family.ARCHITECTURE
    config = architecture.config.from_dict({**published.config, "model_type": architecture.config.model_type})
    with torch.device("meta"):
        network = architecture.network(config)
    network.tie_weights()
    total = sum(parameter.numel() for parameter in network.parameters())
    layers = [part for part in network.model.language_model.modules() if isinstance(part, nn.Linear)]
    quantisable = sum(layer.weight.numel() for layer in layers)
    return config, Weights(quantisable, total - quantisable), total


def _sizes(config: Any) -> Sizes:
    text, vision = config.text_config, config.vision_config
    layers = 1 + len(getattr(vision, "deepstack_visual_indexes", ()))
    width = getattr(vision, "embed_dim", None) or vision.hidden_size
    queries = (text.num_attention_heads + 2 * text.num_key_value_heads) * head_size(text)
    return Sizes(
        low_width=layers * width,
        detail_width=layers * text.hidden_size,
        cache_bytes=cache_bytes(text, 1, HALF),
        # Embeddings, residual and its norm, and the larger one of the states of attention and feed-forward.
        step_bytes=((layers + 3) * text.hidden_size + max(2 * queries, 3 * text.intermediate_size)) * HALF,
    )


def _grid(config: Any) -> Grid:
    vision = config.vision_config
    preprocessor = Preprocessor(
        vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size, MAX_PIXELS, MIN_PIXELS
    )
    return preprocessor.grid(*FRAME)


def _slot_tokens(grid: Grid) -> tuple[int, int]:
    """Merged tokens of a slot of CSM and of DAM."""
    detail = grid.height * grid.width // 4
    return detail // POOL**2, detail
