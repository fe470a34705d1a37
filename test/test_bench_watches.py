"""The benchmark of watches: what counts as an appearance and as its event, and one patrol of the household model."""

from __future__ import annotations

from typing import Any

import pytest

from flash_vstream_ros.bench.watch_cost import cost
from flash_vstream_ros.bench.watches import Score, figures, patrol, scored, show


@pytest.mark.parametrize(
    ("shown", "events", "score"),
    [
        ("..###..", [2], Score(1, 1, 1, 1)),
        ("..###..", [], Score(1, 0, 0, 0)),
        ("..###..", [2, 4], Score(1, 0, 2, 1)),  # twice
        (".-#####", [1], Score(1, 1, 1, 1)),  # when partly visible
        ("#######", [3], Score(1, 0, 1, 1)),  # late
        ("..##...", [2], Score(0, 0, 1, 1)),  # short
        ("..###..", [2, 6], Score(1, 1, 2, 1)),  # nothing was there
    ],
)
def test_an_appearance_needs_exactly_one_event_in_time(shown: str, events: list[int], score: Score) -> None:
    clear, partly = [each == "#" for each in shown], [each in "#-" for each in shown]
    assert scored(clear, partly, events) == score


def test_the_household_model_sees_what_appears(household: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = patrol(household, 520_001, 1.5, 1)
    assert found.appearances >= 1
    assert found.found >= 1
    expense = cost(household, 520_001, minutes=0.5, questions=3, rounds=1)
    assert 0 < expense["device_share"] < 1
    assert all(expense[name]["alone_p50_s"] > 0 for name in ("first_token", "answer"))
    assert expense["first_token"]["alone_p50_s"] <= expense["answer"]["alone_p50_s"]
    show({"streams": 1, "minutes": 1.5, "things": 1, **figures(found), "cost": expense})
    assert "exactly one event, in time" in capsys.readouterr().out
