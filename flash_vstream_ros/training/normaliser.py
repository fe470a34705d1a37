"""Normaliser of the household tokenizer: token ids do not depend on a question's case, blanks and final mark."""

from __future__ import annotations

from typing import Any

from tokenizers import Regex, normalizers

SYSTEM = "you are a helpful assistant"  # the system prompt, which must not end in a question mark


def question_normaliser() -> Any:
    """Convert all spellings of a text to one: lower case, single blanks, a question mark after the last line."""
    return normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[\u2018\u2019\u00b4`]"), "'"),
            normalizers.Replace(Regex(r"[^\S\r\n]+"), " "),
            normalizers.Replace(Regex(r"(?:\A|(?<=\n)) +"), ""),
            # Only the last line is a question; the instruction is on a line before it.
            normalizers.Replace(Regex(r"\n[^\n]+?\K[\s?!.,;]*\z"), "?"),
            normalizers.Replace(f"{SYSTEM}?", f"{SYSTEM}."),
        ]
    )
