"""Normaliser of questions, saved with the tokenizer: case, blanks and the final mark do not change the token ids."""

from __future__ import annotations

import re
from string import ascii_lowercase
from typing import Any

from tokenizers import Regex, normalizers
from transformers import PreTrainedTokenizerFast

from flash_vstream_ros.demo.questions import WORDINGS
from flash_vstream_ros.models.prompt import INSTRUCTION

CASED_TEXTS = (INSTRUCTION, "You are a helpful assistant.")  # of every prompt; restored as trained
LINE_START = r"(?:\A|(?<=\n))"


def question_normaliser() -> Any:
    """Map spellings of a question to the trained one: "WHERE IS  the red ball" to "Where is the red ball?".

    Text that does not begin like a trained question is put in lower case, its first letter behind the instruction in
    upper case, and keeps its final mark.
    """
    wordings = [wording for forms in WORDINGS.values() for wording in forms]
    openings = dict.fromkeys(wording.split()[0] for wording in wordings)
    return normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[^\S\r\n]+"), " "),
            normalizers.Replace(Regex(rf"{LINE_START} +"), ""),
            *(normalizers.Replace(text.lower(), text) for text in CASED_TEXTS),
            *(_final_mark(mark, {w.split()[0].lower() for w in wordings if w.endswith(mark)}) for mark in "?."),
            # A question's first word has its own trained token, with a capital.
            *(normalizers.Replace(Regex(rf"{LINE_START}{word.lower()}\b"), word) for word in openings),
            *(normalizers.Replace(Regex(rf"(?<=\n){letter}"), letter.upper()) for letter in ascii_lowercase),
        ]
    )


def with_normaliser(tokenizer: Any) -> PreTrainedTokenizerFast:
    """Copy of a tokenizer with the normaliser of questions.

    The class is transformers' generic one: Qwen2Tokenizer puts its own normaliser in place of the saved one.
    """
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    backend.normalizer = question_normaliser()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
        extra_special_tokens=tokenizer.extra_special_tokens,
        chat_template=tokenizer.chat_template,
    )


def _final_mark(mark: str, openings: set[str]) -> Any:
    """Ends the last line in `mark` if it begins with one of the `openings`."""
    words = "|".join(map(re.escape, sorted(openings)))
    return normalizers.Replace(Regex(rf"{LINE_START}(?:{words})\b[^\n]*?\K[\s?!.]*\z"), mark)
