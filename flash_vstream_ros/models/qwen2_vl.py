"""Qwen2-VL through transformers: frames to features, and questions on a memory of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flash_vstream_ros.memory.am_rope import MergedGrid, prompt_ids, visual_ids
from flash_vstream_ros.memory.config import MERGED_PATCHES
from flash_vstream_ros.memory.slot import MemorySnapshot

from .ages import AgeIds, age_ids, ages, no_age_ids, with_ages
from .decoding.greedy import GreedyGeneration, Prefill, Vocabulary
from .decoding.language_model import language_device
from .decoding.prefix_cache import TextPrefixCache
from .interface import Grid
from .model_kind import ModelKind
from .preprocess import CLIP, MAX_PIXELS, MIN_PIXELS, POOL, PixelScale, Preprocessor, quick_resize, side_stream
from .prompt import INSTRUCTION, TURN_END, ChatPrompt, plain_ids
from .prompted import Prompted
from .tower import slot_grids, tower_arguments


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
        """The patch grid for camera frames of this size in pixels; ValueError when too small or too narrow."""
        return self.preprocessor.grid(height, width)

    def encode(self, frames: Sequence[np.ndarray], grid: Grid) -> tuple[Tensor, Tensor]:
        """One slot: two RGB uint8 frames [height, width, 3] of any size, fitted to `grid`.

        Returns low [low_patches, dim], before the merger, and detail [detail_tokens, width], merged, in the
        model's dtype, where the vision tower is. ValueError when the frames or the grid do not fit the model.
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
        """One RGB uint8 frame as the vision tower takes it, [3, rows, columns]; from any thread.

        On a CPU it is resized quicker than for `encode`, and nearly so: see `quick_resize`.
        """
        with side_stream(self.vision_device):
            return self.preprocessor.pixels([frame], grid, self.vision_device, quick_resize)[0].to(self.dtype)

    def encode_slots(self, slots: Sequence[Sequence[Tensor]], grid: Grid) -> list[tuple[Tensor, Tensor]]:
        """Encode several slots in one pass, as `encode` does each; their frames come from `prepare`."""
        return self._encode([torch.stack(list(slot)) for slot in slots], grid)

    def answer(self, snapshot: MemorySnapshot, question: str, max_new_tokens: int) -> GreedyGeneration:
        """Greedy answer to `question` from the snapshot alone; later changes of the memory do not affect it.

        ValueError for an empty snapshot, or one whose tokens do not fit its grid.
        """
        if snapshot.empty:
            raise ValueError("The snapshot is empty: there is nothing to answer from.")
        prompt = self._prefill(snapshot, self._prompt.before, self._prompt.after(question))
        return GreedyGeneration(self.network, prompt, self._vocabulary, max_new_tokens)

    def prefix_cache(self) -> TextPrefixCache | None:
        """A new prefix cache, for any number of questions one after another."""
        return TextPrefixCache(
            self.network,
            self._vocabulary,
            prompt=lambda: self._prompt,
            visual=self._prefill,
            details=partial(detail_tokens, self.network),
        )

    def tokens(self, snapshot: MemorySnapshot) -> int:
        """Number of visual tokens that the snapshot puts into the prompt."""
        return sum(_entry_tokens(snapshot, self.preprocessor.merge))

    @torch.inference_mode()
    def _encode(self, slots: Sequence[Tensor], grid: Grid) -> list[tuple[Tensor, Tensor]]:
        """Of the pixels of each slot [2, 3, rows, columns]: low [low_patches, dim], detail [detail_tokens, width]."""
        rows = [self.preprocessor.rows_of(pixels) for pixels in slots]
        if (kwargs := self._tower_kwargs.get((len(slots), grid))) is None:
            kwargs = self._tower_kwargs[len(slots), grid] = self._arguments(slot_grids(len(slots), grid))
        low, detail = self._features(torch.cat([high for high, _ in rows] + [low for _, low in rows]), kwargs)
        with torch.inference_mode(False):  # ordinary tensors, which do not keep the whole pass in memory
            each = zip(low.chunk(len(slots)), detail.chunk(len(slots)), strict=True)
            return [(low.clone(), detail.clone()) for low, detail in each]

    def _arguments(self, grids: Tensor) -> dict[str, Any]:
        """Keyword arguments of the vision tower for slots of `grids` [2 * slots, 3]; the patch rows come besides."""
        return tower_arguments(self.network.model.visual, grids)

    def _features(self, rows: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Run the tower on the patch rows of slots of one size, the high-resolution maps first, then the low ones.

        Returns `low` of the low-resolution maps and `detail` of the high-resolution ones. `kwargs` is `_arguments`.
        """
        grids = kwargs["grid_thw"]
        high = int(grids[0].prod()) * (len(grids) // 2)
        output = self.network.model.visual(rows, **kwargs)
        return output.last_hidden_state[high:], output.pooler_output[: high // self.preprocessor.merge**2]

    def _prefill(self, snapshot: MemorySnapshot, before: Sequence[int], after: Sequence[int]) -> Prefill:
        """The prompt: text tokens, what the snapshot shows, text tokens."""
        return prefill(self.network, snapshot, before, after, self.age_ids)


@torch.inference_mode()
def prefill(
    network: Any, snapshot: MemorySnapshot, before: Sequence[int], after: Sequence[int], age_ids: AgeIds = no_age_ids
) -> Prefill:
    """The prompt `before`, [DAM, CSM], `after`, at AM-RoPE ids, each entry after its age tokens."""
    visual, (dam_grid, csm_grid) = merge_memory(network, snapshot), _merged_grids(network, snapshot)
    embed, merge = network.get_input_embeddings(), network.config.vision_config.spatial_merge_size
    device = language_device(network)
    texts = [embed(torch.tensor(ids, dtype=torch.long, device=device)) for ids in (before, after)]
    counts, words = _entry_tokens(snapshot, merge), [age_ids(age) for age in ages(snapshot)]
    ids, rope_delta = prompt_ids(
        len(before),
        len(after),
        snapshot.dam_times,
        snapshot.csm_times,
        dam_grid,
        csm_grid,
        snapshot.text_slots,
    )
    length = len(before) + len(visual) + len(after)
    if ids.shape[1] != length:
        raise ValueError(f"The snapshot's {len(visual)} visual tokens do not come from slots of {snapshot.grid}.")
    text, index = (part.to(device) for part in with_ages(counts, words))
    memory = torch.where((text < 0)[:, None], visual[index], embed(text.clamp(min=0)))
    start, end = len(before), len(before) + len(visual)
    places = torch.cat([ids[:, :start], ids[:, start:end][:, index.cpu()], ids[:, end:]], dim=1)
    return Prefill(
        embeds=torch.cat([texts[0], memory, texts[1]])[None],
        ids=places[:, None].to(device),
        next_id=length + rope_delta,
        visual_start=len(before),
        entry_tokens=tuple(count + len(word) for count, word in zip(counts, words, strict=True)),
    )


@torch.inference_mode()
def detail_tokens(network: Any, snapshot: MemorySnapshot, start: int) -> tuple[Tensor, Tensor]:
    """DAM's embeddings [1, tokens, width] and AM-RoPE ids [3, 1, tokens], as if `start` tokens stood before them."""
    dam_grid, csm_grid = _merged_grids(network, snapshot)
    ids = visual_ids(snapshot.dam_times, snapshot.csm_times[:0], dam_grid, csm_grid, start)
    device = language_device(network)
    return snapshot.dam.to(device, network.dtype).flatten(0, 1)[None], ids[:, None].to(device)


def merge_memory(network: Any, snapshot: MemorySnapshot) -> Tensor:
    """The visual tokens [DAM, CSM], [tokens, width]: DAM is merged already, all of CSM goes through in one batch."""
    visual, parts = network.model.visual, []
    if len(snapshot.dam):
        parts.append(snapshot.dam.flatten(0, 1))
    if len(snapshot.csm):
        parts.append(visual.merger(snapshot.csm.to(visual.device, visual.dtype).flatten(0, 1)))
    return torch.cat([part.to(language_device(network), network.dtype) for part in parts])


def _merged_grids(network: Any, snapshot: MemorySnapshot) -> tuple[MergedGrid, MergedGrid]:
    """Of a slot of DAM, and of one of CSM."""
    grid, merge = snapshot.grid, network.config.vision_config.spatial_merge_size
    return (
        MergedGrid(grid.height // merge, grid.width // merge),
        MergedGrid(grid.height // (merge * POOL), grid.width // (merge * POOL)),
    )


def _entry_tokens(snapshot: MemorySnapshot, merge: int) -> tuple[int, ...]:
    dam, csm = snapshot.dam, snapshot.csm
    return (dam.shape[1],) * len(dam) + (csm.shape[1] // merge**2,) * len(csm)


def _vocabulary(network: Any, tokenizer: Any) -> Vocabulary:
    """Special tokens, and rows of the head that no token has, are never generated; the stops end the answer.

    What the checkpoint suppresses is never generated, be it a stop.
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

    return Vocabulary(decode, frozenset(stops), suppressed.to(language_device(network)))


def _ids(value: int | Iterable[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)
