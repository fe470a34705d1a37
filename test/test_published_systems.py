"""Both published systems against naive float64 ones on random clips: memory, positions, logits and answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from llava_folder import CLUSTERS, save_llava
from reference_systems import LlavaReference, QwenReference

from flash_vstream_ros.memory import CompressionMethods
from flash_vstream_ros.models.llava.flash_vstream_llava import prefill as llava_prefill
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.offline import VideoMemoryConfig, build_video_memory, sample_frames
from flash_vstream_ros.models.qwen2_vl import merge_memory, prefill

NEW_TOKENS = 6
QUESTION = "What was on the table, and where is it now?"
# Number of frames and of distinct ones, in sizes that need no resizing.
LENGTHS = ((1, 1), (2, 2), (3, 2), (7, 7), (9, 3), (14, 14), (16, 16), (18, 18), (25, 4), (26, 26))
LENGTHS += ((31, 31), (40, 6), (52, 52), (64, 20), (80, 80), (120, 9), (241, 241), (300, 30), (399, 399), (400, 12))
QWEN_SIZES, LLAVA_SIZES = ((112, 112), (56, 224), (224, 56)), ((64, 64), (64, 110), (97, 64))


def clip_of(number: int, sizes: tuple[tuple[int, int], ...], *, pairs: bool) -> list[np.ndarray]:
    """Random smooth frames. If there are fewer distinct ones than frames they repeat, as whole pairs if `pairs`."""
    count, distinct = LENGTHS[number]
    draw = np.random.default_rng(100 + number)
    size = sizes[number % len(sizes)]
    coarse = draw.integers(0, 256, (distinct, 4, 4, 3))
    grain = draw.integers(-30, 31, (distinct, *size, 3))
    large = coarse.repeat(-(-size[0] // 4), 1).repeat(-(-size[1] // 4), 2)[:, : size[0], : size[1]]
    frames = np.clip(large + grain, 0, 255).astype(np.uint8)
    if distinct == count:
        return list(frames)
    if not pairs:
        return list(frames[draw.integers(0, distinct, count)])
    order = draw.integers(0, distinct // 2 or 1, count // 2)
    chosen = [index for pair in order for index in (2 * pair % distinct, (2 * pair + 1) % distinct)]
    return list(frames[[*chosen, *([0] if count % 2 else [])]])


def first_decided(run, draws):
    """The reference's result for the first of `draws` without a decision by rounding, and that draw."""
    return next((reference, draw) for draw in draws if (reference := run(*draw)) is not None)


@pytest.fixture(scope="module")
def qwen():
    model = load_model("tiny-random", device="cpu", max_pixels=112 * 112, instruction="")
    suppressed = model._vocabulary.suppressed.nonzero().flatten().tolist()
    tokenizer = model._prompt.tokenizer
    return model, QwenReference(model.network, tokenizer, suppressed, tokenizer.convert_tokens_to_ids("<|im_end|>"))


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    model = load_model(str(save_llava(tmp_path_factory.mktemp("llava") / "model")), device="cpu", instruction="")
    suppressed = model._vocabulary.suppressed.nonzero().flatten().tolist()
    return model, LlavaReference(model.networks, model._prompt.tokenizer, suppressed, 2)


@pytest.mark.parametrize("number", range(len(LENGTHS)))
def test_flash_vstream_qwen_agrees_with_the_naive_reference(qwen, number):
    model, reference = qwen
    clip = clip_of(number, QWEN_SIZES, pairs=True)
    taken = [clip[index] for index in sample_frames(len(clip))]
    csm_slots, dam_slots = (60, 30) if number in (16, 18) else (8, 4)
    slots = len(taken) // 2
    high, low = reference.features(taken)
    same = {bytes(taken[2 * i]) + bytes(taken[2 * i + 1]): i for i in reversed(range(slots))}

    def run(init: list[int], reseed: list[int]):
        return reference.run(
            high,
            low,
            taken[0].shape[:2],
            QUESTION,
            csm_slots=csm_slots,
            dam_slots=dam_slots,
            init_rows=init,
            reseed_rows=reseed,
            new_tokens=NEW_TOKENS,
        )

    draw = np.random.default_rng(number)
    distinct = sorted(same.values())
    draws = (
        (draw.permutation(distinct)[:csm_slots].tolist(), draw.integers(0, slots, 100).tolist()) for _ in range(20)
    )
    expected, (init, reseed) = first_decided(run, draws)

    settings = VideoMemoryConfig(csm_slots, dam_slots)
    stamps = range(0, len(taken) * 10**9, 10**9)
    found = build_video_memory(model, taken, stamps, settings, init_rows=init, reseed_rows=reseed)
    rows = found.csm.flatten(0, 1).numpy()
    np.testing.assert_allclose(rows, expected.memory[-len(rows) :], atol=1e-4)
    prompt = prefill(model.network, found, model._prompt.before, model._prompt.after(QUESTION))
    np.testing.assert_array_equal(prompt.ids[:, 0].numpy(), expected.positions)
    np.testing.assert_allclose(merge_memory(model.network, found).detach().numpy(), expected.visual, atol=1e-4)
    with torch.inference_mode():
        logits = model.network(inputs_embeds=prompt.embeds, position_ids=prompt.ids).logits[0, -1]
    np.testing.assert_allclose(logits.numpy(), expected.logits, atol=1e-3)
    assert expected.gap > 1e-4
    assert [token.id for token in model.answer(found, QUESTION, NEW_TOKENS)] == expected.answer


@pytest.mark.parametrize("number", range(len(LENGTHS)))
def test_flash_vstream_llava_agrees_with_the_naive_reference(llava, number):
    model, reference = llava
    clip = clip_of(number, LLAVA_SIZES, pairs=False)
    released, seen = number % 2 == 1, len(clip) - 1
    features = reference.features(clip)

    def run(init: list[int], reseed: list[int]):
        return reference.run(
            features, QUESTION, released=released, init_rows=init, reseed_rows=reseed, new_tokens=NEW_TOKENS
        )

    draw = np.random.default_rng(number)
    draws = (
        (draw.permutation(seen)[:CLUSTERS].tolist(), draw.integers(0, max(seen, 1), 100).tolist()) for _ in range(20)
    )
    expected, (init, reseed) = first_decided(run, draws)

    settings = VideoMemoryConfig(methods=CompressionMethods(rule="released" if released else "paper"))
    stamps = range(0, len(clip) * 10**9, 10**9)
    found = build_video_memory(model, clip, stamps, settings, init_rows=init, reseed_rows=reseed)
    tokens = torch.cat([part.flatten(0, 1) for part in (found.abstract, found.csm, found.dam) if part.numel()])
    np.testing.assert_allclose(tokens.numpy(), expected.memory, atol=1e-4)
    prompt = llava_prefill(model.networks, found, model._prompt.before, model._prompt.after(QUESTION))
    np.testing.assert_array_equal(prompt.ids[:, 0].numpy(), expected.positions)
    with torch.inference_mode():
        visual = model.networks.project(tokens)
        logits = model.networks.language(inputs_embeds=prompt.embeds).logits[0, -1]
    np.testing.assert_allclose(visual.numpy(), expected.visual, atol=1e-4)
    np.testing.assert_allclose(logits.numpy(), expected.logits, atol=1e-3)
    assert expected.gap > 1e-4
    assert [token.id for token in model.answer(found, QUESTION, NEW_TOKENS)] == expected.answer
