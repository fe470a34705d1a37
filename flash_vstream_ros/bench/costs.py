"""Numbers of operations and bytes of a Qwen2-VL and its memory, computed from the configuration."""

from __future__ import annotations

from typing import Any

from flash_vstream_ros.memory.config import MERGED_PATCHES, FlashMemoryConfig
from flash_vstream_ros.memory.slot import Grid
from flash_vstream_ros.models.decoding.kv_size import cache_bytes, head_size
from flash_vstream_ros.models.preprocess import POOL

FLOAT32 = 4  # bytes of an element of a centroid


def language_weights(text: Any) -> int:
    """Elements of the matrices that every token is multiplied with, except the output head; see `head_weights`."""
    queries, keys = (heads * head_size(text) for heads in (text.num_attention_heads, text.num_key_value_heads))
    attention = text.hidden_size * (2 * queries + 2 * keys)
    return int(text.num_hidden_layers * (attention + 3 * text.hidden_size * text.intermediate_size))


def head_weights(text: Any) -> int:
    """Elements of the matrix of the output head."""
    return int(text.hidden_size * text.vocab_size)


def prefill_flops(text: Any, tokens: int) -> float:
    """Operations to prefill a prompt of `tokens` tokens and to compute the first token after it."""
    queries = text.num_attention_heads * head_size(text)
    attention = 2 * tokens**2 * queries * text.num_hidden_layers  # half of two products, since attention is causal
    return 2.0 * language_weights(text) * tokens + attention + 2 * head_weights(text)


def pass_bytes(text: Any, tokens: int, itemsize: int) -> int:
    """Bytes read to decode one token after `tokens` tokens: all weights, and all keys and values."""
    return (language_weights(text) + head_weights(text)) * itemsize + cache_bytes(text, tokens, itemsize)


def tower_weights(vision: Any) -> int:
    """Elements of the matrices that every patch is multiplied with."""
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    width = vision.embed_dim
    return int(vision.depth * (4 + 2 * vision.mlp_ratio) * width**2 + patch * width)


def merger_weights(vision: Any) -> int:
    """Elements of the matrices that every merged token is multiplied with."""
    merged = vision.spatial_merge_size**2 * vision.embed_dim
    return int(merged * (merged + vision.hidden_size))


def merger_flops(vision: Any, tokens: int) -> float:
    return 2.0 * merger_weights(vision) * tokens


def slot_flops(vision: Any, grid: Grid) -> float:
    """Operations of the tower on a slot of `grid` and its half-resolution copy, and of the merger on the slot."""
    high = grid.height * grid.width
    low = high // POOL**2
    attention = 4 * (high**2 + low**2) * vision.embed_dim * vision.depth
    return 2.0 * tower_weights(vision) * (high + low) + attention + merger_flops(vision, high // MERGED_PATCHES)


def slot_bytes(vision: Any, itemsize: int) -> int:
    """Bytes read to encode a slot: the weights of the tower and the merger."""
    return (tower_weights(vision) + merger_weights(vision)) * itemsize


def update_bytes(config: FlashMemoryConfig, low: int, detail: int, itemsize: int) -> int:
    """Bytes read and written to insert a slot into a full memory; `low` and `detail` are its numbers of elements.

    All centroids are read, one is overwritten, and one is merged into another; the slot is copied.
    """
    centroids = (config.csm_slots + 1) * low + low + 3 * low
    return centroids * FLOAT32 + 2 * (low + detail) * itemsize
