"""`flash-vstream-ros train-demo`: train the household model from scratch on this machine."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from importlib.util import find_spec

from flash_vstream_ros.process import importing, keep_freed_memory, set_torch_threads
from flash_vstream_ros.training.plan import Plan

from .argument_types import DEVICE_HELP, count_or_zero, positive
from .output_files import output_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=output_folder, help="folder of the run; the model is written to FOLDER/model")
    for field in fields(Plan):
        kind = positive if isinstance(field.default, float) else count_or_zero
        meaning = f"{field.metadata['help']} (default: %(default)s)"
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help=meaning)
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)


def run(args: argparse.Namespace) -> int:
    if find_spec("matplotlib") is None:
        print("train-demo draws its curves with matplotlib, which is missing: pip install matplotlib", file=sys.stderr)
        return 1
    with importing():
        from flash_vstream_ros.models.interface import ModelError
        from flash_vstream_ros.models.load import choose_device
        from flash_vstream_ros.progress import progress
        from flash_vstream_ros.training import run as training

    keep_freed_memory()
    plan = Plan(**{field.name: getattr(args, field.name) for field in fields(Plan)})
    try:
        with progress("render views") as display:

            def report(stage: training.Progress) -> None:
                text = f"{stage.stage}: loss {stage.loss:.3f}"
                if stage.accuracy == stage.accuracy:  # not NaN
                    text += f", {100 * stage.accuracy:.1f} % right"
                display.update(stage.done, stage.steps, text)

            model = training.train(plan, args.folder, choose_device(args.device), report, set_torch_threads)
    except (ModelError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"training stopped: {error}; run the same command again to resume from the last save", file=sys.stderr)
        return 1
    print(f"wrote {model}\nask it: flash-vstream-ros demo --model {model}")
    return 0
