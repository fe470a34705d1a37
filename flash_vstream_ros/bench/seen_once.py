"""Answers to "did you ever see it?", about things seen once, for a slot or two, and about things never seen."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from .asked import Asked, by_moment

ANSWERS = {"seen": "yes", "never": "no"}  # right answer by group


def figures(asked: Sequence[Asked]) -> dict[str, Any]:
    """For each moment [min], numbers of questions, and shares of right answers by policy."""
    result: dict[str, Any] = {}
    for minute, own in by_moment(asked).items():
        groups = {name: [one for one in own if one.question.answer == answer] for name, answer in ANSWERS.items()}
        result[minute] = {
            "questions": {name: len(group) for name, group in groups.items()},
            "policies": {
                policy: {name: fmean(one.right[policy] for one in group) for name, group in groups.items() if group}
                for policy in own[0].right
            },
        }
    return result


def show(result: dict[str, Any]) -> None:
    for minute, row in result.items():
        asked = row["questions"]
        shares = "; ".join(
            f"{policy} {_percent(own.get('seen'))} % and {_percent(own.get('never'))} %"
            for policy, own in row["policies"].items()
        )
        print(
            f"minute {minute}, did you ever see {asked['seen']} things seen once, and {asked['never']} never seen,"
            f" right: {shares}"
        )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
