"""Answers and searches from a memory in a file, with the reply that the service would give."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flash_vstream_ros.engine.answering.question import Question
from flash_vstream_ros.engine.offline import OfflineEngine, read_memory_file
from flash_vstream_ros.memory.memory_file import MemoryFileError
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.node.conversions import fill_response, fill_search_response
from flash_vstream_ros.node.offline_parameters import checked, parameter_values
from flash_vstream_ros.node.poses.pose_config import PoseConfig
from flash_vstream_ros.ros.interfaces import AskScene, Search

from .image_files import read_image
from .remember import offline_engine
from .request_limits import interval

NO_DEADLINE_S = 24 * 3600.0  # a deadline that is never reached


def answer_from_file(args: argparse.Namespace) -> Any:
    """The reply to the question in `args`. Raises MemoryFileError, ModelError, BadParameters and BadTime."""
    with _engine_with_memory(args) as (engine, pose):
        scope, deadline_s = _scope(args, engine, pose), args.deadline or NO_DEADLINE_S
        answer = engine.ask(Question(args.question, scope, deadline_s, args.max_new_tokens))
        return fill_response(AskScene.Response(), answer)


def search_in_file(args: argparse.Namespace) -> Any:
    """The reply to the search in `args`. Raises MemoryFileError, ModelError, BadParameters and BadTime."""
    with _engine_with_memory(args) as (engine, pose):
        image = read_image(args.image) if args.image else None
        search = Question(args.text or "", _scope(args, engine, pose), NO_DEADLINE_S, moments=args.top, image=image)
        found = engine.ask(search)
        return fill_search_response(Search.Response(), found)


@contextmanager
def _engine_with_memory(args: argparse.Namespace) -> Iterator[tuple[OfflineEngine, PoseConfig]]:
    """An engine with the memory in the file, and with the parameters in `args`, or else those of the file."""
    path = Path(args.memory).expanduser()
    state, made_with = read_memory_file(path)
    if args.model or args.params_file:
        values = parameter_values(args.params_file, args.model)
    elif (origin := state.values.get("origin")) is not None:
        values = checked(origin["parameters"])
    else:
        raise MemoryFileError(f"{path} was saved by a node: give the node's --params-file or --model too")
    engine, settings = offline_engine(values)
    try:
        engine.restore(path, state, made_with)
        yield engine, settings.pose
    finally:
        engine.close()


def _scope(args: argparse.Namespace, engine: OfflineEngine, pose: PoseConfig) -> Scope:
    since_ns, until_ns = (round(at_s * 1e9) for at_s in interval(args, lambda: engine.newest_ns / 1e9 or None))
    near = pose.circle(args.near[0], args.near[1], args.radius) if args.near else None
    return Scope(tuple(args.camera), since_ns, until_ns, near)
