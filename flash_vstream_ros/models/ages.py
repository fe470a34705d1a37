"""Age tokens: text before each memory entry that gives its age in minutes, rounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from flash_vstream_ros.memory.slot import MemorySnapshot

from .interface import ModelError
from .minutes import round_minutes

AgeIds = Callable[[float], Sequence[int]]  # from an age [s] to text tokens


class AgedTokens(NamedTuple):
    """The visual tokens of a memory, with age tokens before each entry, as one sequence."""

    text: Tensor  # [tokens] int64: id of an age token; -1: a visual token
    visual: Tensor  # [tokens] int64: index of a visual token; for an age token, of the first one of its entry


def no_age_ids(age_s: float) -> Sequence[int]:
    """No age tokens, as published."""
    return ()


def age_ids(tokenize: Callable[[str], Sequence[int]], template: str) -> AgeIds:
    """A function that returns the tokens of `template`, with {minutes} replaced by an age.

    Raises ModelError if `template` has other fields.
    """
    try:
        template.format(minutes=0)
    except (LookupError, ValueError) as error:
        raise ModelError(
            f"age_text {template!r} cannot be filled in ({error}): its only field is {{minutes}}."
        ) from error
    known: dict[int, Sequence[int]] = {}

    def ids(age_s: float) -> Sequence[int]:
        minutes = round_minutes(age_s)
        if minutes not in known:
            known[minutes] = tuple(tokenize(template.format(minutes=minutes)))
        return known[minutes]

    return ids


def ages(snapshot: MemorySnapshot) -> Iterator[float]:
    """Age of each entry: time from its last frame to the newest frame of the memory [s]."""
    newest_ns = max(snapshot.newest_ns, snapshot.last_ns)
    return ((newest_ns - entry.last_ns) / 1e9 for entry in snapshot.entries)


def with_ages(counts: Sequence[int], texts: Sequence[Sequence[int]]) -> AgedTokens:
    """Put the age tokens of each entry (`texts`) before its visual tokens (`counts` is their number).

    Age tokens get the position of the first visual token of their entry.
    """
    text: list[int] = []
    visual: list[int] = []
    first = 0
    for count, words in zip(counts, texts, strict=True):
        text += [*words, *[-1] * count]
        visual += [*[first] * len(words), *range(first, first + count)]
        first += count
    return AgedTokens(torch.tensor(text, dtype=torch.long), torch.tensor(visual, dtype=torch.long))
