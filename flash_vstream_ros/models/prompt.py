"""Qwen2-VL's chat turn around the visual tokens, with the question always as plain text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

VISION_START, VIDEO, VISION_END, TURN_END = "<|vision_start|>", "<|video_pad|>", "<|vision_end|>", "<|im_end|>"
INSTRUCTION = (
    "This video is what the cameras of a robot have seen up to now. "
    "Answer the following question about it in a few words."
)
QWEN2_VL_CHAT = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_QUESTION = "[question]"


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of `text` with special tokens spelled out: what a user types never ends a turn or opens a video."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates have no UTF-8
    backend = tokenizer.backend_tokenizer
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    pieces = [text]
    if backend.pre_tokenizer is not None:
        pieces = [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
    return [token.id for piece in pieces for token in backend.model.tokenize(piece)]


@dataclass(frozen=True)
class ChatPrompt:
    """Text tokens before the visual ones, and after them up to the assistant's turn."""

    tokenizer: Any
    before: tuple[int, ...]
    between: tuple[int, ...]  # from the end of the video to the question
    closing: tuple[int, ...]
    instruction: str
    answer_start: str = ""  # what every answer goes on from

    @classmethod
    def of(cls, tokenizer: Any, instruction: str = INSTRUCTION) -> ChatPrompt:
        """Reads the tokenizer's own chat template where it has one that takes a video."""
        rendered = _render(tokenizer, tokenizer.chat_template) if tokenizer.chat_template else ""
        if rendered.count(VIDEO) != 1 or rendered.count(_QUESTION) != 1:
            rendered = _render(tokenizer, QWEN2_VL_CHAT)
        before, _, rest = rendered.partition(VIDEO)
        between, _, closing = rest.partition(_QUESTION)

        def ids(text: str) -> tuple[int, ...]:
            return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

        return cls(tokenizer, ids(before), ids(between), ids(closing), instruction)

    def after(self, question: str) -> tuple[int, ...]:
        """Text tokens that follow the visual ones."""
        start = plain_ids(self.tokenizer, self.answer_start)
        return (*self.between, *plain_ids(self.tokenizer, self._lead + question), *self.closing, *start)

    @property
    def leading(self) -> tuple[int, ...]:
        """The tokens that `after` begins with, whatever the question; its first ones may take up the last of them."""
        return (*self.between, *plain_ids(self.tokenizer, self._lead))

    @property
    def _lead(self) -> str:
        return f"{self.instruction}\n" if self.instruction else ""


def _render(tokenizer: Any, template: str) -> str:
    content = [{"type": "video"}, {"type": "text", "text": _QUESTION}]
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        chat_template=template,
        tokenize=False,
        add_generation_prompt=True,
    )
