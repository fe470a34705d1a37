"""Hooks by which a program that runs only this node adjusts its process before and after a model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _do_nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class ProcessHooks:
    """Called on the worker's thread; by default nothing happens, since other nodes may share the process.

    `set_threads` gets the parameter model.threads before a model is loaded, `loaded` is called after that, `unloaded`
    before the model is freed.
    """

    set_threads: Callable[[int], None] = _do_nothing
    loaded: Callable[[], None] = _do_nothing
    unloaded: Callable[[], None] = _do_nothing


NO_HOOKS = ProcessHooks()
