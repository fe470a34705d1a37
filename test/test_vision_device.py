"""Tensors copied from the vision tower's device to the language model's.

Tests run on one device: they record which tensors are copied, or let the network report another device as its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_engine import ask, running, watch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from flash_vstream_ros.engine.answering.question import ErrorCode
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.slot import Slot
from flash_vstream_ros.models.decoding.cuda_graph import CapturedDecodeStep
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.qwen2_vl import Qwen2VL, merge_memory


class Moves(TorchFunctionMode):
    """The float tensors whose move to a device was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        where = [given for given in (*args[1:], *kwargs.values()) if isinstance(given, (torch.device, str))]
        if func in (torch.Tensor.cpu, torch.Tensor.cuda) or (func is torch.Tensor.to and where):
            self.moved += [args[0]] * args[0].is_floating_point()
        return func(*args, **kwargs)

    @property
    def sizes(self) -> list[int]:
        return sorted(tensor.numel() for tensor in self.moved)


@pytest.fixture(scope="module")
def model() -> Qwen2VL:
    loaded = load_model("tiny-random", device="cpu", vision_device="cpu")
    assert isinstance(loaded, Qwen2VL)
    return loaded


def slot(model: Qwen2VL, number: int) -> Slot:
    grid = model.grid(120, 160)
    frames = list(np.random.default_rng(number).integers(0, 256, (2, 120, 160, 3), dtype=np.uint8))
    return Slot("camera", "", 2 * number, 2 * number + 1, *model.encode(frames, grid), grid)


@pytest.fixture
def memory(model: Qwen2VL) -> FlashMemory:
    filled = FlashMemory()
    for number in range(4):
        filled.insert(slot(model, number))
    return filled


def test_the_memory_stores_slots_on_the_device_of_the_tower(model: Qwen2VL, memory: FlashMemory) -> None:
    further = slot(model, 4)
    with Moves() as moves:
        memory.insert(further)
    assert moves.sizes == []


def test_a_question_transfers_each_visual_token_once_and_none_back(model: Qwen2VL, memory: FlashMemory) -> None:
    snapshot = memory.snapshot()
    tokens, width = merge_memory(model.network, snapshot).shape
    dam = snapshot.dam.numel()
    with Moves() as moves:
        next(model.answer(snapshot, "What is there?", 2))
    large = [size for size in moves.sizes if size >= min(dam, tokens * width - dam)]
    # CSM to the merger, which is where it lies already; the merged CSM and DAM to the language model.
    assert large == sorted([snapshot.csm.numel(), tokens * width - dam, dam])


def test_a_cached_question_transfers_no_visual_tokens(model: Qwen2VL, memory: FlashMemory) -> None:
    snapshot, prefix = memory.snapshot(), model.prefix_cache()
    prefix.set_snapshot(snapshot, False)
    while prefix.remaining_tokens:
        prefix.prefill(64)
    slot_elements = snapshot.csm[0].numel() // 4
    for question in ("What is there?", "And where?"):
        with Moves() as moves:
            next(prefix.answer(question, 2)[0])
        prefix.end_answer()
        assert not [size for size in moves.sizes if size >= slot_elements], moves.sizes


@pytest.fixture
def split(model: Qwen2VL, monkeypatch: pytest.MonkeyPatch) -> Qwen2VL:
    """The model as transformers describes it with the vision tower elsewhere.

    `network.device` is that of the first parameters, the tower's. Tensors on the meta device have no data, so that
    anything that is put there by mistake fails.
    """
    monkeypatch.setattr(type(model.network), "device", property(lambda _: torch.device("meta")))
    return model


def answered(generation: Any) -> list[tuple[int, str]]:
    return [(token.id, token.text) for token in generation]


def test_the_prefix_cache_is_on_the_device_of_the_language_model(split: Qwen2VL, memory: FlashMemory) -> None:
    snapshot, clock, prefix = memory.snapshot(), memory.clock, split.prefix_cache()
    assert prefix is not None
    prefix.set_snapshot(snapshot)
    prefix.prefill(64)
    for instruction in ("Be brief.", split.instruction):
        split.instruction = instruction
        prefix.update_instruction()
        expected = answered(split.answer(snapshot, "What is there?", 4))
        generation, cached_tokens = prefix.answer("What is there?", 4)
        assert cached_tokens > 0
        assert answered(generation) == expected
        assert sum(generation.attention) > 0
        prefix.end_answer()
    memory.insert(slot(split, 9))
    generation, _ = prefix.answer("What is there?", 4, memory.snapshot_after(clock, 1))
    assert len(answered(generation)) == 4


def test_a_captured_decode_step_is_on_the_device_of_the_language_model(split: Qwen2VL, memory: FlashMemory) -> None:
    generation: Any = split.answer(memory.snapshot(), "What is there?", 4)
    expected = answered(split.answer(memory.snapshot(), "What is there?", 4))
    generation._step = CapturedDecodeStep(split.network, lambda run: run)
    assert answered(generation) == expected


def test_an_engine_answers_from_the_prefix_cache_with_its_vision_tower_elsewhere(split: Qwen2VL) -> None:
    with running(EngineConfig(max_new_tokens=4, warm_up=True), lambda: split) as (engine, warnings):
        watch(engine, range(1, 9))
        answers = [ask(engine) for _ in range(2)]
    assert [answer.error_code for answer in answers] == [ErrorCode.NONE] * 2
    assert answers[1].cached_tokens > 0
    assert not warnings
