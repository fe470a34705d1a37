"""Size of a KV cache, computed from a language model's configuration. Imports neither torch nor transformers."""

from __future__ import annotations

from typing import Any


def head_size(text: Any) -> int:
    """Elements of a query, a key or a value of one head. `text` is the `text_config` of transformers."""
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def cache_bytes(text: Any, tokens: int, itemsize: int) -> int:
    """Bytes of the keys and values of `tokens` tokens, with `itemsize` bytes per element."""
    return 2 * text.num_hidden_layers * text.num_key_value_heads * head_size(text) * tokens * itemsize
