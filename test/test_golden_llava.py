"""Recorded Flash-VStream-LLaVA runs: pixels, features, STAR memory, logits and answers of the released code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from flash_vstream_ros.memory.star import StarVideoMemory, star_video_memory
from flash_vstream_ros.memory.star_snapshot import star_video_snapshot
from flash_vstream_ros.models.decoding.greedy import GreedyGeneration, Vocabulary
from flash_vstream_ros.models.llava.flash_vstream_llava import OneAxis, VStream, prefill
from flash_vstream_ros.models.llava.vstream_checkpoint import load_vstream

GOLDEN = Path(__file__).parents[2] / "shared" / "data" / "golden" / "llava"
CASES = sorted(file.stem for file in (GOLDEN / "cases").glob("*.safetensors"))
IMAGE, TOKENS = -200, 16
pytestmark = pytest.mark.skipif(not CASES, reason="recorded data is not here")


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def networks(request) -> VStream:
    return load_vstream(GOLDEN / "model", torch.device("cpu"), torch.float32, request.param)


def recorded(case: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    file = GOLDEN / "cases" / f"{case}.safetensors"
    return load_file(file), json.loads(file.with_suffix(".json").read_text())


def frames_of(case: str) -> np.ndarray:
    """[frames, height, width, 3] uint8 RGB, stored here or taken from another case."""
    golden, facts = recorded(case)
    if "frames" in golden:
        return golden["frames"].numpy()
    if "frames_png" in facts:
        stacked = cv2.cvtColor(cv2.imread(str(GOLDEN / "cases" / facts["frames_png"])), cv2.COLOR_BGR2RGB)
        return stacked.reshape(facts["frames_shape"])
    origin = facts["frames_from"]
    if isinstance(origin, dict):
        return frames_of(origin["case"])[origin["index"]]
    return frames_of(origin[0])[origin[1] : origin[2]]


def released_memory(networks: VStream, frames: Tensor, case: str) -> StarVideoMemory:
    golden, facts = recorded(case)
    init = golden["init_rows"].tolist() if "init_rows" in golden else None
    reseed = facts["kmeans"]["reseed_rows"] if facts["kmeans"] else []
    return star_video_memory(
        frames, networks.attention, networks.star, rule="released", init_rows=init, reseed_rows=reseed
    )


def prompt_of(networks: VStream, case: str):
    golden, _ = recorded(case)
    with torch.inference_mode():
        features = networks.features(networks.crop.pixels(list(frames_of(case)), torch.device("cpu")))
    clip = released_memory(networks, features, case)
    ids = golden["input_ids"][0].tolist()
    at = ids.index(IMAGE)
    return prefill(networks, star_video_snapshot(clip, range(len(features))), ids[:at], ids[at + 1 :])


@pytest.mark.parametrize("case", CASES)
def test_features_of_the_frames_are_the_recorded_ones(networks, case):
    golden, _ = recorded(case)
    pixels = networks.crop.pixels(list(frames_of(case)), torch.device("cpu"))
    if "pixel_values" in golden:
        assert (pixels - golden["pixel_values"]).abs().max() < 1e-5
    with torch.inference_mode():
        assert (networks.features(pixels) - golden["frame_features"]).abs().max() < 1e-4


@pytest.mark.parametrize("case", CASES)
def test_the_four_memories_are_the_recorded_ones(networks, case):
    golden, facts = recorded(case)
    found = released_memory(networks, golden["frame_features"], case)
    assert [list(own) for own in found.temporal_members] == facts.get("temporal_members", [])
    assert list(found.retrieved_frames) == golden.get("retrieved_frames", torch.zeros(0)).tolist()
    assert (found.sequence - golden["memory_features"]).abs().max() < 1e-4
    assert found.abstract.shape == golden["abstract"].shape
    if "temporal_weights" in golden:
        assert torch.equal(found.temporal_weights, golden["temporal_weights"])
        assert (found.temporal - golden["temporal_centroids"]).abs().max() < 1e-4
        assert (found.abstract - golden["abstract"]).abs().max() < 1e-4
    with torch.inference_mode():
        assert (networks.project(found.sequence) - golden["video_embeds"]).abs().max() < 1e-4


@pytest.mark.parametrize("case", CASES)
def test_the_rule_of_the_paper_changes_only_the_retrieved_frames(networks, case):
    golden, facts = recorded(case)
    init = golden["init_rows"].tolist() if "init_rows" in golden else None
    reseed = facts["kmeans"]["reseed_rows"] if facts["kmeans"] else []
    found = star_video_memory(
        golden["frame_features"], networks.attention, networks.star, init_rows=init, reseed_rows=reseed
    )
    released = released_memory(networks, golden["frame_features"], case)
    for name in ("abstract", "temporal", "spatial", "temporal_weights"):
        assert torch.equal(getattr(found, name), getattr(released, name)), name
    assert found.retrieved.shape == released.retrieved.shape
    if facts["kmeans"]:  # else each cluster is one frame, and its number that frame's
        rows = golden["temporal_input"].double().flatten(1)
        for frame, cluster in zip(found.retrieved_frames, facts["retrieval_weight_order"], strict=False):
            squared = (rows - golden["temporal_centroids"][cluster].double().flatten()).square().sum(1)
            assert squared[frame] <= squared.min() + 1e-6 * rows.square().sum(1).mean()


@pytest.mark.parametrize("case", CASES)
def test_logits_of_the_prompt_are_the_recorded_ones(networks, case):
    golden, facts = recorded(case)
    prompt = prompt_of(networks, case)
    assert prompt.embeds.shape[1] == facts["sequence_length_with_memory"]
    assert sum(prompt.entry_tokens) == facts["n_memory_tokens"]
    with torch.inference_mode():
        logits = networks.language(inputs_embeds=prompt.embeds).logits[0, -1]
    assert (logits - golden["logits_last"]).abs().max() < 1e-3


@pytest.mark.parametrize("case", CASES)
def test_answers_are_the_recorded_tokens(networks, case):
    golden, _ = recorded(case)
    anything = Vocabulary(lambda ids: "", frozenset(), torch.zeros(500, dtype=torch.bool))
    answer = GreedyGeneration(OneAxis(networks.language), prompt_of(networks, case), anything, TOKENS)
    assert [token.id for token in answer] == golden["generated"].tolist()
