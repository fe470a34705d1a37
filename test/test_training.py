"""Training of the household model: the same prompts as the node's, patrols as the world's, a run that resumes."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.world import COLOURS, KINDS, ROOMS, World
from flash_vstream_ros.memory.slot import EntryKind, Grid, MemoryEntry, MemorySnapshot
from flash_vstream_ros.models.decoding.grouped_attention import use_kernel
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.prompt import ChatPrompt
from flash_vstream_ros.models.qwen2_vl import prefill
from flash_vstream_ros.training import observations as rendering
from flash_vstream_ros.training import patrols, run
from flash_vstream_ros.training.language import Batcher, answers_right, loss_and_hits
from flash_vstream_ros.training.network import GRID, encode_batch, household_network, household_tokenizer
from flash_vstream_ros.training.observations import FRAME_S, Label, Observations, render_observations
from flash_vstream_ros.training.optimisers import kernel_beside_bfloat16, optimisers
from flash_vstream_ros.training.patrols import Composer, Example, Features, examples


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return household_tokenizer()


@pytest.fixture(scope="module")
def network(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    return household_network(tokenizer).eval()


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
    return list(islice(examples(features, seed=3, longest_min=6.0, moments=2), 12))


def test_every_word_of_the_household_is_one_token(tokenizer: Any) -> None:
    for word in (*COLOURS, *KINDS, "kitchen", "minutes", "visit", "person"):
        assert len(tokenizer.encode(f" {word}")) == 1, word


@pytest.mark.parametrize("text", ["Where is the red ball?", "Wo ist der rote Ball? ½ ☃", "x" * 40])
def test_any_text_can_be_encoded(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text


def test_slots_encoded_together_are_what_transformers_makes_of_each(network: Any) -> None:
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
    for example in (some[0], some[-1]):
        batch = batcher([example], 3, np.random.default_rng(0))
        newest_ns = 10**15
        snapshot = MemorySnapshot(
            example.dam.float(),
            example.dam_times,
            example.csm.float(),
            example.csm_times,
            Grid(GRID, GRID),
            tuple(_last_seen(newest_ns - round(age * 1e9)) for age in example.ages.tolist()),
            0,
            example.text_slots,
            newest_ns,
        )
        with torch.no_grad():
            trained = _logits(network, batch)[0]
            for question in (
                example.questions[i] for i in np.random.default_rng(0).permutation(len(example.questions))[:3]
            ):
                alone = prefill(network, snapshot, prompt.before, prompt.after(question.text), batcher.age_ids)
                hidden = network.model.language_model(inputs_embeds=alone.embeds, position_ids=alone.ids)
                asked = network.lm_head(hidden.last_hidden_state)[0, -1]
                assert (trained - asked).abs().amax(1).min() < 1e-4


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
        a, b = (batcher([e], 2, np.random.default_rng(order)) for e in (twice, once))
        left, right = _logits(network, a)[0], _logits(network, b)[0]
    length = int((a.targets[0] == batcher.stop).nonzero()[0])
    torch.testing.assert_close(left[: length + 1], right[: length + 1])


def test_padding_changes_nothing(network: Any, tokenizer: Any, some: list[Example]) -> None:
    batcher = Batcher(network, tokenizer, ChatPrompt.of(tokenizer))
    small, large = sorted(some, key=lambda example: len(example.csm))[:: len(some) - 1]
    with torch.no_grad():
        alone, _ = loss_and_hits(network, batcher([small], 4, np.random.default_rng(1)))
        both = batcher([small, large], 4, np.random.default_rng(1))
        padded = both._replace(targets=both.targets.index_fill(0, torch.tensor([1]), -100))
        torch.testing.assert_close(loss_and_hits(network, padded)[0], alone)


def test_answers_are_right_when_no_token_is_wrong(tokenizer: Any, network: Any, some: list[Example]) -> None:
    batcher = Batcher(network, tokenizer, ChatPrompt.of(tokenizer))
    batch = batcher(some[:2], 4, np.random.default_rng(1))
    told = int((batch.targets >= 0).sum())
    hits = torch.ones(told, dtype=torch.bool)
    assert answers_right(batch, hits, batcher.stop) == (8, 8)
    hits[0] = hits[-1] = False
    assert answers_right(batch, hits, batcher.stop) == (6, 8)


def test_a_composed_patrol_shows_what_the_world_shows(features: Features) -> None:
    world = World(11, 3.0, 10.0, held_out=False)
    composer = Composer(features, 0)
    looked = 0
    for stamp, index in composer.slots(world, world.duration):
        label = Label(*features.labels[index].tolist())
        observation = next(
            (o for v in world.visits for o in v.observations if o.start <= stamp - FRAME_S and stamp <= o.end), None
        )
        if observation is None:
            assert label.corner < 0
            continue
        looked += 1
        assert (label.corner, bool(label.person)) == (observation.corner, observation.person)
        assert ROOMS[label.room] == world.room(stamp)
        named = f"{[*COLOURS][label.colour - 1]} {KINDS[label.kind - 1]}" if label.colour else None
        assert named == (observation.thing.name if observation.thing else None)
    assert looked > 20


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


def test_a_pytorch_without_muon_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ValueError, match=r"PyTorch 2\.9 or later"):
        run.train(run.Plan(), tmp_path, torch.device("cpu"), lambda _: None)


def test_gradients_beside_bfloat16_are_those_of_float32_but_for_rounding(
    network: Any, tokenizer: Any, some: list[Example]
) -> None:
    batcher = Batcher(network, tokenizer, ChatPrompt.of(tokenizer), drills=2)
    batch = batcher(some[:2], 4, np.random.default_rng(1))
    weights = [*network.model.language_model.layers.parameters()]
    exact = torch.autograd.grad(loss_and_hits(network, batch)[0], weights)
    kernel = kernel_beside_bfloat16(network.device)
    with use_kernel(network.config.text_config, kernel), torch.autocast("cpu", torch.bfloat16):
        rounded = torch.autograd.grad(loss_and_hits(network, batch)[0], weights)
    for one, other in zip(exact, rounded, strict=True):
        assert other.dtype == torch.float32
        assert (one - other).norm() < 0.05 * one.norm()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch before 2.9 has no Muon")
def test_a_run_is_resumed_and_ends_in_a_model_that_answers(
    tmp_path: Path, images: Observations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "render_observations", lambda folder, seed, processes: images)
    reports: list[run.Progress] = []
    plan = run.Plan(seed=5, vision_steps=2, language_steps=3, cooling_steps=1, batch=2, questions=2, longest_min=3.0)
    run.train(plan, tmp_path, torch.device("cpu"), reports.append)
    longer = run.Plan(**{**vars(plan), "language_steps": 5})
    model = run.train(longer, tmp_path, torch.device("cpu"), reports.append)
    assert [(r.stage, r.done) for r in reports] == [("vision", 2), ("language", 3), ("language", 5)]
    with pytest.raises(ValueError, match="has seed 5"):
        run.train(run.Plan(seed=6), tmp_path, torch.device("cpu"), reports.append)
    record = json.loads((model / "training.json").read_text())
    assert "--language-steps 5" in record["commands"][-1][1]
    assert (model / "curves.png").stat().st_size > 1000
    assert (model / "model.safetensors").stat().st_size < 25e6
    stock = Qwen2VLForConditionalGeneration.from_pretrained(model)
    assert AutoTokenizer.from_pretrained(model).encode("a red ball") == household_tokenizer().encode("a red ball")
    ours = load_model(str(model), device="cpu", max_pixels=112 * 112)
    torch.testing.assert_close(stock.lm_head.weight, ours.network.lm_head.weight)
    frames = [World(1).frame(t) for t in (1.0, 3.0)]
    assert ours.encode(frames, ours.grid(448, 448))[1].shape == (16, 128)


def test_memories_to_train_on_are_of_all_sizes(features: Features, some: list[Example]) -> None:
    assert len({len(example.csm) for example in some}) > 2
    endless = examples(features, 4, longest_min=6.0, real=True)
    real = next(example for example in endless if len(example.csm) and len(example.dam))
    assert len(real.dam) <= patrols.TRAINED_MEMORY.dam_slots
    world = World(2)
    assert questions(world.visits, world.duration, np.random.default_rng(0))


def _logits(network: Any, batch: Any) -> torch.Tensor:
    text = network.get_input_embeddings()(batch.tokens.clamp(min=0))
    embeds = torch.where((batch.tokens < 0)[..., None], batch.visual, text)
    hidden = network.model.language_model(
        inputs_embeds=embeds, position_ids=batch.positions, attention_mask=batch.mask, use_cache=False
    )
    return network.lm_head(hidden.last_hidden_state)
