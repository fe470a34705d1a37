"""The offline memory against data recorded from the released code; skipped where the data is absent."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flash_vstream_ros.memory import (
    CompressionMethods,
    FlashMemory,
    FlashMemoryConfig,
    Grid,
    MergedGrid,
    OrderedClusters,
    Slot,
    compress_video,
    klarge_retrieve,
    ordered_kmeans,
    prompt_ids,
    video_memory,
    visual_ids,
)
from flash_vstream_ros.memory.video_compression import SPATIAL_METHODS, dam_slots_of

GOLDEN = Path(__file__).parents[2] / "shared" / "data" / "golden" / "qwen"
safetensors = pytest.importorskip("safetensors.torch")
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="recorded data is not here")

KMEANS = [
    "bf16",
    "distinct_equals_K",
    "empty_reseeded",
    "padded",
    "plain",
    "ten_iterations",
    "weighted",
    "zero_weight",
]
SHORT = ["c002", "c008", "c014", "c016", "d080", "r002"]
CASES = [*SHORT, "c018", "c024", "c064", "c250", "d250", "dupA", "dupB", "dupC"]


def recorded(path: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return safetensors.load_file(GOLDEN / f"{path}.safetensors"), json.loads((GOLDEN / f"{path}.json").read_text())


def merged(grid_thw: Tensor) -> MergedGrid:
    _, height, width = grid_thw.flatten().tolist()
    return MergedGrid(height // 2, width // 2)


def low_features(case: str, tensors: dict[str, Tensor]) -> Tensor:
    return recorded("cases/c250")[0]["low_features"] if case == "d250" else tensors["low_features"]


def sizes(facts: dict[str, Any]) -> tuple[int, int]:
    config = facts["flash_memory_config"]
    return config["flash_memory_temporal_length"] // 2, config["flash_memory_spatial_length"] // 2


@pytest.mark.parametrize("name", KMEANS)
def test_kmeans_gives_the_recorded_clusters(name: str) -> None:
    tensors, facts = recorded(f"functions/km_{name}")
    found = ordered_kmeans(
        tensors["features"],
        facts["K"],
        tensors.get("weights"),
        init_rows=tensors["init_rows"].tolist() if "init_rows" in tensors else None,
        reseed_rows=facts["reseed_rows"],
    )
    assert [list(members) for members in found.members] == facts["members"]
    assert found.centroids.dtype == tensors["features"].dtype
    torch.testing.assert_close(found.centroids, tensors["out_features"], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.weights, tensors["out_weights"], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.timestamps.float(), tensors["out_timestamps"], atol=1e-5, rtol=0)


def test_kmeans_gives_finite_clusters_where_the_released_code_divides_by_zero() -> None:
    tensors, facts = recorded("functions/km_crash")
    found = ordered_kmeans(tensors["features"], facts["K"])
    assert len(found.members) == facts["K"]
    assert torch.isfinite(found.centroids).all()


@pytest.mark.parametrize("case", CASES)
def test_a_clip_is_compressed_to_the_recorded_memory(case: str) -> None:
    tensors, facts = recorded(f"cases/{case}")
    low = low_features(case, tensors)
    csm_slots, dam_slots = sizes(facts)
    init = tensors["init_slots"].tolist() if "init_slots" in tensors else None
    reseed = facts["kmeans"]["reseed_rows"] if facts.get("kmeans") else []
    found = compress_video(low, csm_slots, dam_slots, init_rows=init, reseed_rows=reseed)
    assert [list(members) for members in found.members] == facts["csm_members"]
    torch.testing.assert_close(found.centroids, tensors["csm_features"], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.weights, tensors["csm_weights"], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.timestamps.float(), tensors["csm_timestamps"], atol=1e-5, rtol=0)
    if "dam_candidates_if_stable" in facts:
        assert list(found.dam_slots) == [min(candidates) for candidates in facts["dam_candidates_if_stable"]]
    else:
        assert list(found.dam_slots) == tensors["dam_slots"].tolist()


def test_dam_takes_the_earliest_of_the_recorded_candidates() -> None:
    tensors, facts = recorded("functions/spatial_enhance")
    found = klarge_retrieve(tensors["low"], tensors["csm"], tensors["csm_weights"], facts["spatial_length"] // 2)
    assert list(found) == [min(candidates) for candidates in facts["candidates_klarge_retrieve_f64"]]


@pytest.mark.parametrize("method", SPATIAL_METHODS)
def test_every_spatial_method_takes_the_recorded_slots(method: str) -> None:
    tensors, facts = recorded("functions/spatial_enhance")
    csm = OrderedClusters(tensors["csm"], tensors["csm_weights"], tensors["csm_timestamps"].double(), ())
    count = facts["spatial_length"] // 2
    found = dam_slots_of(tensors["low"], csm, count, CompressionMethods(spatial=method, rule="released"))
    if method == "klarge_retrieve":
        candidates = facts["candidates_klarge_retrieve_f64"]
        assert all(slot in near for slot, near in zip(found, candidates, strict=True))
    else:
        assert list(found) == tensors[f"slots_{method}_f32"].tolist()
    most_alike = dam_slots_of(tensors["low"], csm, count, CompressionMethods(spatial="klarge_retrieve_cos"))
    assert list(most_alike) == tensors["distance_klarge_retrieve_cos_f32"].argmax(1).tolist()


def test_sampled_memories_are_the_recorded_ones() -> None:
    tensors, facts = recorded("functions/memory_sample")
    low, high = tensors["low_features"], tensors["high_features"]
    csm_slots, dam_slots = facts["flash_memory_temporal_length"] // 2, facts["flash_memory_spatial_length"] // 2
    found = compress_video(low, csm_slots, dam_slots, methods=CompressionMethods("sample", "sample"))
    assert found.timestamps.tolist() == tensors["csm_slots"].tolist()
    assert list(found.dam_slots) == tensors["dam_slots"].tolist()
    rows = torch.cat([high[list(found.dam_slots)].flatten(0, 1), found.centroids.flatten(0, 1)])
    assert torch.equal(rows, tensors["memory_features"])


@pytest.mark.parametrize("case", range(5))
def test_am_rope_gives_the_recorded_visual_ids(case: int) -> None:
    tensors = safetensors.load_file(GOLDEN / "functions/am_rope.safetensors")
    own = {name[2:]: tensor for name, tensor in tensors.items() if name.startswith(f"{case}_")}
    visual = own["visual_position_ids"] >= 0
    start = int(visual.int().argmax())
    found = visual_ids(
        own["dam_slots"], own["csm_timestamps"], merged(own["dam_grid_thw"]), merged(own["csm_grid_thw"]), start
    )
    assert torch.equal(found, own["position_ids_out"][:, visual])


@pytest.mark.parametrize("case", CASES)
def test_a_prompt_gets_the_recorded_ids_and_delta(case: str) -> None:
    tensors, facts = recorded(f"cases/{case}")
    visual = tensors["visual_position_ids"][0] >= 0
    prefix = int(visual.int().argmax())
    found = prompt_ids(
        prefix,
        len(visual) - prefix - int(visual.sum()),
        tensors["dam_slots"],
        tensors["csm_timestamps"],
        merged(tensors["dam_grid_thw"]),
        merged(tensors["csm_grid_thw"]),
        text_slots=min(int(tensors["video_grid_thw"][0, 0]), sizes(facts)[0]),
    )
    assert torch.equal(found.ids, tensors["position_ids_after"][:, 0])
    assert found.rope_delta == tensors["rope_delta"].item()


def test_ids_with_csm_times_in_a_row_hash_to_the_recorded_table() -> None:
    for entry in json.loads((GOLDEN / "functions/rope_index_table.json").read_text()):
        dam, csm = (torch.tensor(entry[name]) for name in ("dam_grid", "csm_grid"))
        times = [torch.arange(int(grid[0])) for grid in (dam, csm)]
        ids, delta = prompt_ids(
            entry["text_before"], entry["text_after"], *times, merged(dam), merged(csm), text_slots=int(csm[0])
        )
        assert delta == entry["rope_delta"]
        assert hashlib.sha256(ids[:, None].contiguous().numpy().tobytes()).hexdigest() == entry["position_ids_sha256"]


def slots_of(case: str, tensors: dict[str, Tensor], facts: dict) -> list[Slot]:
    """The recorded features as slots, two seconds apart; the high features serve as detail."""
    grid, start, second = Grid(*facts["grid"][1:]), 1_700_000_000_123_456_789, 1_000_000_000
    features = zip(low_features(case, tensors), tensors["high_features"], strict=True)
    return [
        Slot("camera", "frame", start + 2 * index * second, start + (2 * index + 1) * second, low, detail, grid)
        for index, (low, detail) in enumerate(features)
    ]


@pytest.mark.parametrize("case", CASES)
def test_the_memory_of_a_clip_is_the_recorded_one(case: str) -> None:
    tensors, facts = recorded(f"cases/{case}")
    if "high_features" not in tensors:
        pytest.skip("high features are not recorded")
    csm_slots, dam_slots = sizes(facts)
    draws = {"init_rows": tensors["init_slots"].tolist()} if "init_slots" in tensors else {}
    found = video_memory(slots_of(case, tensors, facts), csm_slots, dam_slots, **draws)
    csm = found.csm.flatten(0, 1)
    torch.testing.assert_close(csm, tensors["memory_features"][-len(csm) :], atol=1e-4, rtol=0)
    assert found.csm_times.round().tolist() == tensors["csm_positions"].tolist()
    assert [entry.weight for entry in found.entries[len(found.dam) :]] == tensors["csm_weights"].tolist()
    candidates = facts.get("dam_candidates_f64", tensors["dam_slots"][:, None].tolist())
    for shown, slot, equally_near in zip(found.dam, found.dam_times.long().tolist(), candidates, strict=True):
        assert slot in equally_near
        assert torch.equal(shown, tensors["high_features"][slot])


@pytest.mark.parametrize("case", [case for case in SHORT if case != "d080"])
def test_the_streaming_memory_is_the_recorded_one_until_it_is_full(case: str) -> None:
    tensors, facts = recorded(f"cases/{case}")
    csm_slots, dam_slots = sizes(facts)
    high = tensors.get("high_features")
    if high is None:
        pytest.skip("high features are not recorded")
    memory = FlashMemory(FlashMemoryConfig(csm_slots, dam_slots, recent_slots=0))
    for slot in slots_of(case, tensors, facts):
        memory.insert(slot)
    found = memory.snapshot()
    rows = torch.cat([found.dam.flatten(0, 1), found.csm.flatten(0, 1)])
    assert torch.equal(rows, tensors["memory_features"])
    assert found.dam_times.tolist() == tensors["dam_slots"].tolist()
    assert found.csm_times.tolist() == tensors["csm_timestamps"].tolist()
