"""Pool of training examples. A child process generates them patrol by patrol; each is drawn about twice."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

from .curriculum import Curriculum
from .examples import Entries, Example

POOL_PATROLS = 48  # number of patrols in the pool, the newest ones
CHECK_PERIOD_S = 10.0  # between checks that the child process is alive


class Pool:
    """Examples of the newest patrols. The patrols in the pool, and the draws from it, depend only on the step.

    So a resumed run, which generates the patrols in the pool again, draws the same examples as an uninterrupted one.
    """

    def __init__(self, make: Callable[[int], Iterator[Example]], step: int, curriculum: Curriculum) -> None:
        self._curriculum = curriculum
        self._patrols: deque[list[Example]] = deque(maxlen=POOL_PATROLS)
        self.generated = max(curriculum.patrols_by(step) - POOL_PATROLS, 0)
        context = get_context("fork")
        self._queue: Any = context.Queue(maxsize=4)
        self._maker = context.Process(target=_make, args=(make, self.generated, self._queue), daemon=True)
        self._maker.start()

    def draw(self, step: int, count: int, rng: np.random.Generator) -> list[Example]:
        """Examples of similar length, so that a batch has little padding."""
        while self.generated < self._curriculum.patrols_by(step):
            self._patrols.append(self._receive())
            self.generated += 1
        examples = [example for patrol in self._patrols for example in patrol]
        wanted = visual_tokens(examples[rng.integers(len(examples))])
        some = rng.choice(len(examples), min(8 * count, len(examples)), replace=False)
        nearest = sorted(some.tolist(), key=lambda i: abs(visual_tokens(examples[i]) - wanted))[:count]
        return [examples[i] for i in nearest]

    def close(self) -> None:
        self._maker.kill()  # SIGTERM is lost if it arrives before the child has its own handler
        self._maker.join()

    def _receive(self) -> list[Example]:
        while not self._queue._reader.poll(CHECK_PERIOD_S):
            if not self._maker.is_alive():
                raise RuntimeError("the process that generates examples died; see its output above")
        return [_unpacked(packed) for packed in self._queue.get()]


def visual_tokens(example: Example) -> int:
    """Number of visual tokens in the prompt of an example."""
    parts = [entries for entries in (example.memory, example.details) if entries is not None]
    return sum(entries.dam.shape[:2].numel() + entries.csm.shape[:2].numel() // 4 for entries in parts)


def _make(make: Callable[[int], Iterator[Example]], patrol: int, queue: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the program's handler would print a traceback
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    torch.set_num_threads(1)  # of this child process; the other cores compute gradients
    while True:
        packed = [
            example._replace(memory=_arrays(example.memory), details=example.details and _arrays(example.details))
            for example in make(patrol)
            if example.questions
        ]
        queue.put(packed)
        patrol += 1


def _arrays(entries: Entries) -> Any:
    """The entries as arrays: a tensor in a queue would be a shared file, which takes longer than a copy."""
    return tuple(tensor.numpy() for tensor in entries)


def _unpacked(packed: Any) -> Example:
    memory, details = (part and Entries(*map(torch.from_numpy, part)) for part in (packed.memory, packed.details))
    return Example(memory, details, *packed[2:])
