"""`flash-vstream-ros train-demo`: train the household model from nothing, on this machine."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from flash_vstream_ros.training.run import Plan

    parser.add_argument("folder", type=Path, help="of the run; the model is written to FOLDER/model")
    for field in fields(Plan):
        name = field.name.replace("_", "-")
        kind = float if isinstance(field.default, float) else int
        parser.add_argument(f"--{name}", type=kind, default=field.default, help="(default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto: CUDA when there is one; cpu, cuda:N (default: auto)")


def run(args: argparse.Namespace) -> int:
    from flash_vstream_ros.models.interface import ModelError
    from flash_vstream_ros.models.load import choose_device
    from flash_vstream_ros.progress import progress_bar
    from flash_vstream_ros.training import run as training

    plan = training.Plan(**{field.name: getattr(args, field.name) for field in fields(training.Plan)})
    with progress_bar() as bar:
        task = bar.add_task("rendering looks", total=None)

        def report(progress: training.Progress) -> None:
            said = f"{progress.stage}: loss {progress.loss:.3f}"
            if progress.accuracy == progress.accuracy:
                said += f", {100 * progress.accuracy:.1f} % right"
            if not bar.console.is_terminal:
                print(f"{progress.done}/{progress.steps} {said}", flush=True)
            bar.update(task, description=said, completed=progress.done, total=progress.steps)

        try:
            model = training.train(plan, args.folder, choose_device(args.device), report)
        except (ModelError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
    print(f"written: {model}\nask it: flash-vstream-ros demo --model {model}")
    return 0
