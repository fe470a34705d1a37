"""Prompt settings that can change while a model runs, common to all families."""

from __future__ import annotations

from dataclasses import replace
from typing import Generic, TypeVar

from .llava.vicuna import VicunaPrompt
from .prompt import ChatPrompt

Prompt = TypeVar("Prompt", ChatPrompt, VicunaPrompt)


class Prompted(Generic[Prompt]):
    """Base of models with one prompt."""

    _prompt: Prompt

    @property
    def instruction(self) -> str:
        """Sentence before every question; a change takes effect at the next question."""
        return self._prompt.instruction

    @instruction.setter
    def instruction(self, sentence: str) -> None:
        self._prompt = replace(self._prompt, instruction=sentence)

    @property
    def answer_start(self) -> str:
        """Beginning of every answer; a change takes effect at the next question."""
        return self._prompt.answer_start

    @answer_start.setter
    def answer_start(self, text: str) -> None:
        self._prompt = replace(self._prompt, answer_start=text)
