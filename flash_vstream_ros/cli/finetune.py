"""`flash-vstream-ros finetune`: fine-tune a vision-language model with LoRA, on memories of recordings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flash_vstream_ros import __version__
from flash_vstream_ros.finetuning.plan import Plan
from flash_vstream_ros.process import importing, keep_freed_memory

from .argument_types import count, count_or_zero, number_or_zero, positive
from .node import add_model_arguments
from .output_files import log_to_stderr, output_folder

if TYPE_CHECKING:
    import numpy as np

PACKAGES = ("peft", "accelerate", "matplotlib")
FROM_ZERO = ("held_out", "warmup", "weight_decay", "dropout", "seed")  # settings that may be 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", type=Path, metavar="DATA.jsonl", help="questions about recordings, a JSON object a line"
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--output",
        type=output_folder,
        required=True,
        metavar="DIR",
        help="folder for the adapter, which model.name may name; an interrupted run with the same settings is resumed",
    )
    for field in fields(Plan):
        meaning = f"{field.metadata['help']} (default: %(default)s)"
        parser.add_argument(_option(field.name), type=_type(field), default=field.default, help=meaning)
    parser.add_argument(
        "--check", type=Path, metavar="FILE.jsonl", help="questions that are only asked, before and after the training"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FILE.jsonl",
        help="questions, without answers, whose answers shall stay those of the base model: it is trained on them too",
    )
    parser.add_argument(
        "--memories", type=output_folder, metavar="DIR", help="folder of the memories (default: OUTPUT/memories)"
    )
    parser.add_argument(
        "--frames-fps",
        type=positive,
        default=1.0,
        help="rate of folders of frames and of the demo [1/s] (default: %(default)g)",
    )
    parser.add_argument(
        "--no-gradient-checkpointing",
        action="store_true",
        help="keep all activations: more memory, less time",
    )


def run(args: argparse.Namespace) -> int:
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        print(f"finetune needs {', '.join(missing)}: pip install {' '.join(missing)}", file=sys.stderr)
        return 1
    with importing():
        from accelerate import PartialState

        from flash_vstream_ros.evaluation.item import DataError
        from flash_vstream_ros.finetuning.run import Finetuning, finetune
        from flash_vstream_ros.models.interface import ModelError
        from flash_vstream_ros.node.offline_parameters import BadParameters, parameter_values
    keep_freed_memory()
    try:
        work = Finetuning(
            data=args.data.expanduser(),
            parameters=parameter_values(args.params_file, args.model),
            output=args.output,
            plan=Plan(**{field.name: getattr(args, field.name) for field in fields(Plan)}),
            check=args.check.expanduser() if args.check else None,
            keep=args.keep.expanduser() if args.keep else None,
            memories=args.memories,
            frames_fps=args.frames_fps,
            gradient_checkpointing=not args.no_gradient_checkpointing,
            version=__version__,
        )
        report = finetune(work, partial(_frames, fps=args.frames_fps), log_to_stderr)
    except (DataError, BadParameters, ModelError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if PartialState().is_main_process:
        print(_summary(report, args.output))
    return 0


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _type(field: Any) -> Any:
    if isinstance(field.default, float):
        return number_or_zero if field.name in FROM_ZERO else positive
    return count_or_zero if field.name in FROM_ZERO else count


def _frames(source: str, fps: float) -> Iterable[tuple[int, np.ndarray]]:
    """The frames of a recording. Raises SourceError."""
    from .sources import open_source
    from .sources.bag import bag_path

    path = Path(source)
    has_times = path.exists() and (path.is_file() or bag_path(path) is not None)
    return open_source(source, fps=0.0 if has_times else fps, log=log_to_stderr)


def _summary(report: dict[str, Any], folder: Path) -> str:
    lines = [f"{'questions':24} {'n':>5} {'exact before':>13} {'after':>6} {'F1 before':>10} {'after':>6}"]
    for name, score in report["scores"].items():
        for kind, before in score["before"].items():
            after = score["after"][kind]
            title = f"{name.replace('_', ' ')}, {kind}"
            lines.append(
                f"{title:24} {before['n']:5} {100 * before['exact']:12.1f}% {100 * after['exact']:5.1f}%"
                f" {before['f1']:10.3f} {after['f1']:6.3f}"
            )
    if len(lines) == 1:
        lines = []
    return "\n".join([*lines, f"wrote {folder}; run it: flash-vstream-ros node --model {folder}"])
