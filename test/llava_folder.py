"""A tiny Flash-VStream-LLaVA with random weights, written in the released layout and names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM, LlamaTokenizer

WIDTH, DIM, ATTENTION_WIDTH, IMAGE, PATCH = 64, 64, 16, 64, 8
CLUSTERS, SLOTS = 5, 4
SETTINGS = {
    "model_type": "vstream",
    "architectures": ["VStreamLlamaForCausalLM"],
    "mm_hidden_size": DIM,
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "./ckpt/clip-vit-large-patch14",
    "compress_Turing_hidden_dim": ATTENTION_WIDTH,
    "compress_Turing_memory_size": 1,
    "compress_Turing_update_ratio": 0.2,
    "compress_long_memory_size": 2,
    "compress_size": 4,
    "compress_type": "mean",
    "use_mm_proj": True,
    "video_Turing_memory_length": SLOTS,
    "video_current_memory_length": 1,
    "video_long_memory_length": CLUSTERS,
    "video_max_frames": 50,
    "video_sample_type": "weighted_kmeans",
    "video_short_memory_length": 10,
}


def tokenizer() -> Any:
    """Sentence pieces as Llama's: bytes, characters and a few words."""
    letters = ["▁", *(chr(code) for code in range(33, 127))]
    merges = [tuple(word.split(" ")) for word in ("▁ t", "▁t h", "▁th e", "▁ b", "o x", "▁b ox", "U S", "▁ US", "E R")]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    pieces += [first + second for first, second in merges]
    return LlamaTokenizer(vocab={piece: id for id, piece in enumerate(pieces)}, merges=merges)


def save_llava(folder: Path, *, tower: str = "beside", form: str = "safetensors", seed: int = 7) -> Path:
    """Writes the model into `folder` and returns it.

    tower: "beside" as a folder of its own, "whole" as a whole CLIP beside it, "inside" among the other weights.
    form: "safetensors" or "bin" in two shards, "single" in one file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = tokenizer()
        config = LlamaConfig(
            vocab_size=len(words) + 5,
            hidden_size=WIDTH,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            initializer_range=0.2,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
        vision = CLIPVisionConfig(
            hidden_size=DIM,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=1,
            image_size=IMAGE,
            patch_size=PATCH,
            initializer_factor=2.0,
        )
        language, vision_tower = LlamaForCausalLM(config), CLIPVisionModel(vision)
        extra = {
            **_linear("model.mm_projector.0", DIM, WIDTH),
            **_linear("model.mm_projector.2", WIDTH, WIDTH),
            **{
                name: tensor
                for part in ("q_proj", "k_proj", "v_proj")
                for name, tensor in _linear(f"model.attention_model.{part}", DIM, ATTENTION_WIDTH).items()
            },
            **_linear("model.attention_model.out_proj", ATTENTION_WIDTH, DIM),
            "model.attention_model.out_ln.weight": torch.ones(DIM),
            "model.attention_model.out_ln.bias": torch.zeros(DIM),
            "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
        }
    weights = {**language.state_dict(), **extra}
    vision_weights = {
        "vision_model." + name.removeprefix("vision_model."): t for name, t in vision_tower.state_dict().items()
    }
    if tower == "inside":
        weights |= {f"model.vision_tower.vision_tower.{name}": tensor for name, tensor in vision_weights.items()}
    else:
        _save_tower(folder.parent / "clip-vit-large-patch14", vision, vision_weights, whole=tower == "whole")
    written = {**config.to_dict(), **SETTINGS, "rope_scaling": None, "transformers_version": "4.31.0"}
    for name in ("rope_parameters", "dtype"):
        written.pop(name, None)
    _json(folder / "config.json", written)
    _json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    words.save_pretrained(folder)
    _save_weights(folder, weights, form)
    return folder


def _linear(name: str, inputs: int, outputs: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": 0.3 * torch.randn(outputs, inputs), f"{name}.bias": 0.1 * torch.randn(outputs)}


def _save_tower(folder: Path, vision: Any, weights: dict[str, torch.Tensor], *, whole: bool) -> None:
    folder.mkdir(exist_ok=True)
    config = vision.to_dict()
    if whole:
        weights = {**weights, "text_model.final_layer_norm.weight": torch.ones(4), "logit_scale": torch.ones(())}
        config = {"model_type": "clip", "vision_config": config, "text_config": {}, "projection_dim": 512}
    _json(folder / "config.json", config)
    _json(
        folder / "preprocessor_config.json",
        {
            "crop_size": IMAGE,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "resample": 3,
            "size": IMAGE,
        },
    )
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")


def _save_weights(folder: Path, weights: dict[str, torch.Tensor], form: str) -> None:
    weights = {name: tensor.clone().contiguous() for name, tensor in weights.items()}
    stem, ending = ("pytorch_model", "bin") if form == "bin" else ("model", "safetensors")
    names = sorted(weights)
    parts = [names] if form == "single" else [names[: len(names) // 2], names[len(names) // 2 :]]
    listed = {}
    for number, part in enumerate(parts, start=1):
        file = f"{stem}.{ending}" if form == "single" else f"{stem}-{number:05}-of-{len(parts):05}.{ending}"
        own = {name: weights[name] for name in part}
        if form == "bin":
            torch.save(own, folder / file)
        else:
            save_file(own, folder / file, metadata={"format": "pt"})
        listed |= dict.fromkeys(part, file)
    if form != "single":
        _json(folder / f"{stem}.{ending}.index.json", {"metadata": {}, "weight_map": listed})


def _json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=1), encoding="utf-8")
