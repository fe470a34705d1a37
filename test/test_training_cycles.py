"""The two cycles of the training's learning rate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flash_vstream_ros.training import run


def test_the_learning_rate_rises_and_falls_twice() -> None:
    plan = run.Plan(first_steps=1000, first_cooling_steps=400, language_steps=3000, cooling_steps=1000)
    factors = [run._rate_factor(plan, step) for step in range(3000)]
    assert max(factors[0], factors[999], factors[1000], factors[2999]) <= run.MIN_RATE_FACTOR
    for first, last, end in ((run.RATE_WARM_UP_STEPS, 600, 1000), (1000 + run.RATE_WARM_UP_STEPS, 2000, 3000)):
        assert set(factors[first:last]) == {1.0}
        assert factors[last:end] == sorted(factors[last:end], reverse=True)


@pytest.mark.parametrize(
    "steps",
    [{"first_steps": 10**6}, {"first_cooling_steps": 10**5}, {"language_steps": 9000}, {"cooling_steps": 10**5}],
)
def test_cycles_that_contradict_one_another_are_refused(steps: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least as many steps"):
        run.train(run.Plan(**steps), tmp_path / "run", torch.device("cpu"), lambda progress: None)
    assert not (tmp_path / "run").exists()
