"""The benchmark of speed, on a short stream: complete figures, counted transfers, and the released rule as baseline."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flash_vstream_ros.bench import costs, long_stream, shapes, speed
from flash_vstream_ros.bench import prefix_cache as cached
from flash_vstream_ros.bench.criteria import evaluated
from flash_vstream_ros.bench.decoding import decode_over_floor
from flash_vstream_ros.bench.floors import Floors, copy_bandwidth, matmul_rate
from flash_vstream_ros.bench.published import PUBLISHED
from flash_vstream_ros.bench.released import released_clusters
from flash_vstream_ros.bench.released_stream import Maps, ReleasedStream, nearest_slots, tower_maps
from flash_vstream_ros.bench.updates import COUNTED, transfers_of_ours
from flash_vstream_ros.cli import main
from flash_vstream_ros.instruments.stopwatch import Stopwatch
from flash_vstream_ros.instruments.transfers import TransferCounter
from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, Grid, Slot, klarge_retrieve
from flash_vstream_ros.models.decoding.kv_size import cache_bytes
from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.model_kind import ModelKind

pytestmark = pytest.mark.slow  # runs benchmarks

GOLDEN = Path(__file__).parents[2] / "shared" / "data" / "golden" / "qwen"
CPU = torch.device("cpu")
SMALL = FlashMemoryConfig(csm_slots=5, dam_slots=3)
LENGTHS_S = {"1 min": 6.0, "10 min": 20.0, "1 h": 40.0, "10 h": 80.0}
HEADLINE = {
    "cached_over_uncached",
    "cached_10h_over_10min",
    "update_speedup_over_released",
    "traffic_over_released",
    "ingest_over_floor",
    "decode_over_floor",
    "static_over_moving",
}


def numbers(value: Any) -> Iterator[float]:
    """All numbers in nested lists and dictionaries."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, (int, float)):
        yield value


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The JSON of a run, and its chart."""
    folder = tmp_path_factory.mktemp("speed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "MEMORY", SMALL)
        patch.setattr(speed, "PIXELS", 112 * 112)
        patch.setattr(cached, "ENCODED", 6)
        for length, seconds in LENGTHS_S.items():
            patch.setitem(long_stream.LENGTHS_S, length, seconds)
        arguments = ["--device", "cpu", "--rounds", "2", "--updates", "3", "--slots", "2"]
        files = ["--json", str(folder / "speed.json"), "--chart", str(folder / "speed.png")]
        assert main(["bench", "speed", *arguments, *files]) == 0
    return json.loads((folder / "speed.json").read_text(encoding="utf-8")), folder / "speed.png"


def test_a_run_reports_every_figure(ran: tuple[dict[str, Any], Path]) -> None:
    result, chart = ran
    assert set(result["ratios"]) >= HEADLINE
    found = list(numbers(result))
    assert len(found) > 100
    assert all(math.isfinite(each) and each >= 0 for each in found)
    assert "power_w" not in result["ingest"]  # no CPU reports it, and a missing value is left out, not zero
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_figures_of_a_run_are_consistent(ran: tuple[dict[str, Any], Path]) -> None:
    result, _ = ran
    assert [each["slots"] for each in result["lengths"].values()] == [3, 10, 20, 40]
    assert result["released_slots"] == 20
    assert list(result["released_bytes"]) == ["10 min", "1 h", "10 h"]
    for each in result["lengths"].values():
        assert each["cached"]["questions"] == cached.CACHED_PER_UNCACHED * each["uncached"]["questions"] == 16
    for name, parts in (("ours", {"distances", "merge", "exemplars", "copy"}), ("released", {"bank", "k-means"})):
        assert parts < set(result["update"][name]["parts"])
    of_theirs = dict(result["update"]["released"]["parts"])
    assert sum(of_theirs.values()) - 2 * of_theirs["whole"] <= 0
    assert result["ratios"]["memory_10h_over_10min"] == 1
    assert result["ratios"]["released_memory_10h_over_10min"] > 2
    names = [each["figure"] for each in result["criteria"]]
    assert {"cached_over_uncached", "traffic_over_released", "memory_10h_over_10min"} <= set(names)
    for each in result["criteria"]:
        value, bound = each["value"], each["bound"]
        assert each["met"] == (value <= bound if each["at_most"] else value >= bound)


def test_gpu_criteria_are_checked_on_a_gpu_only() -> None:
    figures = {"frames_per_s": 299.0, "cached_over_uncached": 0.1, "update_speedup_over_released": 9.9}
    found = {each["figure"]: each["met"] for each in evaluated(figures, large=False)}
    assert found == {"cached_over_uncached": True, "update_speedup_over_released": False}
    assert {each["figure"]: each["met"] for each in evaluated(figures, large=True)}["frames_per_s"] is False


def test_a_floor_is_positive_and_the_larger_of_compute_and_bandwidth() -> None:
    assert copy_bandwidth(CPU) > 0
    assert matmul_rate(CPU, torch.float32) > 0
    best = Floors(copy_bytes_per_s=10.0, matmul_flops_per_s=100.0)
    assert best.seconds(flops=200.0, moved=10.0) == 2.0
    assert best.seconds(flops=200.0, moved=50.0) == 5.0
    assert best.or_better(Floors(20.0, 50.0)) == Floors(20.0, 100.0)


@pytest.mark.parametrize(("shape", "prefill_tflop", "cache_mb"), [("qwen2-vl-7b", 177, 661), ("qwen2-vl-2b", 42, 330)])
def test_computed_costs_equal_those_of_the_published_models(shape: str, prefill_tflop: float, cache_mb: float) -> None:
    config = shapes.shape_config(shape)
    assert costs.prefill_flops(config.text_config, 11_520) == pytest.approx(prefill_tflop * 1e12, rel=0.01)
    assert cache_bytes(config.text_config, 11_520, 2) == pytest.approx(cache_mb * 1e6, rel=0.01)
    assert costs.slot_flops(config.vision_config, Grid(32, 32)) == pytest.approx(1.83e12, rel=0.01)


def test_the_computed_weight_bytes_equal_those_of_the_network() -> None:
    network = shapes.shape_on_meta("tiny")
    text, vision = network.config.text_config, network.config.vision_config

    def matrices(part: Any) -> int:
        return sum(parameter.numel() for parameter in part.parameters() if parameter.dim() > 1)

    assert costs.language_weights(text) == matrices(network.model.language_model.layers)
    assert costs.head_weights(text) == matrices(network.lm_head)
    tower = network.model.visual
    assert costs.tower_weights(vision) == matrices(tower.patch_embed) + matrices(tower.blocks)
    assert costs.merger_weights(vision) == matrices(tower.merger)


def test_transfers_between_devices_are_counted() -> None:
    with TransferCounter(CPU) as transfers:
        there = transfers.put(torch.ones(4, 8))  # 128 bytes, already there
        assert there.device != CPU
        doubled = 2 * there
        assert transfers.bytes == 0
        doubled[:2].sum(1).tolist()
        assert (transfers.to_device, transfers.to_host) == (0, 8)
        back = doubled.cpu()
        assert back.device == CPU
        assert doubled.device != CPU
        assert transfers.to_host == 8 + 128
        index = torch.tensor([0, 1, 3], device=there.device)
        assert transfers.to_device == 24
        there[index].add_(1).max().item()
        torch.zeros(100, device=there.device)
        assert (transfers.to_device, transfers.to_host) == (24, 8 + 128 + 4)
        there[0].copy_(torch.zeros(8))
        torch.ones(2).to(there.device)
        assert transfers.to_device == 24 + 32 + 8
        back.sum().item()
        torch.ones(3).copy_(back[0, :3])
        assert transfers.bytes == 24 + 32 + 8 + 8 + 128 + 4
    assert torch.equal(back, torch.full((4, 8), 2.0))


def stream_of(slots: int) -> Iterator[Slot]:
    generator = torch.Generator().manual_seed(3)
    for index in range(slots):
        low, detail = torch.randn(16, 8, generator=generator), torch.randn(16, 12, generator=generator)
        yield Slot("camera", "", 2 * index + 1, 2 * index + 2, low, detail, Grid(8, 8))


def test_an_update_reads_one_row_of_distances() -> None:
    """It also reads the distances and rows of the exemplars of two merged clusters, four at most."""
    slots = list(stream_of(SMALL.csm_slots + COUNTED))
    counted = transfers_of_ours(SMALL, iter(slots), CPU)
    row = 4 * (SMALL.csm_slots + 1 + 1 + 1)  # distances to each centroid and to zero, and a flag that all are finite
    least, most = row + (2 + 1) * 4 + 2 * 8, row + (4 + 1) * 4 + 4 * 8
    assert least <= counted <= most


def test_counting_transfers_does_not_change_results() -> None:
    plain, counted = FlashMemory(SMALL), FlashMemory(SMALL)
    with TransferCounter(CPU) as transfers:
        for slot in stream_of(20):
            counted.insert(
                Slot(
                    **{
                        **vars(slot),
                        "low": transfers.put(slot.low),
                        "detail": transfers.put(slot.detail),
                    }
                )
            )
    for slot in stream_of(20):
        plain.insert(slot)
    assert torch.equal(plain.snapshot().csm, counted.snapshot().csm)
    assert torch.equal(plain.snapshot().dam, counted.snapshot().dam)


def released(capacity: int, dam_slots: int, network: Any = None) -> ReleasedStream:
    merger = network.model.visual.merger if network else torch.nn.Flatten(1)
    return ReleasedStream(merger, capacity, dam_slots, Grid(8, 8))


def maps_of(slots: int) -> list[Maps]:
    return [Maps(torch.cat([slot.low, slot.low + 1, slot.low - 1, -slot.low]), slot.low) for slot in stream_of(slots)]


def test_the_released_procedure_clusters_by_the_released_rule() -> None:
    stream, maps = released(6, 3), maps_of(30)
    for each in maps:
        stream.insert(each)
    rows = torch.stack([each.low.flatten() for each in maps])
    centroids, _ = released_clusters(rows, 6, seed=0)
    torch.testing.assert_close(stream.centroids.flatten(1), centroids)
    assert float(stream.weights.sum()) == 30
    wanted = klarge_retrieve(rows, centroids, stream.weights, 3)
    assert stream.chosen.tolist() == list(wanted)


def test_filling_the_released_procedure_at_once_equals_single_steps() -> None:
    single, filled, maps = released(6, 3), released(6, 3), maps_of(21)
    for each in maps:
        single.insert(each)
    filled.fill(iter(maps), 20)
    filled.insert(maps[20])
    assert torch.equal(single.centroids, filled.centroids)
    assert torch.equal(single.tokens, filled.tokens)
    for one, other in zip(single.bank, filled.bank, strict=True):  # type: ignore[arg-type]
        assert torch.equal(one, other)


def test_the_bank_of_the_released_procedure_grows_by_every_slot() -> None:
    stream, maps = released(6, 3), maps_of(40)
    for each in maps[:20]:
        stream.insert(each)
    expected = stream.bytes_after(40)
    for each in maps[20:]:
        stream.insert(each)
    assert stream.bytes == expected
    assert stream.bytes_after(41) - stream.bytes == sum(each.nbytes for each in maps[0])


def test_the_released_procedure_copies_its_bank_to_the_device_and_back() -> None:
    stream, maps = released(6, 3), maps_of(21)
    for each in maps[:20]:
        stream.insert(each)
    slot_bytes = sum(each.nbytes for each in maps[0])
    with TransferCounter(CPU) as transfers:
        stream.insert(Maps(*(transfers.put(each) for each in maps[20])))
    assert 0 <= transfers.to_device - 20 * slot_bytes < 512
    assert 0 <= transfers.to_host - 21 * slot_bytes < 512


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="recorded data is not here")
def test_the_first_clustering_of_a_full_memory_equals_the_recorded_one() -> None:
    """One slot more than there are clusters: streaming and the recorded clip cluster the same rows."""
    from safetensors.torch import load_file

    from flash_vstream_ros.models.weights.checkpoint import load_network

    golden = load_file(GOLDEN / "cases" / "c018.safetensors")
    facts = json.loads((GOLDEN / "cases" / "c018.json").read_text(encoding="utf-8"))
    network = load_network(GOLDEN / "model", CPU, torch.float32, "sdpa")
    _, rows, columns = golden["video_grid_thw"][0].tolist()
    stream = ReleasedStream(network.model.visual.merger, 8, 4, Grid(rows, columns))
    *first, last = [Maps(*each) for each in zip(golden["high_features"], golden["low_features"], strict=True)]
    for each in first:
        stream.insert(each)
    assert stream.chosen.tolist() == [0, 1, 2, 3]  # all of weight 1
    stream.insert(last, init_rows=golden["init_slots"].tolist())
    torch.testing.assert_close(stream.centroids, golden["csm_features"], atol=1e-4, rtol=0)
    torch.testing.assert_close(stream.weights, golden["csm_weights"], atol=1e-4, rtol=0)
    for slot, candidates in zip(stream.chosen.tolist(), facts["dam_candidates_f64"], strict=True):
        assert slot in candidates
    tokens = rows * columns // 4
    dam, csm = stream.tokens.split([4 * tokens, len(stream.tokens) - 4 * tokens])
    recorded_dam, recorded_csm = golden["video_embeds"].split([4 * tokens, len(csm)])
    torch.testing.assert_close(csm, recorded_csm, atol=1e-4, rtol=0)
    same = stream.chosen == golden["dam_slots"]  # except in the one cluster of two slots, which are equally near
    assert same.sum() >= 3
    torch.testing.assert_close(
        dam.unflatten(0, (4, tokens))[same], recorded_dam.unflatten(0, (4, tokens))[same], atol=1e-4, rtol=0
    )


def test_feature_maps_of_the_tower_equal_those_of_the_model() -> None:
    model = load_model("tiny-random", device="cpu", max_pixels=112 * 112)
    frames = [image[:112, :112].copy() for image in cached.patrol_images(2.0)[:2]]
    grid = Grid(8, 8)
    low, detail = model.encode(frames, grid)
    maps = tower_maps(model.network, frames, grid)  # type: ignore[attr-defined]
    torch.testing.assert_close(maps.low, low, atol=1e-4, rtol=1e-4)
    with torch.inference_mode():
        merged = model.network.model.visual.merger(maps.high)  # type: ignore[attr-defined]
    torch.testing.assert_close(merged, detail, atol=1e-4, rtol=1e-4)


def test_all_slots_are_retrieved_while_they_fit_the_dam() -> None:
    low = torch.randn(3, 4, 2)
    assert nearest_slots(low, low, torch.ones(3), 3).tolist() == [0, 1, 2]


def test_a_random_network_has_the_shape_of_its_configuration() -> None:
    config = shapes.shape_config("tiny")
    network = shapes.random_network(config, CPU, torch.bfloat16, "sdpa")
    reference = shapes.shape_on_meta("tiny")
    assert {name: each.shape for name, each in network.named_parameters()} == {
        name: each.shape for name, each in reference.named_parameters()
    }
    assert {each.dtype for each in network.parameters()} == {torch.bfloat16}
    assert all(each.isfinite().all() for each in network.parameters())
    frequencies = dict(network.named_buffers())["model.language_model.rotary_emb.inv_freq"]
    assert frequencies[0] == 1
    assert frequencies.dtype == torch.float32


def test_a_published_shape_encodes_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is created as on a GPU, with the configuration of tiny instead of one that takes gigabytes."""
    config = shapes.shape_config("tiny")
    monkeypatch.setattr(shapes, "shape_config", lambda _: config)
    model = shapes.shaped_model("qwen2-vl-2b", "cpu", max_pixels=112 * 112)
    assert (model.dtype, model.kind, model.name) == (torch.bfloat16, ModelKind.UNTRAINED, "qwen2-vl-2b")
    low, detail = model.encode(cached.patrol_images(2.0)[:2], Grid(8, 8))
    memory = FlashMemory(SMALL)
    memory.insert(Slot("camera", "", 1, 2, low, detail, Grid(8, 8)))
    decoded = decode_over_floor(model, memory.snapshot(), bytes_per_s=1e9, tokens=3, answers=2)
    assert decoded.token_s > 0
    assert decoded.floor_s == decoded.bytes_read / 1e9
    assert decoded.bytes_read == pytest.approx(
        costs.pass_bytes(config.text_config, model.tokens(memory.snapshot()), 2), rel=0.1
    )


def test_a_stopwatch_restores_the_method_it_times() -> None:
    original = Floors.seconds
    watch, best = Stopwatch(CPU), Floors(1.0, 1.0)
    with watch.on(Floors, "seconds", "asked"):
        assert best.seconds(flops=2.0) == 2.0
        assert best.seconds(moved=3.0) == 3.0
    assert Floors.seconds is original
    assert watch.means(2)["asked"] == sum(watch.parts["asked"]) / 2
    assert len(watch.parts["asked"]) == 2


@pytest.mark.parametrize(("name", "full"), [("7B", "qwen2-vl-7b"), ("2b", "qwen2-vl-2b"), ("tiny", "tiny")])
def test_shapes_have_short_names(name: str, full: str) -> None:
    assert shapes.shape_of(name) == full
    assert shapes.NAMES[full] in {"tiny-random", *(each.name for each in PUBLISHED)}


def test_an_unknown_shape_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "speed", "--shape", "70b"]) == 1
    assert "Shape '70b' is unknown: use tiny, qwen2-vl-2b, qwen2-vl-7b" in capsys.readouterr().err


def test_too_little_memory_is_reported_before_anything_is_allocated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shapes, "free_on_host", lambda: 3 * 10**9)
    monkeypatch.setattr(speed, "shaped_model", lambda *_: pytest.fail("made all the same"))
    assert main(["bench", "speed", "--shape", "7b", "--device", "cpu"]) == 1
    errors = capsys.readouterr().err
    assert "qwen2-vl-7b needs about" in errors
    assert "3.0 GB free" in errors


def test_the_needed_memory_is_weights_memories_and_two_banks() -> None:
    with_bank, without = (
        shapes.need("qwen2-vl-7b", torch.bfloat16, Grid(32, 32), FlashMemoryConfig(), slots, memories=4)
        for slots in (1800, 0)
    )
    assert with_bank.host == with_bank.device - without.device == 2 * 1800 * 1280 * 1280 * 2
    assert without.device > 15.2e9 + 4 * (0.38e9 + 0.66e9)
    shapes.check_free_memory("tiny", CPU, shapes.Need(1.0, 1.0))
    with pytest.raises(ModelError, match=r"needs about 999999\.0 GB"):
        shapes.check_free_memory("tiny", CPU, shapes.Need(999_999e9, 0.0))
