"""Runs methods over the streams of a benchmark, in one or several processes, and continues an interrupted run."""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.models.interface import ModelError, VisionLanguageModel
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.node.settings import Settings, settings_from
from flash_vstream_ros.process import set_torch_threads
from flash_vstream_ros.progress import progress

from .item import Item
from .methods import method_of
from .protocol import Stream, answers, streams_of
from .records import Record, answered, append_record, read_records
from .sampled_video import OpenVideo, SampledVideo
from .settings_file import check_settings

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

MAX_PROMPT_CHARS = 100_000  # prompts with options and earlier answers are longer than a user's question
RECORDS, SETTINGS = "answers.jsonl", "settings.json"
_number = 0  # of this process among those of the evaluation


@dataclass(frozen=True)
class RunConfig:
    """What determines the answers of a run."""

    benchmark: str
    parameters: Mapping[str, Any]  # of the node, by name
    fps: float  # sampling rate [1/s]
    frames_fps: float  # rate of folders of frames [1/s]
    max_new_tokens: int
    instruction: str

    @property
    def engine(self) -> EngineConfig:
        """The engine's configuration, at the benchmark's rate and with its instruction."""
        return replace(
            self.settings.engine,
            sample_fps=self.fps,
            instruction=self.instruction,
            max_question_chars=MAX_PROMPT_CHARS,
            warm_up=False,
        )

    @property
    def settings(self) -> Settings:
        return settings_from(self.parameters)

    def as_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "fps": self.fps,
            "frames_fps": self.frames_fps,
            "max_new_tokens": self.max_new_tokens,
            "instruction": self.instruction,
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True)
class _Task:
    """The unanswered questions about one video."""

    config: RunConfig
    methods: tuple[tuple[str, Stream], ...]  # each with its own unanswered questions
    records: Path
    open_video: OpenVideo


def run(
    config: RunConfig,
    items: Sequence[Item],
    methods: Sequence[str],
    folder: Path,
    open_video: OpenVideo,
    processes: int = 1,
) -> list[Record]:
    """Answer all items by all methods, and return the records of all. `folder` may have those of an interrupted run.

    With several processes `open_video` must be a function of a module. Raises DataError and ModelError.
    """
    check_settings(folder / SETTINGS, config.as_json())
    path = folder / RECORDS
    done = answered(read_records(path).values())
    tasks = list(_tasks(config, items, methods, done, path, open_video))
    total = len(items) * len(methods)
    with progress(f"evaluate {config.benchmark}", total) as display:
        display.update(total - sum(len(stream.items) for task in tasks for _, stream in task.methods))
        for new in _run_tasks(tasks, processes):
            display.advance(new)
    wanted = {(method, item.id) for method in methods for item in items}
    return [record for key, record in read_records(path).items() if key in wanted]


def _tasks(
    config: RunConfig,
    items: Sequence[Item],
    methods: Sequence[str],
    done: set[tuple[str, str]],
    path: Path,
    open_video: OpenVideo,
) -> Iterator[_Task]:
    for stream in streams_of(items):
        waiting = []
        for method in methods:
            unanswered = tuple(item for item in stream.items if (method, item.id) not in done)
            if unanswered:
                waiting.append((method, replace(stream, items=unanswered)))
        if waiting:
            yield _Task(config, tuple(waiting), path, open_video)


def _run_tasks(tasks: Sequence[_Task], processes: int) -> Iterator[int]:
    """Run the tasks, and yield numbers of answers as they are recorded."""
    if processes == 1 or len(tasks) <= 1:
        for task in tasks:
            yield from _run_task(task)
        return
    others = set(multiprocessing.active_children())
    # A forked process cannot use CUDA after its parent has.
    context = multiprocessing.get_context("spawn")
    numbers = context.Value("i", 0)
    with ProcessPoolExecutor(min(processes, len(tasks)), context, _start_process, (numbers,)) as pool:
        try:
            for done in as_completed([pool.submit(_count_answers, task) for task in tasks]):
                yield done.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            if isinstance(error, BrokenProcessPool):
                raise ModelError(
                    "a process of the evaluation died, perhaps for lack of memory: run the command again with fewer "
                    "--processes; its answers so far are kept"
                ) from error
            raise


def _start_process(numbers: Synchronized[int]) -> None:
    """Leave Ctrl-C to the parent, which ends its processes, and take the next number."""
    global _number
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with numbers.get_lock():
        _number = numbers.value
        numbers.value += 1


def device_of_process(device: str, number: int, gpus: int) -> str:
    """The device for process `number` of several, from 0: with "auto", each process gets the next of `gpus` GPUs."""
    return f"cuda:{number % gpus}" if device == "auto" and gpus > 1 else device


def _count_answers(task: _Task) -> int:
    return sum(_run_task(task))


def _run_task(task: _Task) -> Iterator[int]:
    """Append the records of a task, and yield 1 for each. A video that cannot be read fails its questions."""
    model = _model(json.dumps(dict(task.config.parameters), sort_keys=True))
    first = task.methods[0][1]
    try:
        video = SampledVideo(task.open_video, first.video, task.config.fps, first.start_s)
    except (RuntimeError, OSError, ValueError) as error:
        for name, stream in task.methods:
            yield from _fail(task, name, stream.items, error)
        return
    try:
        for name, stream in task.methods:
            yield from _run_method(task, model, name, stream, video)
    finally:
        video.close()


def _run_method(
    task: _Task, model: VisionLanguageModel, name: str, stream: Stream, video: SampledVideo
) -> Iterator[int]:
    method = method_of(name, model, task.config.engine, video)
    waiting = {item.id: item for item in stream.items}
    try:
        for record in answers(method, name, stream, video, task.config.max_new_tokens):
            append_record(task.records, record)
            del waiting[record.id]
            yield 1
    except (RuntimeError, OSError, ValueError) as error:
        yield from _fail(task, name, list(waiting.values()), error)
    finally:
        method.close()


def _fail(task: _Task, name: str, items: Sequence[Item], error: Exception) -> Iterator[int]:
    for item in items:
        append_record(task.records, Record(name, item.id, error=f"{item.video.name}: {error}"))
        yield 1


@lru_cache(maxsize=1)
def _model(parameters: str) -> VisionLanguageModel:
    """The model for these parameters, as JSON; loaded once in a process."""
    settings = settings_from(json.loads(parameters))
    set_torch_threads(settings.torch_threads)
    options = dict(settings.model)
    options["device"] = device_of_process(options["device"], _number, torch.cuda.device_count())
    return load_model(**options)
