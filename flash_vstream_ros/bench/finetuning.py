"""Fine-tuning on a new kind of question: its share of right answers, and that of the other kinds, before and after.

The new kind asks for an invented name of the room that a thing was last seen in. The household model knows neither the
wording nor the names, so it has to learn both, and to look the room up in the memory.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from flash_vstream_ros.demo.past import past_of, things_known
from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.scoring import Question, right
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.finetuning.plan import Plan
from flash_vstream_ros.finetuning.run import Finetuning, finetune
from flash_vstream_ros.models.household_settings import FRAME_S
from flash_vstream_ros.models.names import HOUSEHOLD
from flash_vstream_ros.node.offline_parameters import parameter_values
from flash_vstream_ros.ros.share import household_parameters

FIRST_SEED = 400_000  # neither of the training nor of another benchmark
# Words that the model can say, with a new meaning: it would need more than 200 questions to learn to spell new ones.
ZONES = {"kitchen": "purple", "living room": "green", "office": "blue", "bedroom": "yellow", "hallway": "red"}
WORDING = "Of which colour is the zone that holds the {thing}?"
MOMENT_S = (60.0, 150.0)  # earliest and latest time of a question
QUESTIONS_PER_PATROL = 4
# A model of 2 million parameters has neither the width for the published rank, nor the data for the published batch.
PLAN = Plan(held_out=0.0, epochs=4.0, learning_rate=7e-4, warmup=0.1, batch=8, device_batch=8, rank=16, save_steps=50)


def frames(source: str) -> Iterator[tuple[int, np.ndarray]]:
    """The frames of `demo:SEED`, at the rate that the household model was trained with."""
    world = World(int(source.partition(":")[2]))
    for number in range(int(world.duration / FRAME_S)):
        yield round(number * FRAME_S * 1e9), world.frame(number * FRAME_S)


def zone_questions(seeds: Iterable[int], count: int) -> Iterator[dict[str, Any]]:
    """`count` questions of the new kind about patrols of these seeds, as lines of a data file."""
    made = 0
    for seed in seeds:
        rng, world = np.random.default_rng(seed), World(seed)
        now = round(rng.uniform(*MOMENT_S))
        past = past_of(world.visits, now)
        things = list(things_known(past))
        for place in rng.permutation(len(things))[:QUESTIONS_PER_PATROL]:
            thing = things[place]
            text, answer = WORDING.format(thing=thing.name), ZONES[past.last[thing].room]
            yield {"video": f"demo:{seed}", "time": now, "question": text, "answer": answer, "kind": "zone"}
            made += 1
            if made == count:
                return


def other_questions(seeds: Iterable[int], count: int) -> list[tuple[dict[str, Any], Question]]:
    """`count` questions of all other kinds, as lines of a data file, and as the demo scores them."""
    made: list[tuple[dict[str, Any], Question]] = []
    for seed in seeds:
        rng, world = np.random.default_rng(seed), World(seed)
        now = round(rng.uniform(*MOMENT_S))
        made += [
            ({"video": f"demo:{seed}", "time": now, "question": one.text, "answer": one.answer, "kind": one.kind}, one)
            for one in questions(world.visits, now, rng)
        ]
        if len(made) >= count:
            break
    return made[:count]


def run(
    model: str = HOUSEHOLD,
    device: str = "auto",
    training: int = 200,
    kept: int = 400,
    held_out: int = 100,
    others: int = 300,
) -> dict[str, Any]:
    """Fine-tune on `training` questions of the new kind, and ask those of other patrols before and after.

    The answers to `kept` questions of the other kinds, which need no true answers, are trained to stay as they are.
    """
    seeds = itertools.count(FIRST_SEED)
    shown, asked = (list(zone_questions(seeds, count)) for count in (training, held_out))
    rehearsed = [line for line, _ in other_questions(_seeds(shown), kept)]
    known = other_questions(_seeds(asked), others)
    with tempfile.TemporaryDirectory(prefix="flash_vstream_") as name:
        folder = Path(name)
        work = Finetuning(
            data=_written(folder / "training.jsonl", shown),
            parameters=_parameters(model, device),
            output=folder,
            plan=PLAN,
            check=_written(folder / "check.jsonl", [*asked, *(line for line, _ in known)]),
            keep=_written(folder / "keep.jsonl", rehearsed),
            frames_fps=1 / FRAME_S,
            gradient_checkpointing=False,
        )
        began = time.monotonic()
        report = finetune(work, frames, _warn)
        duration_s = time.monotonic() - began
    answers = report["answers"]["check"]
    common = Counter(line["answer"] for line in asked).most_common(1)[0][1]
    return {
        "model": model,
        "plan": report["plan"],
        "duration_s": duration_s,
        "questions": {"training": len(shown), "kept": len(rehearsed), "new": len(asked), "other": len(known)},
        "chance": common / len(asked),  # of always giving the most frequent answer
        "right": {when: _right(answers, when, len(asked), [one for _, one in known]) for when in ("before", "after")},
    }


def show(result: dict[str, Any]) -> None:
    asked, right_share = result["questions"], result["right"]
    print(f"{asked['training']} questions of a new kind, {result['duration_s'] / 60:.1f} min; right before and after:")
    chance = f"chance {100 * result['chance']:.1f} %"
    for kind, note in (("new", chance), ("other", "all kinds that the model was trained for")):
        before, after = (100 * right_share[when][kind] for when in ("before", "after"))
        print(f"{kind:6} {before:5.1f} % {after:5.1f} %  of {asked[kind]} held-out questions; {note}")


def _seeds(lines: Sequence[dict[str, Any]]) -> list[int]:
    """The seeds of the patrols of some questions."""
    return [int(source.partition(":")[2]) for source in dict.fromkeys(line["video"] for line in lines)]


def _right(answers: Sequence[dict[str, Any]], when: str, new: int, known: Sequence[Question]) -> dict[str, float]:
    """Shares of right answers to the first `new` questions, and to the `known` ones after them."""
    return {
        "new": fmean(one[when].strip().lower() == one["answer"] for one in answers[:new]),
        "other": fmean(right(question, one[when]) for question, one in zip(known, answers[new:], strict=True)),
    }


def _parameters(model: str, device: str) -> dict[str, Any]:
    """The values of all parameters, from config/household.yaml, without the second look, which is not trained."""
    values = parameter_values(household_parameters(), model)
    return {**values, "model.device": device, "question.second_look": 0.0}


def _written(path: Path, lines: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def _warn(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
