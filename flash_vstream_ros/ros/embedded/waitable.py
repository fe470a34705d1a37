"""What an executor can run: something that becomes ready and then hands out its callback's next run."""

from __future__ import annotations

from collections.abc import Callable

from .callback_groups import CallbackGroup

Work = Callable[[], None]


class Waitable:
    def __init__(self, callback_group: CallbackGroup) -> None:
        self.callback_group = callback_group
        self.signalled = False

    @property
    def ready(self) -> bool:
        return self.signalled

    @property
    def due_in(self) -> float | None:
        """Seconds until it becomes ready by itself; None where only an event makes it so."""
        return None

    def take(self) -> Work | None:
        """The next run of the callback, or None where nothing is left to do."""
        raise NotImplementedError
