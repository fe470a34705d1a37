"""The simulated patrol of the demo as a frame source."""

from __future__ import annotations

from collections.abc import Iterator

from flash_vstream_ros.demo.world import World

from .frame_source import EvenlySpaced, SourceFrame


class DemoSource(EvenlySpaced):
    """The simulated patrol of one seed."""

    def __init__(self, seed: int, fps: float, base_ns: int) -> None:
        super().__init__(f"demo patrol, seed {seed}", fps, base_ns)
        self.world = World(seed)
        self.frames = int(self.world.duration * fps)

    def __iter__(self) -> Iterator[SourceFrame]:
        for index in range(int(self.world.duration * self.fps)):
            yield SourceFrame(self.stamp_ns(index), self.world.frame(index / self.fps))
