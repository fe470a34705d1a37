"""The cycles of the training's learning rate, and the end of its pool."""

from __future__ import annotations

import signal
from pathlib import Path
from threading import Thread

import pytest
import torch

from flash_vstream_ros.training import run
from flash_vstream_ros.training.curriculum import Curriculum
from flash_vstream_ros.training.pool import Pool


def test_the_learning_rate_rises_and_falls_in_each_cycle() -> None:
    sizes = {"first_steps": 1000, "first_cooling_steps": 400, "second_steps": 3000, "second_cooling_steps": 1000}
    sizes |= {"third_steps": 4000, "third_cooling_steps": 500}
    plan = run.Plan(**sizes, language_steps=4600, cooling_steps=300)
    factors = [run._rate_factor(plan, step) for step in range(4600)]
    assert max(factors[step] for step in (0, 999, 1000, 2999, 3000, 3999, 4000, 4599)) <= run.MIN_RATE_FACTOR
    for start, last, end in ((0, 600, 1000), (1000, 2000, 3000), (3000, 3500, 4000), (4000, 4300, 4600)):
        first = start + run.RATE_WARM_UP_STEPS
        assert set(factors[first:last]) == {1.0}
        assert factors[last:end] == sorted(factors[last:end], reverse=True)


@pytest.mark.parametrize(
    "steps",
    [{"first_steps": 10**6}, {"first_cooling_steps": 10**5}, {"second_steps": 9000}, {"cooling_steps": 10**5}],
)
def test_cycles_that_contradict_one_another_are_refused(steps: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least as many steps"):
        run.train(run.Plan(**steps), tmp_path / "run", torch.device("cpu"), lambda progress: None)
    assert not (tmp_path / "run").exists()


def test_a_pool_closes_at_once_in_a_program_that_handles_sigterm() -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        pool = Pool(lambda patrol: iter(()), 0, Curriculum(run.Plan()))
        closing = Thread(target=pool.close, daemon=True)
        closing.start()
        closing.join(30.0)
        assert not closing.is_alive()
    finally:
        signal.signal(signal.SIGTERM, before)
