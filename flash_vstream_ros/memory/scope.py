"""Scope: a part of a stream, by cameras, stamps and place. The same object travels from a request to the memory."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from .region import Near, Region
from .spans import Interval


class Recording(Protocol):
    """Anything recorded by one camera between two stamps [ns]: a slot, a cluster, a memory entry."""

    @property
    def camera(self) -> str: ...

    @property
    def first_ns(self) -> int: ...

    @property
    def last_ns(self) -> int: ...

    @property
    def region(self) -> Region: ...


AnyRecording = TypeVar("AnyRecording", bound=Recording)


class BadScope(ValueError):
    """A scope that contradicts itself or names an unknown camera; the message says which."""


@dataclass(frozen=True)
class Scope:
    """Recordings of `cameras` (empty: all) from `since_ns` to `until_ns`, both included [ns]; 0: that end is open.

    With `near`, only recordings whose position is known and lies in that circle.
    """

    cameras: tuple[str, ...] = ()
    since_ns: int = 0
    until_ns: int = 0
    near: Near | None = None

    @property
    def interval(self) -> Interval:
        return Interval(self.since_ns, self.until_ns)

    @property
    def everything(self) -> bool:
        return not (self.cameras or self.since_ns or self.until_ns or self.near)

    def has_camera(self, camera: str) -> bool:
        return not self.cameras or camera in self.cameras

    def touches(self, recording: Recording) -> bool:
        """Returns True if any moment of `recording` is in scope."""
        in_time = self.has_camera(recording.camera) and self.interval.touches(recording.first_ns, recording.last_ns)
        return in_time and (self.near is None or self.near.touches(recording.region))

    def covers(self, recording: Recording) -> bool:
        """Returns True if `recording` is in scope as a whole."""
        in_time = self.has_camera(recording.camera) and self.interval.covers(recording.first_ns, recording.last_ns)
        return in_time and (self.near is None or self.near.covers(recording.region))

    def touches_place(self, region: Region) -> bool:
        """Returns True if any known position of `region` may be in scope."""
        return self.near is None or self.near.touches(region)

    def select(self, recordings: Iterable[AnyRecording]) -> list[AnyRecording]:
        """The recordings that are in scope at least in part."""
        return [each for each in recordings if self.touches(each)]


EVERYTHING = Scope()


def check_scope(scope: Scope, known: Collection[str]) -> None:
    """Raise BadScope if `scope` has a camera that is not in `known`, or an impossible interval."""
    unknown = sorted(set(scope.cameras) - set(known))
    if unknown:
        raise BadScope(f"unknown camera {', '.join(unknown)}; the cameras are {', '.join(known)}")
    if scope.since_ns < 0 or scope.until_ns < 0:
        raise BadScope("since and until must not be negative")
    if scope.until_ns and scope.since_ns > scope.until_ns:
        raise BadScope("since is later than until; give an interval of message stamps, or zero to leave an end open")
    if scope.near is not None and not (all(map(math.isfinite, scope.near[:3])) and scope.near.radius > 0):
        raise BadScope("near must be finite and radius must be positive and finite; a radius of zero is no limit")
