"""Share of right answers to the same questions over /ask_scene and offline.

After short patrols of the demo, all possible questions are asked: once over /ask_scene of a node that got the images
from a topic, and once from a memory filled in this process.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.scoring import right
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.memory import FlashMemory
from flash_vstream_ros.models.household_settings import LOADING, MEMORY, THREADS, complete_slots
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.model_kind import without_label
from flash_vstream_ros.models.names import HOUSEHOLD
from flash_vstream_ros.process import set_torch_threads

from .patrol_evaluation import encoded_slots

FIRST_SEED = 200_000


def run(
    model: str = HOUSEHOLD, number: int = 200, seed: int = FIRST_SEED, rate: float = 30.0, device: str = "auto"
) -> dict[str, Any]:
    """Shares of right answers to at least `number` questions, and the share with the same answer both times."""
    from flash_vstream_ros.demo.simulated_run import ask, simulated_run
    from flash_vstream_ros.instruments.batched_answers import batched_answers
    from flash_vstream_ros.ros.private_domain import use_private_domain

    use_private_domain()
    set_torch_threads(THREADS)
    loaded: Any = load_model(model, device=device, **LOADING)
    scores: list[tuple[bool, bool, bool]] = []  # right over DDS, right offline, same words
    while len(scores) < number:
        world = World(seed)
        asked = questions(world.visits, world.duration, np.random.default_rng(seed))
        memory = FlashMemory(MEMORY)
        grid = loaded.grid(*world.frame(0.0).shape[:2])
        for slot in encoded_slots(loaded, world, range(complete_slots(world.duration)), grid):
            memory.insert(slot)
        offline = batched_answers(loaded, memory.snapshot(), [question.text for question in asked])
        with simulated_run(seed, model, rate, [f"model.device:={device}"]) as run:
            over_dds = [without_label(ask(run, question.text).answer) for question in asked]
        scores += [(right(q, d), right(q, o), d == o) for q, d, o in zip(asked, over_dds, offline, strict=True)]
        seed += 1
        print(f"{len(scores)} of {number} questions")
    dds_right, offline_right, same_words = np.mean(scores, axis=0).tolist()
    return {
        "model": model,
        "questions": len(scores),
        "wire": dds_right,
        "offline": offline_right,
        "same words": same_words,
    }


def show(result: dict[str, Any]) -> None:
    print(
        f"{result['questions']} questions: {100 * result['wire']:.1f} % right over DDS,"
        f" {100 * result['offline']:.1f} % offline, {100 * result['same words']:.1f} % in the same words"
    )
