"""`flash-vstream-ros evaluate`: a published streaming benchmark with this memory and with controls, in one table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flash_vstream_ros import __version__
from flash_vstream_ros.evaluation.benchmarks import BENCHMARKS
from flash_vstream_ros.evaluation.benchmarks.benchmark import load_items
from flash_vstream_ros.evaluation.item import AnswerKind, DataError
from flash_vstream_ros.evaluation.method_names import METHODS, OURS
from flash_vstream_ros.process import importing

from .argument_types import count, positive, text
from .node import add_model_arguments
from .output_files import OutputError, log_to_stderr, output_folder, write_output

if TYPE_CHECKING:
    import numpy as np

    from flash_vstream_ros.evaluation.benchmarks import Benchmark
    from flash_vstream_ros.evaluation.item import Item
    from flash_vstream_ros.evaluation.judge import Judge
    from flash_vstream_ros.evaluation.records import Record
    from flash_vstream_ros.evaluation.run import RunConfig
    from flash_vstream_ros.evaluation.scoring import Verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with annotations and videos")
    parser.add_argument("--set", choices=tuple(BENCHMARKS), required=True, help="the benchmark, or a part of it")
    parser.add_argument(
        "--out",
        type=output_folder,
        required=True,
        metavar="DIR",
        help="folder for answers, settings and result.json; an interrupted run with the same settings is continued",
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=[OURS],
        metavar="METHOD",
        help="ours: the engine with the parameters; recent, uniform, timechat_online, infinipot_v, fluxmem: the same "
        "with another memory.policy; published: "
        "the released memory of the frames so far; uniform_64, last_4: frames in full detail; no_vision "
        "(default: ours)",
    )
    parser.add_argument("--fps", type=positive, help="frames used per second of video (default: the published rate)")
    parser.add_argument(
        "--frames-fps", type=positive, default=1.0, help="rate of folders of frames [1/s] (default: %(default)g)"
    )
    parser.add_argument("--max-new-tokens", type=count, help="longest answer [tokens] (default: the benchmark's)")
    parser.add_argument("--instruction", type=text, help="text before every prompt (default: the benchmark's)")
    parser.add_argument(
        "--processes", type=count, default=1, help="processes that each load the model (default: %(default)s)"
    )
    parser.add_argument(
        "--partial", action="store_true", help="accept a part of the benchmark, and leave out missing videos"
    )
    parser.add_argument(
        "--judge",
        type=text,
        metavar="MODEL",
        help="model that judges open answers, at the endpoint OPENAI_BASE_URL with the key OPENAI_API_KEY (default: "
        "no judge: exact match and token-F1)",
    )


def run(args: argparse.Namespace) -> int:
    with importing():
        from flash_vstream_ros.evaluation.judge import JudgeError
        from flash_vstream_ros.models.interface import ModelError
        from flash_vstream_ros.node.offline_parameters import BadParameters
    try:
        print(_evaluate(args))
    except (DataError, JudgeError, BadParameters, ModelError, OutputError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def frames_of(path: Path, frames_fps: float) -> Iterable[tuple[int, np.ndarray]]:
    """The frames of a video file, or of a folder of frames at this rate [1/s]. Raises SourceError."""
    from .sources import open_source

    return open_source(str(path), fps=frames_fps if path.is_dir() else 0.0, log=log_to_stderr)


def _evaluate(args: argparse.Namespace) -> str:
    from flash_vstream_ros.evaluation.run import RunConfig, run
    from flash_vstream_ros.evaluation.scoring import grade, score
    from flash_vstream_ros.evaluation.table import result, tables
    from flash_vstream_ros.node.offline_parameters import parameter_values

    benchmark, judge = BENCHMARKS[args.set], _judge(args)
    methods = list(dict.fromkeys(args.methods))
    items, left_out = load_items(benchmark, args.data.expanduser(), args.partial)
    config = RunConfig(
        benchmark.name,
        parameter_values(args.params_file, args.model),
        args.fps or benchmark.fps,
        args.frames_fps,
        args.max_new_tokens or benchmark.max_new_tokens,
        benchmark.instruction if args.instruction is None else args.instruction,
    )
    open_video = benchmark.open_video or partial(frames_of, frames_fps=args.frames_fps)
    records = {record.key: record for record in run(config, items, methods, args.out, open_video, args.processes)}
    verdicts = _verdicts(judge, items, list(records.values()))
    scores = {}
    for method in methods:
        keys = [(method, item.id) for item in items]
        grades = [
            grade(benchmark, item, records.get(key), verdicts.get(key)) for item, key in zip(items, keys, strict=True)
        ]
        scores[method] = score(benchmark, items, grades)
    settings = _settings(args, config, benchmark, len(items), left_out)
    path = args.out / "result.json"
    write_output(path, json.dumps(result(scores, settings), indent=2, ensure_ascii=False) + "\n")
    has_open_answers = any(item.kind is AnswerKind.OPEN for item in items)
    table = tables(scores, list(records.values()), has_open_answers)
    return f"{_title(benchmark, args, items, left_out)}\n\n{table}\n\nwrote {path}"


def _verdicts(judge: Judge | None, items: list[Item], records: list[Record]) -> dict[tuple[str, str], Verdict]:
    """The judge's verdicts on open answers; {} without a judge."""
    if judge is None:
        return {}
    by_id = {item.id: item for item in items if item.kind is AnswerKind.OPEN}
    asked = [(by_id[record.id], record) for record in records if record.id in by_id and record.response.strip()]
    return dict(zip([record.key for _, record in asked], judge.verdicts(asked), strict=True))


def _judge(args: argparse.Namespace) -> Judge | None:
    from flash_vstream_ros.evaluation.judge import Judge, JudgeConfig

    return Judge(JudgeConfig.from_environment(args.judge), args.out / "judgements.jsonl") if args.judge else None


def _settings(
    args: argparse.Namespace, config: RunConfig, benchmark: Benchmark, questions: int, left_out: int
) -> dict[str, Any]:
    """Every setting of the run, for result.json."""
    import torch
    import transformers

    return {
        **config.as_json(),
        "title": benchmark.title,
        "data": str(args.data),
        "methods": args.methods,
        "questions": questions,
        "published_questions": sum(benchmark.counts.values()),
        "left_out": left_out,
        "judge": args.judge or "",
        "versions": {
            "flash_vstream_ros": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def _title(benchmark: Benchmark, args: argparse.Namespace, items: list[Item], left_out: int) -> str:
    published = sum(benchmark.counts.values())
    missing = f", {left_out} left out as their video is missing" if left_out else ""
    judge = f", judge {args.judge}" if args.judge else ""
    return f"{benchmark.title}: {len(items)} of {published} questions{missing}{judge}; accuracy in %"
