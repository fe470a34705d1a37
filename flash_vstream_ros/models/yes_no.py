"""Yes or no: the probability that an answer begins with yes, and that it begins with no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

SPELLINGS = ("{}", " {}")  # as the first word of an answer, and after a blank


class YesNo(NamedTuple):
    """Probabilities of the first token of an answer: of a yes, and of a no."""

    yes: float
    no: float

    @property
    def probability(self) -> float:
        """Probability of yes against no [0..1]; 0.5 if the answer begins with neither."""
        return self.yes / (self.yes + self.no) if self.yes + self.no > 0 else 0.5


class YesNoTokens(NamedTuple):
    """Ids of the tokens that begin a yes and of those that begin a no; no token does both."""

    yes: tuple[int, ...] = ()
    no: tuple[int, ...] = ()


def yes_no_tokens(encode: Callable[[str], Sequence[int]]) -> YesNoTokens:
    """The first tokens of yes and of no in common spellings. `encode` converts plain text to ids."""
    yes, no = (_first_tokens(word, encode) for word in ("yes", "no"))
    return YesNoTokens(tuple(sorted(yes - no)), tuple(sorted(no - yes)))


def _first_tokens(word: str, encode: Callable[[str], Sequence[int]]) -> set[int]:
    texts = (spelling.format(form) for form in (word, word.capitalize(), word.upper()) for spelling in SPELLINGS)
    return {ids[0] for text in texts if (ids := encode(text))}
