"""A memory in a file: what comes back is the same memory, and nothing else is ever taken for one."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_flash_memory import PERIOD, lows, same, slot

from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, Memory
from flash_vstream_ros.memory import memory_file as files
from flash_vstream_ros.memory.config import HIERARCHICAL, PUBLISHED
from flash_vstream_ros.memory.fluxmem import FluxMem
from flash_vstream_ros.memory.infinipot_v import InfiniPotV
from flash_vstream_ros.memory.memory_file import MemoryFileError, delete_memory, read_memory, write_memory
from flash_vstream_ros.memory.pose import Pose, UnknownPose
from flash_vstream_ros.memory.recent import RecentSlots
from flash_vstream_ros.memory.region import Region
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import Extension
from flash_vstream_ros.memory.state import MemoryState, UnsupportedState
from flash_vstream_ros.memory.timechat_online import TimeChatOnline
from flash_vstream_ros.memory.uniform import UniformSlots

ABOUT = {"model": "tiny", "policy": "flash"}
SIZES = FlashMemoryConfig(4, 3, 2, 0, PERIOD, 1, episode_slots=5.0)
KINDS = [FlashMemory, RecentSlots, UniformSlots, TimeChatOnline, InfiniPotV, FluxMem]
CPU = torch.device("cpu")


def grown(memory: Memory, start: int, count: int, seed: int) -> Memory:
    """`memory` after more slots of two cameras, with pauses of one of them and something forgotten."""
    random = np.random.default_rng(seed)
    for index in range(start, start + count):
        camera = f"camera {random.integers(2)}"
        view = lows(1, seed=int(random.integers(7)))[0]
        x, y = random.uniform(-5, 5, 2).tolist()
        pose = Pose((x, y, 0.0), (0.0, 0.0, 0.0, 1.0), "map", f"map {random.integers(2)}", index, (0.5,) * 36)
        where = pose if random.random() < 0.8 else UnknownPose("late")
        memory.insert(replace(slot(index, view, camera), thumbnail=bytes(random.integers(1, 9)), pose=where))
        newest = memory.newest_of(camera)
        assert newest is not None
        if random.random() < 0.2:
            region = Region.of(replace(pose, position=(x + 0.3, y, 0.0)) if where is pose else where)
            memory.extend(camera, Extension(1, newest[0] + 1, newest[0] + 1, newest[1] + 1, region))
        if random.random() < 0.1:
            memory.forget(Scope(("camera 0",), since_ns=newest[1] - 3 * PERIOD))
    return memory


def assert_same(a: Memory, b: Memory) -> None:
    assert same(a.snapshot(), b.snapshot())
    assert (a.slots_seen, a.tokens, a.newest, a.entries) == (b.slots_seen, b.tokens, b.newest, b.entries)
    assert a.list_entries() == b.list_entries()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 40), kind=st.sampled_from(KINDS), deep=st.booleans())
def test_a_memory_that_was_read_back_goes_on_as_the_one_that_was_saved(
    seed: int, count: int, kind: type[Memory], deep: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = replace(SIZES, retention=HIERARCHICAL, store_factor=3) if deep else SIZES
    path = tmp_path_factory.mktemp("memory") / "memory.safetensors"
    memory = grown(kind(config), 0, count, seed)  # type: ignore[call-arg]
    write_memory(path, memory.state(), ABOUT)
    again = kind(config)  # type: ignore[call-arg]
    state, about = read_memory(path)
    again.restore(state, CPU)
    assert about == ABOUT
    assert_same(memory, again)
    assert_same(grown(memory, count, 20, seed + 1), grown(again, count, 20, seed + 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("retention", [PUBLISHED, HIERARCHICAL])
def test_a_memory_that_forgot_everything_goes_on_as_the_one_that_was_saved(
    kind: type[Memory], retention: str, tmp_path: Path
) -> None:
    config = replace(SIZES, retention=retention)
    memory, again = grown(kind(config), 0, 12, 0), kind(config)  # type: ignore[call-arg]
    memory.forget()
    write_memory(tmp_path / "memory.safetensors", memory.state(), ABOUT)
    again.restore(read_memory(tmp_path / "memory.safetensors")[0], CPU)
    assert (again.slots_seen, again.entries, again.snapshot().empty) == (memory.slots_seen, 0, True)
    assert_same(grown(memory, 12, 20, 1), grown(again, 12, 20, 1))


def test_a_state_does_not_change_with_its_memory() -> None:
    memory = grown(FlashMemory(SIZES), 0, 12, 0)
    before = memory.snapshot()
    state = memory.state()
    memory.forget()
    restored = FlashMemory(SIZES)
    restored.restore(state, CPU)
    assert same(before, restored.snapshot())


def test_a_memory_of_other_sizes_is_resized_as_a_live_one() -> None:
    memory, smaller = grown(FlashMemory(SIZES), 0, 30, 3), replace(SIZES, csm_slots=3, dam_slots=2)
    restored = FlashMemory(smaller)
    restored.restore(memory.state(), CPU)
    memory.resize(smaller)
    assert_same(memory, restored)


def test_what_does_not_fit_changes_nothing() -> None:
    memory, other = grown(FlashMemory(SIZES), 0, 12, 0), grown(FlashMemory(SIZES), 0, 9, 1)
    before = memory.snapshot()
    state = other.state()
    broken: list[MemoryState] = [MemoryState({}, {}), grown(RecentSlots(SIZES), 0, 9, 1).state()]
    broken.append(MemoryState({**state.tensors, "low": state.tensors["low"][1:]}, state.values))
    broken += [MemoryState(state.tensors, {**state.values, name: None}) for name in state.values]
    broken.append(MemoryState(state.tensors, {**state.values, "clusters": state.values["clusters"][1:]}))
    for each in broken:
        with pytest.raises(UnsupportedState):
            memory.restore(each, CPU)
        assert same(before, memory.snapshot())


def test_more_cameras_than_the_memory_has_room_for_are_refused() -> None:
    memory = grown(FlashMemory(SIZES), 0, 12, 0)
    assert len(memory.cameras) == 2
    one = FlashMemory(replace(SIZES, csm_slots=1, dam_slots=1))
    with pytest.raises(UnsupportedState, match="2 cameras need"):
        one.restore(memory.state(), CPU)


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path, memory = tmp_path / "memory.safetensors", grown(FlashMemory(SIZES), 0, 12, 0)
    write_memory(path, memory.state(), ABOUT)
    raw, draw = path.read_bytes(), np.random.default_rng(5)
    for place in [*range(40), *draw.integers(len(raw), size=200).tolist()]:
        damaged = bytearray(raw)
        damaged[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(damaged)
        try:
            state, about = read_memory(path)
        except MemoryFileError:
            continue
        again = FlashMemory(SIZES)  # the byte is one that nobody reads
        again.restore(state, CPU)
        assert about == ABOUT
        assert_same(memory, again)
    for size in draw.integers(len(raw), size=50).tolist():
        path.write_bytes(raw[:size])
        with pytest.raises(MemoryFileError):
            read_memory(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "damaged"), (b"\0" * 64, "damaged"), (b"{}" * 40, "damaged"), (b"\x02\0\0\0\0\0\0\0{}", "damaged")],
)
def test_other_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "memory.safetensors"
    path.write_bytes(content)
    with pytest.raises(MemoryFileError, match=message):
        read_memory(path)


def test_another_format_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "memory.safetensors"
    monkeypatch.setattr(files, "FORMAT", "7")
    write_memory(path, FlashMemory(SIZES).state(), ABOUT)
    monkeypatch.undo()
    with pytest.raises(MemoryFileError, match="of format 7; this version reads format 3"):
        read_memory(path)


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "memory.safetensors"
    write_memory(path, FlashMemory(SIZES).state(), ABOUT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*tmp_path.iterdir()] == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, memory = tmp_path / "memory.safetensors", grown(FlashMemory(SIZES), 0, 12, 0)
    write_memory(path, memory.state(), ABOUT)
    raw = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_memory(path, FlashMemory(SIZES).state(), ABOUT)
    monkeypatch.undo()
    assert path.read_bytes() == raw
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("how", ["replaced", "deleted"])
def test_erased_bytes_are_overwritten(how: str, tmp_path: Path) -> None:
    path, memory = tmp_path / "memory.safetensors", grown(FlashMemory(SIZES), 0, 12, 0)
    write_memory(path, memory.state(), ABOUT)
    with path.open("rb") as held:  # the same bytes on the disk, whatever the folder lists
        assert held.read().count(0) < path.stat().st_size
        if how == "replaced":
            write_memory(path, FlashMemory(SIZES).state(), ABOUT, erase=True)
        else:
            delete_memory(path)
        held.seek(0)
        raw: Any = held.read()
        assert not raw.strip(b"\0")
    assert path.exists() == (how == "replaced")
