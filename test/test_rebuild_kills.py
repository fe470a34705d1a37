"""Kills during a rebuild: the next start rebuilds the same memory, and nothing that was forgotten returns."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from killed_process import output_until_killed
from rebuilding_engine import EARLY, engine_in, folder, holds, rebuilt, seen, state_of
from tiny_engine import model

from flash_vstream_ros.engine.control.memory_commands import Erasures, MemoryCommands
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model

__all__ = ["folder", "model", "seen"]  # fixtures


def rebuild(folder: Path, forget_after_s: float | None) -> None:
    """Rebuild the memory from an archive; forget EARLY during or after it; wait to be killed."""
    loaded = load_model("tiny-random", device="cpu", max_pixels=112 * 112)
    with engine_in(folder, lambda: loaded) as (engine, _):
        print("ready", flush=True)
        if forget_after_s is not None:
            time.sleep(forget_after_s)
            done = engine.submit(forget_early).result(30.0)
            assert done.snapshot is not None
            assert done.archive is not None
            done.snapshot.result(30.0)
            done.archive.result(30.0)
            print("forgot", flush=True)
        time.sleep(600.0)


def forget_early(commands: MemoryCommands) -> Erasures:
    commands.forget(EARLY)
    return commands.erase_from_disk(EARLY)


@pytest.mark.slow
@pytest.mark.timeout(0)  # FLASH_VSTREAM_KILLS rounds
def test_a_node_killed_during_a_rebuild_rebuilds_the_same_memory(
    model: VisionLanguageModel, folder: Path, tmp_path: Path
) -> None:
    rounds = int(os.environ.get("FLASH_VSTREAM_KILLS", "3"))
    draw = np.random.default_rng(rounds)
    (folder / "memory.safetensors").unlink()
    whole = Path(shutil.copytree(folder, tmp_path / "whole"))
    with engine_in(whole, lambda: model) as (engine, _):
        rebuilt(engine)
        wanted = state_of(engine)
    for round_ in range(rounds):
        killed = Path(shutil.copytree(folder, tmp_path / f"killed{round_}"))
        forget_after_s = float(draw.uniform(0.0, 0.2)) if round_ % 2 else None
        arguments, after_s = (killed, forget_after_s), float(draw.uniform(0.0, 0.5))
        printed = output_until_killed(rebuild, arguments, tmp_path / f"output{round_}", after_s).split()
        assert set(printed) <= {"ready", "forgot"}, printed
        with engine_in(killed, lambda: model) as (engine, warnings):
            rebuilt(engine)
            found = state_of(engine)
            assert "forgot" not in printed or not holds(engine, EARLY)
            assert not [text for text in warnings if "cannot" in text], warnings
        if forget_after_s is None:
            assert found.values == wanted.values
            assert all(torch.equal(tensor, found.tensors[name]) for name, tensor in wanted.tensors.items())
        shutil.rmtree(killed)
