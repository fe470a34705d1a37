"""Callbacks of the engine into the program that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .state import State
from .watches.watch import WatchEvent


def _do_nothing() -> None:
    pass


@dataclass(frozen=True)
class EngineHooks:
    """Callbacks of the engine into the program that runs it.

    `info` and `warn` get log lines. `advise` returns the advice that is appended to a refusal in a given state. The
    worker's thread calls `loaded` once the model is loaded and `unloaded` before it is freed. A program may use them to
    adjust the process, for example its garbage collection. It calls `watch_event` for each event of a watch.
    """

    info: Callable[[str], None]
    warn: Callable[[str], None]
    advise: Callable[[State], str] = lambda _: ""
    loaded: Callable[[], None] = _do_nothing
    unloaded: Callable[[], None] = _do_nothing
    watch_event: Callable[[WatchEvent], None] = lambda _: None
