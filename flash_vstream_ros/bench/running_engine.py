"""An engine that runs while a benchmark measures it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.hooks import EngineHooks
from flash_vstream_ros.engine.ingest.mailbox import Frame

POLL_S = 1e-3


@contextmanager
def running_engine(config: EngineConfig, model: Any, warn: Callable[[str], None]) -> Iterator[Engine]:
    """An active engine with a loaded model, stopped at the end of the `with` block."""
    engine = Engine(config, lambda: model, EngineHooks(lambda _: None, warn))
    engine.start()
    engine.activate()
    engine.wait_until_loaded()
    try:
        yield engine
    finally:
        engine.stop()


def ingest(engine: Engine, frame: Frame) -> None:
    """Offer a frame, and wait until the engine has taken it."""
    engine.offer(frame)
    while engine.status().frames.pending:
        time.sleep(POLL_S)
