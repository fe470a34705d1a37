"""The chat prompt of Qwen2-VL, with visual tokens and a question."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .cpu_limit import cpu_limit
from .interface import ModelError
from .panics import panics_as_model_errors

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
TEMPLATE_CPU_S = 1.0  # a chat template takes some milliseconds
MAX_TEMPLATE_CHARACTERS = 100_000


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of `text` as plain text. Special tokens in a user's text are spelled out, so that they cannot end a turn."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # UTF-8 has no lone surrogates
    backend = tokenizer.backend_tokenizer
    with panics_as_model_errors(f"The tokenizer of {tokenizer.name_or_path}"):  # expensive patterns raise panics
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        pieces = [text]
        if backend.pre_tokenizer is not None:
            pieces = [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for piece in pieces for token in backend.model.tokenize(piece)]


def cased_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of an answer, without the tokenizer's normaliser, which may convert questions to lower case."""
    backend = tokenizer.backend_tokenizer
    with panics_as_model_errors(f"The tokenizer of {tokenizer.name_or_path}"):
        pieces = [text]
        if backend.pre_tokenizer is not None:
            pieces = [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for piece in pieces for token in backend.model.tokenize(piece)]


@dataclass(frozen=True)
class ChatPrompt:
    """Text tokens of the prompt before and after the visual ones, up to the beginning of the answer."""

    tokenizer: Any
    before: tuple[int, ...]
    between: tuple[int, ...]  # from the end of the video to the question
    closing: tuple[int, ...]  # from the question to the beginning of the answer
    instruction: str
    answer_start: str = ""  # beginning of every answer

    @classmethod
    def of(cls, tokenizer: Any, instruction: str = INSTRUCTION) -> ChatPrompt:
        """Render the tokenizer's chat template, or the one of Qwen2-VL if the tokenizer has none for videos.

        Raises ModelError if the template cannot be rendered or takes too long.
        """
        rendered = _render_own(tokenizer) if tokenizer.chat_template else ""
        if rendered.count(VIDEO) != 1 or rendered.count(_QUESTION) != 1:
            rendered = _render(tokenizer, QWEN2_VL_CHAT)
        before, _, rest = rendered.partition(VIDEO)
        between, _, closing = rest.partition(_QUESTION)

        def ids(text: str) -> tuple[int, ...]:
            with panics_as_model_errors(f"The tokenizer of {tokenizer.name_or_path}"):
                return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

        return cls(tokenizer, ids(before), ids(between), ids(closing), instruction)

    def after(self, question: str) -> tuple[int, ...]:
        """Text tokens after the visual ones."""
        start = plain_ids(self.tokenizer, self.answer_start)
        return (*self.between, *plain_ids(self.tokenizer, self._lead + question), *self.closing, *start)

    @cached_property  # the worker reads it at every idle step
    def leading(self) -> tuple[int, ...]:
        """Text tokens from the end of the video to the question. The question may change the last one."""
        return (*self.between, *plain_ids(self.tokenizer, self._lead))

    @property
    def _lead(self) -> str:
        return f"{self.instruction}\n" if self.instruction else ""


def _render_own(tokenizer: Any) -> str:
    """Render the tokenizer's own template, which comes from a model folder and may be malicious."""
    template = tokenizer.chat_template
    if not isinstance(template, str) or len(template) > MAX_TEMPLATE_CHARACTERS:
        raise ModelError(
            f"The chat template of {tokenizer.name_or_path} must be text of at most {MAX_TEMPLATE_CHARACTERS} "
            "characters: download the model again."
        )
    try:
        with cpu_limit(TEMPLATE_CPU_S):
            return _render(tokenizer, template)
    except Exception as error:
        reason = (str(error) or type(error).__name__)[:300]
        raise ModelError(
            f"The chat template of {tokenizer.name_or_path} cannot be rendered ({reason}): download the model again."
        ) from error


def _render(tokenizer: Any, template: str) -> str:
    content = [{"type": "video"}, {"type": "text", "text": _QUESTION}]
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        chat_template=template,
        tokenize=False,
        add_generation_prompt=True,
    )
