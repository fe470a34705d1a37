"""Shows the progress of long work on standard error: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

LINE_EVERY_S = 5.0
Item = TypeVar("Item")


class Progress(Protocol):
    """Steps done of `total`, which is None if unknown."""

    def update(self, done: int, total: int | None = None, text: str = "") -> None:
        """Set the steps done, and the total and the text if they are given."""

    def advance(self, steps: int = 1) -> None:
        """Count `steps` more steps as done."""


@contextmanager
def progress(text: str, total: int | None = None) -> Iterator[Progress]:
    """Show the progress of the work inside the `with` block."""
    if not sys.stderr.isatty():
        lines = _Lines(text, total)
        yield lines
        lines.finish()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with RichProgress(*columns, *times, console=Console(stderr=True)) as bar:
        yield _Bar(bar, bar.add_task(text, total=total))


def tracked(items: Iterable[Item], text: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items, and show the progress through them."""
    with progress(text, total) as display:
        for item in items:
            yield item
            display.advance()


class _Bar:
    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task = bar, task

    def update(self, done: int, total: int | None = None, text: str = "") -> None:
        changes = {"total": total, "description": text}
        self._bar.update(self._task, completed=done, **{name: value for name, value in changes.items() if value})

    def advance(self, steps: int = 1) -> None:
        self._bar.advance(self._task, steps)


class _Lines:
    def __init__(self, text: str, total: int | None) -> None:
        self._text, self._total, self._done = text, total, 0
        self._printed_s = time.monotonic()
        self._printed_any = False

    def update(self, done: int, total: int | None = None, text: str = "") -> None:
        self._done, self._total, self._text = done, total or self._total, text or self._text
        if time.monotonic() - self._printed_s >= LINE_EVERY_S:
            self._print()

    def advance(self, steps: int = 1) -> None:
        self.update(self._done + steps)

    def finish(self) -> None:
        if self._printed_any:
            self._print()

    def _print(self) -> None:
        self._printed_s, self._printed_any = time.monotonic(), True
        print(f"{self._text}: {self._done} of {self._total or 'unknown'}", file=sys.stderr, flush=True)
