"""Memories of other papers that keep single tokens, each against a naive version of its rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, Grid, Slot
from flash_vstream_ros.memory.am_rope import MergedGrid, prompt_ids, token_prompt_ids
from flash_vstream_ros.memory.fluxmem import FluxMem
from flash_vstream_ros.memory.infinipot_v import InfiniPotV
from flash_vstream_ros.memory.scope import EVERYTHING, Scope
from flash_vstream_ros.memory.slot import Extension
from flash_vstream_ros.memory.timechat_online import TimeChatOnline
from flash_vstream_ros.memory.token_buffer import TokenBuffer
from flash_vstream_ros.memory.token_snapshot import TokenMap, TokenSnapshot

SECOND = 1_000_000_000
ROWS, COLUMNS, WIDTH = 3, 4, 5
TOKENS = ROWS * COLUMNS
SIZES = FlashMemoryConfig(csm_slots=8, dam_slots=5, horizon_slots=0)  # 8 * 3 + 5 * 12 = 84 tokens
BUDGET = 84
LARGE, LARGE_BUDGET = replace(SIZES, csm_slots=12, dam_slots=12), 180
KINDS: Sequence[type[TokenBuffer]] = (TimeChatOnline, InfiniPotV, FluxMem)


def stream(seed: int, count: int, cameras: int = 1) -> list[Slot]:
    """Views of a few places, with noise and a part that changes in each slot."""
    draw = torch.Generator().manual_seed(seed)
    views, slots = torch.randn(3, TOKENS, WIDTH, generator=draw), []
    for index in range(count):
        view = views[index * 3 // max(count, 1)] + 0.05 * torch.randn(TOKENS, WIDTH, generator=draw)
        changed = torch.randperm(TOKENS, generator=draw)[: int(torch.randint(0, 5, (), generator=draw))]
        view[changed] += torch.randn(len(changed), WIDTH, generator=draw)
        stamp = 2 * index * SECOND
        slots.append(
            Slot(
                f"camera {index % cameras}",
                "",
                stamp,
                stamp + SECOND,
                low=torch.randn(TOKENS, 2, generator=draw),
                detail=view,
                grid=Grid(2 * ROWS, 2 * COLUMNS),
                thumbnail=b"jpeg",
            )
        )
    return slots


def filled(memory: TokenBuffer, slots: Sequence[Slot]) -> TokenBuffer:
    for slot in slots:
        memory.insert(slot)
    return memory


def kept(memory: TokenBuffer, scope: Scope = EVERYTHING) -> dict[tuple[int, int], np.ndarray]:
    """The stored tokens, by number of the slot and place."""
    snapshot = memory.snapshot(scope)
    if snapshot.empty:
        return {}
    assert isinstance(snapshot, TokenSnapshot)
    numbers = np.repeat([entry.first_ns // (2 * SECOND) for entry in snapshot.entries], snapshot.counts)
    places = snapshot.places.tolist()
    return {(int(n), place): token.numpy() for n, place, token in zip(numbers, places, snapshot.tokens, strict=True)}


def distance(a: Any, b: Any) -> float:
    return 1 - float(np.dot(a, b)) / float(np.linalg.norm(a) * np.linalg.norm(b))


def details(slots: Sequence[Slot]) -> np.ndarray:
    return np.stack([slot.detail.double().numpy() for slot in slots])


def equal(memory: TokenBuffer, expected: dict[tuple[int, int], Any]) -> None:
    found = kept(memory)
    assert found.keys() == expected.keys()
    for place, token in found.items():
        np.testing.assert_allclose(token, expected[place], atol=1e-5)


# Every memory of single tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cameras", [1, 3])
def test_the_memory_is_bounded_deterministic_and_has_the_newest_slot_of_each_camera(
    kind: type[TokenBuffer], cameras: int
) -> None:
    slots = stream(0, 50, cameras)
    memory, again = kind(SIZES), filled(kind(SIZES), slots)
    for number, slot in enumerate(slots):
        novelty = memory.insert(slot)
        assert (novelty == 1.0) if number < cameras else (0 <= novelty <= 1)
        assert memory.tokens <= memory.budget == BUDGET
        assert memory.entries <= memory.capacity == BUDGET
        newest = kept(memory, Scope((slot.camera,), since_ns=slot.first_ns))
        assert newest.keys() == {(number, place) for place in range(TOKENS)}
    assert kind is FluxMem or memory.tokens > BUDGET - 2 * TOKENS
    assert kept(memory).keys() == kept(again).keys()
    assert memory.snapshot().cameras == tuple(f"camera {number}" for number in range(cameras))
    flash = FlashMemory(SIZES)
    for slot in slots[::cameras]:
        flash.insert(slot)
    assert flash.tokens == BUDGET


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_stored_after_forgetting_comes_from_a_forgotten_slot(kind: type[TokenBuffer]) -> None:
    """What remains does not change, and later tokens are means of tokens of their own slot."""
    slots = stream(1, 40)
    memory = filled(kind(SIZES), slots)
    before, scope = kept(memory), Scope(since_ns=30 * SECOND, until_ns=70 * SECOND)
    gone = memory.forget(scope)
    assert gone.slots == gone.removed == len({number for number, _ in before if 15 <= number <= 35}) > 0
    equal(memory, {key: token for key, token in before.items() if not 15 <= key[0] <= 35})
    assert memory.snapshot(scope).empty
    assert not memory.may_contain(scope)
    later = stream(2, 60)[40:]
    filled(memory, later)
    everything = dict(enumerate([*slots, *later]))
    for (number, _), token in kept(memory).items():
        assert number not in range(15, 36)
        own = details([everything[number]])[0]
        assert (own.min(0) - 1e-5 <= token).all()
        assert (token <= own.max(0) + 1e-5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_camera_whose_newest_slot_is_forgotten_starts_anew(kind: type[TokenBuffer]) -> None:
    slots = stream(3, 30)
    memory = filled(kind(SIZES), slots[:29])
    memory.forget(Scope(since_ns=56 * SECOND))
    memory.insert(slots[29])
    assert kept(memory, Scope(since_ns=57 * SECOND)).keys() == {(29, place) for place in range(TOKENS)}
    memory.forget()
    assert (memory.entries, memory.tokens, memory.snapshot().empty, memory.bytes) == (0, 0, True, 0)
    other = replace(slots[0], detail=torch.ones(2, 2), grid=Grid(4, 2), first_ns=100 * SECOND, last_ns=101 * SECOND)
    assert memory.insert(other) == 1.0
    assert memory.tokens == 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_extended_slot_is_forgotten_with_any_moment_of_its_extension(kind: type[TokenBuffer]) -> None:
    memory = filled(kind(SIZES), stream(4, 3))
    end = 50 * SECOND
    memory.extend("camera 0", Extension(20, sum(range(6, 26)) * 2 * SECOND, end, end))
    assert memory.newest == (end, end)
    assert memory.slots_seen == 23
    assert memory.forget(Scope(since_ns=40 * SECOND)).slots == 1
    assert {number for number, _ in kept(memory)} == {0, 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_resized_memory_fits_and_refuses_more_cameras_than_it_has_room_for(kind: type[TokenBuffer]) -> None:
    memory = filled(kind(SIZES), stream(5, 60, cameras=3))
    memory.resize(replace(SIZES, csm_slots=4, dam_slots=2))  # 36 tokens
    assert memory.tokens == memory.budget == 36
    with pytest.raises(ValueError, match="3 cameras need 12 tokens each"):
        memory.resize(replace(SIZES, csm_slots=3, dam_slots=2))
    assert memory.budget == 36
    tight = filled(kind(replace(SIZES, tokens=40)), stream(5, 60))
    assert tight.tokens <= tight.budget <= 40


@pytest.mark.parametrize("kind", KINDS)
def test_a_short_stream_is_kept_whole(kind: type[TokenBuffer]) -> None:
    slots = stream(6, 7)
    memory, whole = filled(kind(SIZES), slots), details(slots)
    assert kind is FluxMem or memory.tokens == BUDGET
    snapshot = memory.snapshot()
    assert isinstance(snapshot, TokenSnapshot)
    assert snapshot.dam_times[-1] == 6
    for (number, place), token in kept(memory).items():
        np.testing.assert_allclose(token, whole[number, place], atol=1e-6)


# Ids and maps


def test_tokens_have_the_ids_that_they_have_in_whole_slots() -> None:
    dam, csm, times = MergedGrid(3, 4), MergedGrid(1, 2), torch.tensor([0.0, 2.5, 7.0])
    whole = prompt_ids(5, 4, times, torch.zeros(0), dam, csm, 3).ids[:, 5 : 5 + 36].unflatten(1, (3, 12))
    chosen = [torch.tensor([1, 5, 11]), torch.tensor([0]), torch.arange(12)]
    found = token_prompt_ids(5, 4, times, [3, 1, 12], torch.cat(chosen), dam, csm, 3)
    expected = torch.cat([whole[:, slot, places] for slot, places in enumerate(chosen)], dim=1)
    assert torch.equal(found.ids[:, 5:21], expected)
    assert found.ids[:, :5].tolist() == [list(range(5))] * 3
    assert found.ids[:, 21:].tolist() == [list(range(5 + 16 + 3, 5 + 16 + 3 + 4))] * 3
    everything = token_prompt_ids(5, 4, times, [12] * 3, torch.arange(12).repeat(3), dam, csm, 3)
    assert torch.equal(everything.ids, prompt_ids(5, 4, times, torch.zeros(0), dam, csm, 3).ids)
    assert everything.rope_delta == prompt_ids(5, 4, times, torch.zeros(0), dam, csm, 3).rope_delta


def test_a_map_follows_from_the_grid_and_the_number_of_tokens() -> None:
    assert TokenMap.of(Grid(16, 28), 112) == (1, 8, 14)  # merged 2x2
    assert TokenMap.of(Grid(8, 8), 128) == (2, 8, 8)  # two frames, not merged
    assert TokenMap.of(Grid(8, 8), 7) == (1, 1, 7)


def test_a_missing_token_is_completed_by_the_latest_earlier_one() -> None:
    snapshot = TokenBufferOfEverything(SIZES).snapshot_of([{0: 1.0, 1: 2.0}, {1: 3.0}, {2: 4.0}])
    assert snapshot.completed(4)[..., 0].tolist() == [[1, 2, 4, 0], [1, 3, 4, 0], [1, 3, 4, 0]]


class TokenBufferOfEverything(TokenBuffer):
    def _reduced(self, slots: Any) -> Any:
        return slots

    def snapshot_of(self, tokens: Sequence[dict[int, float]]) -> TokenSnapshot:
        template = filled(self, stream(0, 1)).snapshot()
        assert isinstance(template, TokenSnapshot)
        flat = [value for slot in tokens for value in slot.values()]
        places = torch.tensor([place for slot in tokens for place in slot])
        return replace(template, tokens=torch.tensor(flat)[:, None], places=places, counts=tuple(map(len, tokens)))


# TimeChat-Online


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 3))
def test_timechat_online_keeps_the_tokens_that_changed_most(seed: int, count: int, cameras: int) -> None:
    slots = stream(seed, count, cameras)
    whole, memory = details(slots), filled(TimeChatOnline(SIZES), slots)
    newest = {slot.camera: number for number, slot in enumerate(slots)}.values()
    changes = {}
    for number in set(range(count)) - set(newest):
        for place in range(TOKENS):
            before = number - cameras
            changes[number, place] = (
                2.0 if before < 0 else distance(whole[number, place], whole[before, place]),
                number * TOKENS + place,  # of equal ones the newest
            )
    ranked, room = sorted(changes, key=lambda key: changes[key], reverse=True), BUDGET - TOKENS * len(newest)
    if len(ranked) > room:
        last, dropped = (changes[ranked[at]][0] for at in (room - 1, room))
        assume(last == dropped or last - dropped > 1e-5)
    chosen = {*ranked[:room], *((number, place) for number in newest for place in range(TOKENS))}
    equal(memory, {key: whole[key] for key in chosen})


# InfiniPot-V


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 50), st.integers(1, 3))
def test_infinipot_v_compresses_a_full_memory_by_similarity_and_norm(seed: int, count: int, cameras: int) -> None:
    slots = stream(seed, count, cameras)
    whole, stored = details(slots), dict[int, set[int]]()
    for number in range(count):
        stored[number] = set(range(TOKENS))
        if sum(map(len, stored.values())) > LARGE_BUDGET:
            stored = compressed(whole, stored, cameras)
    expected = {(number, place): whole[number, place] for number, places in stored.items() for place in places}
    equal(filled(InfiniPotV(LARGE), slots), expected)


def compressed(whole: np.ndarray, stored: dict[int, set[int]], cameras: int) -> dict[int, set[int]]:
    """The rule, token by token."""
    recent: set[int] = set()
    for camera in range(cameras):
        recent |= {max((number for number in stored if number % cameras == camera), default=max(stored))}
    for number in sorted(stored, reverse=True):
        if len(recent) < LARGE_BUDGET // 4 // TOKENS:
            recent.add(number)
    target, fixed = LARGE_BUDGET * 3 // 4, TOKENS * len(recent)
    older = [(number, place) for number in sorted(stored) if number not in recent for place in sorted(stored[number])]
    redundancies = {
        (number, place): np.mean(
            [
                1 - distance(whole[number, place], whole[other, place])
                for other in sorted(recent)
                if other % cameras == number % cameras
            ]
        )
        for number, place in older
    }
    different = best({key: -float(value) for key, value in redundancies.items()}, max(0, target // 2 - fixed))
    strong = {key: float(np.linalg.norm(whole[key])) for key in older if key not in different}
    kept_keys = {*different, *best(strong, target - fixed - len(different))}
    kept_keys |= {(number, place) for number in recent for place in range(TOKENS)}
    return {number: own for number in stored if (own := {place for other, place in kept_keys if other == number})}


def best(scores: dict[tuple[int, int], float], count: int) -> list[tuple[int, int]]:
    ranked = sorted(scores, key=lambda key: scores[key], reverse=True)
    assume(not 0 < count < len(ranked) or scores[ranked[count - 1]] - scores[ranked[count]] > 1e-5)
    return ranked[:count]


# FluxMem


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 2), st.sampled_from([SIZES, LARGE]))
def test_fluxmem_drops_what_did_not_change_and_merges_similar_regions(
    seed: int, count: int, cameras: int, config: FlashMemoryConfig
) -> None:
    slots = stream(seed, count, cameras)
    whole = details(slots)
    budget = LARGE_BUDGET if config is LARGE else BUDGET
    stored: dict[int, tuple[int, dict[int, np.ndarray]]] = {}  # by number: stage, and tokens by place

    def reduce(number: int) -> None:
        stage, tokens = stored[number]
        if stage == 0:
            tokens = selected(whole, number, number - cameras, number + cameras)
        elif stage == 1:
            tokens = consolidated(tokens)
        else:
            tokens = {}
        stored[number] = (stage + 1, tokens)
        if not tokens:
            del stored[number]

    for number in range(count):
        stored[number] = (0, dict(enumerate(whole[number])))
        for other in list(stored):
            age = (max(each for each in range(number + 1) if each % cameras == other % cameras) - other) // cameras
            if stored[other][0] == 0 and age >= 4:
                reduce(other)
            if other in stored and stored[other][0] == 1 and age >= 36:
                reduce(other)
        while sum(len(tokens) for _, tokens in stored.values()) > budget:
            old = [other for other in stored if other <= number - cameras]
            reduce(max(old, key=lambda other: (stored[other][0], -other)))
    equal(
        filled(FluxMem(config), slots),
        {(number, place): token for number, (_, tokens) in stored.items() for place, token in tokens.items()},
    )


def around(place: int) -> list[int]:
    """Places that touch `place`, and itself."""
    row, column = divmod(place, COLUMNS)
    return [other for other in range(TOKENS) if abs(other // COLUMNS - row) <= 1 and abs(other % COLUMNS - column) <= 1]


def selected(whole: np.ndarray, number: int, before: int, after: int) -> dict[int, np.ndarray]:
    def nearest(other: int) -> list[float]:
        return [
            min(distance(whole[number, place], whole[other, near]) for near in around(place)) for place in range(TOKENS)
        ]

    following = nearest(after)
    assume(min(abs(each - 0.2) for each in following) > 1e-5)
    chosen = upper_group(following)
    if before >= 0:
        chosen |= upper_group(nearest(before))
    return {place: whole[number, place] for place in sorted(chosen) if following[place] >= 0.2}


def consolidated(tokens: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    pairs = [(place, other) for place in tokens for other in around(place) if other in tokens and place < other]
    lengths = [distance(tokens[place], tokens[other]) for place, other in pairs]
    if len(pairs) < 2:
        return tokens
    distant, regions = upper_group(lengths), [{place} for place in tokens]
    for index, (place, other) in enumerate(pairs):
        if index not in distant:
            joined = [region for region in regions if place in region or other in region]
            regions = [region for region in regions if region not in joined] + [set().union(*joined)]
    found = {}
    for region in regions:
        mean = np.mean([tokens[place] for place in region], axis=0)
        errors = {place: float(np.square(tokens[place] - mean).sum()) for place in sorted(region)}
        first, *others = sorted(errors.values())
        assume(len(region) < 3 or others[0] - first > 1e-5)
        found[min(errors, key=lambda place: round(errors[place], 9))] = mean
    return dict(sorted(found.items()))


def upper_group(values: list[float]) -> set[int]:
    """Indices of the upper group by Otsu's rule, which tries every split."""
    ordered = sorted(values)
    splits = {
        count: count * (len(values) - count) * (np.mean(ordered[:count]) - np.mean(ordered[count:])) ** 2
        for count in range(1, len(values))
    }
    count = max(splits, key=lambda count: splits[count])
    rest = [each for other, each in splits.items() if other != count]
    assume(ordered[count] - ordered[count - 1] > 1e-5 and splits[count] > (1 + 1e-4) * max(rest, default=0.0))
    return {index for index, value in enumerate(values) if value >= ordered[count]}
