"""Shares of right answers by a question's wording and spelling, by light, and for out-of-world questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from flash_vstream_ros.demo.grammar import Part, reworded
from flash_vstream_ros.demo.grammar_forms import AFTER, BEFORE
from flash_vstream_ros.demo.out_of_world import out_of_world
from flash_vstream_ros.demo.scoring import CANNOT_TELL, Question, right
from flash_vstream_ros.demo.spellings import SPELLINGS, Spelling

from .calibration import auc, calibration_error
from .people_wordings import PEOPLE_OUT_OF_WORLD, PEOPLE_WORDINGS

OWN = "own wording"
OUT_OF_WORLD, PEOPLE_OUT_ROW = "out of its world", "out of its world, by people"
OUTSIDE = (OUT_OF_WORLD, PEOPLE_OUT_ROW)
ASKED_OUTSIDE = 10  # questions per moment for each of OUTSIDE: from the grammar's held-out part, and by people
Rewording = Callable[[Question, np.random.Generator], Question]
Reply = tuple[str, float]  # text, probability that it is right
Ask = Callable[[Sequence[str]], Sequence[Reply]]


class ScoredReply(NamedTuple):
    """A reply to one question and its score."""

    row: str
    right: bool  # "I cannot tell" is right only for an out-of-world question
    declined: bool  # the answer is "I cannot tell"
    confidence: float


def by_people(question: Question, rng: np.random.Generator) -> Question:
    """The question in a wording written by hand."""
    options = PEOPLE_WORDINGS.get(question.form, (question.text,))
    return question._replace(text=options[int(rng.integers(len(options)))].format(**question.names._asdict()))


def polite(question: Question, rng: np.random.Generator) -> Question:
    """The question in its own wording, with a polite phrase of the grammar before or after it."""
    before, after = (*BEFORE.train, *BEFORE.held_out), (*AFTER.train, *AFTER.held_out)
    courtesy = (before + after)[int(rng.integers(len(before) + len(after)))]
    text, mark = question.text.rstrip("?."), question.text[-1]
    if courtesy in after:
        return question._replace(text=text + courtesy + mark)
    return question._replace(text=courtesy[0].upper() + courtesy[1:] + text[0].lower() + text[1:] + mark)


def _spelled(spell: Spelling) -> Rewording:
    return lambda question, rng: question._replace(text=spell(question.text, rng))


ROWS: dict[str, Rewording] = {
    OWN: lambda question, rng: question,
    **{name: _spelled(spell) for name, spell in SPELLINGS.items()},
    "polite": polite,
    "grammar": reworded,
    "held-out templates": lambda question, rng: reworded(question, rng, Part.TEMPLATES),
    "held-out synonyms": lambda question, rng: reworded(question, rng, Part.SYNONYMS),
    "by people": by_people,
}


def replies(ask: Ask, questions: Sequence[Question], rng: np.random.Generator) -> list[ScoredReply]:
    """Ask the questions in the wording of every row of ROWS, and some out-of-world questions."""
    scored = [one for row, reword in ROWS.items() for one in _scored(row, ask, [reword(q, rng) for q in questions])]
    some = rng.choice(len(PEOPLE_OUT_OF_WORLD), ASKED_OUTSIDE, replace=False).tolist()
    outside = {
        OUT_OF_WORLD: [out_of_world(rng, Part.TEMPLATES) for _ in range(ASKED_OUTSIDE)],
        PEOPLE_OUT_ROW: [Question("out_of_world", PEOPLE_OUT_OF_WORLD[i], CANNOT_TELL, None, False) for i in some],
    }
    return scored + [one for row, asked in outside.items() for one in _scored(row, ask, asked)]


def replies_in_light(light: str, ask: Ask, questions: Sequence[Question]) -> list[ScoredReply]:
    """Ask the questions in their own wording about a memory of frames in another light. `light` names the row."""
    return _scored(light, ask, questions)


def figures(scored: Sequence[ScoredReply]) -> dict[str, Any]:
    """Shares of right answers and calibration errors by row, and the AUC of confidence: in-world against out-of-world.

    "I cannot tell" states nothing, so its confidence is zero.
    """
    rows: dict[str, Any] = {}
    for row in dict.fromkeys(one.row for one in scored):
        own = [one for one in scored if one.row == row]
        confidences, stated = [_stated(one) for one in own], [one.right and not one.declined for one in own]
        rows[row] = {
            "questions": len(own),
            "right": fmean(one.right for one in own),
            "declined": fmean(one.declined for one in own),
            "confidence": fmean(confidences),
            "calibration_error": calibration_error(confidences, stated),
        }
    inside = [_stated(one) for one in scored if one.row not in OUTSIDE]
    outside = [_stated(one) for one in scored if one.row in OUTSIDE]
    return {"rows": rows, "auc": auc(inside, outside) if inside and outside else None}


def show(policy: str, result: dict[str, Any]) -> None:
    print(
        f"{f'wording, {policy}':>28}{'right':>9}{'declined':>10}{'confidence':>12}{'cal. error':>12}{'questions':>11}"
    )
    for row, own in result["rows"].items():
        shares = f"{100 * own['right']:>9.1f}{100 * own['declined']:>10.1f}"
        print(f"{row:>28}{shares}{own['confidence']:>12.3f}{own['calibration_error']:>12.3f}{own['questions']:>11}")
    if result["auc"] is not None:
        print(f"area under the curve, confidence in its world against out of it: {result['auc']:.3f}")


def _scored(row: str, ask: Ask, questions: Sequence[Question]) -> list[ScoredReply]:
    return [
        ScoredReply(row, right(question, text), declines(text), confidence)
        for question, (text, confidence) in zip(questions, ask([question.text for question in questions]), strict=True)
    ]


def declines(text: str) -> bool:
    """Returns True if an answer is "I cannot tell"."""
    return text.strip().rstrip(".").lower() == CANNOT_TELL.rstrip(".").lower()


def _stated(scored: ScoredReply) -> float:
    return 0.0 if scored.declined else scored.confidence
