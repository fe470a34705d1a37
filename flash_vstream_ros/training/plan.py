"""Settings of a training run, which the command line shows as options. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _option(default: float, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Plan:
    """Sizes and rates of a run; a field's metadata has a `help` text.

    The same plan on the same machine gives the same model, even if the run is interrupted and resumed. So settings
    cannot change during a run.
    """

    seed: int = _option(1, "seed of the rendered views and composed patrols")
    vision_steps: int = _option(2000, "training steps of the vision tower")
    first_steps: int = _option(8_200, "language steps of the first cycle, with basic wordings only")
    first_cooling_steps: int = _option(3_900, "number of last steps of the first cycle, in which the rate falls")
    second_steps: int = _option(17_500, "language steps of the first two cycles; the second has broad wordings")
    second_cooling_steps: int = _option(6_000, "number of last steps of the second cycle, in which the rate falls")
    third_steps: int = _option(24_000, "language steps of the first three cycles; the third has crowded patrols")
    third_cooling_steps: int = _option(3_500, "number of last steps of the third cycle, in which the rate falls")
    language_steps: int = _option(26_400, "training steps of the language model, in all four cycles")
    cooling_steps: int = _option(2_200, "number of last language steps, in which the rate falls for the last time")
    language_rate: float = _option(1e-3, "learning rate of all parameters except the layers' matrices")
    matrix_rate: float = _option(3e-3, "learning rate of the layers' matrices")
    batch: int = _option(8, "prompts per step, split into parts of similar length")
    parts: int = _option(4, "parts of a batch; each core computes one at a time")
    questions: int = _option(12, "questions per prompt; twice as many in the last cycle")
    drills: int = _option(3, "drill questions per prompt; one in the last cycle")
    longest_min: float = _option(720.0, "longest patrol [min]")
    calibration: int = _option(40, "held-out patrols for the fit of the answers' confidence")

    @property
    def cycles(self) -> tuple[tuple[int, int, int], ...]:
        """First step, end, and number of last steps with a falling rate, of each cycle of the learning rate."""
        return (
            (0, self.first_steps, self.first_cooling_steps),
            (self.first_steps, self.second_steps, self.second_cooling_steps),
            (self.second_steps, self.third_steps, self.third_cooling_steps),
            (self.third_steps, self.language_steps, self.cooling_steps),
        )

    def check(self) -> None:
        """Raise ValueError if a cycle ends before it begins."""
        for start, end, cooling in self.cycles:
            if not 0 <= cooling <= end - start:
                raise ValueError(
                    f"each cycle must have at least as many steps as its rate falls for; got first_steps "
                    f"{self.first_steps}, first_cooling_steps {self.first_cooling_steps}, second_steps "
                    f"{self.second_steps} (of two cycles), second_cooling_steps {self.second_cooling_steps}, "
                    f"third_steps {self.third_steps} (of three), third_cooling_steps {self.third_cooling_steps}, "
                    f"language_steps {self.language_steps} (of all cycles), cooling_steps {self.cooling_steps}"
                )
