"""Kinds of models: trained, demo and untrained. Needs no torch, so that clients can import it too."""

from __future__ import annotations

from enum import IntEnum

CONFIG_KEY = "flash_vstream_demo"  # true in the config.json of a model that was trained on the demo's simulator


class ModelKind(IntEnum):
    """The MODEL_* constants of AskScene.srv, Search.srv and Event.msg, with the same names and numbers."""

    NONE = 0  # no model answered
    TRAINED = 1
    DEMO = 2  # trained on the demo's simulator only: its answers about real images are meaningless
    UNTRAINED = 3  # random weights: its answers are meaningless

    @property
    def label(self) -> str:
        """Prefix of every answer of such a model; "" for a trained one."""
        return {ModelKind.DEMO: "[demo model] ", ModelKind.UNTRAINED: "[untrained] "}.get(self, "")


def without_label(answer: str) -> str:
    """An answer without the label of a demo or untrained model."""
    for kind in ModelKind:
        if kind.label:
            answer = answer.removeprefix(kind.label).removeprefix(kind.label.rstrip())
    return answer
