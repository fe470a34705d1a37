"""Every family behind the interface: its memory features, and its answers without a memory, are transformers' own."""

from __future__ import annotations

import dataclasses
import inspect
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hub_models import FAMILIES, save_hub_model
from transformers import AutoTokenizer, Qwen3VLProcessor
from transformers.vision_utils import get_vision_window_index

from flash_vstream_ros.instruments.transfers import SIMULATED, TransferCounter
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.slot import EntryKind, MemoryEntry, MemorySnapshot, Slot
from flash_vstream_ros.memory.token_snapshot import TokenSnapshot
from flash_vstream_ros.models.families.qwen2_5_vl import window_order
from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.offline import VideoMemoryConfig, build_video_memory
from flash_vstream_ros.models.qwen2_vl import Qwen2VL
from flash_vstream_ros.models.video_prompt import Video

SIZE = (200, 300)
QUESTION = "What is there?"
TOKENS = 16


@pytest.fixture(scope="module", params=FAMILIES)
def model_type(request):
    return request.param


@pytest.fixture(scope="module")
def folder(model_type, tmp_path_factory):
    return save_hub_model(tmp_path_factory.mktemp(model_type), model_type)


@pytest.fixture(scope="module")
def model(folder):
    return load_model(str(folder), device="cpu", positions="video", max_pixels=128 * 28 * 28)


@pytest.fixture(scope="module")
def plain(folder, model_type):
    """The same weights, loaded by transformers itself."""
    return FAMILIES[model_type].network.from_pretrained(folder, dtype=torch.float32).eval()


def frames_of(seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8))


def plain_video(model, slots: int) -> MemorySnapshot:
    """A snapshot with every slot in detail and no pooling, at one frame a second: an ordinary video."""
    grid = model.grid(*SIZE)
    details = [model.encode(frames_of(seed), grid)[1] for seed in range(slots)]
    entry = MemoryEntry(EntryKind.DAM, "camera", "", 0, 0, 1.0, b"", 0)
    return MemorySnapshot(
        dam=torch.stack(details),
        dam_times=torch.arange(slots).double(),
        csm=torch.zeros(0, 0, 0),
        csm_times=torch.zeros(0).double(),
        grid=grid,
        entries=(entry,) * slots,
        slots_seen=slots,
        text_slots=slots,
    )


def streamed(model, slots: int, config=None) -> MemorySnapshot:
    """Slots through the streaming memory."""
    memory, grid, second = FlashMemory(config), model.grid(*SIZE), 10**9
    for seed in range(slots):
        low, detail = model.encode(frames_of(seed), grid)
        memory.insert(Slot("camera", "", 2 * seed * second, (2 * seed + 1) * second, low, detail, grid))
    return memory.snapshot()


def processor_text(folder, grid: tuple[int, int, int]) -> str:
    """The prompt as transformers' processor writes it, one frame a second."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    content = [{"type": "video"}, {"type": "text", "text": QUESTION}]
    turn = [{"role": "user", "content": content}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    if folder.name.startswith("qwen3_vl"):
        processor = Qwen3VLProcessor.__new__(Qwen3VLProcessor)  # its video processor needs torchvision
        processor.video_processor = SimpleNamespace(merge_size=2, temporal_patch_size=2)
        processor.video_token = "<|video_pad|>"
        processor.vision_start_token, processor.vision_end_token = "<|vision_start|>", "<|vision_end|>"
        metadata = SimpleNamespace(fps=1, frames_indices=list(range(2 * grid[0])))
        video = {"video_grid_thw": torch.tensor([grid]), "video_metadata": [metadata]}
        replacement = processor.replace_video_token(video, 0)
    else:
        replacement = "<|video_pad|>" * (grid[0] * grid[1] * grid[2] // 4)
    return text.replace("<|video_pad|>", replacement)


@pytest.mark.parametrize("slots", [1, 3, 14])
def test_with_every_slot_in_detail_the_answer_equals_plain_generation(model, plain, folder, slots):
    model.instruction = ""
    snapshot = plain_video(model, slots)
    rows = [
        model.preprocessor.rows(frames_of(seed), snapshot.grid, model.device, model.dtype)[0] for seed in range(slots)
    ]
    grid = (slots, *snapshot.grid)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(processor_text(folder, grid), add_special_tokens=False, return_tensors="pt")["input_ids"]
    accepted = inspect.signature(plain.forward).parameters
    expected = plain.generate(
        input_ids=ids,
        pixel_values_videos=torch.cat(rows),
        video_grid_thw=torch.tensor([grid]),
        **({"second_per_grid_ts": torch.tensor([2.0])} if "second_per_grid_ts" in accepted else {}),
        mm_token_type_ids=(ids == plain.config.video_token_id).int() * 2,
        suppress_tokens=model._vocabulary.suppressed.nonzero().flatten().tolist(),
        max_new_tokens=TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    answer = model.answer(snapshot, QUESTION, TOKENS)
    prompt = answer._prefill
    assert prompt.embeds.shape[1] == ids.shape[1]
    with torch.inference_mode():
        hidden = model.network.model.language_model(inputs_embeds=prompt.embeds, position_ids=prompt.ids)
        first = model.network.lm_head(hidden.last_hidden_state[0, -1])
    assert (first - expected.logits[0][0]).abs().max() < 1e-3
    assert [token.id for token in answer] == expected.sequences[0, ids.shape[1] :].tolist()


def test_detail_and_low_features_equal_the_merger_outputs_of_the_family(model, plain):
    """Both of the frame and of its half-resolution copy, whose merged features come from the stored `low`."""
    grid = model.grid(*SIZE)
    low, detail = model.encode(frames_of(0), grid)
    rows = model.preprocessor.rows(frames_of(0), grid, model.device, model.dtype)
    with torch.inference_mode():
        whole, half = (
            plain.model.get_video_features(pixels, torch.tensor([[1, grid.height // pool, grid.width // pool]]))
            for pixels, pool in zip(rows, (1, 2), strict=True)
        )
    expected = [
        torch.cat([tokens[0] for tokens in (each.pooler_output, *getattr(each, "deepstack_features", ()))], dim=1)
        for each in (whole, half)
    ]
    twin = dataclasses.replace(plain_video(model, 1), csm=low[None], csm_times=torch.zeros(1).double())
    assert torch.allclose(detail, expected[0], atol=1e-4)
    assert torch.allclose(model._merged(twin)[1][0], expected[1], atol=1e-4)
    assert (detail.shape[0], low.shape[0]) == (grid.height * grid.width // 4, grid.height * grid.width // 4)


@pytest.mark.parametrize(("slots", "recent_slots"), [(1, 1), (3, 1), (5, 0)])
@pytest.mark.parametrize("positions", ["auto", "video"])
def test_a_stream_is_answered_like_the_clip_until_slots_are_merged(folder, positions, slots, recent_slots):
    model = load_model(str(folder), device="cpu", positions=positions, max_pixels=128 * 28 * 28)
    stream = streamed(model, slots, FlashMemoryConfig(csm_slots=5, dam_slots=3, recent_slots=recent_slots))
    frames = [frame for seed in range(slots) for frame in frames_of(seed)]
    clip = build_video_memory(
        model, frames, range(0, len(frames) * 10**9, 10**9), VideoMemoryConfig(csm_slots=5, dam_slots=3)
    )
    answers = [[token.id for token in model.answer(each, QUESTION, 8)] for each in (clip, stream)]
    assert answers[0] == answers[1]
    assert model.tokens(clip) == model.tokens(stream)
    prompts = [model.answer(each, QUESTION, 1)._prefill for each in (clip, stream)]
    assert torch.equal(prompts[0].ids, prompts[1].ids)
    assert torch.equal(prompts[0].embeds, prompts[1].embeds)


@pytest.fixture(scope="module")
def compressed(model):
    return streamed(model, 7, FlashMemoryConfig(csm_slots=4, dam_slots=3))


def test_prompt_parts_sum_to_its_length_and_each_entry_has_an_attention_share(model, compressed):
    answer = model.answer(compressed, QUESTION, 4)
    prompt = answer._prefill
    assert prompt.embeds.shape[1] == prompt.ids.shape[2]
    assert len(model._prompt.before) + sum(prompt.entry_tokens) == prompt.ids.shape[2] - len(
        model._prompt.after(QUESTION)
    )
    assert sum(prompt.entry_tokens) >= model.tokens(compressed)
    next(answer)
    assert len(answer.attention) == len(compressed.entries) == 7
    assert 0 < sum(answer.attention) <= 1 + 1e-6


def test_positions_of_a_compressed_memory_are_contiguous_with_the_text(model, compressed):
    ids = model.answer(compressed, QUESTION, 1)._prefill.ids[:, 0]
    before, after = len(model._prompt.before), len(model._prompt.after(QUESTION))
    assert torch.equal(ids[:, :before], torch.arange(before).expand(3, -1))
    end = ids[:, :-after].max()
    assert torch.equal(ids[:, -after:], torch.arange(after).expand(3, -1) + end + 1)


@pytest.mark.parametrize("positions", ["auto", "video"])
def test_single_tokens_have_the_ids_and_embeddings_that_they_have_in_whole_slots(folder, positions):
    model = load_model(str(folder), device="cpu", positions=positions, max_pixels=128 * 28 * 28)
    whole = plain_video(model, 3)
    cells = whole.dam.shape[1]
    expected = model.answer(whole, QUESTION, 4)._prefill
    everything = single_tokens(whole, [torch.arange(cells)] * 3)
    prompt = model.answer(everything, QUESTION, 4)._prefill
    assert (prompt.entry_tokens, prompt.next_id) == (expected.entry_tokens, expected.next_id)
    assert torch.equal(prompt.ids, expected.ids)
    assert torch.equal(prompt.embeds, expected.embeds)
    places = [torch.tensor([0, 5]), torch.arange(1, cells), torch.tensor([cells - 1])]
    some = single_tokens(whole, places)
    assert model.tokens(some) == 2 + cells
    answer = model.answer(some, QUESTION, 4)
    after_slot = max(0, min(1, expected.entry_tokens[0] - cells))  # Qwen3-VL has texts around each slot
    columns, at = list(range(expected.visual_start)), expected.visual_start
    for count, own in zip(expected.entry_tokens, places, strict=True):
        first = at + count - cells - after_slot
        columns += [*range(at, first), *(first + own).tolist(), *range(first + cells, at + count)]
        at += count
    columns += range(at, expected.ids.shape[2])
    assert torch.equal(answer._prefill.embeds, expected.embeds[:, columns])
    if not after_slot and positions == "video":
        assert torch.equal(answer._prefill.ids, expected.ids[:, :, columns])
    next(answer)
    assert len(answer.attention) == 3
    assert 0 < sum(answer.attention) <= 1 + 1e-6


def single_tokens(snapshot: MemorySnapshot, places: list[torch.Tensor]) -> TokenSnapshot:
    """The tokens of `snapshot` at these places of each slot."""
    fields = {field.name: getattr(snapshot, field.name) for field in dataclasses.fields(snapshot)}
    tokens = torch.cat([slot[own] for slot, own in zip(snapshot.dam, places, strict=True)])
    parts = {"tokens": tokens, "places": torch.cat(places), "counts": tuple(map(len, places))}
    return TokenSnapshot(**{**fields, "dam": torch.zeros(0, 0, 0), **parts})


@pytest.mark.parametrize("model_type", ["qwen3_vl"], indirect=True)
def test_deepstack_features_are_added_to_visual_tokens_only(model, compressed):
    prompt, network = model.answer(compressed, QUESTION, 1)._prefill, model.network
    embeds, *layers = prompt.embeds.split(64, dim=2)
    features = torch.cat([part.flatten(0, 1) for part in model._merged(compressed)])[:, 64:].chunk(2, dim=1)
    is_visual = layers[0][0].abs().sum(1) > 0
    assert int(is_visual.sum()) == model.tokens(compressed)
    with torch.inference_mode():
        ours = network.model.language_model(inputs_embeds=prompt.embeds, position_ids=prompt.ids).last_hidden_state
        expected, without = (
            network.model.language_model(
                inputs_embeds=embeds, position_ids=prompt.ids, visual_pos_masks=is_visual[None], **added
            ).last_hidden_state
            for added in ({"deepstack_visual_embeds": list(features)}, {})
        )
    assert torch.allclose(ours, expected, atol=1e-4)
    assert not torch.allclose(ours, without, atol=1e-1)


@pytest.mark.parametrize("model_type", ["qwen3_vl"], indirect=True)
def test_qwen3_gets_a_timestamp_text_before_each_slot(model, compressed):
    pieces = [piece for piece in model._pieces(compressed) if not isinstance(piece, Video)]
    text = "".join(model._prompt.tokenizer.decode(piece) for piece in pieces)
    seconds = [float(each) for each in re.findall(r"<([\d.]+) seconds><\|vision_start\|><\|vision_end\|>", text)]
    times = torch.cat([compressed.dam_times, compressed.csm_times])
    assert seconds == [pytest.approx(float(2 * time + 0.5), abs=0.051) for time in times]
    scaled = dataclasses.replace(compressed, dam_times=compressed.dam_times / 3, time_scale=1 / 3)
    assert torch.allclose(scaled.seconds(scaled.dam_times), compressed.seconds(compressed.dam_times))


@pytest.mark.parametrize("model_type", ["qwen2_vl", "qwen2_5_vl"], indirect=True)
def test_qwen2_5_time_ids_count_seconds_and_qwen2_time_ids_count_slots(model, model_type, compressed):
    dam, _, csm = model._pieces(compressed)
    step = 4 if model_type == "qwen2_5_vl" else 1  # 2 ids a second, 2 seconds a slot
    assert torch.equal(dam.times, compressed.dam_times.round() * step)
    assert torch.equal(csm.times, compressed.csm_times.round() * step)


@pytest.mark.parametrize(("rows", "columns"), [(4, 6), (5, 7), (8, 8), (3, 20)])
def test_windows_are_ordered_as_the_tower_orders_them(rows, columns):
    order, _ = get_vision_window_index(
        torch.tensor([[1, 2 * rows, 2 * columns]]), spatial_merge_size=2, window_size=112, patch_size=14
    )
    assert torch.equal(window_order(rows, columns, 4), order)


def test_only_models_trained_from_qwen2_vl_have_am_rope(folder, model_type):
    if model_type == "qwen2_vl":
        assert type(load_model(str(folder), device="cpu", positions="am_rope")) is Qwen2VL
    else:
        with pytest.raises(ModelError, match="positions auto or video"):
            load_model(str(folder), device="cpu", positions="am_rope")


def test_images_are_normalised_as_the_family_was_trained(model, model_type):
    white = np.full((*SIZE, 3), 255, np.uint8)
    high, _ = model.preprocessor.rows([white, white], model.grid(*SIZE), model.device, model.dtype)
    expected = 1.0 if model_type == "qwen3_vl" else (1 - 0.48145466) / 0.26862954
    assert float(high[0, 0]) == pytest.approx(expected, abs=1e-5)


def test_nothing_is_read_from_the_device_while_a_slot_is_encoded(model, monkeypatch):
    """On a GPU each read waits for all queued work, and transformers itself reads in every layer."""
    frames, grid = frames_of(3), model.grid(*SIZE)
    expected = model.encode(frames, grid)
    with TransferCounter(torch.device("cpu")) as transfers:
        for parameter in model.network.parameters():
            monkeypatch.setattr(parameter, "simulated_on_device", True, raising=False)
        monkeypatch.setattr(model, "vision_device", SIMULATED)
        monkeypatch.setattr(model, "_tower_kwargs", {})
        model.encode(frames, grid)
        transfers.to_host = transfers.to_device = 0
        low, detail = model.encode(frames, grid)
        assert low.device == detail.device == SIMULATED
        assert transfers.to_host == 0
        assert transfers.to_device < 1.001 * sum(frame.nbytes for frame in frames)
    for found, wanted in zip((low, detail), expected, strict=True):
        assert torch.equal(found, wanted)
