"""Side effects of a program on its process: signals, exit, threads."""

from __future__ import annotations

import torch

from flash_vstream_ros.process import set_torch_threads


def test_pytorch_uses_the_configured_threads_or_its_initial_number() -> None:
    at_first = torch.get_num_threads()
    for threads, wanted in ((1, 1), (3, 3), (0, at_first)):
        set_torch_threads(threads)
        assert torch.get_num_threads() == wanted
