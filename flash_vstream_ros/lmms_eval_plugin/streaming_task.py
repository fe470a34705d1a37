"""A benchmark of `evaluate` as a task of lmms-eval: same annotations, prompts and scores, asked in the order of times.

The data are in `$FLASH_VSTREAM_BENCHMARKS/SET`, in the official layout. With `FLASH_VSTREAM_PARTIAL` set, a part of
them is accepted. The visual input is a `Clip`, which only the model `flash_vstream` understands.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from lmms_eval.api.task import ConfigurableTask

from flash_vstream_ros.evaluation.benchmarks import BENCHMARKS, Benchmark
from flash_vstream_ros.evaluation.benchmarks.benchmark import load_items
from flash_vstream_ros.evaluation.item import AnswerKind, DataError, Item
from flash_vstream_ros.evaluation.records import Record
from flash_vstream_ros.evaluation.scoring import Grade, grade

from .clip import Clip

DATA, PARTIAL = "FLASH_VSTREAM_BENCHMARKS", "FLASH_VSTREAM_PARTIAL"  # environment variables
SPLIT = "test"


class StreamingTask(ConfigurableTask):
    """The task of the benchmark that `metadata: set` of its YAML file names. Raises DataError."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._benchmark = BENCHMARKS[config["metadata"]["set"]]
        self._items = ordered_items(self._benchmark, os.environ)
        kinds = {item.kind for item in self._items}
        metrics = [
            {"metric": name, "aggregation": "mean", "higher_is_better": "error" not in name and name != "unparsable"}
            for name in _metrics(kinds)
        ]
        own = {
            "test_split": SPLIT,
            "output_type": "generate_until",
            "generation_kwargs": {"max_new_tokens": self._benchmark.max_new_tokens, "do_sample": False},
            "metric_list": metrics,
            "process_results": self._scores,
        }
        super().__init__(config={**{key: value for key, value in config.items() if key != "class"}, **own})

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None) -> None:
        documents = [_document(number, item) for number, item in enumerate(self._items)]
        self.dataset = self.dataset_no_image = DatasetDict({SPLIT: Dataset.from_list(documents)})

    def doc_to_text(self, doc: Mapping[str, Any], *_: Any) -> str:
        instruction = self._benchmark.instruction
        return f"{instruction}\n{doc['prompt']}" if instruction else str(doc["prompt"])

    def doc_to_target(self, doc: Mapping[str, Any], *_: Any) -> str:
        return str(doc["answer"])

    def doc_to_visual(self, doc: Mapping[str, Any]) -> list[Clip]:
        item = self._items[doc["number"]]
        locate = item.kind is AnswerKind.POSITION
        benchmark = self._benchmark
        return [Clip(item.video, item.start_s, item.time_s, benchmark.open_video, locate, benchmark.fps)]

    def _scores(self, doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
        item = self._items[doc["number"]]
        return scores(item, grade(self._benchmark, item, Record("", item.id, str(results[0]).strip())))


def scores(item: Item, own: Grade) -> dict[str, float]:
    """The metrics of one answer; those that do not apply to it are left out."""
    found = {"unparsable": float(own.is_unparsable)}
    if own.error is not None:
        found["error_m" if item.kind is AnswerKind.POSITION else "error_min"] = own.error
    if own.is_measured:
        return found
    found["accuracy"] = float(own.is_right)
    if own.published is not None:
        found["as_published"] = own.published
    if own.score is not None:
        found["token_f1"] = own.score
    return found


def _metrics(kinds: set[AnswerKind]) -> list[str]:
    known = {
        "accuracy": any(not kind.is_measured for kind in kinds),
        "as_published": bool(kinds - {AnswerKind.OPEN, AnswerKind.MINUTES, AnswerKind.POSITION}),
        "token_f1": AnswerKind.OPEN in kinds,
        "error_m": AnswerKind.POSITION in kinds,
        "error_min": AnswerKind.MINUTES in kinds,
        "unparsable": True,
    }
    return [name for name, is_used in known.items() if is_used]


def ordered_items(benchmark: Benchmark, environment: Mapping[str, str]) -> list[Item]:
    """The items in the order of streams and times, so that questions share a memory. Raises DataError."""
    if not environment.get(DATA):
        raise DataError(f"{DATA} is not set: it names the folder that has a folder {benchmark.name} with the data")
    folder = Path(environment[DATA]).expanduser() / benchmark.name
    items, _ = load_items(benchmark, folder, partial=bool(environment.get(PARTIAL)))
    streams = {(item.video, item.start_s): number for number, item in reversed(list(enumerate(items)))}
    return sorted(items, key=lambda item: (streams[item.video, item.start_s], item.time_s))


def _document(number: int, item: Item) -> dict[str, Any]:
    return {
        "number": number,
        "id": item.id,
        "task": item.task,
        "question": item.question,
        "prompt": item.prompt,
        "answer": item.answer,
        "time_s": item.time_s,
    }
