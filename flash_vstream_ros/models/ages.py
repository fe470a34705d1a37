"""How long ago, in round numbers: for people who are told, and for a model that is told before each memory entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.models.minutes import round_minutes

from .interface import ModelError

AgeIds = Callable[[float], Sequence[int]]  # [s] to text tokens


class Told(NamedTuple):
    """Visual tokens with the text tokens that stand before each entry, as one sequence."""

    text: Tensor  # [tokens] int64: a text token; -1 where a visual one stands
    beside: Tensor  # [tokens] int64: which visual token stands there, or comes next


def untold(age_s: float) -> Sequence[int]:
    """Nothing, as published."""
    return ()


def age_ids(tokenize: Callable[[str], Sequence[int]], form: str) -> AgeIds:
    """Tokens of `form`, in which {minutes} stands for the age; ModelError when it holds anything else to fill in."""
    try:
        form.format(minutes=0)
    except (LookupError, ValueError) as error:
        raise ModelError(f"age_text {form!r} cannot be filled in ({error}): its only field is {{minutes}}.") from error
    known: dict[int, Sequence[int]] = {}

    def ids(age_s: float) -> Sequence[int]:
        minutes = round_minutes(age_s)
        if minutes not in known:
            known[minutes] = tuple(tokenize(form.format(minutes=minutes)))
        return known[minutes]

    return ids


def ages(snapshot: MemorySnapshot) -> Iterator[float]:
    """How long before the newest frame of the memory each entry was last seen [s]."""
    newest_ns = max(snapshot.newest_ns, snapshot.last_ns)
    return ((newest_ns - entry.last_ns) / 1e9 for entry in snapshot.entries)


def told(counts: Sequence[int], texts: Sequence[Sequence[int]]) -> Told:
    """`counts` visual tokens of each entry behind its text; the text stands where the entry's first token stands."""
    text: list[int] = []
    beside: list[int] = []
    first = 0
    for count, words in zip(counts, texts, strict=True):
        text += [*words, *[-1] * count]
        beside += [*[first] * len(words), *range(first, first + count)]
        first += count
    return Told(torch.tensor(text, dtype=torch.long), torch.tensor(beside, dtype=torch.long))
