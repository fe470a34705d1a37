"""Preallocated KV cache: tokens are written in place, and truncation is free."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

BLOCK = 1024  # tokens; the size of a buffer is a multiple of it


class InPlaceLayer(DynamicLayer):
    """Keys and values of one layer. `keys` and `values` [1, heads, tokens, head_dim] are views of larger buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers: tuple[Tensor, Tensor] | None = None  # each [1, heads, capacity, head_dim]
        self.expected_tokens = 0  # size of the next allocation

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append states [1, heads, new, head_dim]. Returns all keys and all values."""
        before = self.get_seq_length()
        length = before + key_states.shape[-2]
        if self.capacity < length:
            self.buffers = self._allocate(length, key_states, value_states)
        assert self.buffers is not None
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[..., before:length, :] = states
        self.is_initialized = True
        self.set_length(length)
        return self.keys, self.values

    @property
    def capacity(self) -> int:
        """Number of tokens that fit into the buffers."""
        return self.buffers[0].shape[-2] if self.buffers else 0

    def reserve(self, tokens: int) -> None:
        """Grow the buffers to `tokens`. Call `update` first: it determines the other dimensions."""
        if self.capacity < tokens:
            assert self.buffers is not None, "call update first: it determines the shapes"
            self.buffers = self._allocate(tokens, *self.buffers)
            self.set_length(self.get_seq_length())

    def set_length(self, tokens: int) -> None:
        """Expose the first `tokens` of the buffers as keys and values."""
        if self.buffers is not None:
            self.keys, self.values = (buffer[..., :tokens, :] for buffer in self.buffers)

    def _allocate(self, tokens: int, key_states: Tensor, value_states: Tensor) -> tuple[Tensor, Tensor]:
        capacity, before = round_up_to_block(max(tokens, self.expected_tokens)), self.get_seq_length()
        keys, values = (
            states.new_zeros(*states.shape[:-2], capacity, states.shape[-1]) for states in (key_states, value_states)
        )
        if before:
            keys[..., :before, :], values[..., :before, :] = self.keys, self.values
        return keys, values


class InPlaceCache(Cache):
    """KV cache of a language model with `layers` attention layers; empty at first."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[InPlaceLayer() for _ in range(layers)])

    @property
    def length(self) -> int:
        """Number of tokens in the cache."""
        return int(self.get_seq_length())

    @property
    def bytes(self) -> int:
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers)

    @property
    def capacity(self) -> int:
        """Number of tokens that fit into the buffers."""
        return int(self.layers[0].capacity)

    @property
    def buffers(self) -> list[Tensor]:
        """Keys and values [1, heads, capacity, head_dim] of each layer; replaced when they grow."""
        return [buffer for layer in self.layers if layer.buffers is not None for buffer in layer.buffers]

    def expect(self, tokens: int) -> None:
        """Make the next allocation large enough for `tokens`, since each growth copies the cache."""
        for layer in self.layers:
            layer.expected_tokens = tokens

    def reserve(self, tokens: int) -> None:
        """Grow the buffers to `tokens`; the cache must have been written to before."""
        for layer in self.layers:
            layer.reserve(tokens)

    def set_length(self, tokens: int) -> None:
        """Expose the first `tokens` of the buffers."""
        for layer in self.layers:
            layer.set_length(tokens)

    def truncate(self, tokens: int) -> None:
        """Keep the first `tokens` only. Frees and overwrites nothing."""
        self.set_length(min(tokens, self.length))

    @torch.inference_mode()
    def zero(self) -> None:
        """Empty the cache, and overwrite its buffers, truncated tokens included, with zeros."""
        for buffer in self.buffers:
            buffer.zero_()
        self.truncate(0)


def round_up_to_block(tokens: int) -> int:
    """Capacity [tokens] of a cache for `tokens` tokens."""
    return -(-tokens // BLOCK) * BLOCK
