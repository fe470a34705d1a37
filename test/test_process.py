"""Side effects of a program on its process: signals, exit, threads, freed memory."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest
import torch

from flash_vstream_ros.process import set_torch_threads


def test_pytorch_uses_the_configured_threads_or_its_initial_number() -> None:
    at_first = torch.get_num_threads()
    for threads, wanted in ((1, 1), (3, 3), (0, at_first)):
        set_torch_threads(threads)
        assert torch.get_num_threads() == wanted


PAGE_FAULTS = """
import resource, sys
from flash_vstream_ros.process import keep_freed_memory

def page_faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        blocks = [bytearray(24 << 20) for _ in range(4)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if "keep" in sys.argv:
    keep_freed_memory()
print(page_faults(1), page_faults(5))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_freed_memory_is_reused_without_page_faults() -> None:
    faults = {}
    for argument in ("keep", "return"):
        output = subprocess.run(
            [sys.executable, "-c", PAGE_FAULTS, argument], capture_output=True, text=True, check=True
        ).stdout
        faults[argument] = [int(number) for number in output.split()]
    assert faults["keep"][1] <= faults["keep"][0] / 10 + 20
    assert faults["return"][1] > 4 * (faults["keep"][1] + 10)
