"""The measure of allocated memory, by which the tests of the action find leaks."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest
from allocated_memory import allocated_bytes

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33")

GOALS, LEAK_BYTES = 60, 20_000


@pytest.mark.parametrize(
    "leak",
    [
        lambda: bytearray(LEAK_BYTES),
        lambda: [bytes(100) for _ in range(LEAK_BYTES // 100)],
        lambda: ctypes.create_string_buffer(LEAK_BYTES),
    ],
    ids=["one block", "small objects", "buffer of C"],
)
def test_it_grows_by_at_least_what_leaks(leak: Callable[[], Any]) -> None:
    before = allocated_bytes()
    kept = [leak() for _ in range(GOALS)]
    grown = allocated_bytes() - before
    assert grown + 4096 >= GOALS * LEAK_BYTES  # freed meanwhile by others
    del kept
    assert allocated_bytes() - before < GOALS * LEAK_BYTES // 10
