"""A tiny Qwen2-VL with random weights and a byte tokenizer, created in memory, so that tests run the real code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GenerationConfig, Qwen2Tokenizer, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from .interface import ModelError
from .model_kind import ModelKind
from .options import LoadOptions
from .prompt import QWEN2_VL_CHAT
from .qwen2_vl import Qwen2VL
from .video_prompt import VideoPromptedQwen2

SEED = 20250627
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def tiny_tokenizer() -> Any:
    """A byte-level tokenizer without merges that encodes any text, with Qwen2-VL's special tokens and chat template."""
    alphabet = sorted(ByteLevel.alphabet())
    return Qwen2Tokenizer(
        vocab={token: id for id, token in enumerate((*alphabet, *SPECIAL_TOKENS))},
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL_TOKENS),
        chat_template=QWEN2_VL_CHAT,
    )


def tiny_network(tokenizer: Any, attention: str = "sdpa") -> Any:
    """The network, float32 on the CPU. Its random weights are the same in every run."""
    token = tokenizer.convert_tokens_to_ids
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            "initializer_range": 0.2,
            "bos_token_id": None,
            "eos_token_id": token("<|im_end|>"),
        },
        vision_config={
            "depth": 2,
            "embed_dim": 64,
            "hidden_size": 64,
            "num_heads": 4,
            "mlp_ratio": 2,
            "initializer_range": 0.1,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        attn_implementation=attention,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = Qwen2VLForConditionalGeneration(config)
    network.generation_config = GenerationConfig(
        eos_token_id=token("<|im_end|>"), suppress_tokens=_suppressed_tokens(tokenizer), do_sample=False
    )
    return network.eval()


def load(options: LoadOptions) -> Qwen2VL:
    """The tiny model for `load_model`. Raises ModelError if `options` ask for quantisation."""
    if options.quantization != "none":
        raise ModelError(f"{options.name} is created in memory and cannot be quantised: use quantization none.")
    tokenizer = tiny_tokenizer()
    network = tiny_network(tokenizer, options.attention.kernel)
    for parameter in network.parameters():  # not the buffers: rotary frequencies stay float32
        parameter.data = parameter.data.to(options.dtype)
    network.to(options.device).model.visual.to(options.vision_device)
    family = VideoPromptedQwen2 if options.positions == "video" else Qwen2VL
    return family(
        network,
        tokenizer,
        options.name,
        kind=ModelKind.UNTRAINED,
        attention_kernel=str(options.attention),
        max_pixels=options.max_pixels,
        instruction=options.instruction,
        age_text=options.age_text,
    )


def save_tiny(folder: str | Path) -> Path:
    """Write the tiny model to a folder that `load_model` can read. Returns the folder."""
    tokenizer = tiny_tokenizer()
    tiny_network(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def _suppressed_tokens(tokenizer: Any) -> list[int]:
    """Control characters, which would reach a terminal, and the end token, which would end answers at random."""
    printable = {ord(" "), *range(0x21, 0x7F)}
    unprintable = [id for id in range(len(ByteLevel.alphabet())) if not _is_one_of(tokenizer.decode([id]), printable)]
    return [*unprintable, tokenizer.eos_token_id]


def _is_one_of(text: str, characters: set[int]) -> bool:
    return len(text) == 1 and ord(text) in characters
