"""Decode step captured as a CUDA graph: a GPU replays its kernels faster than Python launches them.

A graph has fixed shapes and addresses. So the step attends to the whole capacity of the cache, with a mask, and reads
the token, its position and its place in the cache from a tensor.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicLayer

from .grouped_attention import by_group, use_kernel
from .kv_cache import BLOCK, InPlaceCache, InPlaceLayer
from .language_model import language_device

FULL_CAPACITY = "vstream_full_capacity"  # name under which transformers finds the kernel
SPAN = BLOCK // 4  # tokens whose values one thread block of the GPU sums
WARM_UP_ITERATIONS = 2  # before capture, so that libraries choose their kernels and allocate

Run = Callable[[], Tensor]


def full_capacity_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attention of one new token over the whole capacity of a cache.

    `mask` [1, 1, 1, capacity] is True for places in use.
    """
    groups, capacity, dim = key.shape[1:]
    scores = by_group(query, key) @ key.transpose(2, 3) * scaling
    weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1, dtype=torch.float32).to(value.dtype)
    spans = weights.view(groups, -1, capacity // SPAN, SPAN).transpose(1, 2)
    output = (spans @ value.view(groups, -1, SPAN, dim)).sum(1, dtype=torch.float32)
    return output.to(query.dtype).reshape(1, 1, -1, dim), None


AttentionInterface.register(FULL_CAPACITY, full_capacity_attention)


def cuda_graph(device: torch.device, run: Run) -> Run:
    """Capture `run`, which uses tensors of one CUDA device. Returns a function that replays it on the same tensors."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_ITERATIONS):
                run()
        # thread_local: the prefetch thread may allocate during the capture.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            output = run()
        torch.cuda.current_stream().wait_stream(stream)

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


class CapturedDecodeStep:
    """The decode step of one network on one cache at a time. It is captured again when the cache has grown."""

    def __init__(self, network: Any, capture: Callable[[Run], Run]) -> None:
        self._network = network
        self._capture = capture
        # [3]: token, position, place in the cache
        self._inputs = torch.zeros(3, dtype=torch.long, device=language_device(network))
        self._replay: Run | None = None
        self._captured_buffer: Tensor | None = None  # first buffer of the cache that the graph was captured with
        self._failed = False

    @torch.inference_mode()
    def __call__(self, cache: InPlaceCache, token: int, position: int) -> Tensor | None:
        """Append `token` at `position` on all three axes.

        Returns the logits [vocabulary] of the next token, valid until the next call. If the step cannot be captured, it
        warns once, appends nothing and returns None.
        """
        if self._failed:
            return None
        place = cache.length
        cache.reserve(place + 1)
        self._inputs.copy_(torch.tensor([token, position, place]))
        if self._replay is None or self._captured_buffer is not cache.buffers[0]:
            self._replay = self._captured_buffer = None
            try:
                self._replay = self._capture(self._step(cache))
            except RuntimeError as error:
                self._failed = True
                warnings.warn(
                    f"Decoding runs without a CUDA graph, which is slower: capturing a step failed: {error}",
                    stacklevel=1,
                )
                return None
            self._captured_buffer = cache.buffers[0]
        logits = self._replay()
        cache.set_length(place + 1)
        return logits

    def _step(self, cache: InPlaceCache) -> Run:
        network, inputs = self._network, self._inputs
        full = Cache(layers=[_FullCapacityLayer(layer, inputs[2:]) for layer in cache.layers])
        capacity = cache.capacity

        def run() -> Tensor:
            used = torch.arange(capacity, device=inputs.device) <= inputs[2]
            with use_kernel(network.config.text_config, FULL_CAPACITY):
                output = network.model.language_model(
                    inputs_embeds=network.get_input_embeddings()(inputs[None, :1]),
                    position_ids=inputs[1].expand(3, 1, 1),
                    attention_mask=used[None, None, None],
                    past_key_values=full,
                    use_cache=True,
                )
            logits: Tensor = network.lm_head(output.last_hidden_state[0, -1])
            return logits

        return run


class _FullCapacityLayer(DynamicLayer):
    """A cache layer that writes a new token's key and value at `place` [1], and returns the whole buffers."""

    def __init__(self, layer: InPlaceLayer, place: Tensor) -> None:
        super().__init__()
        assert layer.buffers is not None
        self._buffers, self._place = layer.buffers, place

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer.index_copy_(2, self._place, states)
        return self._buffers


def captured_decode_step(network: Any) -> CapturedDecodeStep | None:
    """A captured step if the language model is on one GPU with PyTorch's attention kernels, else None."""
    config, device = network.config.text_config, language_device(network)
    if device.type != "cuda" or config._attn_implementation == "eager":
        return None
    if _is_split(network, device) or not set(getattr(config, "layer_types", ())) <= {"full_attention"}:
        return None
    return CapturedDecodeStep(network, partial(cuda_graph, device))


def _is_split(network: Any, device: torch.device) -> bool:
    """Returns True if a part of the language model is on another device."""
    return any(parameter.device != device for parameter in network.model.language_model.parameters()) or (
        network.lm_head.weight.device != device
    )
