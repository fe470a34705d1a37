"""Sizes of the published models: the fields of their config.json on the hub that affect sizes."""

from __future__ import annotations

from typing import Any, NamedTuple


class Published(NamedTuple):
    """A model of the hub."""

    name: str
    model_type: str
    config: dict[str, Any]


def _qwen2(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, vocabulary: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    }


def _qwen2_tower(width: int) -> dict[str, Any]:
    return {"depth": 32, "embed_dim": 1280, "hidden_size": width, "num_heads": 16, "mlp_ratio": 4}


def _qwen2_5_tower(width: int) -> dict[str, Any]:
    return {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": width}


def _qwen3(hidden: int, intermediate: int, layers: int, heads: int, tied: bool, large_tower: bool) -> dict[str, Any]:
    tower = (
        {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}
        if large_tower
        else {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]}
    )
    text = {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [24, 20, 20]},
    }
    tower |= {"num_heads": 16, "out_hidden_size": hidden, "num_position_embeddings": 2304}
    return {"tie_word_embeddings": tied, "text_config": text, "vision_config": tower}


PUBLISHED = (
    Published(
        "Qwen/Qwen2-VL-2B-Instruct",
        "qwen2_vl",
        {**_qwen2(1536, 8960, 28, 12, 2, 151936), "vision_config": _qwen2_tower(1536), "tie_word_embeddings": True},
    ),
    Published(
        "zhang9302002/Flash-VStream-Qwen-7b",
        "flash_vstream_qwen2_vl",
        {**_qwen2(3584, 18944, 28, 28, 4, 152064), "vision_config": _qwen2_tower(3584), "tie_word_embeddings": False},
    ),
    Published(
        "Qwen/Qwen2.5-VL-3B-Instruct",
        "qwen2_5_vl",
        {**_qwen2(2048, 11008, 36, 16, 2, 151936), "vision_config": _qwen2_5_tower(2048), "tie_word_embeddings": True},
    ),
    Published(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "qwen2_5_vl",
        {**_qwen2(3584, 18944, 28, 28, 4, 152064), "vision_config": _qwen2_5_tower(3584), "tie_word_embeddings": False},
    ),
    Published("Qwen/Qwen3-VL-2B-Instruct", "qwen3_vl", _qwen3(2048, 6144, 28, 16, True, False)),
    Published("Qwen/Qwen3-VL-4B-Instruct", "qwen3_vl", _qwen3(2560, 9728, 36, 32, True, False)),
    Published("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl", _qwen3(4096, 12288, 36, 32, False, True)),
)
