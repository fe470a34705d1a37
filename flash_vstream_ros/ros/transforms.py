"""Transforms of tf2. They need tf2_ros, which comes with ROS 2; the embedded runtime has none."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

Rotation = tuple[float, float, float, float]
Translation = tuple[float, float, float]


class MissingTransforms(ImportError):
    """tf2_ros cannot be used; the message says what to do."""


class NoTransform(LookupError):
    """tf has no such transform yet; `reason` is a short name to count it by."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


Received = Callable[[Any, bool], None]  # gets a geometry_msgs/TransformStamped, and if it is static


class Transforms:
    """The transforms that a node receives on /tf and /tf_static. Raises MissingTransforms.

    `received` gets each of them before it is used.
    """

    def __init__(self, node: Any, received: Received) -> None:
        try:
            self._tf2 = importlib.import_module("tf2_ros")
            self._time = importlib.import_module("rclpy.time").Time
        except ImportError as error:
            raise MissingTransforms(
                f"pose.source is tf, but tf2_ros fails to import ({error}): install ros-$ROS_DISTRO-tf2-ros-py and use "
                "rclpy, or set pose.source to topic"
            ) from error
        self._buffer = self._tf2.Buffer()
        self._listener = self._tf2.TransformListener(_ObservedBuffer(self._buffer, received), node)

    def look_up(self, target: str, source: str, stamp_ns: int) -> tuple[Translation, Rotation]:
        """Position [m] and orientation (x, y, z, w) of the frame `source` in `target` at a stamp. Raises NoTransform.

        tf2 interpolates between two transforms, and never extrapolates.
        """
        try:
            found = self._buffer.lookup_transform(target, source, self._time(nanoseconds=stamp_ns)).transform
        except self._tf2.ExtrapolationException as error:
            raise NoTransform("late", str(error)) from error
        except self._tf2.TransformException as error:
            raise NoTransform("no_transform", str(error)) from error
        p, q = found.translation, found.rotation
        return (p.x, p.y, p.z), (q.x, q.y, q.z, q.w)

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()


class _ObservedBuffer:
    """The part of a tf2 buffer that its listener calls."""

    def __init__(self, buffer: Any, received: Received) -> None:
        self._buffer = buffer
        self._received = received

    def set_transform(self, transform: Any, authority: str) -> None:
        self._received(transform, False)
        self._buffer.set_transform(transform, authority)

    def set_transform_static(self, transform: Any, authority: str) -> None:
        self._received(transform, True)
        self._buffer.set_transform_static(transform, authority)
