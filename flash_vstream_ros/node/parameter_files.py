"""Finds parameter files that have no section for this node; ROS ignores them silently."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from flash_vstream_ros.engine.log_text import one_line

KEY = "ros__parameters"
OPTION = "--params-file"
MAX_NAMED = 5  # most sections named in a warning


def unused_files(args: Sequence[str], node: str) -> list[str]:
    """A sentence for each parameter file in the ROS arguments without a section for `node`, a full node name."""
    found = []
    for file in parameter_files(args):
        sections = list(sections_of(file))
        if sections and not any(matches(section, node) for section in sections):
            names = ", ".join(one_line(section) for section in sections[:MAX_NAMED])
            found.append(
                f"{file} has no section for this node, {node}, so its parameters are not used; its sections are"
                f" {names}: rename one to {node} or /**"
            )
    return found


def parameter_files(args: Sequence[str]) -> list[str]:
    """The files that follow --params-file between --ros-args and --."""
    inside, found = False, []
    for word, following in pairwise([*args, ""]):
        if word in ("--ros-args", "--"):
            inside = word == "--ros-args"
        elif inside and word == OPTION:
            found.append(following)
    return found


def sections_of(file: str) -> Iterator[str]:
    """The node name of each section. A file that cannot be read has no sections here; ROS itself refuses it."""
    try:
        tree = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return
    yield from (name for name, _ in sections_in(tree))


def matches(section: str, node: str) -> bool:
    """Returns True if ROS uses a section for a node: * matches one part of the name, ** any number of parts."""
    parts = {"**": "(/[^/]+)*", "*": "/[^/]+"}
    pattern = "".join(parts.get(part, "/" + re.escape(part)) for part in section.strip("/").split("/"))
    return re.fullmatch(pattern, "/" + node.strip("/")) is not None


def sections_in(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The node name and the values of each section of a parsed file."""
    if not isinstance(tree, dict):
        return
    for key, value in tree.items():
        if key == KEY:
            yield prefix or "/", value
        else:
            yield from sections_in(value, f"{prefix}/{str(key).strip('/')}")
