"""Both published systems on a whole clip, written out naively: float64, no cache, memory and positions in loops.

The networks themselves are those of transformers.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import reference_kmeans
import reference_star
import torch

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])


@dataclass
class Reference:
    memory: np.ndarray  # [tokens, dim] before merger or projector
    visual: np.ndarray  # [tokens, width] as the language model is shown them
    positions: np.ndarray  # [3, length] of the prompt
    logits: np.ndarray  # [vocabulary] of the first token of the answer
    answer: list[int]
    gap: float  # smallest difference of the two best logits of a step


def normalised(frame: np.ndarray) -> np.ndarray:
    return (frame.astype(np.float64) / 255 - MEAN) / STD


def qwen_patches(frames: list[np.ndarray], patch: int = 14) -> np.ndarray:
    """Two normalised frames [height, width, 3] to rows of patches, in the order of merged 2x2 blocks."""
    height, width = (side // patch for side in frames[0].shape[:2])
    rows = []
    for block_row in range(height // 2):
        for block_column in range(width // 2):
            for row in (0, 1):
                for column in (0, 1):
                    y, x = (2 * block_row + row) * patch, (2 * block_column + column) * patch
                    cut = np.stack([frame[y : y + patch, x : x + patch] for frame in frames])  # [2, y, x, 3]
                    rows.append(cut.transpose(3, 0, 1, 2).ravel())
    return np.stack(rows)


def halved(frame: np.ndarray) -> np.ndarray:
    return (frame[::2, ::2] + frame[1::2, ::2] + frame[::2, 1::2] + frame[1::2, 1::2]) / 4


class QwenReference:
    """Flash-VStream-Qwen on frames of a size that needs no resizing."""

    def __init__(self, network: Any, tokenizer: Any, suppressed: list[int], stop: int) -> None:
        self.network = copy.deepcopy(network).double()
        self.tokenizer, self.suppressed, self.stop = tokenizer, suppressed, stop

    @torch.no_grad()
    def features(self, frames: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """High [slots, patches, dim] and low [slots, patches / 4, dim] features before the merger."""
        images = [normalised(frame) for frame in frames]
        pairs = [images[first : first + 2] for first in range(0, len(images), 2)]
        rows, widths, heights = len(pairs), images[0].shape[1] // 14, images[0].shape[0] // 14
        parts = []
        for scaled, size in (
            (pairs, (heights, widths)),
            ([[halved(image) for image in pair] for pair in pairs], (heights // 2, widths // 2)),
        ):
            pixels = torch.tensor(np.concatenate([qwen_patches(pair) for pair in scaled]))
            output = self.network.model.visual(pixels, grid_thw=torch.tensor([[rows, *size]]))
            parts.append(output.last_hidden_state.numpy().reshape(rows, size[0] * size[1], -1))
        return parts[0], parts[1]

    @torch.no_grad()
    def run(
        self,
        high: np.ndarray,
        low: np.ndarray,
        size: tuple[int, int],
        question: str,
        *,
        csm_slots: int,
        dam_slots: int,
        init_rows: list[int],
        reseed_rows: list[int],
        new_tokens: int,
    ) -> Reference | None:
        """None if a decision depends on rounding."""
        slots = len(low)
        rows = low.reshape(slots, -1)
        csm = reference_kmeans.kmeans(rows, csm_slots, [1.0] * slots, init_rows, reseed_rows)
        if not decided(csm.margin, csm.shifts):
            return None
        dam = reference_kmeans.dam_slots(rows, csm.centroids, csm.weights, dam_slots)
        memory = np.concatenate(
            [*(high[slot] for slot in dam), *(centroid.reshape(low.shape[1:]) for centroid in csm.centroids)]
        )
        visual = self.network.model.visual.merger(torch.tensor(memory)).numpy()

        text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
        before = self.tokenizer(text)["input_ids"]
        after = self.tokenizer(f"<|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
        height, width = size[0] // 28, size[1] // 28
        start, n_dam = len(before), len(dam) * height * width
        ids = [(i, i, i) for i in range(start)]
        for slot in dam:
            ids += [(start + slot, start + row, start + column) for row in range(height) for column in range(width)]
        for time in csm.timestamps:
            at = start + n_dam
            ids += [
                (at + round(time), at + row, at + column) for row in range(height // 2) for column in range(width // 2)
            ]
        goes_on = start + n_dam + 1 + max(min(slots, csm_slots) - 1, height // 2 - 1, width // 2 - 1)
        ids += [(goes_on + i,) * 3 for i in range(len(after))]
        embed = self.network.get_input_embeddings()
        embeds = [embed(torch.tensor(before)), torch.tensor(visual), embed(torch.tensor(after))]
        delta = goes_on + len(after) - len(ids)

        def logits(generated: list[int]) -> torch.Tensor:
            fed = [(len(ids) + j + delta,) * 3 for j in range(len(generated))]
            more = [embed(torch.tensor(generated))] if generated else []
            positions = torch.tensor([*ids, *fed]).T[:, None]
            return self.network(inputs_embeds=torch.cat([*embeds, *more])[None], position_ids=positions).logits[0, -1]

        answer, first, gap = greedy(logits, self.suppressed, self.stop, new_tokens)
        return Reference(memory, visual, np.array(ids).T, first, answer, gap)


class LlavaReference:
    """Flash-VStream-LLaVA on frames whose shorter side needs no resizing."""

    def __init__(self, networks: Any, tokenizer: Any, suppressed: list[int], stop: int) -> None:
        self.language, self.tower, self.projector = (
            copy.deepcopy(part).double() for part in (networks.language, networks.clip_vision, networks.projector)
        )
        self.weights = {name: tensor.double().numpy() for name, tensor in networks.attention.state_dict().items()}
        self.star = networks.star
        self.tokenizer, self.suppressed, self.stop = tokenizer, suppressed, stop

    @torch.no_grad()
    def features(self, frames: list[np.ndarray], side: int = 64, pooled: int = 4) -> np.ndarray:
        cut = []
        for frame in frames:
            top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
            cut.append(normalised(frame[top : top + side, left : left + side]).transpose(2, 0, 1))
        hidden = self.tower(torch.tensor(np.stack(cut)), output_hidden_states=True).hidden_states[-2][:, 1:].numpy()
        return np.stack([reference_star.pooled(patches, pooled) for patches in hidden])

    @torch.no_grad()
    def run(
        self,
        features: np.ndarray,
        question: str,
        *,
        released: bool,
        init_rows: list[int],
        reseed_rows: list[int],
        new_tokens: int,
    ) -> Reference | None:
        """None if a decision depends on rounding."""
        found = reference_star.star(
            features,
            self.weights,
            clusters=self.star.temporal_clusters,
            temporal_side=self.star.temporal_side,
            slots=self.star.abstract_slots,
            abstract_side=self.star.abstract_side,
            released=released,
            init_rows=init_rows,
            reseed_rows=reseed_rows,
        )
        if not decided(found.margin, found.shifts):
            return None
        memory = found.sequence(features)
        first, _, second = self.projector
        hidden = torch.nn.functional.gelu(torch.tensor(memory) @ first.weight.T + first.bias)
        visual = (hidden @ second.weight.T + second.bias).numpy()
        system = (
            "A chat between a curious user and an artificial intelligence assistant. "
            "The assistant gives helpful, detailed, and polite answers to the user's questions."
        )
        before = [1, *self.tokenizer(f"{system} USER: ", add_special_tokens=False)["input_ids"]]
        after = self.tokenizer(f"\n{question} ASSISTANT:", add_special_tokens=False)["input_ids"]
        embed = self.language.get_input_embeddings()
        embeds = [embed(torch.tensor(before)), torch.tensor(visual), embed(torch.tensor(after))]

        def logits(generated: list[int]) -> torch.Tensor:
            more = [embed(torch.tensor(generated))] if generated else []
            return self.language(inputs_embeds=torch.cat([*embeds, *more])[None]).logits[0, -1]

        answer, first_logits, gap = greedy(logits, self.suppressed, self.stop, new_tokens)
        length = sum(map(len, embeds))
        positions = np.tile(np.arange(length), (3, 1))
        return Reference(memory, visual, positions, first_logits, answer, gap)


def decided(margin: float, shifts: list[float]) -> bool:
    """Whether neither an assignment to clusters nor the number of steps depends on rounding."""
    return margin > 1e-4 and not any(1e-5 < shift < 1e-3 for shift in shifts)


def greedy(logits: Any, suppressed: list[int], stop: int, new_tokens: int) -> tuple[list[int], np.ndarray, float]:
    """Token ids, the first step's logits, and the smallest gap between the best and the second best."""
    tokens: list[int] = []
    first, gap = None, float("inf")
    while len(tokens) < new_tokens:
        scores = logits(tokens).clone()
        first = scores.numpy().copy() if first is None else first
        scores[suppressed] = -torch.inf
        best, second = scores.topk(2).values.tolist()
        gap = min(gap, best - second)
        token = int(scores.argmax())
        if token == stop:
            break
        tokens.append(token)
    assert first is not None
    return tokens, first, gap
