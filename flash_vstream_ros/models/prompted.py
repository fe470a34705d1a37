"""What is set of a model's prompt while it runs, whatever the family."""

from __future__ import annotations

from dataclasses import replace
from typing import Generic, TypeVar

from .llava.vicuna import VicunaPrompt
from .prompt import ChatPrompt

Prompt = TypeVar("Prompt", ChatPrompt, VicunaPrompt)


class Prompted(Generic[Prompt]):
    """A model that asks through one prompt."""

    _prompt: Prompt

    @property
    def instruction(self) -> str:
        """The sentence before every question; what is set holds from the next question on."""
        return self._prompt.instruction

    @instruction.setter
    def instruction(self, sentence: str) -> None:
        self._prompt = replace(self._prompt, instruction=sentence)

    @property
    def answer_start(self) -> str:
        """What every answer goes on from; what is set holds from the next question on."""
        return self._prompt.answer_start

    @answer_start.setter
    def answer_start(self, text: str) -> None:
        self._prompt = replace(self._prompt, answer_start=text)
