"""Share of right answers of a trained model with each memory policy, at equal numbers of visual tokens.

The demo's robot patrols worlds that training never showed. Frames are rendered, and encoded as in the node at
sample_fps 0.5. Questions are asked at several moments of each patrol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from statistics import fmean
from typing import Any

from flash_vstream_ros.demo.scoring import Question, precision_recall
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.memory import FlashMemoryConfig
from flash_vstream_ros.models.household_settings import MEMORY, SECOND_LOOK_SHARE, SLOT_S
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.names import HOUSEHOLD
from flash_vstream_ros.progress import progress, tracked

from .asked import Asked, by_moment
from .baselines import OFFLINE, Budget
from .evidence import SUBJECTS, scores_by_subject
from .patrol_evaluation import PACE_S, SUMMARIES_S, Outcome, Patrols, Summary, loaded, stream
from .seen_once import figures as seen_once_figures
from .seen_once import show as show_seen_once
from .wordings import figures as wording_figures
from .wordings import show as show_wordings

FIRST_SEED = 100_000
SLOTS = (MEMORY.csm_slots, MEMORY.dam_slots)
AGES = {"now": 30.0, "1 min": 300.0, "5 min": 1800.0, "30 min": 7200.0, "120 min": float("inf")}  # upper bounds [s]
MIN_AGES_S = {"at least 5 min": 300.0, "at least 30 min": 1800.0}


def figures(outcome: Outcome) -> dict[str, Any]:
    """Shares of right answers by policy, and the numbers of questions."""
    groups = {name: [a for a in outcome.asked if test(a.question)] for name, test in _groups(outcome.asked).items()}
    kinds = sorted({asked.question.kind for asked in outcome.asked})
    by_kind = {kind: [a for a in outcome.asked if a.question.kind == kind] for kind in kinds}
    by_minute = by_moment(outcome.asked)
    return {
        "moments": outcome.moments,
        "questions": {
            **{name: len(group) for name, group in groups.items()},
            "kinds": {kind: len(group) for kind, group in by_kind.items()},
            "minutes": {minute: len(group) for minute, group in by_minute.items()},
        },
        "policies": {
            policy: {
                "offline": policy in OFFLINE,
                "tokens": tokens,
                **{name: _share(group, policy) for name, group in groups.items()},
                "kinds": {kind: _share(group, policy) for kind, group in by_kind.items()},
                "minutes": {minute: _share(group, policy) for minute, group in by_minute.items()},
                "evidence": scores_by_subject(outcome.evidence.get(policy, [])),
            }
            for policy, tokens in outcome.tokens.items()
        },
        **({"seen_once": seen_once_figures(outcome.seen_once)} if outcome.seen_once else {}),
        "wordings": {policy: wording_figures(scored) for policy, scored in outcome.scored_replies.items()},
        "summaries": {window: _scores([s for s in outcome.summaries if s.window == window]) for window in SUMMARIES_S},
    }


def evaluate(
    model: Any,
    seeds: Iterable[int],
    patrols: Patrols,
    config: FlashMemoryConfig = MEMORY,
    on_slot: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Figures of all patrols, one for each of `seeds`."""
    return _result(model, config, (stream(model, seed, patrols, config, on_slot) for seed in seeds))


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
    second_look: float = SECOND_LOOK_SHARE,
) -> dict[str, Any]:
    """Load the model and evaluate it, with a progress bar."""
    network, seeds = loaded(model, device), range(seed, seed + streams)
    patrols = Patrols(minutes, (min(pace), max(pace)), glimpses, wordings, tuple(only), second_look)
    config = replace(MEMORY, csm_slots=slots[0], dam_slots=slots[1])
    if processes == 1:
        # The total is approximate, since a patrol ends with an observation.
        with progress("slots", streams * round(60 * minutes / SLOT_S)) as bar:
            result = evaluate(network, seeds, patrols, config, bar.advance)
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            one = partial(_patrol, model, device, patrols, config)
            result = _result(network, config, tracked(pool.map(one, seeds), "patrols", streams))
    settings = {"streams": streams, "minutes": minutes, "pace": [*patrols.pace_s], "slots": [*slots], "seed": seed}
    return {"model": model, **settings, "glimpses": glimpses, "second_look": second_look, **result}


def _patrol(model: str, device: str, patrols: Patrols, config: FlashMemoryConfig, seed: int) -> Outcome:
    return stream(loaded(model, device), seed, patrols, config)


def _result(model: VisionLanguageModel, config: FlashMemoryConfig, outcomes: Iterable[Outcome]) -> dict[str, Any]:
    total = Outcome()
    for outcome in outcomes:
        total.add(outcome)
    grid = model.grid(*World(0, 0.1).frame(0.0).shape[:2])
    return {"budget": Budget.of(config, grid).tokens, **figures(total)}


def show(result: dict[str, Any]) -> None:
    asked, by_policy = result["questions"], result["policies"]
    print(
        f"{asked['overall']} questions at {result['moments']} moments, patrols: {result['streams']}"
        f" of {result['minutes']:g} minutes; at most {result['budget']} visual tokens; % right by age of the evidence"
    )
    columns, widest = ["overall", *AGES], max(map(len, (*by_policy, "questions"))) + 1
    print(f"{'':>{widest}} {'tokens':>7}" + "".join(f"{column:>9}" for column in columns))
    for name, row in by_policy.items():
        offline = "*" if row["offline"] else " "
        cells = "".join(f"{_percent(row[column]):>9}" for column in columns)
        print(f"{name + offline:>{widest}} {row['tokens']:>7}" + cells)
    print(f"{'questions ':>{widest}} {'':>7}" + "".join(f"{asked[column]:>9}" for column in columns))
    print("* stores every slot of the stream, and chooses from all")
    _show_groups("kind", "kinds", result)
    _show_groups("minute", "minutes", result)
    if flash := by_policy.get("flash"):
        print(
            f"\nflash, things where training never showed them: {_percent(flash['held out'])} % of {asked['held out']}"
            f" right, others of these kinds: {_percent(flash['not held out'])} % of {asked['not held out']}"
        )
    _show_evidence(by_policy)
    show_seen_once(result.get("seen_once", {}))
    for policy, rows in result["wordings"].items():
        show_wordings(policy, rows)
    for window, scores in result["summaries"].items():
        print(
            f"flash, {scores['count']} summaries of the last {window}: precision"
            f" {_percent(scores['precision'])} %, recall {_percent(scores['recall'])} %"
        )


def _show_groups(title: str, groups: str, result: dict[str, Any]) -> None:
    """A row per group of questions: % right with each policy."""
    by_policy = result["policies"]
    width = max([10, *(len(name) + 2 for name in by_policy)])
    print(f"\n{title:>12}" + "".join(f"{name:>{width}}" for name in by_policy) + f"{'questions':>11}")
    for group, count in result["questions"][groups].items():
        shares = (row[groups][group] for row in by_policy.values())
        print(f"{group:>12}" + "".join(f"{_percent(share):>{width}}" for share in shares) + f"{count:>11}")


def _show_evidence(by_policy: dict[str, Any]) -> None:
    """A row per policy: how often its evidence shows the thing or the room that was asked about."""
    columns = "".join(f"{column:>18}" for subject in SUBJECTS for column in (subject, "one of three", "random entry"))
    widest = max(map(len, (*by_policy, "first entry shows")))
    print(f"\n{'first entry shows':>{widest}}{columns}")
    for name, row in by_policy.items():
        cells = ""
        for scores in row["evidence"].values():
            first = f"{_percent(scores['precision_at_1'])} of {scores['questions']}"
            cells += f"{first:>18}{_percent(scores['hit_at_3']):>18}{_percent(scores['random_entry']):>18}"
        print(f"{name:>{widest}}{cells}")


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
