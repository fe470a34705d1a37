"""Side effects of a program on its process: signals, exit, threads."""

from __future__ import annotations

import sys

import pytest
import torch

from flash_vstream_ros.node.vstream_node import PROGRAM_HOOKS, SWITCH_INTERVAL_S
from flash_vstream_ros.process import set_torch_threads


def test_pytorch_uses_the_configured_threads_or_its_initial_number() -> None:
    at_first = torch.get_num_threads()
    for threads, wanted in ((1, 1), (3, 3), (0, at_first)):
        set_torch_threads(threads)
        assert torch.get_num_threads() == wanted


def test_the_node_program_lets_threads_take_turns_at_the_interpreter_soon() -> None:
    before = sys.getswitchinterval()
    try:
        PROGRAM_HOOKS.loaded()
        assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
    finally:
        PROGRAM_HOOKS.unloaded()
        sys.setswitchinterval(before)
