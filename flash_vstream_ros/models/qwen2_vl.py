"""Qwen2-VL through transformers: encodes frames, and answers questions from a memory of their features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flash_vstream_ros.memory.am_rope import MergedGrid, PromptIds, prompt_ids, token_prompt_ids, visual_ids
from flash_vstream_ros.memory.config import MERGED_PATCHES
from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.memory.token_snapshot import TokenSnapshot

from .ages import AgeIds, age_ids, ages, no_age_ids, with_ages
from .confidence import Calibration
from .decoding.greedy import GreedyGeneration, Prefill, Vocabulary
from .decoding.language_model import embed_text, language_device
from .decoding.prefix_cache import TextPrefixCache
from .interface import Generation, Grid
from .model_kind import ModelKind
from .preprocess import CLIP, MAX_PIXELS, MIN_PIXELS, POOL, PixelScale, Preprocessor, quick_resize, side_stream
from .prompt import INSTRUCTION, TURN_END, ChatPrompt, cased_ids, plain_ids
from .prompted import Prompted
from .tower import slot_grids, tower_arguments
from .weights.fingerprint import fingerprint
from .yes_no import yes_no_tokens


class Qwen2VL(Prompted[ChatPrompt]):
    """A `Qwen2VLForConditionalGeneration` and its tokenizer as a VisionLanguageModel."""

    patches_per_token = MERGED_PATCHES
    star_networks = None

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        name: str,
        kind: ModelKind = ModelKind.TRAINED,
        attention_kernel: str = "",
        max_pixels: int = MAX_PIXELS,
        instruction: str = INSTRUCTION,
        scale: PixelScale = CLIP,
        age_text: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.network = network.eval()
        self.calibration = Calibration.of(network.config)
        self.attention_kernel = attention_kernel or str(network.config._attn_implementation)
        self.device = language_device(network)
        self.vision_device: torch.device = network.model.visual.device
        self.dtype: torch.dtype = network.dtype
        vision = network.config.vision_config
        self.preprocessor = Preprocessor(
            vision.patch_size,
            vision.spatial_merge_size,
            vision.temporal_patch_size,
            max_pixels,
            min_pixels=min(MIN_PIXELS, max_pixels),
            scale=scale,
        )
        self._prompt = ChatPrompt.of(tokenizer, instruction)
        self.age_ids = age_ids(partial(plain_ids, tokenizer), age_text)
        self._vocabulary = _vocabulary(network, tokenizer)
        self._tower_kwargs: dict[tuple[int, Grid], dict[str, Any]] = {}  # by number of slots and grid

    def grid(self, height: int, width: int) -> Grid:
        """The patch grid for frames of this size [px]. Raises ValueError if they are too small or too narrow."""
        return self.preprocessor.grid(height, width)

    def encode(self, frames: Sequence[np.ndarray], grid: Grid) -> tuple[Tensor, Tensor]:
        """Encode a slot: two RGB uint8 frames [height, width, 3] of any size, fitted to `grid`.

        Returns low [low_patches, dim], before the merger, and detail [detail_tokens, width], merged, in the model's
        dtype on the vision tower's device. Raises ValueError if the frames or the grid do not fit the model.
        """
        if len(frames) != self.preprocessor.temporal:
            raise ValueError(f"A slot is {self.preprocessor.temporal} frames, got {len(frames)}.")
        step = self.preprocessor.merge * POOL
        if min(grid) < step or grid.height % step or grid.width % step:
            raise ValueError(f"Both sides of {grid} must be multiples of {step}; take it from grid().")
        with torch.inference_mode():
            pixels = self.preprocessor.pixels(frames, grid, self.vision_device).to(self.dtype)
        return self._encode([pixels], grid)[0]

    @torch.inference_mode()
    def prepare(self, frame: np.ndarray, grid: Grid) -> Tensor:
        """Preprocess an RGB uint8 frame to the input of the vision tower [3, rows, columns]. Any thread.

        On a CPU, resizing is faster and slightly less exact than in `encode`; see `quick_resize`.
        """
        with side_stream(self.vision_device):
            return self.preprocessor.pixels([frame], grid, self.vision_device, quick_resize)[0].to(self.dtype)

    def encode_slots(self, slots: Sequence[Sequence[Tensor]], grid: Grid) -> list[tuple[Tensor, Tensor]]:
        """Encode slots of frames from `prepare` in one pass. Returns the result of `encode` for each."""
        return self._encode([torch.stack(list(slot)) for slot in slots], grid)

    def answer(self, snapshot: MemorySnapshot, question: str, max_new_tokens: int) -> GreedyGeneration:
        """Start a greedy answer to `question` from the snapshot; later changes of the memory do not affect it.

        Raises ValueError if the snapshot is empty or its tokens do not fit its grid.
        """
        return GreedyGeneration(self.network, self.prompt(snapshot, question), self._vocabulary, max_new_tokens)

    def prompt(self, snapshot: MemorySnapshot, question: str, answer: Sequence[int] = ()) -> Prefill:
        """The whole prompt of `question`, followed by tokens of an answer; see `answer_ids`. Raises ValueError."""
        if snapshot.empty:
            raise ValueError("The snapshot is empty: there is nothing to answer from.")
        return self._prefill(snapshot, self._prompt.before, (*self._prompt.after(question), *answer))

    def answer_ids(self, answer: str) -> tuple[int, ...]:
        """Tokens of a complete answer, with the one that ends it. Raises ValueError if it cannot be generated."""
        ids = cased_ids(self._prompt.tokenizer, answer)
        if self._vocabulary.suppressed[ids].any() or self._vocabulary.decode(ids) != answer:
            raise ValueError(f"the tokenizer of {self.name} cannot spell the answer {answer!r}")
        return (*ids, int(self._prompt.tokenizer.convert_tokens_to_ids(TURN_END)))

    def prefix_cache(self) -> TextPrefixCache | None:
        """A new prefix cache, for any number of consecutive questions."""
        return TextPrefixCache(
            self.network,
            self._vocabulary,
            prompt=lambda: self._prompt,
            visual=self._prefill,
            further=self._further,
        )

    @torch.inference_mode()
    def look_again(self, generation: Generation, details: MemorySnapshot) -> bool:
        """Insert `details` between the memory and the question of a prefilled prompt; the memory stays in the KV cache.

        The attention of `generation` is then also on the entries of `details`, after the others.
        """
        assert isinstance(generation, GreedyGeneration)
        generation.continue_with(with_text(self.network, self._further(generation.prompt, details)))
        return True

    def fingerprint(self) -> str:
        return fingerprint(self.network.named_parameters())

    def tokens(self, snapshot: MemorySnapshot) -> int:
        """Number of visual tokens that the snapshot puts into the prompt."""
        return sum(_entry_tokens(snapshot, self.preprocessor.merge))

    @torch.inference_mode()
    def _encode(self, slots: Sequence[Tensor], grid: Grid) -> list[tuple[Tensor, Tensor]]:
        """Encode each slot's pixels [2, 3, rows, columns]: low [low_patches, dim], detail [detail_tokens, width]."""
        rows = [self.preprocessor.rows_of(pixels) for pixels in slots]
        if (kwargs := self._tower_kwargs.get((len(slots), grid))) is None:
            kwargs = self._tower_kwargs[len(slots), grid] = self._arguments(slot_grids(len(slots), grid))
        low, detail = self._features(torch.cat([high for high, _ in rows] + [low for _, low in rows]), kwargs)
        with torch.inference_mode(False):  # ordinary tensors; copies, since views would keep the whole batch in memory
            each = zip(low.chunk(len(slots)), detail.chunk(len(slots)), strict=True)
            return [(low.clone(), detail.clone()) for low, detail in each]

    def _arguments(self, grids: Tensor) -> dict[str, Any]:
        """Keyword arguments of the vision tower for slots of `grids` [2 * slots, 3], in addition to the patch rows."""
        return tower_arguments(self.network.model.visual, grids)

    def _features(self, rows: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Run the tower on the patch rows of slots of one size: all high-resolution maps, then all low-resolution ones.

        Returns `low` of the low-resolution maps and `detail` of the high-resolution ones. `kwargs` are `_arguments`.
        """
        grids = kwargs["grid_thw"]
        high = int(grids[0].prod()) * (len(grids) // 2)
        output = self.network.model.visual(rows, **kwargs)
        return output.last_hidden_state[high:], output.pooler_output[: high // self.preprocessor.merge**2]

    def _prefill(self, snapshot: MemorySnapshot, before: Sequence[int], after: Sequence[int]) -> Prefill:
        """The prompt: text tokens `before`, the visual tokens of the snapshot, text tokens `after`."""
        return prefill(self.network, snapshot, before, after, self.age_ids)

    def _further(self, prompt: Prefill, snapshot: MemorySnapshot) -> Prefill:
        """The visual tokens of `snapshot`, without text, that follow the memory of `prompt`."""
        return further_entries(self.network, prompt, snapshot, self.age_ids)


@torch.inference_mode()
def prefill(
    network: Any, snapshot: MemorySnapshot, before: Sequence[int], after: Sequence[int], age_ids: AgeIds = no_age_ids
) -> Prefill:
    """The prompt: `before`, [DAM, CSM], `after`, with AM-RoPE ids, and age tokens before each entry."""
    dam_grid, csm_grid = _merged_grids(network, snapshot)
    embed, device = network.get_input_embeddings(), language_device(network)
    texts = [embed(torch.tensor(ids, dtype=torch.long, device=device)) for ids in (before, after)]
    ids, rope_delta = _prompt_ids(snapshot, len(before), len(after), dam_grid, csm_grid)
    start, end = len(before), ids.shape[1] - len(after)
    memory, memory_ids, counts = _aged_entries(network, snapshot, ids[:, start:end], age_ids)
    return Prefill(
        embeds=torch.cat([texts[0], memory, texts[1]])[None],
        ids=torch.cat([ids[:, :start], memory_ids, ids[:, end:]], dim=1)[:, None].to(device),
        next_id=ids.shape[1] + rope_delta,
        visual_start=start,
        entry_tokens=counts,
        text=tuple(after),
        csm_start=start + len(snapshot.dam) * dam_grid.rows * dam_grid.columns,
    )


@torch.inference_mode()
def further_entries(network: Any, prompt: Prefill, snapshot: MemorySnapshot, age_ids: AgeIds = no_age_ids) -> Prefill:
    """[DAM, CSM] of `snapshot` that follow the memory of `prompt`, with age tokens before each entry.

    Both snapshots must have the same clock. The text after them keeps its position ids.
    """
    ids = visual_ids(
        snapshot.dam_times,
        snapshot.csm_times,
        *_merged_grids(network, snapshot),
        prompt.visual_start,
        prompt.csm_start,
    )
    embeds, ids, counts = _aged_entries(network, snapshot, ids, age_ids)
    return replace(
        prompt,
        embeds=embeds[None],
        ids=ids[:, None].to(embeds.device),
        entry_tokens=prompt.entry_tokens + counts,
    )


def with_text(network: Any, prompt: Prefill) -> Prefill:
    """`prompt`, followed by its text."""
    embeds, ids = embed_text(network, prompt.text, prompt.text_id)
    embeds = F.pad(embeds, (0, prompt.embeds.shape[2] - embeds.shape[2]))
    return replace(prompt, embeds=torch.cat([prompt.embeds, embeds], dim=1), ids=torch.cat([prompt.ids, ids], dim=2))


def _aged_entries(
    network: Any, snapshot: MemorySnapshot, ids: Tensor, age_ids: AgeIds
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Embeddings [tokens, width] and ids [3, tokens] of all entries with age tokens, and each entry's token count.

    `ids` [3, visual_tokens] are the ids of the visual tokens.
    """
    visual, embed = merge_memory(network, snapshot), network.get_input_embeddings()
    if ids.shape[1] != len(visual):
        raise ValueError(f"The snapshot's {len(visual)} visual tokens do not come from slots of {snapshot.grid}.")
    counts = _entry_tokens(snapshot, network.config.vision_config.spatial_merge_size)
    words = [age_ids(age) for age in ages(snapshot)]
    text, index = (part.to(visual.device) for part in with_ages(counts, words))
    embeds = torch.where((text < 0)[:, None], visual[index], embed(text.clamp(min=0)))
    totals = tuple(count + len(word) for count, word in zip(counts, words, strict=True))
    return embeds, ids[:, index.cpu()], totals


def _prompt_ids(
    snapshot: MemorySnapshot, before: int, after: int, dam_grid: MergedGrid, csm_grid: MergedGrid
) -> PromptIds:
    """AM-RoPE ids of `before` text tokens, the memory and `after` text tokens."""
    times, text_slots = snapshot.dam_times, snapshot.text_slots
    if isinstance(snapshot, TokenSnapshot):
        return token_prompt_ids(before, after, times, snapshot.counts, snapshot.places, dam_grid, csm_grid, text_slots)
    return prompt_ids(before, after, times, snapshot.csm_times, dam_grid, csm_grid, text_slots)


def merge_memory(network: Any, snapshot: MemorySnapshot) -> Tensor:
    """The visual tokens of [DAM, CSM], [tokens, width]. DAM is merged already; CSM is merged in one batch."""
    visual, parts = network.model.visual, []
    if isinstance(snapshot, TokenSnapshot):
        parts.append(snapshot.tokens)
    if len(snapshot.dam):
        parts.append(snapshot.dam.flatten(0, 1))
    if len(snapshot.csm):
        parts.append(visual.merger(snapshot.csm.to(visual.device, visual.dtype).flatten(0, 1)))
    return torch.cat([part.to(language_device(network), network.dtype) for part in parts])


def _merged_grids(network: Any, snapshot: MemorySnapshot) -> tuple[MergedGrid, MergedGrid]:
    """Token grids of a DAM slot and of a CSM slot."""
    grid, merge = snapshot.grid, network.config.vision_config.spatial_merge_size
    return (
        MergedGrid(grid.height // merge, grid.width // merge),
        MergedGrid(grid.height // (merge * POOL), grid.width // (merge * POOL)),
    )


def _entry_tokens(snapshot: MemorySnapshot, merge: int) -> tuple[int, ...]:
    if isinstance(snapshot, TokenSnapshot):
        return snapshot.counts
    dam, csm = snapshot.dam, snapshot.csm
    return (dam.shape[1],) * len(dam) + (csm.shape[1] // merge**2,) * len(csm)


def _vocabulary(network: Any, tokenizer: Any) -> Vocabulary:
    """The vocabulary: special tokens and ids without a token are never generated, stop tokens end an answer.

    Tokens that the checkpoint suppresses are never generated, even if they are stop tokens.
    """
    config = network.config
    stops = {tokenizer.convert_tokens_to_ids(TURN_END), *_ids(tokenizer.eos_token_id)}
    stops.update(_ids(network.generation_config.eos_token_id))
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special.update(tokenizer.all_special_ids)
    special.update((config.image_token_id, config.video_token_id))
    special.update((config.vision_start_token_id, config.vision_end_token_id))
    special.update(range(len(tokenizer), config.text_config.vocab_size))
    suppressed = torch.zeros(config.text_config.vocab_size, dtype=torch.bool)
    suppressed[sorted((special - stops).union(_ids(network.generation_config.suppress_tokens)))] = True

    def decode(ids: list[int]) -> str:
        return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    words = yes_no_tokens(partial(plain_ids, tokenizer))
    return Vocabulary(decode, frozenset(stops), suppressed.to(language_device(network)), words)


def _ids(value: int | Iterable[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)
