"""Evaluates the answers of a trained model about simulated patrols, from every memory policy at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from flash_vstream_ros.demo.answer_text import patrol_summary
from flash_vstream_ros.demo.past import past_of
from flash_vstream_ros.demo.questions import questions, seen_once_questions
from flash_vstream_ros.demo.scoring import Question, right
from flash_vstream_ros.demo.world import Visit, World
from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, Grid, Slot
from flash_vstream_ros.memory.config import PUBLISHED
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.household_settings import (
    FRAME_S,
    LOADING,
    MEMORY,
    SECOND_LOOK_SHARE,
    SLOT_S,
    THREADS,
    complete_slots,
)
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.node.answer_parameters import SUMMARY_PROMPT
from flash_vstream_ros.process import set_torch_threads

from .asked import Asked
from .baselines import policies
from .evidence import Ranked, ranked_evidence
from .second_look import ranked_answers, second_look_answers
from .wordings import Ask, Reply, ScoredReply, replies, replies_in_light

PACE_S = (220.0, 340.0)  # range of a patrol's median duration of an observation
MOMENTS_MIN = (4.0, 20.0, 60.0, 110.0, 210.0, 390.0)  # questions are also asked at the end of the patrol
SETTLED_S = 10.0  # shortest time from the begin of an observation to the questions
SUMMARIES_S = {"1 min": 60.0, "10 min": 600.0}  # time windows of summaries; the node's default is a minute
LIGHTS = {"40 % darker": 0.6, "40 % brighter": 1.4}  # factors on the frames
SECOND_LOOK = "second look"  # at the memory of the policy flash


@dataclass(frozen=True)
class Patrols:
    """Settings of the patrols, and of the questions about them."""

    minutes: float = 150.0  # shortest duration
    pace_s: tuple[float, float] = PACE_S
    glimpses: float = 0.0  # share of visits with a thing that is seen once and never again
    wordings: bool = False  # True: also ask in other wordings, and with darker and brighter frames
    only: tuple[str, ...] = ()  # policies to evaluate; (): all
    second_look: float = SECOND_LOOK_SHARE  # visual tokens of a second look, as a share of the memory's


class Summary(NamedTuple):
    """A summary of a time window by the policy flash."""

    window: str  # one of SUMMARIES_S
    text: str
    truth: str


@dataclass
class Outcome:
    """Results of one or more patrols."""

    asked: list[Asked] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    evidence: dict[str, list[Ranked]] = field(default_factory=dict)  # by policy
    scored_replies: dict[str, list[ScoredReply]] = field(default_factory=dict)  # by policy
    seen_once: list[Asked] = field(default_factory=list)
    tokens: dict[str, int] = field(default_factory=dict)  # by policy: most visual tokens of a prompt
    moments: int = 0

    def add(self, other: Outcome) -> None:
        self.asked += other.asked
        self.summaries += other.summaries
        for policy, ranked in other.evidence.items():
            self.evidence.setdefault(policy, []).extend(ranked)
        for policy, scored in other.scored_replies.items():
            self.scored_replies.setdefault(policy, []).extend(scored)
        self.seen_once += other.seen_once
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
    """Render and encode the slots with these numbers; all frames are multiplied by `brightness`."""
    for slot in slots:
        times = slot * SLOT_S, slot * SLOT_S + FRAME_S
        frames = [world.frame(t) for t in times]
        if brightness != 1.0:
            frames = [np.clip(frame * brightness, 0, 255).astype(np.uint8) for frame in frames]
        low, detail = model.encode(frames, grid)
        first_ns, last_ns = (round(t * SECOND_NS) for t in times)
        yield Slot("camera", "", first_ns, last_ns, low.cpu(), detail.cpu(), grid)


def slots_by_moment(model: VisionLanguageModel, world: World, minutes: float) -> Iterator[tuple[float, Iterator[Slot]]]:
    """Each of the `moments` of a patrol [s], with the encoded slots since the one before."""
    grid, done = model.grid(*world.frame(0.0).shape[:2]), 0
    for now in moments(world.visits, minutes):
        known = complete_slots(now)
        yield now, encoded_slots(model, world, range(done, known), grid)
        done = known


class _Memories:
    """The memories of one patrol: one of each policy, and one of frames in each other light."""

    def __init__(self, patrols: Patrols, config: FlashMemoryConfig, grid: Grid, seed: int) -> None:
        self.flash = FlashMemory(config)
        every = {
            **policies(config, grid, seed),
            "flash": self.flash,
            SECOND_LOOK: self.flash,
            PUBLISHED: FlashMemory(replace(config, retention=PUBLISHED)),
        }
        self.by_policy = {name: memory for name, memory in every.items() if not patrols.only or name in patrols.only}
        self.by_light = {name: FlashMemory(config) for name in LIGHTS} if patrols.wordings else {}

    def insert(
        self, model: VisionLanguageModel, world: World, slots: range, grid: Grid, on_slot: Callable[[], None]
    ) -> None:
        """Encode each slot once for all policies, and once for each light. `on_slot` is called after the former."""
        distinct = {id(memory): memory for memory in (*self.by_policy.values(), self.flash)}.values()
        for slot in encoded_slots(model, world, slots, grid):
            for memory in distinct:
                memory.insert(slot)
            on_slot()
        for name, lit in self.by_light.items():
            for slot in encoded_slots(model, world, slots, grid, LIGHTS[name]):
                lit.insert(slot)


def stream(
    model: Any,
    seed: int,
    patrols: Patrols,
    config: FlashMemoryConfig = MEMORY,
    on_slot: Callable[[], None] = lambda: None,
) -> Outcome:
    """Evaluate one patrol. `on_slot` is called after each slot."""
    rng = np.random.default_rng(seed)
    world = World(seed, patrols.minutes, pace_s=rng.uniform(*patrols.pace_s), glimpses=patrols.glimpses)
    grid = model.grid(*world.frame(0.0).shape[:2])
    memories = _Memories(patrols, config, grid, seed)
    outcome = Outcome(tokens=dict.fromkeys(memories.by_policy, 0))
    done = 0
    for now in moments(world.visits, patrols.minutes):
        known = complete_slots(now)
        memories.insert(model, world, range(done, known), grid, on_slot)
        done = known
        asked = questions(world.visits, now, rng)
        minute = min((*MOMENTS_MIN, patrols.minutes), key=lambda planned: abs(60 * planned - now))
        _ask_policies(model, world, memories, minute, asked, patrols.second_look, outcome)
        if patrols.glimpses:
            outcome.seen_once += _seen_once(model, world, memories, patrols, minute, now)
        if patrols.wordings:
            for name in memories.by_policy:
                wording_rng = np.random.default_rng((seed, 1, outcome.moments))  # the same wordings for all policies
                scored = _other_wordings(model, memories, name, patrols.second_look, asked, wording_rng)
                outcome.scored_replies.setdefault(name, []).extend(scored)
        outcome.summaries += _summaries(model, world, memories.flash, now)
        outcome.moments += 1
    return outcome


def _ask_policies(
    model: Any,
    world: World,
    memories: _Memories,
    minute: float,
    asked: Sequence[Question],
    second_look: float,
    outcome: Outcome,
) -> None:
    """Ask the questions of a moment from every memory, and add the results to `outcome`."""
    from flash_vstream_ros.instruments.batched_answers import batched_answers  # imports transformers, which is slow

    texts = [question.text for question in asked]
    is_right: dict[str, list[bool]] = {}
    for name, memory in memories.by_policy.items():
        snapshot = memory.snapshot()
        tokens = model.tokens(snapshot) if snapshot.entries else 0
        if name == SECOND_LOOK:
            replies_after = second_look_answers(model, memories.flash, texts, second_look)
            ranked = ranked_answers(world, asked, replies_after)
            answers = [one.text for one in replies_after]
            tokens = max(one.memory_tokens for one in replies_after)
        else:
            answers = batched_answers(model, snapshot, texts)
            ranked = ranked_evidence(model, world, snapshot, asked) if snapshot.entries else []
        outcome.tokens[name] = max(outcome.tokens[name], tokens)
        outcome.evidence.setdefault(name, []).extend(ranked)
        is_right[name] = [right(question, answer) for question, answer in zip(asked, answers, strict=True)]
    outcome.asked += [
        Asked(minute, question, {name: is_right[name][index] for name in is_right})
        for index, question in enumerate(asked)
    ]


def _seen_once(
    model: Any, world: World, memories: _Memories, patrols: Patrols, minute: float, now: float
) -> list[Asked]:
    """Ask at `now` [s], planned for `minute`, about everything that was seen once or never."""
    answered = Outcome(tokens=dict.fromkeys(memories.by_policy, 0))
    asked = seen_once_questions(past_of(world.visits, now), np.random.default_rng(round(now)))
    if asked:
        _ask_policies(model, world, memories, minute, asked, patrols.second_look, answered)
    return answered.asked


def _other_wordings(
    model: Any,
    memories: _Memories,
    policy: str,
    second_look: float,
    asked: Sequence[Question],
    rng: np.random.Generator,
) -> list[ScoredReply]:
    """Replies of a policy in other wordings; those of Flash Memory also in the own wording, in other lights."""
    share = second_look if policy == SECOND_LOOK else 0.0
    scored = replies(_asker(model, memories.by_policy[policy], share), asked, rng)
    for name, memory in memories.by_light.items() if memories.by_policy[policy] is memories.flash else ():
        scored += replies_in_light(name, _asker(model, memory, share), asked)
    return scored


def _asker(model: Any, memory: Any, second_look: float) -> Ask:
    """Asks a memory, with a second look of this share of its visual tokens if it is not 0."""
    from flash_vstream_ros.instruments.batched_answers import batched_replies

    def ask(texts: Sequence[str]) -> list[Reply]:
        if second_look:
            return [(one.text, one.confidence) for one in second_look_answers(model, memory, texts, second_look)]
        found = batched_replies(model, memory.snapshot(), texts)
        return [(reply.text, model.calibration.confidence(reply.probabilities, reply.text)) for reply in found]

    return ask


def _summaries(model: Any, world: World, memory: FlashMemory, now: float) -> list[Summary]:
    """A summary of each of SUMMARIES_S that ends `now` [s]."""
    from flash_vstream_ros.instruments.batched_answers import batched_answers

    found = []
    for window, seconds in SUMMARIES_S.items():
        since = max(now - seconds, 0.0)
        (text,) = batched_answers(model, memory.snapshot(Scope(since_ns=round(since * SECOND_NS))), [SUMMARY_PROMPT])
        found.append(Summary(window, text, patrol_summary(world.visits, since, now)))
    return found


@cache
def loaded(model: str, device: str) -> VisionLanguageModel:
    """The model with the settings of the household model, loaded once in a process."""
    set_torch_threads(THREADS)
    return load_model(model, device=device, **LOADING)
