"""Configuration of the engine: rates and limits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.models.prompt import INSTRUCTION

from .answering.prefix_cache_config import PrefixCacheConfig
from .archive.archive_config import ArchiveConfig
from .ingest.stamps import JumpBack, StampWatch
from .ingest.static_scene import StaticSceneConfig
from .watches.watch import WatchConfig

FRAMES_PER_SLOT = 2


@dataclass(frozen=True)
class EngineConfig:
    """Rates and limits. `sample_fps` is in frames per second of message time and sets the memory's slot period."""

    cameras: tuple[str, ...] = ("camera",)
    sample_fps: float = 1.0
    memory: FlashMemoryConfig = field(default_factory=FlashMemoryConfig)
    policy: str = "flash"  # retention policy of the memory: one of memory_policies.POLICIES
    on_jump_back: JumpBack = JumpBack.FORK
    jump_s: float = 2.0  # smallest jump back of stamps, and how long the older stamps must continue [s]
    question_queue: int = 4
    deadline_s: float = 30.0
    max_new_tokens: int = 128
    max_question_chars: int = 4096
    evidence: int = 3  # entries named as evidence of an answer
    # Limit of a second look, as a share of the memory's visual tokens; hierarchical memories only. 0: no second look.
    second_look: float = 0.0
    instruction: str = INSTRUCTION
    prefix_cache: PrefixCacheConfig = field(default_factory=PrefixCacheConfig)
    warm_up: bool = False  # encode and answer once on a scratch memory before the engine is ready
    blur_faces: bool = False  # cover faces before anything is kept of a frame
    static_scene: StaticSceneConfig = field(default_factory=StaticSceneConfig)
    archive: ArchiveConfig = field(default_factory=ArchiveConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)

    @property
    def slot_period_ns(self) -> int:
        return round(FRAMES_PER_SLOT * 1e9 / self.sample_fps)

    @property
    def max_pair_ns(self) -> int:
        """Largest distance of two frames that form a slot [ns]."""
        return 2 * self.slot_period_ns

    @property
    def timed_memory(self) -> FlashMemoryConfig:
        """`memory`, with the slot period that follows from the sampling rate."""
        return replace(self.memory, slot_period_ns=self.slot_period_ns)

    @property
    def jump_forward_ns(self) -> int:
        """Largest step between two stamps that is not a jump forward [ns]."""
        return max(round(self.jump_s * 1e9), self.max_pair_ns)

    def stamp_watch(self) -> StampWatch:
        """A new StampWatch for one camera."""
        return StampWatch(
            round(self.jump_s * 1e9), self.jump_forward_ns, follow_jump_back=self.on_jump_back is not JumpBack.IGNORE
        )
