"""Kills: a node that is killed at a random moment restarts with what it had saved, and with nothing forgotten."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed_process import output_until_killed
from tiny_engine import ROOMY, SECOND, ask, entries, frame, model, running, settled, wait_until

from flash_vstream_ros.engine.archive.archive_config import ArchiveConfig
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.hooks import EngineHooks
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model

__all__ = ["model"]  # a fixture

MOST_SLOTS = (
    30  # of a memory before the last kill: below ROOMY's clusters, so that forgetting touches single slots only
)


def run_node(folder: str, seed: int, first: int) -> None:
    """Insert frames, ask, forget and save for ever, and print what was done."""
    draw = np.random.default_rng(seed)
    config = replace(ROOMY, archive=ArchiveConfig(folder, 0.02))
    loaded = load_model("tiny-random", device="cpu", max_pixels=112 * 112)
    engine = Engine(config, lambda: loaded, EngineHooks(lambda text: None, lambda text: report("warning", text)))
    engine.start()
    engine.activate()
    engine.wait_until_loaded()
    report("ready")
    number = first
    while True:
        number += 1
        engine.offer(frame(number))
        wait_until(lambda: settled(engine))
        report("seen", number)
        if draw.random() < 0.1:
            since = number - 1 - int(draw.integers(6))
            scope = Scope(since_ns=since * SECOND, until_ns=(since + 1) * SECOND)
            done = engine.submit(partial(forget, scope=scope)).result(30.0)
            done.snapshot.result(30.0)
            report("forgot", since, since + 1)
        if draw.random() < 0.1:
            engine.submit(MemoryCommands.save).result(30.0).result(30.0)
            report("saved", number)
        if draw.random() < 0.2:
            report("answered", number, ask(engine).text.encode().hex())
            time.sleep(draw.uniform(0.0, 0.4))  # the stream pauses, so that some kills find this memory saved


def forget(commands: MemoryCommands, scope: Scope) -> Any:
    commands.forget(scope)
    return commands.erase_from_disk(scope)


def report(*words: object) -> None:
    print(*words, "end", flush=True)


@pytest.mark.slow
@pytest.mark.timeout(0)  # FLASH_VSTREAM_KILLS rounds
def test_a_node_killed_at_random_moments_never_shows_what_was_forgotten_or_reads_a_torn_file(
    model: VisionLanguageModel, tmp_path: Path
) -> None:
    rounds = int(os.environ.get("FLASH_VSTREAM_KILLS", "3"))
    draw = np.random.default_rng(rounds)
    forgotten: set[int] = set()
    newest_saved, first, compared = 0, 10, 0
    folder = tmp_path / "memory"
    complete: set[int] = set()  # frames of complete slots: the last one before a kill may be the first of a slot
    for round_ in range(rounds):
        if first > MOST_SLOTS:
            folder, forgotten, newest_saved, first = tmp_path / f"memory{round_}", set(), 0, 10
            complete = set()
        arguments, after_s = (str(folder), round_, first), float(draw.uniform(0.0, 1.5))
        output = output_until_killed(run_node, arguments, tmp_path / f"output{round_}", after_s)
        lines = [line.split() for line in output.splitlines()]
        assert not [line for line in lines if line[0] == "warning" and "memory" in line], lines
        whole = [line[:-1] for line in lines if line[-1] == "end"]  # the others were cut by the kill
        complete.update([int(words[1]) for words in whole if words[0] == "seen"][:-1])
        for word, *values in whole:
            if word == "seen":
                first = int(values[0])
            elif word == "forgot":
                forgotten.update(range(int(values[0]), int(values[1]) + 1))
            elif word == "saved":
                newest_saved = int(values[0])
        archive = ArchiveConfig(str(folder), 3600.0)
        with running(replace(ROOMY, archive=archive), lambda: model) as (engine, warnings):
            assert not warnings
            held = {stamp // SECOND for entry in entries(engine) for stamp in (entry.first_ns, entry.last_ns)}
            assert not held & forgotten
            # A slot of two frames is forgotten with either of them.
            near = {other for number in forgotten for other in (number - 1, number, number + 1)}
            lost = {number for number in complete if max(held, default=0) < number < newest_saved} - near
            assert not lost, (held, newest_saved, lines)
            if whole[-1][0] == "answered" and int(whole[-1][1]) == max(held, default=0):
                assert ask(engine).text.encode().hex() == whole[-1][2]
                compared += 1
        first += 2  # a frame may have been seen and not printed
    print(f"{rounds} kills, {compared} answers compared")
