#!/usr/bin/env python3
"""Draw docs/images/answer.png: the first question of each kind that the demo's node answers right, with its evidence.

Runs the demo's patrol through a real node. Needs matplotlib: pip install -e '.[train]'
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import wrap
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from flash_vstream_ros.demo.questions import questions  # noqa: E402
from flash_vstream_ros.demo.scoring import right  # noqa: E402
from flash_vstream_ros.demo.simulated_run import PATROL_START_S, ask, simulated_run  # noqa: E402
from flash_vstream_ros.demo.world import World  # noqa: E402
from flash_vstream_ros.models.model_kind import without_label  # noqa: E402
from flash_vstream_ros.models.names import HOUSEHOLD  # noqa: E402
from flash_vstream_ros.ros.private_domain import use_private_domain  # noqa: E402
from flash_vstream_ros.ros.stamps import seconds  # noqa: E402

SEED, RATE = 0, 15.0
KINDS = ("where", "person", "when")
EVIDENCE = 4


def main() -> int:
    use_private_domain()
    world = World(SEED)
    asked = questions(world.visits, world.duration, np.random.default_rng(SEED))
    parameters = [f"question.evidence:={EVIDENCE}", "summary.period_s:=0.0"]
    rows: dict[str, tuple[str, str, Any]] = {}
    with simulated_run(SEED, HOUSEHOLD, RATE, parameters) as run:
        for question in asked:
            if question.kind in KINDS and question.kind not in rows and question.answer != "never seen":
                reply = ask(run, question.text)
                answer = without_label(reply.answer)
                print(f"{question.text} {answer} (true: {question.answer})")
                if right(question, answer):
                    rows[question.kind] = question.text, answer, reply
    draw([rows[kind] for kind in KINDS])
    return 0


def draw(rows: list[tuple[str, str, Any]]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    shape = {"width_ratios": [1.7, *[1] * EVIDENCE], "hspace": 0.35, "wspace": 0.08}
    figure, grid = pyplot.subplots(len(rows), 1 + EVIDENCE, figsize=(12, 2.4 * len(rows)), gridspec_kw=shape)
    for (question, answer, reply), axes in zip(rows, grid, strict=True):
        newest_s = seconds(reply.covered_until)
        for axis in axes:
            axis.axis("off")
        axes[0].text(0, 0.9, "\n".join(wrap(question, 24)), fontsize=13, weight="bold", va="top")
        axes[0].text(0, 0.35, answer, fontsize=13, color="tab:green", va="top")
        most_relevant_first = sorted(reply.evidence, key=lambda entry: -entry.relevance)
        for axis, entry in zip(axes[1:], most_relevant_first, strict=False):
            image = cv2.imdecode(np.frombuffer(bytes(entry.thumbnail.data), np.uint8), cv2.IMREAD_COLOR)
            axis.imshow(image[..., ::-1])
            ago_min = (newest_s - seconds(entry.thumbnail.header.stamp)) / 60
            kind = "key frame" if entry.kind == entry.KEY_FRAME else "synopsis"
            axis.set_title(f"{kind}, {ago_min:.1f} min ago\nrelevance {entry.relevance:.2f}", fontsize=9)
    start, end = (seconds(rows[0][2].covered_since), seconds(rows[0][2].covered_until))
    minutes = (end - min(start, PATROL_START_S)) / 60
    figure.suptitle(f"Asked after a patrol of {minutes:.0f} minutes, with the evidence of each answer", fontsize=11)
    figure.savefig(ROOT / "docs" / "images" / "answer.png", dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    sys.exit(main())
