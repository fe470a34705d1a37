"""Context: the model, memory, summaries and log shared by the parts of the worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.models.interface import VisionLanguageModel

from .reports.kept_summaries import KeptSummaries
from .throttled_log import ThrottledLog
from .watches.watch import WatchEvent


@dataclass(frozen=True, eq=False)
class Context:
    """One model, one memory and the log of one worker.

    Only the worker's thread uses model and memory, except that the prefetch thread calls `VisionLanguageModel.prepare`.
    Any thread sets `wake` when there is work for the worker.
    """

    model: VisionLanguageModel
    memory: Memory
    log: ThrottledLog
    summaries: KeptSummaries = field(default_factory=KeptSummaries)
    wake: threading.Event = field(default_factory=threading.Event)
    info: Callable[[str], None] = lambda _: None  # gets log lines that are no warnings
    watch_event: Callable[[WatchEvent], None] = lambda _: None  # called on the worker's thread
