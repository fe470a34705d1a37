"""Share of right answers of a trained model with each memory policy, at equal numbers of visual tokens.

The demo's robot patrols worlds that training never showed. Frames are rendered, and encoded as in the node at
sample_fps 0.5. Questions are asked at several moments of each patrol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, partial
from multiprocessing import get_context
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from flash_vstream_ros.demo.answer_text import patrol_summary
from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.scoring import Question, precision_recall, right
from flash_vstream_ros.demo.world import Visit, World
from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, Grid, MemorySnapshot, Slot
from flash_vstream_ros.memory.config import HIERARCHICAL
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.household_settings import FRAME_S, LOADING, MEMORY, SLOT_S, THREADS, complete_slots
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.names import HOUSEHOLD
from flash_vstream_ros.node.answer_parameters import SUMMARY_PROMPT
from flash_vstream_ros.process import set_torch_threads
from flash_vstream_ros.progress import progress, tracked

from .baselines import OFFLINE, Budget, policies
from .evidence import Ranked, evidence_scores, ranked_evidence
from .second_look import SHARE, ranked_answers, second_look_answers
from .wordings import Reply, ScoredReply, replies, replies_in_light
from .wordings import figures as wording_figures
from .wordings import show as show_wordings

FIRST_SEED = 100_000
SLOTS = (MEMORY.csm_slots, MEMORY.dam_slots)
PACE_S = (220.0, 340.0)  # range of a patrol's median duration of an observation
MOMENTS_MIN = (4.0, 20.0, 60.0, 110.0, 210.0, 390.0)  # questions are also asked at the end of the patrol
SETTLED_S = 10.0  # least age of an observation when questions are asked
SUMMARIES_S = {"1 min": 60.0, "10 min": 600.0}  # time windows of summaries; the node's default is a minute
AGES = {"now": 30.0, "1 min": 300.0, "5 min": 1800.0, "30 min": 7200.0, "120 min": float("inf")}  # upper bounds [s]
LIGHTS = {"40 % darker": 0.6, "40 % brighter": 1.4}  # factors on the frames
MIN_AGES_S = {"at least 5 min": 300.0, "at least 30 min": 1800.0}
HIERARCHY, TWICE = "hierarchical", "second look"  # the hierarchical memory without and with a second look


@dataclass(frozen=True)
class Patrols:
    """Settings of the patrols, and of the questions about them."""

    minutes: float = 150.0  # shortest duration
    pace_s: tuple[float, float] = PACE_S
    glimpses: float = 0.0  # share of visits with a thing that is seen once and never again
    wordings: bool = False  # True: also ask in other wordings, and with darker and brighter frames
    only: tuple[str, ...] = ()  # policies to evaluate; (): all
    second_look: float = SHARE  # visual tokens of a second look, as a share of the memory's


class Asked(NamedTuple):
    question: Question
    right: dict[str, bool]  # by policy


class Summary(NamedTuple):
    window: str  # one of SUMMARIES_S
    text: str
    truth: str


@dataclass
class Outcome:
    """Results of one or more patrols."""

    asked: list[Asked] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    evidence: list[Ranked] = field(default_factory=list)  # of the policy flash
    second_evidence: list[Ranked] = field(default_factory=list)  # of answers with a second look
    scored_replies: list[ScoredReply] = field(default_factory=list)  # of the policy flash
    tokens: dict[str, int] = field(default_factory=dict)  # by policy: most visual tokens of a prompt
    moments: int = 0

    def add(self, other: Outcome) -> None:
        self.asked += other.asked
        self.summaries += other.summaries
        self.evidence += other.evidence
        self.second_evidence += other.second_evidence
        self.scored_replies += other.scored_replies
        self.tokens = {name: max(self.tokens.get(name, 0), most) for name, most in other.tokens.items()}
        self.moments += other.moments


def moments(visits: Sequence[Visit], minutes: float) -> list[float]:
    """Times of the questions [s]: the planned ones, moved to where an observation has lasted for SETTLED_S."""
    spans = [(observation.start + SETTLED_S, observation.end) for visit in visits for observation in visit.observations]
    spans = [(first, last) for first, last in spans if first <= last]
    planned = [60 * moment for moment in (*(m for m in MOMENTS_MIN if m < minutes), minutes)]
    nearest = (min((min(max(at, first), last) for first, last in spans), key=lambda t: abs(t - at)) for at in planned)
    return sorted(set(nearest))


def encoded_slots(
    model: VisionLanguageModel, world: World, slots: range, grid: Grid, brightness: float = 1.0
) -> Iterator[Slot]:
    """The slots with these numbers; all frames are multiplied by `brightness`."""
    for slot in slots:
        times = slot * SLOT_S, slot * SLOT_S + FRAME_S
        frames = [world.frame(t) for t in times]
        if brightness != 1.0:
            frames = [np.clip(frame * brightness, 0, 255).astype(np.uint8) for frame in frames]
        low, detail = model.encode(frames, grid)
        first_ns, last_ns = (round(t * SECOND_NS) for t in times)
        yield Slot("camera", "", first_ns, last_ns, low.cpu(), detail.cpu(), grid)


def stream(
    model: Any,
    seed: int,
    patrols: Patrols,
    config: FlashMemoryConfig = MEMORY,
    seen: Callable[[], None] = lambda: None,
) -> Outcome:
    """Evaluate one patrol. Each slot is rendered and encoded once for all policies; `seen` is called for each slot."""
    from flash_vstream_ros.instruments.batched_answers import (
        batched_answers,  # transformers takes seconds to import, and other benchmarks need none
        batched_replies,
    )

    rng = np.random.default_rng(seed)
    world = World(seed, patrols.minutes, pace_s=rng.uniform(*patrols.pace_s), glimpses=patrols.glimpses)
    grid = model.grid(*world.frame(0.0).shape[:2])
    flash, hierarchical = FlashMemory(config), FlashMemory(replace(config, retention=HIERARCHICAL))
    every = {**policies(config, grid, seed), "flash": flash, HIERARCHY: hierarchical, TWICE: hierarchical}
    memories = {name: memory for name, memory in every.items() if not patrols.only or name in patrols.only}
    inserted = {id(memory): memory for memory in (*memories.values(), flash)}.values()
    lit = {name: FlashMemory(config) for name in LIGHTS} if patrols.wordings else {}
    wording_draw = np.random.default_rng((seed, 1))

    def ask(snapshot: MemorySnapshot, texts: Sequence[str]) -> list[Reply]:
        given = batched_replies(model, snapshot, texts)
        return [(reply.text, model.calibration.confidence(reply.probabilities, reply.text)) for reply in given]

    outcome = Outcome(tokens=dict.fromkeys(memories, 0))
    done = 0
    for now in moments(world.visits, patrols.minutes):
        known = complete_slots(now)
        for slot in encoded_slots(model, world, range(done, known), grid):
            for memory in inserted:
                memory.insert(slot)
            seen()
        for name, memory in lit.items():
            for slot in encoded_slots(model, world, range(done, known), grid, LIGHTS[name]):
                memory.insert(slot)
        done = known
        asked = questions(world.visits, now, rng)
        marks: dict[str, list[bool]] = {}
        for name, memory in memories.items():
            snapshot, texts = memory.snapshot(), [question.text for question in asked]
            tokens = model.tokens(snapshot) if snapshot.entries else 0
            if name == TWICE:
                looked = second_look_answers(model, hierarchical, texts, patrols.second_look)
                outcome.second_evidence += ranked_answers(world, asked, looked)
                answers, tokens = [one.text for one in looked], max(one.memory_tokens for one in looked)
            else:
                answers = batched_answers(model, snapshot, texts)
            outcome.tokens[name] = max(outcome.tokens[name], tokens)
            marks[name] = [right(question, answer) for question, answer in zip(asked, answers, strict=True)]
        outcome.asked += [
            Asked(question, {name: marks[name][index] for name in marks}) for index, question in enumerate(asked)
        ]
        if patrols.wordings:
            outcome.scored_replies += replies(ask, flash.snapshot(), asked, wording_draw)
        for name, memory in lit.items():
            outcome.scored_replies += replies_in_light(name, ask, memory.snapshot(), asked)
        outcome.evidence += ranked_evidence(model, world, flash.snapshot(), asked)
        for window, seconds in SUMMARIES_S.items():
            since = max(now - seconds, 0.0)
            (answer,) = batched_answers(
                model, flash.snapshot(Scope(since_ns=round(since * SECOND_NS))), [SUMMARY_PROMPT]
            )
            outcome.summaries.append(Summary(window, answer, patrol_summary(world.visits, since, now)))
        outcome.moments += 1
    return outcome


def figures(outcome: Outcome) -> dict[str, Any]:
    """Shares of right answers by policy, and the numbers of questions."""
    groups = {name: [a for a in outcome.asked if test(a.question)] for name, test in _groups(outcome.asked).items()}
    kinds = sorted({asked.question.kind for asked in outcome.asked})
    by_kind = {kind: [a for a in outcome.asked if a.question.kind == kind] for kind in kinds}
    return {
        "moments": outcome.moments,
        "questions": {
            **{name: len(group) for name, group in groups.items()},
            "kinds": {kind: len(group) for kind, group in by_kind.items()},
        },
        "policies": {
            policy: {
                "offline": policy in OFFLINE,
                "tokens": tokens,
                **{name: _share(group, policy) for name, group in groups.items()},
                "kinds": {kind: _share(group, policy) for kind, group in by_kind.items()},
            }
            for policy, tokens in outcome.tokens.items()
        },
        "evidence": evidence_scores(outcome.evidence),
        "second_evidence": evidence_scores(outcome.second_evidence),
        **({"wordings": wording_figures(outcome.scored_replies)} if outcome.scored_replies else {}),
        "summaries": {window: _scores([s for s in outcome.summaries if s.window == window]) for window in SUMMARIES_S},
    }


def evaluate(
    model: Any,
    seeds: Iterable[int],
    patrols: Patrols,
    config: FlashMemoryConfig = MEMORY,
    seen: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Figures of all patrols, one for each of `seeds`."""
    return _result(model, config, (stream(model, seed, patrols, config, seen) for seed in seeds))


def run(
    model: str = HOUSEHOLD,
    streams: int = 20,
    minutes: float = 150.0,
    seed: int = FIRST_SEED,
    device: str = "auto",
    processes: int = 1,
    pace: Sequence[float] = PACE_S,
    slots: Sequence[int] = SLOTS,
    wordings: bool = False,
    glimpses: float = 0.0,
    only: Sequence[str] = (),
    second_look: float = SHARE,
) -> dict[str, Any]:
    """Load the model and evaluate it, with a progress bar."""
    network, seeds = loaded(model, device), range(seed, seed + streams)
    patrols = Patrols(minutes, (min(pace), max(pace)), glimpses, wordings, tuple(only), second_look)
    config = replace(MEMORY, csm_slots=slots[0], dam_slots=slots[1])
    if processes == 1:
        # The total is approximate, since a patrol ends with an observation.
        with progress("slots", streams * round(60 * minutes / SLOT_S)) as shown:
            result = evaluate(network, seeds, patrols, config, shown.advance)
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            one = partial(_patrol, model, device, patrols, config)
            result = _result(network, config, tracked(pool.map(one, seeds), "patrols", streams))
    settings = {"streams": streams, "minutes": minutes, "pace": [*patrols.pace_s], "slots": [*slots], "seed": seed}
    return {"model": model, **settings, "glimpses": glimpses, "second_look": second_look, **result}


@cache
def loaded(model: str, device: str) -> VisionLanguageModel:
    """The model with the settings of the household model, loaded once in a process."""
    set_torch_threads(THREADS)
    return load_model(model, device=device, **LOADING)


def _patrol(model: str, device: str, patrols: Patrols, config: FlashMemoryConfig, seed: int) -> Outcome:
    return stream(loaded(model, device), seed, patrols, config)


def _result(model: VisionLanguageModel, config: FlashMemoryConfig, outcomes: Iterable[Outcome]) -> dict[str, Any]:
    whole = Outcome()
    for outcome in outcomes:
        whole.add(outcome)
    grid = model.grid(*World(0, 0.1).frame(0.0).shape[:2])
    return {"budget": Budget.of(config, grid).tokens, **figures(whole)}


def show(result: dict[str, Any]) -> None:
    asked, by_policy = result["questions"], result["policies"]
    print(
        f"{asked['overall']} questions at {result['moments']} moments, patrols: {result['streams']}"
        f" of {result['minutes']:g} minutes; at most {result['budget']} visual tokens; % right by age of the evidence"
    )
    columns = ["overall", *AGES]
    print(f"{'':>12} {'tokens':>7}" + "".join(f"{column:>9}" for column in columns))
    for name, row in by_policy.items():
        offline = "*" if row["offline"] else " "
        print(f"{name + offline:>12} {row['tokens']:>7}" + "".join(f"{_percent(row[column]):>9}" for column in columns))
    print(f"{'questions ':>12} {'':>7}" + "".join(f"{asked[column]:>9}" for column in columns))
    print("* stores every slot of the stream, and chooses from all")
    width = max([10, *(len(name) + 2 for name in by_policy)])
    print(f"\n{'kind':>12}" + "".join(f"{name:>{width}}" for name in by_policy) + f"{'questions':>11}")
    for kind, count in asked["kinds"].items():
        shares = (row["kinds"][kind] for row in by_policy.values())
        print(f"{kind:>12}" + "".join(f"{_percent(share):>{width}}" for share in shares) + f"{count:>11}")
    if flash := by_policy.get("flash"):
        print(
            f"\nflash, things where training never showed them: {_percent(flash['held out'])} % of {asked['held out']}"
            f" right, others of these kinds: {_percent(flash['not held out'])} % of {asked['not held out']}"
        )
    for name, evidence in (("flash", result["evidence"]), (TWICE, result["second_evidence"])):
        print(
            f"{name}, evidence of {evidence['questions']} questions about things: the first entry shows it in"
            f" {_percent(evidence['precision_at_1'])} %, one of three in {_percent(evidence['hit_at_3'])} %,"
            f" a random entry in {_percent(evidence['random_entry'])} %"
        )
    if "wordings" in result:
        show_wordings(result["wordings"])
    for window, scores in result["summaries"].items():
        print(
            f"flash, {scores['count']} summaries of the last {window}: precision"
            f" {_percent(scores['precision'])} %, recall {_percent(scores['recall'])} %"
        )


def _groups(asked: Sequence[Asked]) -> dict[str, Callable[[Question], bool]]:
    """For each group, a function that returns True for its questions."""
    # Kinds of question without a thing are excluded, for a fair comparison with the held-out ones.
    kinds = {one.question.kind for one in asked if one.question.held_out}
    bounds = [0.0, *AGES.values()]
    between = zip(AGES, bounds, bounds[1:], strict=False)
    return {
        "overall": lambda question: True,
        **{name: _aged(least, most) for name, least, most in between},
        **{name: _aged(least) for name, least in MIN_AGES_S.items()},
        "held out": lambda question: question.held_out,
        "not held out": lambda question: question.kind in kinds and not question.held_out,
    }


def _aged(least: float, most: float = float("inf")) -> Callable[[Question], bool]:
    return lambda question: question.age_s is not None and least <= question.age_s < most


def _share(asked: Sequence[Asked], policy: str) -> float | None:
    return fmean(one.right[policy] for one in asked) if asked else None


def _scores(summaries: Sequence[Summary]) -> dict[str, Any]:
    scores = [precision_recall(summary.text, summary.truth) for summary in summaries]
    return {
        "count": len(scores),
        "precision": fmean(precision for precision, _ in scores) if scores else None,
        "recall": fmean(recall for _, recall in scores) if scores else None,
        "first": [summary._asdict() for summary in summaries[:5]],
    }


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
