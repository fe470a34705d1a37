"""Broad wordings: 1,569 templates of questions by form, and 344 out of the world, none of them held out.

The file next to this one has them by form of question. Training uses most of them; the fit of the answers' confidence
uses the others, since a model is surer of wordings that it was trained on.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_suffix(".json")
FIT_ONE_IN = 8  # one template in so many is for the fit of the confidence


class Broad(NamedTuple):
    """Templates for training, and others for the fit of the confidence."""

    train: tuple[str, ...]
    fit: tuple[str, ...]


@cache
def broad_templates(group: str, form: str) -> Broad:
    """Templates of a form. `group` is "direct" or "indirect"; the group "out of world" has one form, "templates"."""
    templates = _texts()[group][form]
    fit = templates[::FIT_ONE_IN]
    return Broad(tuple(text for text in templates if text not in fit), tuple(fit))


@cache
def broad_words(name: str) -> tuple[str, ...]:
    """Words for a placeholder of the out-of-world templates: "objects", "places", "tints" or "made up"."""
    return tuple(_texts()["out of world"][name])


@cache
def _texts() -> dict[str, dict[str, Any]]:
    texts: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return texts
