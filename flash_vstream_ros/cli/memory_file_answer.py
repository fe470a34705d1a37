"""An answer from a memory in a file, as the service would reply."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from flash_vstream_ros.engine.answering.question import Question
from flash_vstream_ros.engine.offline import read_memory_file
from flash_vstream_ros.memory.memory_file import MemoryFileError
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.node.conversions import fill_response
from flash_vstream_ros.ros.interfaces import AskScene

from .ask import interval
from .offline_settings import checked, parameter_values
from .remember import offline_engine

NO_DEADLINE_S = 24 * 3600.0  # nobody else waits


def answer_from_file(args: argparse.Namespace) -> Any:
    """The reply to the question in `args`. Raises MemoryFileError, ModelError, BadParameters and BadTime."""
    path = Path(args.memory).expanduser()
    state, made_with = read_memory_file(path)
    if args.model or args.params_file:
        values = parameter_values(args.params_file, args.model)
    elif (origin := state.values.get("origin")) is not None:
        values = checked(origin["parameters"])
    else:
        raise MemoryFileError(f"{path} was saved by a node: give the node's --params-file or --model too")
    engine, _ = offline_engine(values)
    try:
        engine.restore(path, state, made_with)
        since_ns, until_ns = (round(at_s * 1e9) for at_s in interval(args, lambda: engine.newest_ns / 1e9 or None))
        scope = Scope(tuple(args.camera), since_ns, until_ns)
        deadline_s = args.deadline or NO_DEADLINE_S
        return fill_response(
            AskScene.Response(), engine.ask(Question(args.question, scope, deadline_s, args.max_new_tokens))
        )
    finally:
        engine.close()
