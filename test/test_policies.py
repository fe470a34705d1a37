"""The memory policies besides Flash Memory, alone and in the engine."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference_star as reference
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from llava_folder import CLUSTERS, save_llava
from reference_memory import NaiveMemory
from tiny_engine import CONFIG, SECOND, ask, running, settled, wait_until, watch

from flash_vstream_ros.engine.answering.question import ErrorCode
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.memory_policies import POLICIES, memory_of
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.memory import FlashMemoryConfig, Grid, Memory, MemorySnapshot, Slot
from flash_vstream_ros.memory.fluxmem import FluxMem
from flash_vstream_ros.memory.infinipot_v import InfiniPotV
from flash_vstream_ros.memory.recent import RecentSlots
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.star import AbstractAttention, StarConfig, star_video_memory
from flash_vstream_ros.memory.star_memory import StarMemory
from flash_vstream_ros.memory.star_snapshot import StarSnapshot, star_video_snapshot
from flash_vstream_ros.memory.timechat_online import TimeChatOnline
from flash_vstream_ros.memory.uniform import UniformSlots
from flash_vstream_ros.models.llava.flash_vstream_llava import FlashVStreamLLaVA
from flash_vstream_ros.models.load import load_model

DIM, SIZES = 6, FlashMemoryConfig(csm_slots=8, dam_slots=4, horizon_slots=0)
STAR = StarConfig(1, 5, 2, 4)
SINGLE_TOKENS = ("timechat_online", "infinipot_v", "fluxmem")


def attention() -> AbstractAttention:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AbstractAttention(DIM, 4)


def slot(index: int, camera: str = "a", *, shift: float = 0.0) -> Slot:
    """Two frames of 16 tokens each, at 2 * index and 2 * index + 1 seconds."""
    frames = torch.randn(2, 16, DIM, generator=torch.Generator().manual_seed(index)) + shift
    low = frames.view(2, 2, 2, 2, 2, DIM).mean((2, 4)).reshape(8, DIM)
    first_ns = 2 * index * SECOND
    return Slot(camera, "", first_ns, first_ns + SECOND, low, frames.flatten(0, 1), Grid(4, 4), b"jpeg")


def filled(memory: Memory, count: int, cameras: tuple[str, ...] = ("a",)) -> Memory:
    for index in range(count):
        memory.insert(slot(index, cameras[index % len(cameras)]))
    return memory


def empty(policy: str) -> Memory:
    kinds = {
        "recent": RecentSlots,
        "uniform": UniformSlots,
        "timechat_online": TimeChatOnline,
        "infinipot_v": InfiniPotV,
        "fluxmem": FluxMem,
    }
    return kinds[policy](SIZES) if policy in kinds else StarMemory(SIZES, STAR, attention())


def shown(snapshot: MemorySnapshot) -> list[int]:
    """Numbers of the slots shown in detail."""
    return [entry.first_ns // (2 * SECOND) for entry in snapshot.entries[: len(snapshot.dam)]]


def test_recent_keeps_the_newest_slots_within_the_tokens_of_flash_memory() -> None:
    memory = filled(RecentSlots(SIZES), 20)
    assert memory.capacity == 4 + 8 // 4
    found = memory.snapshot()
    assert shown(found) == [14, 15, 16, 17, 18, 19]
    assert torch.equal(found.dam, torch.stack([slot(index).detail for index in range(14, 20)]))
    assert found.dam_times.tolist() == [0, 1, 2, 3, 4, 5]
    assert (len(found.csm), found.slots_seen) == (0, 6)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 120), st.integers(1, 3))
def test_uniform_keeps_evenly_spaced_slots_and_the_newest_of_each_camera(count: int, cameras: int) -> None:
    names = tuple("abc"[:cameras])
    memory = filled(UniformSlots(SIZES), count, names)
    assert memory.entries <= memory.capacity
    strides = set()
    for number, name in enumerate(names[:count]):
        own = [index // cameras for index in shown(memory.snapshot(Scope((name,))))]
        last = (count - 1 - number) // cameras
        assert own[0] == 0
        assert own[-1] == last
        spaced = [index for index in own if index != last]
        strides |= {later - earlier for earlier, later in itertools.pairwise(spaced)}
    assert len(strides) <= 1
    assert all(math.log2(stride).is_integer() for stride in strides)
    if cameras == 1 and count > memory.capacity:
        assert memory.entries > memory.capacity // 2


@pytest.mark.parametrize("frames", [2, 4, 6])
def test_until_slots_are_merged_a_stream_has_the_star_memory_of_the_clip(frames: int) -> None:
    memory = filled(StarMemory(SIZES, STAR, attention()), frames // 2)
    whole = torch.cat([slot(index).detail.view(2, 16, DIM) for index in range(frames // 2)])
    expected = star_video_snapshot(
        star_video_memory(whole, attention(), STAR), [SECOND * number for number in range(frames)], camera="a"
    )
    found = memory.snapshot()
    assert isinstance(found, StarSnapshot)
    for name in ("dam", "csm", "csm_times"):
        assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-6), name
    assert torch.allclose(found.abstract, expected.abstract, atol=1e-6)
    assert [replace(entry, thumbnail=b"") for entry in found.entries] == list(expected.entries)


def test_a_long_stream_stays_within_the_star_bounds_and_its_abstract_memory_equals_that_of_the_clip() -> None:
    memory = StarMemory(SIZES, STAR, attention())
    sizes = set()
    for index in range(60):
        memory.insert(slot(index))
        if index >= 20:
            sizes.add((memory.entries, memory.tokens))
    found = memory.snapshot()
    whole = torch.cat([slot(index).detail.view(2, 16, DIM) for index in range(60)])
    assert isinstance(found, StarSnapshot)
    assert torch.allclose(found.abstract, star_video_memory(whole, attention(), STAR).abstract, atol=1e-5)
    assert sizes == {(5 + 3 + 1, 5 * 4 + 3 * 16 + 16 + 4)}
    assert sum(entry.weight for entry in found.entries[4:]) == 119
    assert torch.equal(found.dam[-1], whole[-1])
    assert memory.entries == len(found.entries) == memory.capacity


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 30))
def test_a_stream_has_the_naive_star_memory_by_the_rule_of_the_paper(seed: int, count: int) -> None:
    """The retrieved frames are, of those still stored for the heaviest clusters, the ones nearest to the centroids."""
    slots = [replace(slot(seed + index), first_ns=2 * index * SECOND) for index in range(count)]
    slots = [replace(each, last_ns=each.first_ns + SECOND) for each in slots]
    memory = StarMemory(SIZES, STAR, attention())
    frames = np.concatenate([each.detail.view(2, 16, DIM).double().numpy() for each in slots])
    seen = len(frames) - 1
    rows = np.stack([reference.pooled(frame, 2).flatten() for frame in frames[:-1]])
    naive = NaiveMemory(rows, ["a"] * seen, STAR.temporal_clusters, STAR.retrieved_frames, SIZES.exemplars, recent=0)
    for each in slots:
        memory.insert(each)
    for _ in range(seen):
        naive.insert()
    assume(naive.margin > 1e-3)
    found = memory.snapshot()
    assert isinstance(found, StarSnapshot)
    retrieved = [entry.first_ns // SECOND for entry in found.entries[: len(found.dam)]]
    assert retrieved == [*naive.dam(), seen]
    np.testing.assert_allclose(found.dam.numpy(), frames[retrieved], atol=1e-6)
    expected = np.stack([naive.centroid(cluster) for cluster in naive.csm()]).reshape(-1, 4, DIM)
    np.testing.assert_allclose(found.csm.numpy(), expected, atol=1e-5)
    assert [entry.weight for entry in found.entries[len(found.dam) :]] == [len(own.members) for own in naive.csm()]
    clip = reference.star(
        frames,
        {name: tensor.double().numpy() for name, tensor in attention().state_dict().items()},
        clusters=seen,
        temporal_side=2,
        slots=STAR.abstract_slots,
        abstract_side=1,
        released=False,
        init_rows=[],
        reseed_rows=[],
    )
    np.testing.assert_allclose(found.abstract.numpy(), clip.abstract, atol=1e-4)


@pytest.mark.parametrize("policy", ["star", "recent", "uniform", *SINGLE_TOKENS])
def test_forgotten_slots_leave_no_trace(policy: str) -> None:
    memory = filled(empty(policy), 12, ("a", "b"))
    before = memory.slots_seen
    lost = memory.forget(Scope(("a",), 8 * SECOND, 17 * SECOND))
    assert lost.slots > 0
    assert memory.revision == 1
    entries = memory.list_entries()
    assert entries == memory.snapshot().entries
    for entry in entries:
        assert entry.camera == "b" or entry.last_ns < 8 * SECOND or entry.first_ns > 17 * SECOND
    assert memory.may_contain(Scope(("b",), 8 * SECOND, 17 * SECOND)) == (
        policy != "uniform"
    )  # which no longer stores those
    assert not memory.list_entries(Scope(("a",), 9 * SECOND, 16 * SECOND))
    assert memory.slots_seen == before
    memory.forget()
    assert (memory.entries, memory.snapshot().empty, memory.may_contain()) == (0, True, False)
    assert memory.forget().slots == 0
    memory.insert(slot(40))
    assert memory.first_ns >= 80 * SECOND
    memory.reset()
    assert (memory.slots_seen, memory.entries, memory.bytes if policy != "star" else 0) == (0, 0, 0)


def test_the_abstract_memory_is_selected_and_forgotten_as_a_whole() -> None:
    memory = filled(StarMemory(SIZES, STAR, attention()), 10, ("a", "b"))

    def abstract(*scope) -> int:
        found = memory.snapshot(Scope(*scope))
        assert isinstance(found, StarSnapshot)
        return len(found.abstract)

    assert (abstract(), abstract(("a",)), abstract((), 0, 10 * SECOND)) == (8, 4, 0)
    memory.forget(Scope(("b",), 4 * SECOND, 5 * SECOND))
    assert (abstract(), abstract(("b",))) == (4, 0)


@pytest.mark.parametrize("policy", ["star", "recent", "uniform", *SINGLE_TOKENS])
def test_bad_slots_are_refused_and_change_nothing(policy: str) -> None:
    memory = filled(empty(policy), 3)
    before = memory.list_entries()
    good = slot(9)
    for bad in (
        replace(good, detail=torch.full_like(good.detail, torch.nan)),
        replace(good, low=good.low[:4], detail=good.detail[:16]),
        replace(good, first_ns=0, last_ns=SECOND),
        replace(good, grid=Grid(8, 2)),
    ):
        with pytest.raises(ValueError, match="camera 'a'"):
            memory.insert(bad)
        assert memory.list_entries() == before
    others = [replace(slot(10 + number), camera=f"camera{number}") for number in range(20)]
    if policy == "recent":  # older cameras fall out
        for other in others:
            memory.insert(other)
    else:
        with pytest.raises(ValueError, match="cameras need"):
            any(memory.insert(other) < 0 for other in others)
    assert memory.entries <= memory.capacity


@pytest.mark.parametrize("policy", ["recent", "uniform"])
def test_a_resized_memory_keeps_the_slots_of_its_rule(policy: str) -> None:
    memory = filled(empty(policy), 30)
    if policy == "uniform":
        crowded = filled(empty(policy), 30, tuple("abcdef"))
        with pytest.raises(ValueError, match="6 cameras"):
            crowded.resize(replace(SIZES, csm_slots=4, dam_slots=2))
        assert crowded.capacity == crowded.entries == 6
    memory.resize(replace(SIZES, csm_slots=4, dam_slots=2))
    assert memory.entries <= memory.capacity == 3
    assert shown(memory.snapshot())[-1] == 29


# In the engine


@pytest.fixture(scope="module")
def llava(tmp_path_factory) -> FlashVStreamLLaVA:
    folder = Path(tmp_path_factory.mktemp("llava") / "model")
    found = load_model(str(save_llava(folder)), device="cpu")
    assert isinstance(found, FlashVStreamLLaVA)
    return found


@pytest.fixture(scope="module")
def qwen():
    return load_model("tiny-random", device="cpu", max_pixels=112 * 112)


def forget(engine: Engine, scope: Scope) -> int:
    return engine.submit(lambda commands: commands.forget(scope).slots).result(30.0)


@pytest.mark.parametrize("name", ["qwen", "llava"])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_engine_runs_every_policy_or_says_why_not(request, name: str, policy: str) -> None:
    model = request.getfixturevalue(name)
    with running(replace(CONFIG, policy=policy), lambda: model) as (engine, warnings):
        if (name, policy) == ("qwen", "star"):
            assert engine.status().state is State.FAILED
            assert "use Flash-VStream-LLaVA" in warnings[0]
            return
        watch(engine, range(10, 42))
        answer = ask(engine)
        assert answer.error_code is ErrorCode.NONE
        assert answer.evidence
        wait_until(lambda: engine.status().memory.slots > 0)
        figures = engine.status().memory
        assert figures.tokens == answer.memory_tokens > 0
        assert 0 < figures.entries <= figures.capacity
        assert (figures.first_ns >= 10 * SECOND, figures.newest_ns, figures.last_ns) == (True, 41 * SECOND, 41 * SECOND)
        assert ask(engine, scope=Scope(since_ns=38 * SECOND)).covered_since_ns >= 37 * SECOND
        assert forget(engine, Scope(since_ns=36 * SECOND)) > 0
        assert engine.submit(lambda commands: commands.entries(Scope())).result(30.0)
        engine.reconfigure(replace(CONFIG, policy=policy, sample_fps=2.0, max_new_tokens=2))
        assert ask(engine, scope=Scope(until_ns=35 * SECOND)).covered_until_ns < 36 * SECOND
        assert engine.submit(MemoryCommands.reset).result(30.0) > 0
        assert ask(engine).error_code is ErrorCode.NO_FRAMES
        watch(engine, range(5, 9))
        wait_until(lambda: settled(engine))
        assert ask(engine).error_code is ErrorCode.NONE
        assert not [warning for warning in warnings if "memory" in warning]


def test_a_stream_is_answered_like_the_clip_until_slots_are_merged(llava: FlashVStreamLLaVA) -> None:
    memory = memory_of("star", FlashMemoryConfig(), llava)
    frames = [torch.randint(0, 255, (70, 90, 3), dtype=torch.uint8).numpy() for _ in range(CLUSTERS + 1)]
    for first in range(0, len(frames), 2):
        low, detail = llava.encode(frames[first : first + 2], llava.grid(70, 90))
        memory.insert(Slot("", "", first * SECOND, (first + 1) * SECOND, low, detail, llava.grid(70, 90)))
    stamps = [number * SECOND for number in range(len(frames))]
    clip, stream = llava.video_memory(frames, stamps), memory.snapshot()
    answers = [[token.id for token in llava.answer(each, "What?", 8)] for each in (clip, stream)]
    assert answers[0] == answers[1]
    assert llava.tokens(stream) == memory.tokens == llava.tokens(clip)
