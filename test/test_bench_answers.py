"""The benchmark of answers by memory policy: what each policy may store, its budget, and answers in batches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_flash_memory import same

from flash_vstream_ros.bench import answers, patrol_evaluation
from flash_vstream_ros.bench.asked import Asked
from flash_vstream_ros.bench.baselines import LAST_4, TOKEN_MEMORIES, Budget, Policy, policies
from flash_vstream_ros.bench.released import released_clusters
from flash_vstream_ros.cli import bench, main
from flash_vstream_ros.demo.scoring import Question
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.instruments.batched_answers import batched_answers
from flash_vstream_ros.memory import FlashMemoryConfig, Grid, MemorySnapshot, Slot, video_memory
from flash_vstream_ros.memory.token_snapshot import TokenSnapshot
from flash_vstream_ros.models.household_settings import MAX_PIXELS, SECOND_LOOK_SHARE
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.qwen2_vl import Qwen2VL
from flash_vstream_ros.training import observations, patrols
from flash_vstream_ros.training.network import household_network, household_tokenizer

pytestmark = pytest.mark.slow  # runs benchmarks

GRID = Grid(8, 8)
SMALL = FlashMemoryConfig(csm_slots=6, dam_slots=3, horizon_slots=0, slot_period_ns=4_000_000_000)  # 72 tokens
LENGTH = 40
QUESTIONS = (
    "What do you see now?",
    "How many minutes ago did you last see the red ball?",
    "Where?",
    "Which room were you in before the living room?",
)


def stream_of(length: int, seed: int = 0) -> Iterator[Slot]:
    """Slots every 4 s whose detail tells their number."""
    draw = torch.Generator().manual_seed(seed)
    for k in range(length):
        low, detail = torch.randn(16, 128, generator=draw), torch.full((16, 128), float(k))
        yield Slot("camera", "", k * 4_000_000_000, k * 4_000_000_000 + 2_000_000_000, low, detail, GRID)


STREAM = list(stream_of(LENGTH))


def snapshots(length: int = LENGTH, config: FlashMemoryConfig = SMALL) -> dict[str, MemorySnapshot]:
    filled = policies(config, GRID, seed=0)
    for slot in stream_of(length):
        for policy in filled.values():
            policy.insert(slot)
    return {name: policy.snapshot() for name, policy in filled.items()}


@pytest.fixture(scope="module")
def kept() -> dict[str, MemorySnapshot]:
    return snapshots()


@pytest.fixture(scope="module", params=["tiny-random", "household"])
def model(request: pytest.FixtureRequest) -> Any:
    if request.param == "tiny-random":
        return load_model("tiny-random", device="cpu", max_pixels=MAX_PIXELS)
    tokenizer = household_tokenizer()
    network = household_network(tokenizer, seed=0)
    with torch.no_grad():
        for layer in network.model.language_model.layers.parameters():
            layer.mul_(8 if layer.dim() > 1 else 1)  # else it repeats the last token, whatever the prompt
    return Qwen2VL(network, tokenizer, "household", max_pixels=MAX_PIXELS)


@pytest.fixture(scope="module")
def encoded(model: Any) -> list[Slot]:
    world = World(3, minutes=1.0)
    return list(patrol_evaluation.encoded_slots(model, world, range(9), model.grid(448, 448)))


def slots_in_detail(snapshot: MemorySnapshot) -> list[int]:
    details = snapshot.tokens.split(snapshot.counts) if isinstance(snapshot, TokenSnapshot) else snapshot.dam
    return [int(detail[0, 0]) for detail in details]


def tokens_of(snapshot: MemorySnapshot) -> int:
    single = len(snapshot.tokens) if isinstance(snapshot, TokenSnapshot) else 0
    return single + 16 * len(snapshot.dam) + 4 * len(snapshot.csm)


def test_the_settings_are_those_that_the_model_is_trained_for():
    trained = patrols.TRAINED_MEMORY
    sizes = {"csm_slots": trained.csm_slots, "dam_slots": trained.dam_slots}
    assert replace(answers.MEMORY, **sizes, grouping=trained.grouping) == trained
    assert (patrol_evaluation.FRAME_S, patrol_evaluation.SLOT_S) == (observations.FRAME_S, observations.SLOT_S)
    assert Budget.of(answers.MEMORY, GRID) == Budget.of(trained, GRID) == Budget(352, 88, 22)


def test_every_policy_of_whole_slots_spends_the_whole_budget(kept):
    slots = {
        name: (len(snapshot.dam), len(snapshot.csm)) for name, snapshot in kept.items() if name not in TOKEN_MEMORIES
    }
    assert slots == {
        "flash": (3, 6),
        "k-means": (3, 6),
        "CSM only": (0, 18),
        "DAM only": (4, 0),
        "uniform": (4, 0),
        "reservoir": (4, 0),
        "recent": (4, 0),
        LAST_4: (2, 0),
        "FIFO": (3, 6),
        "released": (3, 6),
        "no video": (0, 0),
    }
    budget = Budget.of(SMALL, GRID)
    for name, snapshot in kept.items():
        least = 0 if name in ("no video", LAST_4) or name in TOKEN_MEMORIES else budget.tokens - 15
        assert least <= tokens_of(snapshot) <= budget.tokens
        dam, csm = len(slots_in_detail(snapshot)), len(snapshot.csm)
        assert len(snapshot.entries) == dam + csm
        assert (len(snapshot.dam_times), len(snapshot.csm_times)) == (dam, csm)


def test_the_simple_policies_show_the_slots_that_they_are_named_after(kept):
    assert slots_in_detail(kept["uniform"]) == [0, 13, 26, 39]
    assert slots_in_detail(kept["recent"]) == [36, 37, 38, 39]
    assert slots_in_detail(kept["FIFO"]) == [37, 38, 39]
    assert kept["FIFO"].csm_times.tolist() == [34, 35, 36, 37, 38, 39]
    newest = [slot.low for slot in stream_of(LENGTH)][-6:]
    assert torch.equal(kept["FIFO"].csm, torch.stack(newest))
    assert 39 in slots_in_detail(kept["DAM only"])


def test_key_frames_have_their_own_times(kept):
    for snapshot in kept.values():
        assert snapshot.dam_times.tolist() == slots_in_detail(snapshot)


def test_kmeans_is_the_published_memory_of_all_slots(kept):
    published = video_memory(list(stream_of(LENGTH)), 6, 3, seed=0)
    assert torch.equal(kept["k-means"].csm, published.csm)
    assert torch.equal(kept["k-means"].dam_times, published.dam_times)


def test_all_policies_use_the_same_time_ids():
    shown = snapshots(config=replace(SMALL, last_seen_ids=True))
    for name, snapshot in shown.items():
        assert snapshot.text_slots == (0 if name == "no video" else LENGTH)
        if name not in ("no video", "released"):
            first = len(snapshot.entries) - len(snapshot.csm)
            stamps = [(entry.last_ns // 1_000_000_000 - 2) / 4 for entry in snapshot.entries[first:]]
            assert snapshot.csm_times.tolist() == stamps == sorted(stamps)
    torch.testing.assert_close(shown["k-means"].csm.sum(0), snapshots()["k-means"].csm.sum(0))


def test_released_clusters_one_slot_at_a_time_and_stands_at_places_in_its_buffer(kept):
    slots = torch.stack([slot.low.flatten() for slot in stream_of(LENGTH)])
    centroids, _ = released_clusters(slots, 6, seed=0)
    assert torch.allclose(kept["released"].csm.flatten(1), centroids, atol=1e-5)
    assert kept["released"].csm_times.tolist() == [0, 1, 2, 3, 4, 5]


def test_later_slots_change_no_earlier_snapshot():
    filled = policies(SMALL, GRID, seed=0)
    early: dict[str, MemorySnapshot] = {}
    for k, slot in enumerate(stream_of(LENGTH)):
        for name, policy in filled.items():
            policy.insert(slot)
            if k == 19:
                early[name] = policy.snapshot()
    for name, snapshot in snapshots(20).items():
        assert same(early[name], snapshot)
        assert early[name].last_ns <= 19 * 4_000_000_000 + 2_000_000_000


@pytest.mark.parametrize("name", ["reservoir", "recent", "FIFO"])
def test_a_streaming_policy_holds_no_more_than_it_shows(name: str):
    policy: Policy = policies(SMALL, GRID, seed=0)[name]
    for slot in stream_of(LENGTH):
        policy.insert(slot)
    shown = {time for times in (policy.snapshot().dam_times, policy.snapshot().csm_times) for time in times.tolist()}
    assert len(policy._slots) == len(shown)  # type: ignore[attr-defined]


def test_a_reservoir_is_a_uniform_sample_in_order_of_time():
    draws = [slots_in_detail(_filled(seed)) for seed in range(300)]
    assert all(len(draw) == 4 and draw == sorted(draw) for draw in draws)
    shares = [sum(number in draw for draw in draws) / len(draws) for number in range(LENGTH)]
    assert max(abs(share - 4 / LENGTH) for share in shares) < 0.08


def _filled(seed: int) -> MemorySnapshot:
    reservoir = policies(SMALL, GRID, seed)["reservoir"]
    for slot in STREAM:
        reservoir.insert(slot)
    return reservoir.snapshot()


@pytest.mark.parametrize("length", [1, 3])
def test_a_short_stream_is_kept_whole(length: int):
    for name, snapshot in snapshots(length).items():
        assert snapshot.empty == (name == "no video")
        most = {"CSM only": 0, "no video": 0, LAST_4: 2}.get(name, length)
        assert len(slots_in_detail(snapshot)) == min(most, length)


@pytest.mark.parametrize("name", [name for name in policies(SMALL, GRID, 0) if name != "no video"])
def test_answers_in_a_batch_are_those_of_the_model(model: Any, encoded: list[Slot], name: str):
    policy = policies(SMALL, encoded[0].grid, seed=0)[name]
    for slot in encoded:
        policy.insert(slot)
    alone = ["".join(token.text for token in model.answer(policy.snapshot(), text, 8)).rstrip() for text in QUESTIONS]
    assert len(set(alone)) > 1
    assert batched_answers(model, policy.snapshot(), QUESTIONS, 8) == alone
    assert batched_answers(model, policy.snapshot(), QUESTIONS[:1], 8) == alone[:1]


def test_an_answer_without_a_video_depends_on_the_question_only(model: Any):
    nothing = policies(SMALL, GRID, seed=0)["no video"].snapshot()
    together = batched_answers(model, nothing, QUESTIONS, 8)
    assert together == [batched_answers(model, nothing, [text], 8)[0] for text in QUESTIONS]


def test_questions_are_asked_during_settled_observations():
    world = World(100_000, minutes=30, pace_s=100)
    found = patrol_evaluation.moments(world.visits, 30)
    assert len(found) == 3
    for now, planned in zip(found, (240, 1200, 1800), strict=True):
        assert abs(now - planned) < 60
        spans = [(look.start, look.end) for visit in world.visits for look in visit.observations]
        assert any(start + patrol_evaluation.SETTLED_S <= now <= end for start, end in spans)


def test_the_table_adds_up(model: Any, capsys: pytest.CaptureFixture[str]):
    result = answers.evaluate(model, [100_000, 100_001], patrol_evaluation.Patrols(0.5), SMALL)
    count, kinds = result["questions"], result["questions"]["kinds"]
    assert [result["moments"], *(scores["count"] for scores in result["summaries"].values())] == [2, 2, 2]
    assert sum(kinds.values()) == count["overall"] > 10
    assert sum(count[age] for age in answers.AGES) <= count["overall"]
    for name, row in result["policies"].items():
        added = int(72 * SECOND_LOOK_SHARE) if name == patrol_evaluation.SECOND_LOOK else 0
        assert row["tokens"] <= result["budget"] + added == 72 + added
        assert sum(row["kinds"][kind] * kinds[kind] for kind in kinds) == pytest.approx(
            row["overall"] * count["overall"]
        )
    assert json.loads(json.dumps(result)) == result
    answers.show({"streams": 2, "minutes": 0.5, **result})
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*result["policies"], *answers.AGES, *kinds))


def test_things_seen_once_are_asked_about_beside_things_never_seen(capsys: pytest.CaptureFixture[str]):
    patrol = patrol_evaluation.Patrols(1.5, (10.0, 12.0), glimpses=1.0, only=("flash", patrol_evaluation.SECOND_LOOK))
    tiny = load_model("tiny-random", device="cpu", max_pixels=MAX_PIXELS)
    result = answers.evaluate(tiny, [100_000, 100_001, 100_002], patrol, SMALL)
    row = result["seen_once"]["1.5"]
    assert [*result["seen_once"]] == ["1.5"]
    assert min(row["questions"].values()) > 5
    assert row["questions"]["seen"] + row["questions"]["never"] < 3 * 25
    assert [*row["policies"]] == ["flash", patrol_evaluation.SECOND_LOOK]
    answers.show({"streams": 3, "minutes": 1.5, **result})
    assert f"did you ever see {row['questions']['seen']} things seen once" in capsys.readouterr().out
    assert "seen_once" not in answers.evaluate(tiny, [100_000], replace(patrol, glimpses=0.0), SMALL)


def test_processes_share_the_patrols_and_change_nothing():
    alone, together = (answers.run("tiny-random", 2, 0.3, device="cpu", processes=count) for count in (1, 2))
    assert together == alone


def test_shares_by_age_and_novelty():
    def asked(kind: str, age_s: float | None, held_out: bool, right: bool, minute: float = 20.0) -> Asked:
        return Asked(minute, Question(kind, "", "", age_s, held_out), {"flash": right})

    outcome = patrol_evaluation.Outcome(
        [
            asked("where", 29.0, True, True),
            asked("where", 300.0, False, False),
            asked("seen", None, False, True),
            asked("room_first", 7200.0, False, True, 4.0),
        ],
        [patrol_evaluation.Summary("10 min", "I saw a red ball.", "I was in the office. I saw a red ball.")],
        tokens={"flash": 72},
    )
    row = answers.figures(outcome)["policies"]["flash"]
    assert {name: row[name] for name in ("overall", *answers.AGES)} == {
        "overall": 0.75,
        "now": 1.0,
        "1 min": None,
        "5 min": 0.0,
        "30 min": None,
        "120 min": 1.0,
    }
    assert (row["at least 5 min"], row["at least 30 min"]) == (0.5, 1.0)
    assert [*row["minutes"].items()] == [("4", 1.0), ("20", pytest.approx(2 / 3))]
    assert (row["held out"], row["not held out"]) == (1.0, 0.0)
    assert answers.figures(outcome)["summaries"]["10 min"]["recall"] == 0.5
    assert answers.figures(outcome)["summaries"]["1 min"]["count"] == 0


def test_a_missing_model_is_one_sentence(capsys: pytest.CaptureFixture[str]):
    assert "answers" in bench.BENCHMARKS
    assert main(["bench", "answers", "--model", "./nowhere", "--streams", "1"]) == 1
    assert "no model folder" in capsys.readouterr().err
