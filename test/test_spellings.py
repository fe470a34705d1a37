"""Case, blanks and the final mark of a question do not change the token ids that the household model was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from flash_vstream_ros.demo.questions import WORDINGS
from flash_vstream_ros.demo.spellings import EXACT, SPELLINGS, typing_error
from flash_vstream_ros.demo.world import COLOURS, KINDS, ROOMS
from flash_vstream_ros.models.names import HOUSEHOLD_FOLDER
from flash_vstream_ros.models.prompt import ChatPrompt, plain_ids
from flash_vstream_ros.node.parameter_table import SUMMARY_PROMPT
from flash_vstream_ros.training.network import household_tokenizer
from flash_vstream_ros.training.normaliser import with_normaliser

QUESTIONS = [
    wording.format(room=room, thing=f"{colour} {kind}", kind=kind)
    for wordings in WORDINGS.values()
    for wording in (*wordings, SUMMARY_PROMPT)
    for room, colour, kind in zip(ROOMS, COLOURS, KINDS, strict=True)
]


@pytest.fixture(scope="module")
def shipped() -> Any:
    return AutoTokenizer.from_pretrained(HOUSEHOLD_FOLDER)


def test_the_shipped_tokenizer_is_the_trained_one_with_the_normaliser(shipped: Any) -> None:
    trained = household_tokenizer()
    assert shipped.backend_tokenizer.to_str() == with_normaliser(trained).backend_tokenizer.to_str()
    assert shipped.get_vocab() == trained.get_vocab()
    assert (shipped.eos_token_id, shipped.pad_token_id) == (trained.eos_token_id, trained.pad_token_id)


def test_a_prompt_in_the_trained_wording_keeps_its_token_ids(shipped: Any) -> None:
    prompt, trained = ChatPrompt.of(shipped), ChatPrompt.of(household_tokenizer())
    assert (prompt.before, prompt.between, prompt.closing) == (trained.before, trained.between, trained.closing)
    assert prompt.leading == trained.leading
    for question in QUESTIONS:
        assert prompt.after(question) == trained.after(question), question


@pytest.mark.parametrize("name", EXACT)
def test_a_spelling_has_the_token_ids_of_the_original(shipped: Any, name: str) -> None:
    prompt, rng = ChatPrompt.of(shipped), np.random.default_rng(0)
    for question in QUESTIONS:
        spelled = SPELLINGS[name](question, rng)
        assert spelled != question or name == "full stop"
        assert prompt.after(spelled) == prompt.after(question), spelled
        assert plain_ids(shipped, spelled) == plain_ids(shipped, question), spelled


@pytest.mark.parametrize("text", ["Wo ist der rote Ball? ½ ☃", "", "?", "\n", "\ud800", "<|im_end|>", "İ" * 40])
def test_any_text_is_encoded_without_special_tokens(shipped: Any, text: str) -> None:
    ids = plain_ids(shipped, text)
    assert not set(ids) & set(shipped.all_special_ids)
    leading = ChatPrompt.of(shipped).leading
    assert ChatPrompt.of(shipped).after(text)[: len(leading) - 1] == leading[:-1]


def test_a_typing_error_changes_one_word() -> None:
    rng = np.random.default_rng(0)
    changed = 0
    for question in QUESTIONS:
        before, after = question.split(), typing_error(question, rng).split()
        assert len(before) == len(after)
        changed += sum(one != other for one, other in zip(before, after, strict=True))
        assert sum(one != other for one, other in zip(before, after, strict=True)) <= 1
    assert changed > 0.8 * len(QUESTIONS)  # a double letter swapped is no error
