"""rclpy's executors, improved: subscriptions may be destroyed and signals may arrive while they spin."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.executors import Executor, ExternalShutdownException, ShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

try:
    from rclpy.event_handler import SubscriptionEventCallbacks as _Iron  # noqa: F401
    from rclpy.executors import MultiThreadedExecutor as _MultiThreadedExecutor
    from rclpy.executors import SingleThreadedExecutor as _SingleThreadedExecutor
except ImportError:
    from .before_iron import MultiThreadedExecutor as _MultiThreadedExecutor
    from .before_iron import SingleThreadedExecutor as _SingleThreadedExecutor

PAUSE_S = 0.001  # after a failure, so that a repeated one does not occupy a core


class ImageCallbackGroup(MutuallyExclusiveCallbackGroup):
    """A group whose callbacks run on the executor's image thread, one callback at a time.

    For each callback, rclpy builds a wait set of all 50 entities of the node three times. With three cameras at 30 Hz
    this takes half a core. The image thread waits only for the entities of these groups.
    """


class _KeepsSpinning(Executor):
    """Keeps an executor spinning when rclpy's own wait raises."""

    def wait_for_ready_callbacks(self, *args: Any, **kwargs: Any) -> Any:
        """The next callback. Raises ExternalShutdownException or ShutdownException at shutdown."""
        while (ready := self._ready(*args, **kwargs)) is None:
            pass
        return ready

    def _ready(self, *args: Any, **kwargs: Any) -> Any:
        """The next callback; None if an entity was destroyed before the wait began."""
        try:
            return super().wait_for_ready_callbacks(*args, **kwargs)
        except ExternalShutdownException:
            raise
        except Exception as error:
            if self._is_shutdown:  # another thread destroys the entities of the wait
                raise ShutdownException from None
            if isinstance(error, InvalidHandle):
                return None
            if isinstance(error, rclpy_implementation.RCLError) and not self.context.ok():
                raise ExternalShutdownException from None  # a signal arrived before the wait began
            raise

    def _take_waitable(self, waitable: Any) -> Any:
        try:
            return super()._take_waitable(waitable)
        except InvalidHandle:  # rclpy would never release the callback group of a destroyed subscription's event
            return None


@dataclass(frozen=True)
class _ImagesOf:
    """A view of a node that has only the entities of image callback groups."""

    node: Node

    @property
    def subscriptions(self) -> Iterator[Any]:
        return filter(_is_for_images, self.node.subscriptions)

    @property
    def timers(self) -> Iterator[Any]:
        return filter(_is_for_images, self.node.timers)

    @property
    def waitables(self) -> Iterator[Any]:
        return filter(_is_for_images, self.node.waitables)

    clients = services = guards = ()


def _is_for_images(entity: Any) -> bool:
    return isinstance(entity.callback_group, ImageCallbackGroup)


class _ImageExecutor(_KeepsSpinning, _SingleThreadedExecutor):
    """Runs the image callback groups of the nodes of `parent`.

    While it waits, it refers to no destroyed entity. rclpy's wait would refer to the last one, and through it to a
    camera and the engine, until another entity is due.
    """

    def __init__(self, parent: MultiThreadedExecutor, context: Any) -> None:
        super().__init__(context=context)
        self._parent = parent
        self._woken = False

    def get_nodes(self) -> list[Any]:
        return [_ImagesOf(node) for node in self._parent.get_nodes()]

    def wake(self) -> None:
        self._woken = True
        super().wake()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        self._spin_once_impl(timeout_sec, self._was_woken)
        with self._tasks_lock:
            self._tasks: list[Any] = [task for task in self._tasks if not task[0].done()]

    def _was_woken(self) -> bool:
        """Returns True once after entities were created or destroyed: then a new wait begins."""
        woken, self._woken = self._woken, False
        return woken


class MultiThreadedExecutor(_KeepsSpinning, _MultiThreadedExecutor):
    """Runs image callback groups on a separate thread, and waits for all threads at shutdown."""

    def __init__(self, num_threads: int | None = None, *, context: Any = None) -> None:
        super().__init__(num_threads, context=context)
        self._images = _ImageExecutor(self, context)
        self._image_thread = threading.Thread(target=self._spin_images, name="flash-vstream-images", daemon=True)
        self._spinning = threading.RLock()

    def spin(self) -> None:
        with self._spinning:
            if self._image_thread.ident is None:
                self._image_thread.start()
            super().spin()

    def _spin_images(self) -> None:
        """Spin until shutdown. Exceptions of callbacks are raised in `spin`."""
        while True:
            try:
                return self._images.spin()
            except ExternalShutdownException:  # noqa: PERF203
                return None
            except Exception as error:
                self.create_task(_raise, error)
                time.sleep(PAUSE_S)

    def can_execute(self, entity: Any) -> bool:
        return not _is_for_images(entity) and bool(super().can_execute(entity))

    def wake(self) -> None:
        """Wake both threads, so that they wait for the entities that exist now."""
        super().wake()
        self._images.wake()

    def _spin_once_impl(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._spin_once_impl(*args, **kwargs)
        except RuntimeError:
            if not self._is_shutdown:  # after shutdown, the thread pool refuses callbacks
                raise

    def shutdown(self, timeout_sec: float | None = None, **options: Any) -> bool:
        """Stop, and wait for running callbacks and for `spin`.

        rclpy before Kilted does not wait. Every version destroys the guard condition. The threads trigger it and `spin`
        waits for it, so they must end first: a wait that begins without the guard condition never ends.
        """
        for executor in (self._images, self):
            with executor._shutdown_lock:
                executor._is_shutdown = True
                if executor._guard is not None:
                    executor._guard.trigger()
        if self._image_thread.ident is not None:
            self._image_thread.join()
        self._images.shutdown()
        self._executor.shutdown(wait=options.get("wait_for_threads", True))
        with self._spinning:
            return bool(super().shutdown(timeout_sec, **options))


def _raise(error: Exception) -> None:
    raise error
