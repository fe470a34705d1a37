"""`flash-vstream-ros demo`: run a simulated camera, the node and questions, each in its own process, over DDS."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec

from flash_vstream_ros.models.names import HOUSEHOLD
from flash_vstream_ros.process import importing

from .argument_types import port, positive
from .output_files import OutputError, output_file
from .web import DEFAULT_PORT as WEB_PORT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write questions, answers, latencies and memory size to FILE"
    )
    parser.add_argument(
        "--sheet",
        type=output_file,
        metavar="FILE",
        default="demo_memory.png",
        help="write a contact sheet of the memory's images to FILE (default: %(default)s)",
    )
    parser.add_argument(
        "--model", default=HOUSEHOLD, help="hub id or folder (default: %(default)s, trained on this simulator only)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulated patrol (default: %(default)s)")
    parser.add_argument(
        "--rate", type=positive, default=30.0, help="simulated seconds per second (default: %(default)s)"
    )
    parser.add_argument(
        "--web",
        type=port,
        nargs="?",
        const=WEB_PORT,
        metavar="PORT",
        help="show the node on a web page from the start, open it, and keep the node running until Ctrl-C;"
        f" 0: on a free port (default: {WEB_PORT})",
    )


def run(args: argparse.Namespace) -> int:
    if args.web is not None and not (find_spec("uvicorn") and find_spec("starlette")):
        print("--web needs: pip install 'flash_vstream_ros[web]'", file=sys.stderr)
        return 1
    with importing():
        from flash_vstream_ros.demo.simulated_run import SimulatedRunError
        from flash_vstream_ros.ros import RUNTIME
        from flash_vstream_ros.ros.middleware import use_shipped_profile
        from flash_vstream_ros.ros.private_domain import use_private_domain

        from .demo_questions import run_demo
    use_private_domain()
    use_shipped_profile()
    print(f"runtime {RUNTIME}, ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}, model {args.model}")
    print(
        "process 1: the node; process 2: a simulated camera; process 3, this one: questions to /ask_scene", flush=True
    )
    try:
        run_demo(args)
    except (SimulatedRunError, OutputError, OSError) as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1
    return 0
