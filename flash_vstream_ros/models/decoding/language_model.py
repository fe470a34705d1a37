"""Forward passes of a Qwen2-VL's language model over a KV cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .grouped_attention import fastest_kernel, use_kernel, weighted_kernel
from .kv_cache import InPlaceCache


def language_device(network: Any) -> torch.device:
    """Device of the language model. `network.device` is the device of the vision tower, which may differ."""
    device: torch.device = network.get_input_embeddings().weight.device
    return device


def empty_cache(network: Any, expected_tokens: int = 0) -> InPlaceCache:
    """A KV cache for `network`; its first allocation has room for `expected_tokens`."""
    cache = InPlaceCache(network.config.text_config.num_hidden_layers)
    cache.expect(expected_tokens)
    return cache


def embed_text(network: Any, tokens: tuple[int, ...], first_id: int) -> tuple[Tensor, Tensor]:
    """Embeddings [1, tokens, width] and position ids [3, 1, tokens] of text that starts at `first_id`."""
    device = language_device(network)
    embeds = network.get_input_embeddings()(torch.tensor([tokens], dtype=torch.long, device=device))
    return embeds, torch.arange(first_id, first_id + len(tokens), device=device).expand(3, 1, -1)


def forward(network: Any, cache: InPlaceCache, embeds: Tensor, ids: Tensor, with_attention: bool = False) -> Any:
    """Run the language model on embeds [1, new, width] at ids [3, 1, new], and append their states to `cache`.

    `with_attention`: `output.attentions` has the attention of the last new token in each layer, [1, heads, 1, tokens].
    """
    config = network.config.text_config
    kernel = fastest_kernel(config._attn_implementation, embeds.device)
    with use_kernel(config, weighted_kernel(kernel) if with_attention else kernel):
        return network.model.language_model(
            inputs_embeds=embeds,
            position_ids=ids,
            past_key_values=cache,
            use_cache=True,
            output_attentions=with_attention,
        )


def next_token_logits(network: Any, output: Any) -> Tensor:
    """Logits [vocabulary] of the token after the last one of a forward pass."""
    logits: Tensor = network.lm_head(output.last_hidden_state[0, -1])
    return logits
