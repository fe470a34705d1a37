"""Networks with published shapes and random weights, and a check that a benchmark of them fits into memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch

from flash_vstream_ros.memory.config import MERGED_PATCHES, FlashMemoryConfig
from flash_vstream_ros.memory.slot import Grid
from flash_vstream_ros.models.decoding.kv_size import cache_bytes
from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.load import choose_attention, choose_device, choose_dtype, load_model
from flash_vstream_ros.models.model_kind import ModelKind
from flash_vstream_ros.models.names import TINY
from flash_vstream_ros.models.preprocess import MAX_PIXELS

from .fits import memory_bytes
from .published import PUBLISHED

if TYPE_CHECKING:  # transformers takes seconds to import
    from flash_vstream_ros.models.qwen2_vl import Qwen2VL

GB = 1e9
DEFAULT_SHAPE = "tiny"
NAMES = {
    "tiny": TINY,
    "qwen2-vl-2b": "Qwen/Qwen2-VL-2B-Instruct",
    "qwen2-vl-7b": "zhang9302002/Flash-VStream-Qwen-7b",
}
SHORT = {"2b": "qwen2-vl-2b", "7b": "qwen2-vl-7b"}
SPREAD = 0.02  # standard deviation of random weights


def shape_of(name: str) -> str:
    """The full name of a shape. Raises ModelError if it is unknown."""
    full = SHORT.get(name.lower(), name.lower())
    if full not in NAMES:
        raise ModelError(f"Shape {name!r} is unknown: use {', '.join(NAMES)}, {' or '.join(SHORT)}.")
    return full


def shape_config(shape: str) -> Any:
    """The transformers configuration of a shape."""
    from transformers import Qwen2VLConfig

    if shape == "tiny":
        from flash_vstream_ros.models.tiny import tiny_network, tiny_tokenizer

        return tiny_network(tiny_tokenizer()).config
    published = next(each for each in PUBLISHED if each.name == NAMES[shape])
    return Qwen2VLConfig.from_dict({**published.config, "model_type": Qwen2VLConfig.model_type})


def dtype_of(shape: str, device: torch.device) -> torch.dtype:
    """The dtype of a shape: bfloat16, as published; float32 for tiny on a CPU."""
    return choose_dtype("auto", device) if shape == "tiny" else torch.bfloat16


def shaped_model(shape: str, device: str, max_pixels: int = MAX_PIXELS) -> Qwen2VL:
    """A model with random weights, created on its device, for frames of up to `max_pixels`."""
    if shape == "tiny":
        return cast("Qwen2VL", load_model(TINY, device=device, max_pixels=max_pixels))
    from flash_vstream_ros.models.qwen2_vl import Qwen2VL
    from flash_vstream_ros.models.tiny import tiny_tokenizer

    chosen = choose_device(device)
    dtype = dtype_of(shape, chosen)
    attention = choose_attention("auto", chosen, dtype)
    network = random_network(shape_config(shape), chosen, dtype, attention.kernel)
    return Qwen2VL(
        network,
        tiny_tokenizer(),
        shape,
        kind=ModelKind.UNTRAINED,
        attention_kernel=str(attention),
        max_pixels=max_pixels,
    )


def random_network(config: Any, device: torch.device, dtype: torch.dtype, attention: str) -> Any:
    """A network with random matrices and norms of one. On the same device, each call gives the same network."""
    from transformers import Qwen2VLForConditionalGeneration
    from transformers.initialization import no_init_weights

    config._attn_implementation = attention
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with device, no_init_weights():
            network = Qwen2VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    network.tie_weights()
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, SPREAD, generator=generator)
            else:
                parameter.fill_(float(name.endswith("weight")))
    return network.eval()


class Need(NamedTuple):
    """Peak memory of a run [bytes]."""

    device: float
    host: float


def need(shape: str, dtype: torch.dtype, grid: Grid, config: FlashMemoryConfig, bank_slots: int, memories: int) -> Need:
    """Estimate the peak memory of a run.

    A GPU needs the weights, `memories` memories with their KV caches, and a copy of the released procedure's bank of
    slots; its host needs the bank. Without a GPU, the host needs all of it.
    """
    network = shape_on_meta(shape)
    text, vision = network.config.text_config, network.config.vision_config
    patches = grid.height * grid.width
    merged = patches // MERGED_PATCHES
    tokens = config.dam_slots * merged + config.csm_slots * merged // MERGED_PATCHES
    low = torch.empty(merged, vision.embed_dim, dtype=dtype, device="meta")
    detail = torch.empty(merged, text.hidden_size, dtype=dtype, device="meta")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    working = tokens * (4 * text.hidden_size + 3 * text.intermediate_size) * dtype.itemsize
    cached = cache_bytes(text, tokens, dtype.itemsize) + tokens * text.hidden_size * dtype.itemsize
    own = parameters * dtype.itemsize + memories * (memory_bytes(config, low, detail) + cached) + cached + working
    bank = bank_slots * (MERGED_PATCHES + 1) * low.nbytes
    return Need(device=own + 2 * bank, host=2 * bank)


def check_free_memory(shape: str, device: torch.device, needed: Need) -> None:
    """Raise ModelError if the GPU or the host has less free memory than needed."""
    on_gpu = device.type == "cuda"
    host = needed.host if on_gpu else needed.device
    memories = [("this machine", host, free_on_host())]
    if on_gpu:
        memories.append((str(device), needed.device, torch.cuda.mem_get_info(device)[0]))
    for name, wanted, free in memories:
        if free is not None and wanted > free:
            raise ModelError(
                f"Shape {shape} needs about {wanted / GB:.1f} GB of memory, but {name} has {free / GB:.1f} GB free: "
                "use a smaller --shape or a larger machine."
            )


def free_on_host() -> int | None:
    """Bytes that can be allocated now; None if unknown."""
    facts = Path("/proc/meminfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def shape_on_meta(shape: str) -> Any:
    """The network of a shape without storage."""
    from transformers import Qwen2VLForConditionalGeneration

    with torch.device("meta"):
        return Qwen2VLForConditionalGeneration(shape_config(shape))
