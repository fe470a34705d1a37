"""Flash-VStream-LLaVA (arXiv 2406.08085) as a VisionLanguageModel: CLIP, STAR memory, a projector and Vicuna."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.memory.star import AbstractAttention, StarConfig, StarRule, pool_tokens, star_video_memory
from flash_vstream_ros.memory.star_snapshot import StarSnapshot, star_video_snapshot
from flash_vstream_ros.memory.token_snapshot import TokenSnapshot
from flash_vstream_ros.models.confidence import Calibration
from flash_vstream_ros.models.decoding.greedy import GreedyGeneration, Prefill, Vocabulary
from flash_vstream_ros.models.interface import Generation, Grid
from flash_vstream_ros.models.model_kind import ModelKind
from flash_vstream_ros.models.preprocess import side_stream
from flash_vstream_ros.models.prompt import INSTRUCTION, plain_ids
from flash_vstream_ros.models.prompted import Prompted
from flash_vstream_ros.models.weights.fingerprint import fingerprint
from flash_vstream_ros.models.yes_no import yes_no_tokens

from .centre_crop import CentreCrop
from .vicuna import VicunaPrompt


class VStream(NamedTuple):
    """The networks of one checkpoint, and their settings."""

    language: Any  # LlamaForCausalLM
    clip_vision: Any  # CLIPVisionModel
    projector: nn.Module
    attention: AbstractAttention
    star: StarConfig
    crop: CentreCrop
    layer: int  # layer of the vision tower that gives the features
    side: int  # side of a frame's square token map

    def features(self, pixels: Tensor) -> Tensor:
        """Features [frames, side ** 2, dim] of normalised frames [frames, 3, height, width], for the memory."""
        pixels = pixels.to(self.clip_vision.dtype)
        hidden = self.clip_vision(pixels, output_hidden_states=True).hidden_states[self.layer]
        return pool_tokens(hidden[:, 1:], self.side)  # without the class token

    def project(self, features: Tensor) -> Tensor:
        """Project features [tokens, dim] to embeddings of the language model [tokens, width]."""
        weight = next(self.projector.parameters())
        return self.projector(features.to(weight.device, weight.dtype))


class OneAxis:
    """Adapts a Llama, whose position ids have one axis, to GreedyGeneration, whose ids have three."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.model = SimpleNamespace(language_model=self._run)
        self.config = SimpleNamespace(text_config=network.config)
        self.lm_head = network.lm_head
        self.get_input_embeddings = network.get_input_embeddings

    def _run(self, *, position_ids: Tensor, **inputs: Any) -> Any:
        return self._network.model(position_ids=position_ids[0], **inputs)


class StarAnswer(GreedyGeneration):
    """An answer to a prompt that has the memory in the order abstract, temporal, retrieved, spatial."""

    def __init__(self, dam_entries: int, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._dam_entries = dam_entries

    @property
    def attention(self) -> tuple[float, ...]:
        """Share of the last prompt token's attention on each memory entry, in the order of the snapshot's entries."""
        shares = super().attention[1:]
        first_dam = len(shares) - self._dam_entries
        return (*shares[first_dam:], *shares[:first_dam])


class FlashVStreamLLaVA(Prompted[VicunaPrompt]):
    """A `VStream` and its tokenizer as a VisionLanguageModel. It can also build the memory of a whole video."""

    patches_per_token = 1  # there is no merger

    def __init__(
        self,
        networks: VStream,
        tokenizer: Any,
        name: str,
        kind: ModelKind = ModelKind.TRAINED,
        attention_kernel: str = "",
        instruction: str = INSTRUCTION,
    ) -> None:
        self.name = name
        self.kind = kind
        self.networks = networks
        self.star_networks = networks
        self.calibration = Calibration.of(networks.language.config)
        self.attention_kernel = attention_kernel or str(networks.language.config._attn_implementation)
        self.device: torch.device = networks.language.device
        self.dtype: torch.dtype = networks.language.dtype
        self._prompt = VicunaPrompt(tokenizer, instruction)
        self._vocabulary = _vocabulary(networks.language, tokenizer)

    def grid(self, height: int, width: int) -> Grid:
        """The token map of a frame; the same for all sizes, since the centre is cropped. Raises ValueError if empty."""
        if min(height, width) < 1:
            raise ValueError(f"A frame of {width}x{height} has no pixels.")
        return Grid(self.networks.side, self.networks.side)

    @torch.inference_mode()
    def features(self, frames: Iterable[np.ndarray | Tensor]) -> Tensor:
        """Features [frames, tokens, dim] for the memory.

        Frames are RGB uint8 [height, width, 3] of any size, or results of `prepare` [3, side, side].
        """
        # One at a time: equal frames need equal features, and results depend slightly on the size of a batch.
        parts = [self.networks.features(self._pixels(frame)[None]) for frame in frames]
        if not parts:
            raise ValueError("There is no frame.")
        return torch.cat(parts)

    def encode(self, frames: Sequence[np.ndarray], grid: Grid) -> tuple[Tensor, Tensor]:
        """Encode a slot of any number of frames; their features are concatenated.

        Returns low [frames * temporal_side ** 2, dim] and detail [frames * side ** 2, dim], before the projector.
        """
        return self._slot(self.features(frames))

    def _pixels(self, frame: np.ndarray | Tensor) -> Tensor:
        return frame if isinstance(frame, Tensor) else self.networks.crop.pixels([frame], self.device)[0]

    def _slot(self, features: Tensor) -> tuple[Tensor, Tensor]:
        detail = features.clone()  # usable outside inference mode
        return pool_tokens(detail, self.networks.star.temporal_side).flatten(0, 1).clone(), detail.flatten(0, 1)

    @torch.inference_mode()
    def prepare(self, frame: np.ndarray, grid: Grid) -> Tensor:
        """Preprocess an RGB uint8 frame to the input of the vision tower [3, side, side]. Any thread."""
        with side_stream(self.device):
            return self._pixels(frame)

    def encode_slots(self, slots: Sequence[Sequence[Tensor]], grid: Grid) -> list[tuple[Tensor, Tensor]]:
        """Encode slots of frames from `prepare`. Returns the result of `encode` for each."""
        return [self._slot(self.features(slot)) for slot in slots]

    def video_memory(
        self,
        frames: Iterable[np.ndarray],
        stamps_ns: Sequence[int],
        *,
        rule: StarRule = "paper",
        seed: int = 0,
        init_rows: Sequence[int] | None = None,
        reseed_rows: Sequence[int] = (),
    ) -> StarSnapshot:
        """STAR memory of a whole video with one frame per second. For the other arguments see `star_video_memory`."""
        networks, features = self.networks, self.features(frames).clone()
        memory = star_video_memory(
            features,
            networks.attention,
            networks.star,
            rule=rule,
            seed=seed,
            init_rows=init_rows,
            reseed_rows=reseed_rows,
        )
        return star_video_snapshot(memory, stamps_ns)

    def answer(self, snapshot: MemorySnapshot, question: str, max_new_tokens: int) -> GreedyGeneration:
        """Start a greedy answer to `question` from the snapshot; later changes of the memory do not affect it.

        Raises ValueError for an empty snapshot, or for features of another width.
        """
        prompt = prefill(self.networks, snapshot, self._prompt.before, self._prompt.after(question))
        network = OneAxis(self.networks.language)
        frames = len(snapshot.entries) - len(snapshot.csm)
        return StarAnswer(frames, network, prompt, self._vocabulary, max_new_tokens)

    def look_again(self, generation: Generation, details: MemorySnapshot) -> bool:
        """Returns False: the order of this model's prompt has no place for more entries."""
        return False

    def prefix_cache(self) -> None:
        """Returns None: every slot changes the whole STAR memory, so a cache would be useless."""

    def fingerprint(self) -> str:
        parts = (self.networks.clip_vision, self.networks.projector, self.networks.attention, self.networks.language)
        return fingerprint(chain.from_iterable(part.named_parameters() for part in parts))

    def tokens(self, snapshot: MemorySnapshot) -> int:
        """Number of visual tokens that the snapshot puts into the prompt."""
        return sum(part.shape[0] * part.shape[1] for part in _sequence(snapshot))


@torch.inference_mode()
def prefill(networks: VStream, snapshot: MemorySnapshot, before: Sequence[int], after: Sequence[int]) -> Prefill:
    """The prompt: text tokens `before`, the memory and text tokens `after`, at consecutive position ids."""
    if snapshot.empty:
        raise ValueError("The snapshot is empty: there is nothing to answer from.")
    parts = [part.flatten(0, 1) for part in _sequence(snapshot) if part.numel()]
    dims = {part.shape[1] for part in parts}
    if dims != {networks.clip_vision.config.hidden_size}:
        raise ValueError(f"The snapshot's features of widths {sorted(dims)} do not come from this model.")
    embed, device = networks.language.get_input_embeddings(), networks.language.device
    texts = [embed(torch.tensor(ids, dtype=torch.long, device=device)) for ids in (before, after)]
    visual = networks.project(torch.cat(parts))
    embeds = torch.cat([texts[0], visual, texts[1]])[None]
    length = embeds.shape[1]
    return Prefill(
        embeds=embeds,
        ids=torch.arange(length, device=device).expand(3, 1, length),
        next_id=length,
        visual_start=len(before),
        entry_tokens=_entry_tokens(snapshot),
    )


def _entry_tokens(snapshot: MemorySnapshot) -> tuple[int, ...]:
    """Number of tokens of the abstract memory and then of each entry, in prompt order."""
    if isinstance(snapshot, TokenSnapshot):
        return (0, *snapshot.counts)
    abstract, temporal, frames = _sequence(snapshot)
    return (
        abstract.shape[0] * abstract.shape[1],
        *(temporal.shape[1],) * len(temporal),
        *(frames.shape[1],) * len(frames),
    )


def _sequence(snapshot: MemorySnapshot) -> tuple[Tensor, Tensor, Tensor]:
    """Abstract memory, temporal memory and frames, in prompt order. Only a StarSnapshot has an abstract memory.

    The tokens of a TokenSnapshot are given as those of one frame.
    """
    if isinstance(snapshot, TokenSnapshot):
        return snapshot.dam, snapshot.csm, snapshot.tokens[None]
    abstract = snapshot.abstract if isinstance(snapshot, StarSnapshot) else snapshot.dam.new_zeros(0, 0, 0)
    return abstract, snapshot.csm, snapshot.dam


def _vocabulary(network: Any, tokenizer: Any) -> Vocabulary:
    """The vocabulary: special tokens and ids without a token are suppressed, end-of-sequence tokens end an answer."""
    size = network.config.vocab_size
    ends = network.generation_config.eos_token_id
    stops = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special.update(tokenizer.all_special_ids, range(len(tokenizer), size))
    suppressed = torch.zeros(size, dtype=torch.bool)
    suppressed[sorted(special - stops)] = True

    def decode(ids: list[int]) -> str:
        return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    words = yes_no_tokens(partial(plain_ids, tokenizer))
    return Vocabulary(decode, frozenset(stops), suppressed.to(network.device), words)
