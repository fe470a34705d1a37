"""Which part of what was seen is meant: by camera and by stamp."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol, TypeVar

from .spans import ALWAYS, Interval


class Seen(Protocol):
    """What one camera saw from one stamp to another [ns]."""

    @property
    def camera(self) -> str: ...

    @property
    def first_ns(self) -> int: ...

    @property
    def last_ns(self) -> int: ...


AnySeen = TypeVar("AnySeen", bound=Seen)


class Scope(NamedTuple):
    """What `cameras` (none given: all) saw in an interval."""

    cameras: Collection[str] = ()
    interval: Interval = ALWAYS

    @classmethod
    def of(cls, cameras: Collection[str], since_ns: int, until_ns: int) -> Scope:
        return cls(cameras, Interval(since_ns, until_ns))

    def concerns(self, camera: str) -> bool:
        return not self.cameras or camera in self.cameras

    def touches(self, seen: Seen) -> bool:
        """Whether any moment of it is in."""
        return self.concerns(seen.camera) and self.interval.touches(seen.first_ns, seen.last_ns)

    def covers(self, seen: Seen) -> bool:
        """Whether all of it is in."""
        return self.concerns(seen.camera) and self.interval.covers(seen.first_ns, seen.last_ns)

    def among(self, seen: Iterable[AnySeen]) -> list[AnySeen]:
        """Those of which any moment is in."""
        return [each for each in seen if self.touches(each)]


EVERYTHING = Scope()
