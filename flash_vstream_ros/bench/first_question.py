"""Measures the time to the first token of the first questions in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from typing import Any

FRAMES = 2
QUESTIONS = 10
PAUSE_S = 0.5  # before every question, since a processor is slower at first after a pause


def first_tokens_s(model: str, device: str, warm_up: bool) -> list[float]:
    """Start a new process. Returns the times to the first token of its first questions [s]."""
    command = [sys.executable, "-m", __name__, model, device, str(int(warm_up))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    times: list[float] = json.loads(done.stdout.splitlines()[-1])
    return times


def ask(model: str, device: str, warm_up: bool) -> list[float]:
    """Give the engine one slot, and ask the same question repeatedly, with pauses and without background prefill."""
    import numpy as np

    from flash_vstream_ros.bench.model import settings_of, threads_of
    from flash_vstream_ros.bench.prefix_cache import SIDE
    from flash_vstream_ros.engine.answering.prefix_cache_config import PrefixCacheConfig
    from flash_vstream_ros.engine.answering.question import ErrorCode, Question
    from flash_vstream_ros.engine.config import EngineConfig
    from flash_vstream_ros.engine.engine import Engine
    from flash_vstream_ros.engine.hooks import EngineHooks
    from flash_vstream_ros.engine.ingest.mailbox import Frame
    from flash_vstream_ros.memory.spans import SECOND_NS
    from flash_vstream_ros.models.load import load_model
    from flash_vstream_ros.process import set_torch_threads

    memory, loading = settings_of(model)
    set_torch_threads(threads_of(model))
    config = EngineConfig(memory=memory, max_new_tokens=3, prefix_cache=PrefixCacheConfig(max_mib=0), warm_up=warm_up)
    load = partial(load_model, model, device=device, **loading)
    hooks = EngineHooks(info=lambda _: None, warn=lambda sentence: print(sentence, file=sys.stderr))
    engine = Engine(config, load, hooks)
    image = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)

    def answered(text: str) -> Any:
        time.sleep(PAUSE_S)
        return engine.ask(Question(text, deadline_s=600.0)).answer()

    engine.start()
    engine.activate()
    try:
        engine.wait_until_loaded()
        for index in range(FRAMES):
            engine.offer(Frame("camera", "", (index + 1) * SECOND_NS, lambda: image))
            engine.submit(lambda _: None).result()  # a waiting frame would be superseded by a newer one
            while engine.status().frames.pending:
                engine.submit(lambda _: None).result()
        answers = [answered("Where is the red ball?") for _ in range(QUESTIONS)]
    finally:
        engine.stop()
    for answer in answers:
        if answer.error_code is not ErrorCode.NONE:
            raise RuntimeError(f"{answer.error_code.name}: {answer.error_msg}")
    return [answer.time_to_first_token_s for answer in answers]


if __name__ == "__main__":
    _, model, device, warm_up = sys.argv
    print(json.dumps(ask(model, device, warm_up == "1")))
