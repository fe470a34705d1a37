"""Training prompts: what the node would prefill for a question, followed by the true answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from flash_vstream_ros.models.qwen2_vl import Qwen2VL

from .examples import Example
from .memories import MemoryFolder

IGNORE = -100  # label of a token without a loss


class Prompt(NamedTuple):
    """A prompt with its answer. Only the answer's tokens have labels, and they are at the end."""

    embeds: Tensor  # [length, width]
    positions: Tensor  # [3, length] time, row, column
    labels: Tensor  # [answer tokens] int64


class Prompts(Dataset[Prompt]):
    """The prompts of examples. Vision tower and embeddings are frozen, so a prompt never changes."""

    def __init__(self, model: Qwen2VL, memories: MemoryFolder, examples: Sequence[Example]) -> None:
        self._model, self._memories, self._examples = model, memories, examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Prompt:
        example = self._examples[index]
        answer = self._model.answer_ids(example.answer)
        prefill = self._model.prompt(self._memories.read(example.moment), example.question, answer)
        # Copies, since tensors of inference mode cannot be used in training.
        return Prompt(prefill.embeds[0].clone(), prefill.ids[:, 0].clone(), torch.tensor(answer))


def collated(prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Arguments of a network's `forward` for prompts padded on the left, so that all answers end in the last column.

    Logits are computed only for the columns with answers: those of a whole memory would not fit on the device.
    """
    length, answers = max(len(one.embeds) for one in prompts), max(len(one.labels) for one in prompts)
    embeds, positions, labels, masks = [], [], [], []
    for one in prompts:
        missing = length - len(one.embeds)
        embeds.append(F.pad(one.embeds, (0, 0, missing, 0)))
        positions.append(F.pad(one.positions, (missing, 0)))
        # The logits of a token predict the next one, so one more column than the longest answer is needed.
        labels.append(F.pad(one.labels, (1 + answers - len(one.labels), 0), value=IGNORE))
        masks.append(F.pad(torch.ones(len(one.embeds), dtype=torch.long), (missing, 0)))
    mask = torch.stack(masks).to(embeds[0].device)
    return {
        "inputs_embeds": torch.stack(embeds),  # [batch, length, width]
        "position_ids": torch.stack(positions, dim=1),  # [3, batch, length]
        "labels": torch.stack(labels),  # [batch, 1 + answer tokens]
        "logits_to_keep": answers + 1,
        "use_cache": False,
        **({} if mask.all() else {"attention_mask": mask}),
    }
