"""Side effects of a program on its process: signals, exit, threads."""

from __future__ import annotations

import torch

from flash_vstream_ros.process import set_torch_threads


def test_pytorch_computes_on_the_threads_it_is_given_and_else_on_as_many_as_at_first() -> None:
    at_first = torch.get_num_threads()
    for threads, wanted in ((1, 1), (3, 3), (0, at_first)):
        set_torch_threads(threads)
        assert torch.get_num_threads() == wanted
