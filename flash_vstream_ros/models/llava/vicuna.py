"""Vicuna's conversation template, version 1.1, with visual tokens and a question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flash_vstream_ros.models.prompt import plain_ids

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class VicunaPrompt:
    """One turn of the conversation. The texts before and after the visual tokens are tokenized separately."""

    tokenizer: Any
    instruction: str = ""
    answer_start: str = ""  # beginning of every answer

    @property
    def before(self) -> tuple[int, ...]:
        """Text tokens before the visual ones, with the begin-of-sequence token if the tokenizer has one."""
        begin = self.tokenizer.bos_token_id
        return (*(() if begin is None else (begin,)), *plain_ids(self.tokenizer, f"{SYSTEM} USER: "))

    def after(self, question: str) -> tuple[int, ...]:
        """Text tokens after the visual ones, up to the assistant's turn."""
        text = f"{self.instruction}\n{question}" if self.instruction else question
        start = f" {self.answer_start}" if self.answer_start else ""
        return tuple(plain_ids(self.tokenizer, f"\n{text} ASSISTANT:{start}"))
