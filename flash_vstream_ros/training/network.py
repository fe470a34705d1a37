"""Creates network and tokenizer of the household model, a small Qwen2-VL."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

from flash_vstream_ros.demo.grammar import wording
from flash_vstream_ros.demo.out_of_world import out_of_world
from flash_vstream_ros.demo.scoring import CANNOT_TELL
from flash_vstream_ros.demo.wordings import WORDINGS
from flash_vstream_ros.demo.world import COLOURS, KINDS, ROOMS, Thing
from flash_vstream_ros.models.household_settings import SIDE
from flash_vstream_ros.models.model_kind import CONFIG_KEY
from flash_vstream_ros.models.preprocess import POOL
from flash_vstream_ros.models.prompt import INSTRUCTION, QWEN2_VL_CHAT
from flash_vstream_ros.models.tiny import SPECIAL_TOKENS, tiny_tokenizer

from .normaliser import question_normaliser

VOCABULARY = 1024
CORPUS_LINES = 300  # lines of the tokenizer's corpus per form of question
GRID = SIDE // 14


def household_tokenizer() -> Any:
    """A byte-level BPE tokenizer for any text. Each word of the household is one token, in lower or upper case.

    Its class is transformers' generic one, since Qwen2Tokenizer replaces a saved normaliser by its own.
    """
    trained = tiny_tokenizer().train_new_from_iterator(_corpus(), VOCABULARY, show_progress=False)
    vocabulary = trained.backend_tokenizer.get_vocab()
    merges = json.loads(trained.backend_tokenizer.to_str())["model"]["merges"]
    words = [token for token, _ in sorted(vocabulary.items(), key=lambda pair: pair[1]) if token not in SPECIAL_TOKENS]
    plain = Qwen2Tokenizer(
        vocab={token: id for id, token in enumerate((*words, *SPECIAL_TOKENS))},
        merges=[tuple(merge) for merge in merges],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL_TOKENS),
    )
    backend = plain.backend_tokenizer
    backend.normalizer = question_normaliser()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL_TOKENS),
        chat_template=QWEN2_VL_CHAT,
    )


def household_network(tokenizer: Any, seed: int) -> Any:
    """The untrained network, float32 on the CPU. Equal seeds give equal weights."""
    token = tokenizer.convert_tokens_to_ids
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 320,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 8192,
            # Most rotary frequencies encode time, since a patrol has hours of slots.
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [12, 2, 2]},
            "bos_token_id": None,
            "eos_token_id": token("<|im_end|>"),
            "tie_word_embeddings": True,
        },
        vision_config={"depth": 3, "embed_dim": 128, "hidden_size": 128, "num_heads": 4, "mlp_ratio": 2},
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Qwen2VLForConditionalGeneration(config)
    setattr(network.config, CONFIG_KEY, True)
    network.generation_config = GenerationConfig(eos_token_id=token("<|im_end|>"), do_sample=False)
    return network


def tower(visual: Any, rows: Tensor, side: int) -> Tensor:
    """Run the vision tower on slots of `side` x `side` patches: [slots, patches, features] to [slots, patches, dim].

    Attention runs on a batch of slots, while transformers runs it image by image.
    """
    slots, patches, features = rows.shape
    hidden = visual.patch_embed(rows.reshape(-1, features)).view(slots, patches, -1)
    blocks = (side // 2, 2, side // 2, 2)
    axes = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    ids = torch.stack([axis.reshape(blocks).transpose(1, 2).flatten() for axis in axes], -1).to(rows.device)
    cos, sin = visual.rotary_pos_emb(hidden[0], ids)
    for block in visual.blocks:
        attention, normed = block.attn, block.norm1(hidden)
        q, k, v = attention.qkv(normed).view(slots, patches, 3, attention.num_heads, -1).unbind(2)
        q, k = apply_rotary_pos_emb_vision(q, k, cos, sin)
        mixed = torch.nn.functional.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)))
        hidden = hidden + attention.proj(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + block.mlp(block.norm2(hidden))
    return hidden


def encode_batch(visual: Any, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Encode patch rows [slots, patches, features] of both resolutions. Returns low map, merged low, merged high."""
    low_map, high_map = tower(visual, low, GRID // POOL), tower(visual, high, GRID)
    merged = (
        visual.merger(part).view(len(part), -1, visual.merger.mlp[2].out_features) for part in (low_map, high_map)
    )
    return low_map, *merged


def _corpus() -> Iterable[str]:
    """Questions in the form that the normaliser gives them, and answers, which are case-sensitive."""
    rng = np.random.default_rng(0)
    things = [Thing(colour, kind) for colour in COLOURS for kind in KINDS]
    lines: list[str] = []
    for i in range(CORPUS_LINES):
        thing, room = things[i % len(things)], ROOMS[i % len(ROOMS)]
        names = {"room": room, "thing": thing.name, "kind": thing.kind}
        own = [text.format(**names).lower() for form in WORDINGS.values() for text in form]
        lines += own if i < len(things) else []
        lines += [wording(form, rng).format(**names) for form in WORDINGS]
        lines.append(out_of_world(rng).text.lower())
    answers = [f" {thing.name}, a {thing.name} appeared. the {thing.name} is gone" for thing in things]
    answers += [f"I was in the {room}. in the {room}, the {room} and the {room}" for room in ROOMS]
    answers += [
        INSTRUCTION.lower(),
        "system\nyou are a helpful assistant.",
        "user\nassistant\n",
        "I saw a person, a person and a person. I saw nothing. I am in the kitchen and see a person and a person",
        "nothing. just now. minutes ago. minute ago. never seen. never visited.",
        "yes no times time",
        CANNOT_TELL,
    ]
    return lines + answers * 200
