"""Callbacks of the engine into the program that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .state import State


def _do_nothing() -> None:
    pass


@dataclass(frozen=True)
class EngineHooks:
    """Callbacks of the engine into the program that runs it.

    `info` and `warn` get log lines; `advise` returns what to append to a refusal in a given state. `loaded` is called
    on the worker's thread when the model is loaded, `unloaded` before it is freed: a program may adjust the process
    there, for example its garbage collection.
    """

    info: Callable[[str], None]
    warn: Callable[[str], None]
    advise: Callable[[State], str] = lambda _: ""
    loaded: Callable[[], None] = _do_nothing
    unloaded: Callable[[], None] = _do_nothing
