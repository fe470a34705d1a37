"""How the engine runs: its rates and bounds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.models.prompt import INSTRUCTION

from .answering.uncached_reader import PrefixCacheConfig
from .ingest.ingest import longest_pair_ns
from .ingest.stamps import JumpBack, StampWatch
from .ingest.static_scene import StaticLimits


@dataclass(frozen=True)
class EngineConfig:
    """Rates and bounds. `sample_fps` is in frames per second of message time and sets the memory's slot period."""

    cameras: tuple[str, ...] = ("camera",)
    sample_fps: float = 1.0
    memory: FlashMemoryConfig = field(default_factory=FlashMemoryConfig)
    policy: str = "flash"  # what the memory keeps: one of policies.POLICIES
    on_jump_back: JumpBack = JumpBack.FORK
    jump_s: float = 2.0  # stamps that go back by more are a jump, once it is certain that they do
    question_queue: int = 4
    deadline_s: float = 30.0
    max_new_tokens: int = 128
    max_question_chars: int = 4096
    evidence: int = 3
    instruction: str = INSTRUCTION
    warm: PrefixCacheConfig = field(default_factory=PrefixCacheConfig)
    warm_up: bool = False  # encode and answer once, on a memory for that alone, before there is anything to do
    static: StaticLimits = field(default_factory=StaticLimits)

    @property
    def slot_period_ns(self) -> int:
        return round(2e9 / self.sample_fps)

    @property
    def timed_memory(self) -> FlashMemoryConfig:
        """`memory`, with the clock that follows from the sampling rate."""
        return replace(self.memory, slot_period_ns=self.slot_period_ns)

    @property
    def leap_ns(self) -> int:
        """Stamps that go on by more at once are a leap of time [ns]."""
        return max(round(self.jump_s * 1e9), longest_pair_ns(self.slot_period_ns))

    def stamp_watch(self) -> StampWatch:
        """What tells late stamps of one camera from a clock that was set."""
        return StampWatch(round(self.jump_s * 1e9), self.leap_ns, follows=self.on_jump_back is not JumpBack.IGNORE)
