"""Draws wordings of a question from a grammar: templates, synonyms, politeness, typing errors and case."""

from __future__ import annotations

import re
from enum import Enum

import numpy as np

from .broad_wordings import broad_templates
from .grammar_forms import AFTER, BEFORE, DIRECT, INDIRECT, LEADS, SYNONYMS, Parts
from .scoring import Question
from .spellings import SPELLINGS, typing_error

CHOICE, SYNONYM = re.compile(r"\[([^\[\]]*)\]"), re.compile(r"<(\w+)>")
INDIRECT_SHARE, POLITE, TYPING_ERROR, SECOND_ERROR, SPELLED = 0.35, 0.25, 0.15, 0.03, 0.3  # shares of the wordings


class Part(Enum):
    """Part of the grammar that a wording comes from."""

    TRAIN = "train"
    BROAD = "broad"  # for the later part of the training
    FIT = "fit"  # broad, for the fit of the answers' confidence
    TEMPLATES = "held-out templates"  # with synonyms of training
    SYNONYMS = "held-out synonyms"  # in templates of training


BROAD_PARTS = (Part.BROAD, Part.FIT)


def broad_part(group: str, form: str, part: Part) -> tuple[str, ...]:
    """The broad templates for training, or for the fit of the confidence; for `group` see `broad_templates`."""
    broad = broad_templates(group, form)
    return broad.train if part is Part.BROAD else broad.fit


def wording(form: str, rng: np.random.Generator, part: Part = Part.TRAIN) -> str:
    """Draw a wording of a form of question, in lower case, with placeholders and without a final mark."""
    new_synonyms = part is Part.SYNONYMS
    indirect = rng.random() < INDIRECT_SHARE
    template = draw(_templates(form, indirect, part), rng)
    text, synonyms = _expanded(template, rng, new_synonyms)
    if indirect:
        return f"{draw(_of(LEADS, new_synonyms), rng)} {text}"
    if rng.random() < POLITE or (new_synonyms and not synonyms):
        if rng.random() < 0.5:
            return draw(_of(BEFORE, new_synonyms), rng) + text
        return text + draw(_of(AFTER, new_synonyms), rng)
    return text


def _templates(form: str, indirect: bool, part: Part) -> tuple[str, ...]:
    if part in BROAD_PARTS:
        return broad_part("indirect" if indirect else "direct", form, part)
    return _of((INDIRECT if indirect else DIRECT)[form], part is Part.TEMPLATES)


def expand(template: str, rng: np.random.Generator) -> str:
    """Resolve the choices and synonyms of a template, innermost first, as in training."""
    return _expanded(template, rng, held_out=False)[0]


def _expanded(text: str, rng: np.random.Generator, held_out: bool) -> tuple[str, int]:
    """The resolved text, and the number of its synonyms. Either all synonyms are held out, or none is."""
    count = 0
    while True:
        # Choices are resolved first, so that only synonyms that remain are counted.
        text, choices = CHOICE.subn(lambda found: draw(tuple(found[1].split("|")), rng), text)
        if choices:
            continue
        text, synonyms = SYNONYM.subn(lambda found: draw(_of(SYNONYMS[found[1]], held_out), rng), text)
        count += synonyms
        if not synonyms:
            return " ".join(text.split()).replace(" ,", ","), count


def reworded(question: Question, rng: np.random.Generator, part: Part = Part.TRAIN) -> Question:
    """The question in a wording of the grammar, spelled like a sentence."""
    if not question.form:
        return question
    text = wording(question.form, rng, part).format(**question.names._asdict())
    return question._replace(text=text[0].upper() + text[1:] + ("." if text.split()[0] in IMPERATIVES else "?"))


def spelled(text: str, rng: np.random.Generator) -> str:
    """The text as somebody may type it in a hurry: with typing errors, in any case, with or without final mark."""
    if rng.random() < TYPING_ERROR:
        text = typing_error(text, rng)
        if rng.random() < SECOND_ERROR / TYPING_ERROR:
            text = typing_error(text, rng)
    if rng.random() < SPELLED:
        text = SPELLINGS[draw(tuple(SPELLINGS), rng)](text, rng)
    return text


IMPERATIVES = frozenset(
    [
        "tell",
        "say",
        "show",
        "name",
        "list",
        "describe",
        "give",
        "summarize",
        "sum",
        "recap",
        "count",
        "find",
        "compare",
        "put",
    ]
)


def _of(parts: Parts, held_out: bool) -> tuple[str, ...]:
    return parts.held_out if held_out else parts.train


def draw(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.random() * len(options))]
