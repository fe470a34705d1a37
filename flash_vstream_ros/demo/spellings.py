"""Spellings of a question: case, marks, blanks and typing errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {
    key: "".join(row[max(i - 1, 0) : i] + row[i + 1 : i + 2]) for row in KEYBOARD for i, key in enumerate(row)
}
MIN_LETTERS = 4  # shorter words get no typing error
Spelling = Callable[[str, np.random.Generator], str]


def typing_error(text: str, rng: np.random.Generator) -> str:
    """Omit, double, replace or swap a letter, except the first, of a word with at least MIN_LETTERS letters."""
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if sum(map(str.isalpha, word)) >= MIN_LETTERS]
    if not long:
        return text
    index = long[int(rng.integers(len(long)))]
    word = words[index]
    at = int(rng.choice([place for place in range(1, len(word)) if word[place].isalpha()]))
    letter, following = word[at], word[at + 1 : at + 2]
    near = NEIGHBOURS.get(letter.lower(), letter)
    swapped = following + letter + word[at + 2 :] if following.isalpha() else word[at + 1 :]
    changed = (
        word[at + 1 :],
        letter + word[at:],
        near[int(rng.integers(len(near)))] + word[at + 1 :],
        swapped,
    )
    words[index] = word[:at] + changed[int(rng.integers(len(changed)))]
    return " ".join(words)


SPELLINGS: dict[str, Spelling] = {
    "lower case": lambda text, rng: text.lower(),
    "UPPER CASE": lambda text, rng: text.upper(),
    "no final mark": lambda text, rng: text.rstrip("?."),
    "doubled blanks": lambda text, rng: f" {text.replace(' ', '  ')} ",
    "full stop": lambda text, rng: text.rstrip("?.") + ".",
    "typing error": typing_error,
}
EXACT = [name for name in SPELLINGS if name != "typing error"]  # spellings with the same token ids as the original
