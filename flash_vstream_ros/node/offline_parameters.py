"""The node's parameters for commands that work without a node: from a parameter file, or saved with a memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from .parameter_files import KEY, matches, sections_in
from .parameter_table import BY_NAME, PARAMETERS
from .parameters import contradictions

NODE = "/flash_vstream"


class BadParameters(ValueError):
    """A parameter file that cannot be used; the message says what is wrong."""


def parameter_values(file: str | None, model: str | None) -> dict[str, Any]:
    """The values of all parameters: those in the node's sections of `file`, and defaults for the others.

    `model` replaces model.name. Raises BadParameters.
    """
    given = dict(_parameters_in(Path(file).expanduser())) if file else {}
    if model:
        given["model.name"] = model
    return checked(given)


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all parameters: those of `given`, and defaults for the others. Raises BadParameters."""
    known = {name: value for name, value in given.items() if name in BY_NAME}
    problems = [BY_NAME[name].problem(value) for name, value in known.items()]
    values = {**{spec.name: spec.default for spec in PARAMETERS}, **known}
    if found := [*filter(None, problems)] or contradictions(values):
        raise BadParameters(f"parameter {found[0]}")
    return values


def _parameters_in(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadParameters(f"{path} cannot be read: {error}") from error
    chosen = [values for name, values in sections_in(tree) if matches(name, NODE)]
    if not chosen:
        raise BadParameters(f"{path} has no section {KEY} for the node {NODE}, or for /**")
    for values in chosen:
        yield from _flat(values, "")


def _flat(values: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
