"""Broad wordings, none of them held out: templates, whole utterances and synonyms by form of question.

The file next to this one has 1,569 templates, 9,444 utterances, 984 synonyms, and 4,852 templates out of the world.
Training uses most of them; the fit of the answers' confidence uses the others, since a model is surer of wordings that
it was trained on.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_suffix(".json")
FIT_ONE_IN = 8  # one text in so many is for the fit of the confidence
OUT_OF_WORLD, FURTHER, VOICES_OUT_OF_WORLD = "out of world", "further out of world", "voices out of world"
VOICES = "voices"


class Broad(NamedTuple):
    """Texts for training, and others for the fit of the confidence."""

    train: tuple[str, ...]
    fit: tuple[str, ...]


@cache
def broad_templates(group: str, form: str) -> Broad:
    """Templates of a form. `group` is "direct", "indirect" or VOICES; those out of the world have one, "templates"."""
    return _parted(_texts()[group][form])


@cache
def broad_synonyms(name: str) -> Broad:
    """Words by their name in `grammar_forms.WORDS`."""
    return _parted(_texts()["synonyms"][name])


def _parted(texts: list[str]) -> Broad:
    fit = texts[::FIT_ONE_IN]
    return Broad(tuple(text for text in texts if text not in fit), tuple(fit))


@cache
def broad_words(group: str, name: str) -> tuple[str, ...]:
    """Words for a placeholder of the out-of-world templates: "objects", "places", "tints", "made up" or "persons"."""
    return tuple(_texts()[group][name])


@cache
def _texts() -> dict[str, dict[str, Any]]:
    texts: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return texts
