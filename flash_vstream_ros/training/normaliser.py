"""Normaliser of the household tokenizer: case, blanks and the final mark of a question do not change its token ids."""

from __future__ import annotations

from typing import Any

from tokenizers import Regex, normalizers

SYSTEM = "you are a helpful assistant"  # the system prompt is no question


def question_normaliser() -> Any:
    """Map all spellings of a text to one: lower case, single blanks, a question mark at the end of the last line."""
    return normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[\u2018\u2019\u00b4`]"), "'"),
            normalizers.Replace(Regex(r"[^\S\r\n]+"), " "),
            normalizers.Replace(Regex(r"(?:\A|(?<=\n)) +"), ""),
            # The instruction stands before a question, on a line of its own.
            normalizers.Replace(Regex(r"\n[^\n]+?\K[\s?!.,;]*\z"), "?"),
            normalizers.Replace(f"{SYSTEM}?", f"{SYSTEM}."),
        ]
    )
