"""Training of the household model: the same prompts as the node's, patrols as the world's, a run that resumes."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

from flash_vstream_ros.bench.calibration import calibration_error
from flash_vstream_ros.demo.world import COLOURS, KINDS, ROOMS, World
from flash_vstream_ros.memory.slot import EntryKind, Grid, MemoryEntry, MemorySnapshot
from flash_vstream_ros.models.confidence import Calibration
from flash_vstream_ros.models.confidence import features as confidence_features
from flash_vstream_ros.models.decoding.grouped_attention import use_kernel
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.prompt import ChatPrompt
from flash_vstream_ros.models.qwen2_vl import further_entries, prefill, with_text
from flash_vstream_ros.training import curriculum, pool, run, vision
from flash_vstream_ros.training import observations as rendering
from flash_vstream_ros.training.branches import training_kernel
from flash_vstream_ros.training.calibration import fit, greedy
from flash_vstream_ros.training.curriculum import Lesson
from flash_vstream_ros.training.examples import Entries, Example
from flash_vstream_ros.training.language import Batcher, answers_right, cased_ids, loss_and_hits
from flash_vstream_ros.training.network import GRID, encode_batch, household_network, household_tokenizer
from flash_vstream_ros.training.observations import Observations, render_observations
from flash_vstream_ros.training.optimisers import optimisers
from flash_vstream_ros.training.patrols import Composer, Features, patrol_examples

pytestmark = pytest.mark.slow  # trains


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return household_tokenizer()


@pytest.fixture(scope="module")
def network(tokenizer: Any) -> Any:
    return household_network(tokenizer, seed=0).eval()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Observations:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("VARIANTS", 1), ("PERSON_VARIANTS", 1), ("ROUTES", 24)):
            patch.setattr(rendering, name, value)
        return render_observations(tmp_path_factory.mktemp("observations"), seed=0, processes=2)


@pytest.fixture(scope="module")
def features(images: Observations) -> Features:
    draw = torch.Generator().manual_seed(0)
    count = len(images.labels)
    low, detail = (torch.randn(count, 16, 128, generator=draw).half() for _ in range(2))
    return Features(low, detail, images.labels)


@pytest.fixture(scope="module")
def some(features: Features) -> list[Example]:
    composer = Composer(features)
    made = (patrol_examples(composer, (3, patrol), 6.0, Lesson(), moments=2) for patrol in range(4))
    return [example for examples in made for example in examples]


def test_every_word_of_the_household_is_one_token(tokenizer: Any) -> None:
    for word in (*COLOURS, *KINDS, "kitchen", "minutes", "visit", "person"):
        assert len(cased_ids(tokenizer, f" {word}")) == 1, word


@pytest.mark.parametrize("text", ["Where is the red ball?", "Wo ist der rote Ball? ½ ☃", "x" * 40])
def test_any_text_can_be_encoded(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(cased_ids(tokenizer, text), clean_up_tokenization_spaces=False) == text


def test_slots_encoded_together_equal_those_that_transformers_encodes_one_by_one(network: Any) -> None:
    high, low = torch.randn(3, GRID**2, 1176), torch.randn(3, GRID**2 // 4, 1176)
    low_map, low_merged, high_merged = encode_batch(network.model.visual, high, low)
    grids = torch.tensor([[1, GRID, GRID]] * 3 + [[1, GRID // 2, GRID // 2]] * 3)
    alone = network.model.visual(torch.cat([high.flatten(0, 1), low.flatten(0, 1)]), grid_thw=grids)
    torch.testing.assert_close(low_map.flatten(0, 1), alone.last_hidden_state[3 * GRID**2 :])
    merged = torch.cat([high_merged.flatten(0, 1), low_merged.flatten(0, 1)])
    torch.testing.assert_close(merged, alone.pooler_output)


def test_a_training_prompt_is_the_prompt_of_the_node(network: Any, tokenizer: Any, some: list[Example]) -> None:
    prompt = ChatPrompt.of(tokenizer)
    batcher = Batcher(network, tokenizer, prompt)
    with_details = next(example for example in some if example.details)
    for example in (some[0], some[-1], with_details):
        batch = batcher([example], 3, 0, np.random.default_rng(0))
        snapshot = _snapshot_of(example.memory, example.text_slots)
        with torch.no_grad():
            trained = _logits(network, batch)[0]
            for question in (
                example.questions[i] for i in np.random.default_rng(0).permutation(len(example.questions))[:3]
            ):
                alone = prefill(network, snapshot, prompt.before, prompt.after(question.text), batcher.age_ids)
                if example.details is not None:
                    more = further_entries(network, alone, _snapshot_of(example.details), batcher.age_ids)
                    rest, end = with_text(network, more), alone.memory_end
                    alone = replace(
                        alone,
                        embeds=torch.cat([alone.embeds[:, :end], rest.embeds], dim=1),
                        ids=torch.cat([alone.ids[..., :end], rest.ids], dim=2),
                    )
                hidden = network.model.language_model(inputs_embeds=alone.embeds, position_ids=alone.ids)
                asked = network.lm_head(hidden.last_hidden_state)[0, -1]
                assert (trained - asked).abs().amax(1).min() < 1e-4


def _snapshot_of(entries: Entries, text_slots: int = 0) -> MemorySnapshot:
    newest_ns = 10**15
    return MemorySnapshot(
        entries.dam.float(),
        entries.dam_times,
        entries.csm.float(),
        entries.csm_times,
        Grid(GRID, GRID),
        tuple(_last_seen(newest_ns - round(age * 1e9)) for age in entries.ages.tolist()),
        0,
        text_slots,
        newest_ns,
    )


def _last_seen(last_ns: int) -> MemoryEntry:
    return MemoryEntry(EntryKind.CSM, "camera", "", 0, last_ns, 1.0, b"", 0)


def test_questions_behind_one_prompt_do_not_see_each_other(network: Any, tokenizer: Any, some: list[Example]) -> None:
    batcher = Batcher(network, tokenizer, ChatPrompt.of(tokenizer))
    example = some[-1]
    first, other = example.questions[0], example.questions[1]
    twice = example._replace(questions=[first, first])
    once = example._replace(questions=[first, other])
    order = next(seed for seed in range(9) if np.random.default_rng(seed).permutation(2)[0] == 0)
    with torch.no_grad():
        a, b = (batcher([e], 2, 0, np.random.default_rng(order)) for e in (twice, once))
        left, right = _logits(network, a)[0], _logits(network, b)[0]
    length = int((a.targets[0] == batcher.stop).nonzero()[0])
    torch.testing.assert_close(left[: length + 1], right[: length + 1])


def test_padding_changes_nothing(network: Any, tokenizer: Any, some: list[Example]) -> None:
    batcher = Batcher(network, tokenizer, ChatPrompt.of(tokenizer))
    small, large = sorted(some, key=lambda example: len(example.memory.csm))[:: len(some) - 1]
    with torch.no_grad():
        alone, _ = loss_and_hits(network, batcher([small], 4, 0, np.random.default_rng(1)))
        both = batcher([small, large], 4, 0, np.random.default_rng(1))
        padded = both._replace(targets=both.targets.index_fill(0, torch.tensor([1]), -100))
        torch.testing.assert_close(loss_and_hits(network, padded)[0], alone)


def test_answers_are_right_when_no_token_is_wrong(tokenizer: Any, network: Any, some: list[Example]) -> None:
    batcher = Batcher(network, tokenizer, ChatPrompt.of(tokenizer))
    batch = batcher(some[:2], 4, 0, np.random.default_rng(1))
    told = int((batch.targets >= 0).sum())
    hits = torch.ones(told, dtype=torch.bool)
    assert answers_right(batch, hits, batcher.stop) == (8, 8)
    hits[0] = hits[-1] = False
    assert answers_right(batch, hits, batcher.stop) == (6, 8)


def test_training_images_are_those_of_the_demo_camera(images: Observations) -> None:
    assert images.frames.shape[1:] == (2, 112, 112, 3)
    shown = {tuple(row[:5]) for row in images.labels.tolist() if row[1] >= 0}
    assert len({row[0] for row in shown}) == len(ROOMS)
    assert all((list(COLOURS)[c - 1], KINDS[k - 1], ROOMS[r]) not in rendering.HELD_OUT for r, _, c, k, _ in shown if c)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch before 2.9 has no Muon")
def test_muon_learns_the_matrices_between_tokens_and_adamw_the_rest(network: Any) -> None:
    muon, adamw = optimisers(network, 0.3, 0.1)
    groups = [{w: group["lr"] for group in one.param_groups for w in group["params"]} for one in (muon, adamw)]
    layers = network.model.language_model.layers
    assert groups[0] == {w: 0.3 for layer in layers for w in layer.parameters() if w.ndim == 2}
    assert len(groups[0]) == 7 * len(layers)  # queries, keys, values, output; gate, up, down
    assert network.get_input_embeddings().weight in groups[1]
    assert groups[0].keys() | groups[1].keys() == {w for w in network.parameters() if w.requires_grad}
    assert not groups[0].keys() & groups[1].keys()


def test_pytorch_without_muon_is_an_error_with_the_version_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ValueError, match=r"PyTorch 2\.9 or later"):
        run.train(run.Plan(), tmp_path, torch.device("cpu"), lambda _: None)


def test_gradients_beside_bfloat16_equal_float32_up_to_rounding(
    network: Any, tokenizer: Any, some: list[Example]
) -> None:
    batcher = Batcher(network, tokenizer, ChatPrompt.of(tokenizer))
    batch = batcher(some[:2], 4, 2, np.random.default_rng(1))
    weights = [*network.model.language_model.layers.parameters()]
    exact = torch.autograd.grad(loss_and_hits(network, batch)[0], weights)
    kernel = training_kernel(network.device)
    with use_kernel(network.config.text_config, kernel), torch.autocast("cpu", torch.bfloat16):
        rounded = torch.autograd.grad(loss_and_hits(network, batch)[0], weights)
    for one, other in zip(exact, rounded, strict=True):
        assert other.dtype == torch.float32
        assert (one - other).norm() < 0.05 * one.norm()


def train_tiny(plan: run.Plan, folder: Path, stop_after: int = 10**9) -> Path:
    """Train until the language stage reports a step beyond `stop_after`, which raises KeyboardInterrupt."""

    def report(progress: run.Progress) -> None:
        if progress.stage == "language" and progress.done > stop_after:
            raise KeyboardInterrupt

    return run.train(plan, folder, torch.device("cpu"), report)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch before 2.9 has no Muon")
def test_an_interrupted_run_resumes_and_ends_in_the_model_of_an_uninterrupted_one(
    tmp_path: Path, images: Observations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "render_observations", lambda folder, seed, processes: images)
    for module, name, value in (
        (run, "SAVE_EVERY_S", 0.0),
        (run, "REPORT_STEPS", 1),
        (pool, "POOL_PATROLS", 3),
        (curriculum, "FIRST_PATROLS", 2),
        (curriculum, "DRAWS_PER_PATROL", 2),
        (curriculum, "SECOND_CYCLE_DRAWS", 4),
    ):
        monkeypatch.setattr(module, name, value)
    sizes = {
        "vision_steps": 2,
        "first_steps": 2,
        "first_cooling_steps": 1,
        "second_steps": 4,
        "second_cooling_steps": 1,
        "third_steps": 6,
        "third_cooling_steps": 1,
    }
    sizes |= {"language_steps": 8, "cooling_steps": 1, "batch": 2, "questions": 2, "calibration": 2}
    plan = run.Plan(seed=5, longest_min=3.0, **sizes)
    whole = train_tiny(plan, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_tiny(plan, tmp_path / "parts", stop_after=4)
    resumed = train_tiny(plan, tmp_path / "parts")
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (resumed / file).read_bytes() == (whole / file).read_bytes(), file
    with pytest.raises(ValueError, match="begun with seed 5"):
        train_tiny(run.Plan(seed=6, longest_min=3.0, **sizes), tmp_path / "parts")
    record = json.loads((resumed / "training.json").read_text())
    assert "--third-steps 6 --third-cooling-steps 1 --language-steps 8" in record["command"]
    assert (resumed / "curves.png").stat().st_size > 1000
    assert (resumed / "model.safetensors").stat().st_size < 25e6
    stock = Qwen2VLForConditionalGeneration.from_pretrained(resumed)
    spelled = [AutoTokenizer.from_pretrained(resumed).encode(text) for text in ("a red ball", "A  RED ball")]
    assert spelled == [household_tokenizer().encode("a red ball")] * 2
    ours = load_model(str(resumed), device="cpu", max_pixels=112 * 112)
    torch.testing.assert_close(stock.lm_head.weight, ours.network.lm_head.weight)
    assert len(Calibration.of(ours.network.config).weights) == 3
    frames = [World(1).frame(t) for t in (1.0, 3.0)]
    assert ours.encode(frames, ours.grid(448, 448))[1].shape == (16, 128)


def test_vision_resumes_where_it_was_stored(images: Observations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "REPORT_STEPS", 2)
    states: list[dict[str, Any]] = []
    weights = []
    for stored in (None, 0):
        network = household_network(household_tokenizer(), seed=0)
        given = None if stored is None else states[stored]
        keep = (lambda state: states.append(copy.deepcopy(state))) if stored is None else (lambda state: None)
        vision.train_vision(network, images, 4, 7, torch.device("cpu"), lambda step, loss: None, given, keep)
        weights.append(network.model.visual.merger.mlp[2].weight.detach())
    assert [state["step"] for state in states] == [2, 4]
    assert torch.equal(*weights)


def test_greedy_answers_are_those_of_the_node(network: Any, tokenizer: Any, some: list[Example]) -> None:
    batcher = Batcher(network, tokenizer, ChatPrompt.of(tokenizer))
    example = some[-1]
    together = greedy(network, batcher, example, example.questions[:3])
    alone = [greedy(network, batcher, example, [question])[0] for question in example.questions[:3]]
    for (text, probabilities), (same, close) in zip(together, alone, strict=True):
        assert text == same
        assert probabilities == pytest.approx(close, abs=1e-4)


def test_the_confidence_is_fitted_to_how_often_answers_are_right() -> None:
    rng = np.random.default_rng(0)
    probabilities = [[float(one)] for one in rng.uniform(0.5, 1, 4000)]
    marks = [bool(rng.random() < 2 * one - 1) for (one,) in probabilities]  # overconfident: 0.75 is right in a half
    calibration = Calibration(tuple(fit([confidence_features(one) for one in probabilities], marks)))
    confidences = [calibration.confidence(one) for one in probabilities]
    assert calibration_error(confidences, marks) < 0.06
    assert calibration_error([one for (one,) in probabilities], marks) > 0.2


def _logits(network: Any, batch: Any) -> torch.Tensor:
    text = network.get_input_embeddings()(batch.tokens.clamp(min=0))
    embeds = torch.where((batch.tokens < 0)[..., None], batch.visual, text)
    hidden = network.model.language_model(
        inputs_embeds=embeds,
        position_ids=batch.positions,
        attention_mask={"full_attention": batch.mask.dense()},
        use_cache=False,
    )
    return network.lm_head(hidden.last_hidden_state)
