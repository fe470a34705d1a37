"""Tiny random models of every family, saved in the hub's layout: flat configs, old names, shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from flash_vstream_ros.models.tiny import tiny_tokenizer

SHARDS = 3
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "initializer_range": 0.2,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "use_cache": True,
}
MROPE = {"rope_theta": 1e6, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}
WINDOWS = {"window_size": 112, "fullatt_block_indexes": [1], "tokens_per_second": 2}


class Family(NamedTuple):
    """A model type of the hub: its config.json without the token ids, and its classes in transformers."""

    config: Any
    network: Any
    values: dict[str, Any]
    nested: bool = False  # the language model's values under text_config, weights by today's names


FAMILIES = {
    "qwen2_vl": Family(
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        {
            **TEXT,
            **MROPE,
            "tie_word_embeddings": False,
            "vision_config": {
                "depth": 2,
                "embed_dim": 64,
                "hidden_size": 64,
                "num_heads": 4,
                "mlp_ratio": 2,
                "in_chans": 3,
                "spatial_patch_size": 14,
                "initializer_range": 0.1,
            },
        },
    ),
    "qwen2_5_vl": Family(
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        {
            **TEXT,
            **MROPE,
            "tie_word_embeddings": False,
            "vision_config": {
                "depth": 3,
                "hidden_size": 64,
                "intermediate_size": 96,
                "num_heads": 4,
                "in_chans": 3,
                "out_hidden_size": 64,
                "patch_size": 14,
                "initializer_range": 0.1,
                **WINDOWS,
            },
        },
    ),
    "qwen3_vl": Family(
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        {
            "tie_word_embeddings": True,
            "text_config": {
                **TEXT,
                "model_type": "qwen3_vl_text",
                "head_dim": 16,
                "rope_theta": 5e6,
                "rope_scaling": {"mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default"},
                "tie_word_embeddings": True,
            },
            "vision_config": {
                "model_type": "qwen3_vl",
                "depth": 4,
                "hidden_size": 64,
                "intermediate_size": 96,
                "num_heads": 4,
                "out_hidden_size": 64,
                "patch_size": 16,
                "num_position_embeddings": 64,
                "deepstack_visual_indexes": [0, 2],
                "initializer_range": 0.1,
            },
        },
        nested=True,
    ),
}


def config_of(model_type: str) -> dict[str, Any]:
    """The content of config.json."""
    tokenizer, family = tiny_tokenizer(), FAMILIES[model_type]
    token = tokenizer.convert_tokens_to_ids
    values = json.loads(json.dumps(family.values))
    text = values["text_config"] if family.nested else values
    text |= {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": token("<|im_end|>")}
    return {
        **values,
        "architectures": [family.network.__name__],
        "model_type": model_type,
        "torch_dtype": "float32",
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
    }


def weights_of(model_type: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights by their names on the hub."""
    family = FAMILIES[model_type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = family.network(family.config.from_dict(config_of(model_type)))
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    if network.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    return weights if family.nested else {old_name(name): tensor for name, tensor in weights.items()}


def old_name(name: str) -> str:
    """Name of a weight before transformers 4.52."""
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


def save_sharded(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """model-0000N-of-0000M.safetensors, and the index of the weights' files."""
    names, places = sorted(weights), {}
    for shard in range(SHARDS):
        file = f"model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors"
        own = names[shard::SHARDS]
        save_file({name: weights[name] for name in own}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(own, file)
    size = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def save_hub_model(folder: Path, model_type: str) -> Path:
    """A whole model folder; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, config = tiny_tokenizer(), config_of(model_type)
    save_sharded(folder, weights_of(model_type))
    tokenizer.save_pretrained(folder)
    vision = config["vision_config"]
    scale = 0.5 if model_type == "qwen3_vl" else None
    preprocessor = {
        "patch_size": vision.get("patch_size", 14),
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [scale] * 3 if scale else [0.48145466, 0.4578275, 0.40821073],
        "image_std": [scale] * 3 if scale else [0.26862954, 0.26130258, 0.27577711],
    }
    generation = {"eos_token_id": [config_eos(config)], "do_sample": True, "temperature": 0.01}
    for name, values in (
        ("config.json", config),
        ("preprocessor_config.json", preprocessor),
        ("generation_config.json", generation),
    ):
        (folder / name).write_text(json.dumps(values, indent=2))
    return folder


def config_eos(config: dict[str, Any]) -> int:
    return int(config.get("text_config", config)["eos_token_id"])
