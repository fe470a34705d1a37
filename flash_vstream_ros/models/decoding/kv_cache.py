"""Keys and values of a prompt, written in place: what is cut off costs nothing, and a further token copies nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

BLOCK = 1024  # tokens; buffers are whole blocks


class InPlaceLayer(DynamicLayer):
    """One layer. `keys` and `values` [1, heads, tokens, head_dim] are views of buffers with room for more tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers: tuple[Tensor, Tensor] | None = None  # each [1, heads, room, head_dim]
        self.expected = 0  # tokens that will come in all

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append states [1, heads, new, head_dim]; all keys and all values up to now."""
        before = self.get_seq_length()
        length = before + key_states.shape[-2]
        if self.room < length:
            self.buffers = self._roomier(length, key_states, value_states)
        assert self.buffers is not None
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[..., before:length, :] = states
        self.is_initialized = True
        self.show(length)
        return self.keys, self.values

    @property
    def room(self) -> int:
        """Tokens that the buffers have room for."""
        return self.buffers[0].shape[-2] if self.buffers else 0

    def make_room(self, length: int) -> None:
        """For so many tokens in all, once there are some."""
        if self.room < length:
            assert self.buffers is not None, "shapes are known from the first tokens on"
            self.buffers = self._roomier(length, *self.buffers)
            self.show(self.get_seq_length())

    def show(self, length: int) -> None:
        """Let the first `length` tokens be all there are."""
        if self.buffers is not None:
            self.keys, self.values = (buffer[..., :length, :] for buffer in self.buffers)

    def _roomier(self, length: int, key_states: Tensor, value_states: Tensor) -> tuple[Tensor, Tensor]:
        room, before = whole_blocks(max(length, self.expected)), self.get_seq_length()
        keys, values = (
            states.new_zeros(*states.shape[:-2], room, states.shape[-1]) for states in (key_states, value_states)
        )
        if before:
            keys[..., :before, :], values[..., :before, :] = self.keys, self.values
        return keys, values


class InPlaceCache(Cache):
    """What a language model of `layers` attention layers keeps of a prompt [tokens]; empty at first."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[InPlaceLayer() for _ in range(layers)])

    @property
    def length(self) -> int:
        """Tokens in it."""
        return int(self.get_seq_length())

    @property
    def bytes(self) -> int:
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers)

    @property
    def room(self) -> int:
        """Tokens that the buffers have room for."""
        return int(self.layers[0].room)

    @property
    def buffers(self) -> list[Tensor]:
        """Keys and values [1, heads, room, head_dim] of each layer; others once there is more room."""
        return [buffer for layer in self.layers if layer.buffers is not None for buffer in layer.buffers]

    def expect(self, length: int) -> None:
        """The next buffers shall have room for so many tokens at once: each growth copies all that is there."""
        for layer in self.layers:
            layer.expected = length

    def make_room(self, length: int) -> None:
        """Have buffers for so many tokens; some must be there."""
        for layer in self.layers:
            layer.make_room(length)

    def show(self, length: int) -> None:
        """Let the first `length` tokens that were written be all there are."""
        for layer in self.layers:
            layer.show(length)

    def keep(self, length: int) -> None:
        """Cut off all but the first `length` tokens; nothing is freed."""
        self.show(min(length, self.length))

    @torch.inference_mode()
    def wipe(self) -> None:
        """Overwrite all that is in it, what was cut off included."""
        for buffer in self.buffers:
            buffer.zero_()
        self.keep(0)


def whole_blocks(tokens: int) -> int:
    """Room that a cache of so many tokens has [tokens]."""
    return -(-tokens // BLOCK) * BLOCK
