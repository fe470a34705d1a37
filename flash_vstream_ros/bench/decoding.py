"""What a further token of an answer costs, beside its floor."""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from flash_vstream_ros.memory.slot import MemorySnapshot

from .costs import pass_bytes
from .stopwatch import timed
from .warm import QUESTIONS

TOKENS = 24  # that are timed of an answer
BEFORE = 2  # the first, and the one whose attention is the evidence


class Decoding(NamedTuple):
    """A further token of an answer and what it cannot go below."""

    token_s: float  # median
    floor_s: float
    bytes_read: int

    @property
    def over_floor(self) -> float:
        return self.token_s / self.floor_s


def decode_over_floor(
    model: Any, snapshot: MemorySnapshot, bytes_per_s: float, tokens: int = TOKENS, answers: int = 3
) -> Decoding:
    """Times `tokens` tokens of `answers` answers on `snapshot`, on a device that copies at `bytes_per_s`."""
    steps_s: list[float] = []
    for _ in range(answers):
        answering = model.answer(snapshot, QUESTIONS[0], tokens + BEFORE)
        answering._vocabulary = replace(answering._vocabulary, stops=frozenset())  # random weights stop anywhere
        steps_s += [timed(partial(next, answering), model.device) for _ in range(tokens + BEFORE)][BEFORE:]
    network = model.network
    moved = pass_bytes(network.config.text_config, model.tokens(snapshot), network.dtype.itemsize)
    return Decoding(statistics.median(steps_s), moved / bytes_per_s, moved)
