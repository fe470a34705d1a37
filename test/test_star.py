"""STAR memory of a clip against a naive float64 reference, and the abstract memory as frames come in."""

from __future__ import annotations

import numpy as np
import pytest
import reference_star as reference
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flash_vstream_ros.memory.star import AbstractAttention, AbstractMemory, StarConfig, pool_tokens, star_video_memory
from flash_vstream_ros.memory.star_snapshot import star_video_snapshot

DIM = 6


def attention_of(dim: int = DIM, width: int = 4, seed: int = 0) -> AbstractAttention:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AbstractAttention(dim, width)


def weights_of(attention: AbstractAttention) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in attention.state_dict().items()}


@st.composite
def clips(draw: st.DrawFn) -> np.ndarray:
    """1 to 400 frames of 16 tokens, with repeated frames in half of them, often fewer distinct ones than clusters."""
    t = draw(st.one_of(st.integers(1, 30), st.integers(1, 400)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    distinct = draw(st.integers(1, t)) if draw(st.booleans()) else t
    pool = random.standard_normal((distinct, 16, DIM)).astype(np.float32)
    return pool if distinct == t else pool[random.integers(0, distinct, t)]


@settings(max_examples=60, deadline=None)
@given(clips(), st.integers(1, 12), st.integers(1, 9), st.sampled_from([1, 2]), st.booleans(), st.integers(0, 1000))
def test_the_memory_of_a_clip_equals_the_naive_one(
    frames: np.ndarray, clusters: int, slots: int, abstract_side: int, released: bool, seed: int
) -> None:
    draw, t = np.random.default_rng(seed), len(frames) - 1
    init = draw.permutation(t)[:clusters].tolist()
    reseed = draw.integers(0, max(t, 1), 200).tolist()
    config = StarConfig(1, clusters, 2, slots, abstract_side)
    attention = attention_of()
    expected = reference.star(
        frames,
        weights_of(attention),
        clusters=clusters,
        temporal_side=2,
        slots=slots,
        abstract_side=abstract_side,
        released=released,
        init_rows=init,
        reseed_rows=reseed,
    )
    assume(expected.margin > 1e-4)
    assume(not any(1e-5 < shift < 1e-3 for shift in expected.shifts))
    found = star_video_memory(
        torch.from_numpy(frames),
        attention,
        config,
        rule="released" if released else "paper",
        init_rows=init,
        reseed_rows=reseed,
    )
    assert found.temporal_members == tuple(expected.members)
    assert found.temporal_weights.tolist() == expected.weights
    assert len(found.retrieved_frames) == len(expected.retrieved)
    np.testing.assert_allclose(found.temporal.numpy(), expected.temporal, atol=1e-4)
    np.testing.assert_allclose(found.abstract.numpy(), expected.abstract, atol=1e-4)
    np.testing.assert_allclose(found.sequence.numpy(), expected.sequence(frames), atol=1e-4)
    if t > clusters or released:  # otherwise every frame is stored as a cluster
        assert list(found.retrieved_frames) == expected.retrieved


@pytest.mark.parametrize("count", [1, 4, 5, 8, 9, 10, 23])
def test_the_abstract_memory_of_a_stream_always_equals_that_of_the_clip_so_far(count: int) -> None:
    frames = torch.randn(count + 1, 16, DIM, generator=torch.Generator().manual_seed(count))
    config, attention = StarConfig(1, 3, 2, 4), attention_of()
    memory = AbstractMemory(attention, config)
    for number, frame in enumerate(pool_tokens(frames[:-1], 1), start=1):
        memory.add(frame)
        offline = star_video_memory(frames[: number + 1], attention, config).abstract
        assert torch.equal(memory.read(), offline)
    assert len(memory.tensors) <= 2 * config.abstract_slots


def test_the_two_rules_retrieve_different_frames_once_frames_are_merged() -> None:
    # Four views in turn; clusters are initialised at the last four frames, so that their ids are arbitrary.
    views = torch.eye(4)[:, None, :].expand(4, 16, 4) * 10
    frames = torch.cat([views[[0, 0, 0, 1, 1, 2, 3]], views[:1]]) + 0.01 * torch.arange(8)[:, None, None]
    found = [
        star_video_memory(frames, attention_of(4), StarConfig(1, 4, 2, 4), rule=rule, init_rows=[6, 5, 4, 2])
        for rule in ("paper", "released")
    ]
    assert found[0].temporal_members == found[1].temporal_members == ((6,), (5,), (3, 4), (0, 1, 2))
    assert found[0].retrieved_frames == (1, 3, 6)  # of three frames the middle one, of two the earlier
    assert found[1].retrieved_frames == (3, 2, 0)


def test_the_published_sizes_are_681_tokens() -> None:
    frames = torch.randn(60, 64, 16, generator=torch.Generator().manual_seed(0))
    found = star_video_memory(frames, attention_of(16, 32))
    assert len(found.sequence) == 25 + 25 * 16 + 3 * 64 + 64 == 681


def test_half_precision_is_clustered_in_float32_and_cast_back() -> None:
    frames = torch.randn(40, 16, DIM, generator=torch.Generator().manual_seed(0)).bfloat16()
    found, exact = (star_video_memory(x, attention_of(), StarConfig(1, 5, 2, 4)) for x in (frames, frames.float()))
    assert found.sequence.dtype == torch.bfloat16
    assert torch.equal(found.abstract, exact.abstract.bfloat16())
    assert found.retrieved_frames == exact.retrieved_frames


def test_equal_seeds_give_equal_memories_and_different_seeds_different_ones() -> None:
    frames = torch.randn(60, 16, DIM, generator=torch.Generator().manual_seed(0))
    first, again, other = (
        star_video_memory(frames, attention_of(), StarConfig(1, 5, 2, 4), seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first.sequence, again.sequence)
    assert not torch.equal(first.sequence, other.sequence)


def test_a_snapshot_shows_the_four_parts_with_their_stamps() -> None:
    frames = torch.randn(9, 16, DIM, generator=torch.Generator().manual_seed(0))
    clip = star_video_memory(frames, attention_of(), StarConfig(1, 4, 2, 3))
    stamps = [1000 * number for number in range(9)]
    found = star_video_snapshot(clip, stamps)
    assert torch.equal(found.dam, frames[[*clip.retrieved_frames, 8]])
    assert found.dam_times.tolist() == [*clip.retrieved_frames, 8]
    assert [entry.first_ns for entry in found.entries[:4]] == [1000 * n for n in (*clip.retrieved_frames, 8)]
    assert sum(entry.weight for entry in found.entries[4:]) == 8
    assert (found.first_ns, found.last_ns, len(found.entries)) == (0, 8000, 8)


@pytest.mark.parametrize(
    ("frames", "config", "words"),
    [
        (torch.zeros(0, 16, DIM), StarConfig(), "finite frames"),
        (torch.full((2, 16, DIM), torch.nan), StarConfig(), "finite frames"),
        (torch.zeros(2, 15, DIM), StarConfig(), "not a square map"),
        (torch.zeros(2, 16, DIM), StarConfig(1, 3, 3), "not a square map"),
    ],
)
def test_bad_input_is_refused(frames: torch.Tensor, config: StarConfig, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        star_video_memory(frames, attention_of(), config)
    with pytest.raises(ValueError, match="at least"):
        StarConfig(temporal_clusters=0)
