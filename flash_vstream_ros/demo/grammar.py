"""Draws wordings of a question from a grammar: templates, synonyms, politeness, typing errors and case."""

from __future__ import annotations

import re
from enum import Enum

import numpy as np

from .broad_wordings import VOICES, Broad, broad_synonyms, broad_templates
from .grammar_forms import DIRECT, INDIRECT, WORDS
from .scoring import Question
from .spellings import SPELLINGS, typing_error

CHOICE, SYNONYM = re.compile(r"\[([^\[\]]*)\]"), re.compile(r"<(\w+)>")
INDIRECT_SHARE, POLITE, TYPING_ERROR, SECOND_ERROR, SPELLED = 0.35, 0.25, 0.15, 0.03, 0.3  # shares of the wordings
BROAD_SYNONYMS_SHARE = 0.5  # share of basic templates in the parts that have broad synonyms
UTTERANCES_SHARE = 0.7  # share of whole utterances in the parts that have some


class Part(Enum):
    """Part of the grammar that a wording comes from."""

    TRAIN = "train"
    BROAD = "broad"  # for the second cycle of the training
    BROADER = "broader"  # for the third: broad, with more synonyms and questions out of the world
    VOICES = "voices"  # for the fourth: broader, with whole utterances of many kinds of people
    FIT = "fit"  # as VOICES, for the fit of the answers' confidence
    TEMPLATES = "held-out templates"  # with synonyms of training
    SYNONYMS = "held-out synonyms"  # in templates of training


WITH_VOICES = (Part.VOICES, Part.FIT)
WITH_BROAD_SYNONYMS = (Part.BROADER, *WITH_VOICES)
TOO_NARROW = ("person", "the_person")  # some of their broad synonyms name certain persons, which are out of the world


def broad_part(broad: Broad, part: Part) -> tuple[str, ...]:
    """The broad texts for training, or for the fit of the confidence."""
    return broad.fit if part is Part.FIT else broad.train


def wording(form: str, rng: np.random.Generator, part: Part = Part.TRAIN) -> str:
    """Draw a wording of a form of question, in lower case, with placeholders and without a final mark."""
    if part in WITH_VOICES and rng.random() < UTTERANCES_SHARE:
        return draw(broad_part(broad_templates(VOICES, form), part), rng)
    indirect = rng.random() < INDIRECT_SHARE
    template = draw(_templates(form, indirect, part, rng), rng)
    text, synonyms = _expanded(template, rng, part)
    if indirect:
        return f"{draw(_words('leads', part), rng)} {text}"
    if rng.random() < POLITE or (part in (Part.SYNONYMS, Part.FIT) and not synonyms):
        if rng.random() < 0.5:
            return draw(_words("before", part), rng) + text
        return text + draw(_words("after", part), rng)
    return text


def _templates(form: str, indirect: bool, part: Part, rng: np.random.Generator) -> tuple[str, ...]:
    """Templates of a part. Those with broad synonyms are basic, since the broad templates have no synonyms."""
    if part is Part.BROAD or (part in WITH_BROAD_SYNONYMS and rng.random() >= BROAD_SYNONYMS_SHARE):
        return broad_part(broad_templates("indirect" if indirect else "direct", form), part)
    parts = (INDIRECT if indirect else DIRECT)[form]
    return parts.held_out if part is Part.TEMPLATES else parts.train


def expand(template: str, rng: np.random.Generator) -> str:
    """Resolve the choices and synonyms of a template, innermost first, as in training."""
    return _expanded(template, rng, Part.TRAIN)[0]


def _expanded(text: str, rng: np.random.Generator, part: Part) -> tuple[str, int]:
    """The resolved text, and the number of its synonyms, all of the same part."""
    count = 0
    while True:
        # Choices are resolved first, so that only synonyms that remain are counted.
        text, choices = CHOICE.subn(lambda found: draw(tuple(found[1].split("|")), rng), text)
        if choices:
            continue
        text, synonyms = SYNONYM.subn(lambda found: draw(_words(found[1], part), rng), text)
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


def _words(name: str, part: Part) -> tuple[str, ...]:
    """The words of WORDS for a part of the grammar."""
    basic = WORDS[name]
    if part in WITH_VOICES and name in TOO_NARROW:
        return basic.train
    if part is Part.FIT:
        return tuple(word for word in broad_synonyms(name).fit if word not in basic.train)
    if part in WITH_BROAD_SYNONYMS:
        return broad_synonyms(name).train
    return basic.held_out if part is Part.SYNONYMS else basic.train


def draw(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.random() * len(options))]
