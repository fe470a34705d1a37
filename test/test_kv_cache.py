"""The preallocated KV cache: truncation and capacity."""

from __future__ import annotations

import torch
from memory_slots import (
    features_of,
    memory_of,
    tiny,
)

from flash_vstream_ros.models.decoding.kv_cache import BLOCK, InPlaceCache
from flash_vstream_ros.models.qwen2_vl import Qwen2VL

__all__ = ["tiny"]  # fixtures


def test_a_cache_returns_the_appended_states_after_any_truncation() -> None:
    draw = torch.Generator().manual_seed(3)
    cache, expected = InPlaceCache(layers=2), torch.zeros(2, 1, 3, 0, 4)
    for count, keep in [(5, 5), (BLOCK - 5, BLOCK - 5), (1, 700), (2, 2), (3 * BLOCK, 3 * BLOCK), (1, 0), (1, 1)]:
        states = torch.randn(2, 1, 3, count, 4, generator=draw)
        expected = torch.cat([expected, states], dim=3)
        for layer in range(2):
            keys, values = cache.update(states[layer], -states[layer], layer)
            assert torch.equal(keys, expected[layer])
            assert torch.equal(values, -expected[layer])
        assert cache.length == expected.shape[3]
        cache.truncate(keep)
        expected = expected[..., :keep, :]
        assert cache.length == keep


def test_a_cache_of_announced_length_is_allocated_once(tiny: Qwen2VL) -> None:
    cache, states = InPlaceCache(layers=1), torch.ones(1, 3, 100, 4)
    cache.expect(3 * BLOCK)
    keys, _ = cache.update(states, states, 0)
    begin, room = keys.data_ptr(), cache.bytes
    while cache.length + 100 <= 3 * BLOCK:
        keys, _ = cache.update(states, states, 0)
        assert (keys.data_ptr(), cache.bytes) == (begin, room)
    cache.update(states, states, 0)
    assert cache.bytes > room

    prefix, features = tiny.prefix_cache(), features_of(tiny)
    snapshot = memory_of(tiny, features, 9).snapshot()
    prefix.set_snapshot(snapshot)
    prefix.prefill(1)
    assert prefix.bytes == prefix.bytes_for(tiny.tokens(snapshot))
