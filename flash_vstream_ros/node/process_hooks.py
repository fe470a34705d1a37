"""Hooks for a program that runs only this node: it adjusts its process when a model is loaded or freed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _do_nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class ProcessHooks:
    """Callbacks on the worker's thread. The defaults do nothing, since other nodes may share the process.

    `set_threads` gets the parameter model.threads before a model is loaded. `loaded` is called after the model was
    loaded, `unloaded` before it is freed.
    """

    set_threads: Callable[[int], None] = _do_nothing
    loaded: Callable[[], None] = _do_nothing
    unloaded: Callable[[], None] = _do_nothing


NO_HOOKS = ProcessHooks()
