"""`flash-vstream-ros ask "..."`: ask a running node, or a memory in a file, one question."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from flash_vstream_ros.engine.log_text import printable
from flash_vstream_ros.process import importing
from flash_vstream_ros.progress import Progress, progress

from .argument_types import answer_tokens, duration, question, text
from .node import add_model_arguments
from .reply_output import covered_text, print_error, print_json, print_notes
from .request_limits import add_place_arguments, add_time_arguments, request_limits
from .times import BadTime

if TYPE_CHECKING:
    from flash_vstream_ros.client import AskClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", type=question, help="the question, in plain language")
    parser.add_argument("--json", action="store_true", help="print the whole reply with the service's field names")
    parser.add_argument("--stream", action="store_true", help="print the answer piece by piece while it is generated")
    parser.add_argument(
        "--camera", type=text, action="append", default=[], help="answer from this camera only; may be repeated"
    )
    add_time_arguments(parser, "ignore what was seen before this time", "ignore what was seen after this time")
    add_place_arguments(parser, "answer only from what was seen")
    parser.add_argument(
        "--deadline", type=duration, default=0.0, help="longest time for the answer [s]; 0: the node's default"
    )
    parser.add_argument(
        "--max-new-tokens", type=answer_tokens, default=0, help="longest answer [tokens]; 0: the node's default"
    )
    parser.add_argument(
        "--memory",
        metavar="FILE",
        help="without a node: ask the memory in FILE, written by remember or by a node (archive.path)",
    )
    add_model_arguments(parser)
    parser.add_argument("--service", type=text, default="ask_scene", help="name of the service (default: %(default)s)")
    add_node_arguments(parser, "wait for the node to appear and to load its model [s] (default: %(default)g)")


def add_node_arguments(parser: argparse.ArgumentParser, wait: str) -> None:
    """Add `--node` and `--wait`."""
    parser.add_argument("--node", type=text, default="flash_vstream", help="name of the node (default: %(default)s)")
    parser.add_argument("--wait", type=duration, default=10.0, metavar="SECONDS", help=wait)


def is_memory_missing(args: argparse.Namespace) -> bool:
    """Print an error and return True if there are parameters for a model, but no --memory that they apply to."""
    is_missing = bool(args.model or args.params_file) and not args.memory
    if is_missing:
        print("--model and --params-file need --memory: a running node has its own parameters", file=sys.stderr)
    return is_missing


def run(args: argparse.Namespace) -> int:
    if is_memory_missing(args):
        return 2
    if args.memory:
        return _ask_file(args)
    with importing():
        from flash_vstream_ros.client import ClientError

        from .node_client import node_client

    try:
        with node_client(args, args.service) as client:
            return _ask(client, args)
    except (ClientError, BadTime) as error:
        print(error, file=sys.stderr)
        return 1


def _ask_file(args: argparse.Namespace) -> int:
    """Answer from a memory in a file, with the given parameters or those of the file."""
    with importing():
        from flash_vstream_ros.memory.memory_file import MemoryFileError
        from flash_vstream_ros.models.interface import ModelError
        from flash_vstream_ros.node.offline_parameters import BadParameters

        from .memory_file_answer import answer_from_file
    try:
        reply = answer_from_file(args)
    except (MemoryFileError, ModelError, BadParameters, BadTime) as error:
        print(error, file=sys.stderr)
        return 1
    return print_reply(reply, args.json)


def _ask(client: AskClient, args: argparse.Namespace) -> int:
    if args.stream and not args.json:
        client.on_piece = lambda piece: print(printable(piece), end="", flush=True)
    key_frames = KeyFrameBar()
    client.on_key_frames = key_frames.show
    limits = request_limits(args, client)
    may_use_archive = bool(limits["since_s"] or limits["until_s"])
    request = client.request(
        args.question,
        deadline_s=args.deadline,
        max_new_tokens=args.max_new_tokens,
        stream=args.stream or may_use_archive,
        **limits,
    )
    with key_frames:
        reply = client.ask_when_ready(request, args.wait)
    return print_reply(reply, args.json, already_printed=args.stream)


class KeyFrameBar:
    """Shows how many archived key frames are encoded for an answer, from the first report to the last."""

    def __init__(self) -> None:
        self._shown = ExitStack()
        self._bar: Progress | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def show(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = self._shown.enter_context(progress("encoding archived key frames", total))
        self._bar.update(done, total)
        if done >= total:
            self._shown.close()
            self._bar = None


def print_reply(reply: Any, as_json: bool, already_printed: bool = False) -> int:
    """Print a reply of the service; returns the exit status."""
    if as_json:
        print_json(reply)
    else:
        _print_reply(reply, already_printed)
    return 0 if reply.error_code == reply.NONE else 1


def _print_reply(reply: Any, already_printed: bool) -> None:
    from flash_vstream_ros.ros.stamps import seconds

    if reply.answer:
        print("" if already_printed else printable(reply.answer))
    print_notes(reply)
    print_error(reply)
    if reply.memory_tokens:
        cached = f" ({reply.cached_tokens} prompt tokens cached)" if reply.cached_tokens else ""
        print(
            f"(seen {covered_text(reply)}; {reply.memory_tokens} memory tokens{cached};"
            f" confidence {reply.confidence:.2f}{'' if reply.calibrated else ', uncalibrated'};"
            f" first token {seconds(reply.time_to_first_token):.2f} s, complete {seconds(reply.duration):.2f} s)"
        )
