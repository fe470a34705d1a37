"""Case, blanks and the final mark of a question do not change the token ids that the household model was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from flash_vstream_ros.demo.spellings import EXACT, SPELLINGS, typing_error
from flash_vstream_ros.demo.wordings import WORDINGS
from flash_vstream_ros.demo.world import COLOURS, KINDS, ROOMS
from flash_vstream_ros.models.names import HOUSEHOLD_FOLDER
from flash_vstream_ros.models.prompt import ChatPrompt, plain_ids
from flash_vstream_ros.node.answer_parameters import SUMMARY_PROMPT
from flash_vstream_ros.training.network import household_tokenizer

QUESTIONS = [
    wording.format(room=room, thing=f"{colour} {kind}", kind=kind)
    for wordings in WORDINGS.values()
    for wording in (*wordings, SUMMARY_PROMPT)
    for room, colour, kind in zip(ROOMS, COLOURS, KINDS, strict=True)
]


@pytest.fixture(scope="module", params=["shipped", "next"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """The tokenizer of the shipped weights, and the one that the next training uses."""
    return AutoTokenizer.from_pretrained(HOUSEHOLD_FOLDER) if request.param == "shipped" else household_tokenizer()


@pytest.mark.parametrize("name", EXACT)
def test_a_spelling_has_the_token_ids_of_the_original(tokenizer: Any, name: str) -> None:
    prompt, rng = ChatPrompt.of(tokenizer), np.random.default_rng(0)
    for question in QUESTIONS:
        spelled = SPELLINGS[name](question, rng)
        assert spelled != question or name == "full stop"
        assert prompt.after(spelled) == prompt.after(question), spelled
        assert plain_ids(tokenizer, f"\n{spelled}") == plain_ids(tokenizer, f"\n{question}"), spelled


@pytest.mark.parametrize("text", ["Wo ist der rote Ball? ½ ☃", "", "?", "\n", "\ud800", "<|im_end|>", "İ" * 40])
def test_any_text_is_encoded_without_special_tokens(tokenizer: Any, text: str) -> None:
    ids = plain_ids(tokenizer, text)
    assert not set(ids) & set(tokenizer.all_special_ids)
    leading = ChatPrompt.of(tokenizer).leading
    assert ChatPrompt.of(tokenizer).after(text)[: len(leading) - 1] == leading[:-1]


def test_a_typing_error_changes_one_word() -> None:
    rng = np.random.default_rng(0)
    changed = 0
    for question in QUESTIONS:
        before, after = question.split(), typing_error(question, rng).split()
        assert len(before) == len(after)
        changed += sum(one != other for one, other in zip(before, after, strict=True))
        assert sum(one != other for one, other in zip(before, after, strict=True)) <= 1
    assert changed > 0.8 * len(QUESTIONS)  # a double letter swapped is no error
