"""One further token as a recording of all its kernels: a GPU runs them sooner than Python can launch them one by one.

A recording is of fixed shapes and addresses. So the step attends to all the room that the cache has, with a mask for
what is empty, and all that differs from token to token are three numbers in a tensor.
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

from .grouped_attention import attending, by_group
from .kv_cache import BLOCK, InPlaceCache, InPlaceLayer

ROOM = "flash_vstream_room"  # what transformers knows the kernel by
SPAN = BLOCK // 4  # tokens whose values are summed up by one group of a GPU's processors
REHEARSALS = 2  # before a recording: libraries choose their kernels and allocate

Run = Callable[[], Tensor]


def whole_room(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """As `grouped` for one new token, over a room of whole blocks; `mask` [1, 1, 1, room] tells what of it is used."""
    groups, room, dim = key.shape[1:]
    scores = by_group(query, key) @ key.transpose(2, 3) * scaling
    weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1, dtype=torch.float32).to(value.dtype)
    spans = weights.view(groups, -1, room // SPAN, SPAN).transpose(1, 2)
    output = (spans @ value.view(groups, -1, SPAN, dim)).sum(1, dtype=torch.float32)
    return output.to(query.dtype).reshape(1, 1, -1, dim), None


AttentionInterface.register(ROOM, whole_room)


def cuda_graph(device: torch.device, run: Run) -> Run:
    """`run` without Python: each call fills the same result from the same tensors, all on one CUDA device."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(REHEARSALS):
                run()
        # Another thread makes frames ready meanwhile, and may allocate.
        with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            output = run()
        torch.cuda.current_stream().wait_stream(aside)

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


class RecordedStep:
    """The step of one network over one cache at a time, recorded anew when the cache has got more room."""

    def __init__(self, network: Any, record: Callable[[Run], Run]) -> None:
        self._network = network
        self._record = record
        self._numbers = torch.zeros(3, dtype=torch.long, device=network.device)  # token, position, place in the cache
        self._replay: Run | None = None
        self._recorded: Tensor | None = None  # the first of the buffers that the recording reads and writes
        self._refused = False

    @torch.inference_mode()
    def __call__(self, cache: InPlaceCache, token: int, position: int) -> Tensor | None:
        """Append `token` at `position` on all three axes; logits [vocabulary] of the next one, until the next call.

        None, and nothing is appended, where this step cannot be recorded; a warning has told why.
        """
        if self._refused:
            return None
        place = cache.length
        cache.make_room(place + 1)
        self._numbers.copy_(torch.tensor([token, position, place]))
        if self._replay is None or self._recorded is not cache.buffers[0]:
            self._replay = self._recorded = None
            try:
                self._replay = self._record(self._run(cache))
            except RuntimeError as error:
                self._refused = True
                warnings.warn(f"Tokens are computed kernel by kernel: recording a step failed: {error}", stacklevel=1)
                return None
            self._recorded = cache.buffers[0]
        logits = self._replay()
        cache.show(place + 1)
        return logits

    def _run(self, cache: InPlaceCache) -> Run:
        network, numbers = self._network, self._numbers
        whole = Cache(layers=[_WholeLayer(layer, numbers[2:]) for layer in cache.layers])
        room = cache.room

        def run() -> Tensor:
            used = torch.arange(room, device=numbers.device) <= numbers[2]
            with attending(network.config.text_config, ROOM):
                output = network.model.language_model(
                    inputs_embeds=network.get_input_embeddings()(numbers[None, :1]),
                    position_ids=numbers[1].expand(3, 1, 1),
                    attention_mask=used[None, None, None],
                    past_key_values=whole,
                    use_cache=True,
                )
            logits: Tensor = network.lm_head(output.last_hidden_state[0, -1])
            return logits

        return run


class _WholeLayer(DynamicLayer):
    """A layer that puts a new token's key and value at `place` [1], and has all its room attended to."""

    def __init__(self, layer: InPlaceLayer, place: Tensor) -> None:
        super().__init__()
        assert layer.buffers is not None
        self._buffers, self._place = layer.buffers, place

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer.index_copy_(2, self._place, states)
        return self._buffers


def recorded_step(network: Any) -> RecordedStep | None:
    """For a network of one GPU with PyTorch's attention kernels; others are asked step by step."""
    config = network.config.text_config
    split = len(set(getattr(network, "hf_device_map", {}).values())) > 1
    whole = set(getattr(config, "layer_types", ())) <= {"full_attention"}
    alone = network.device.type == "cuda" and not split and whole
    if not alone or config._attn_implementation == "eager":
        return None
    return RecordedStep(network, partial(cuda_graph, network.device))
