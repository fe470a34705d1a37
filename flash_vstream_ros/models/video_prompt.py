"""Prompts that present the memory as videos of the base model, for weights that were not trained with AM-RoPE.

DAM and CSM are two videos, with the position ids of the family's videos. A memory that has every slot in DAM and no CSM
is then an ordinary video, and the answer equals that of transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from flash_vstream_ros.memory.am_rope import MergedGrid, token_ids, visual_ids
from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.memory.token_snapshot import TokenSnapshot

from .decoding.greedy import Prefill
from .preprocess import POOL
from .prompt import VISION_END, VISION_START
from .qwen2_vl import Qwen2VL


class Video(NamedTuple):
    """Slots that form one video of the prompt."""

    tokens: Tensor  # [slots * rows * columns, width]; fewer with `places`
    times: Tensor  # [slots] time ids, relative to the video's first token
    grid: MergedGrid
    counts: tuple[int, ...] = ()  # number of tokens of each slot, if not all of them are present
    places: Tensor | None = None  # [tokens] places of the tokens in the grids of their slots; None: all are present


Piece = Sequence[int] | Video  # part of a prompt: text tokens, or a video


def position_ids(pieces: Sequence[Piece], start: int = 0) -> Tensor:
    """M-RoPE ids [3, length] from `start` on. As in training, a piece starts after the largest id of earlier pieces.

    Tokens that are absent from a video count there, so that the ids of the others do not depend on them.
    """
    ids, no_times = [], torch.empty(0)
    for piece in pieces:
        if isinstance(piece, Video) and piece.places is not None:
            ids.append(token_ids(piece.times, piece.counts, piece.places, piece.grid, start))
            start += 1 + max(round(float(piece.times.max())), piece.grid.rows - 1, piece.grid.columns - 1)
            continue
        if isinstance(piece, Video):
            ids.append(visual_ids(piece.times, no_times, piece.grid, piece.grid, start))
        else:
            ids.append(torch.arange(start, start + len(piece)).expand(3, -1))
        start = int(ids[-1].max()) + 1 if ids[-1].numel() else start
    return torch.cat(ids, dim=1)


class VideoPrompted(Qwen2VL):
    """A Qwen-VL whose prompt presents the memory as videos; each family defines `_pieces`."""

    def prefix_cache(self) -> None:
        """Returns None: a prefix cache needs the position ids of AM-RoPE."""

    def _prefill(self, snapshot: MemorySnapshot, before: Sequence[int], after: Sequence[int]) -> Prefill:
        pieces: list[Piece] = [before, *self._pieces(snapshot), after]
        embeds, ids = self._embed(pieces), self._position_ids(pieces, snapshot)
        if embeds.shape[0] != ids.shape[1]:
            raise ValueError(f"The snapshot's visual tokens do not come from slots of {snapshot.grid}.")
        return Prefill(
            embeds=embeds[None],
            ids=ids[:, None].to(self.device),
            next_id=int(ids[0, -1]) + 1,
            visual_start=len(before),
            entry_tokens=self._entry_tokens(snapshot),
            text=tuple(after),
        )

    @torch.inference_mode()
    def _further(self, prompt: Prefill, snapshot: MemorySnapshot) -> Prefill:
        """The visual tokens of the snapshot, as videos after those of `prompt`. The text starts after them."""
        pieces = [*self._separator(), *self._pieces(snapshot)]
        embeds, ids = self._embed(pieces), position_ids(pieces, prompt.text_id)
        first, *others = self._entry_tokens(snapshot)
        first += sum(map(len, self._separator()))
        return replace(
            prompt,
            embeds=embeds[None],
            ids=ids[:, None].to(self.device),
            next_id=int(ids.max()) + 1 + len(prompt.text),
            entry_tokens=(*prompt.entry_tokens, first, *others),
        )

    def _separator(self) -> tuple[tuple[int, ...], ...]:
        """Text pieces between the videos of two calls of `_pieces`."""
        return ()

    def _pieces(self, snapshot: MemorySnapshot) -> Iterator[Piece]:
        """Pieces from the beginning of the first video to the end of the last one."""
        raise NotImplementedError

    def _entry_tokens(self, snapshot: MemorySnapshot) -> tuple[int, ...]:
        """Number of tokens of each entry, including text tokens before it."""
        raise NotImplementedError

    def _position_ids(self, pieces: Sequence[Piece], snapshot: MemorySnapshot) -> Tensor:
        return position_ids(pieces)

    @torch.inference_mode()
    def _merged(self, snapshot: MemorySnapshot) -> tuple[Tensor, Tensor]:
        """Visual tokens [slots, tokens, width] of DAM and of CSM."""
        merge, csm = self.network.model.visual.merger, snapshot.csm
        if len(csm):
            csm = merge(csm.to(self.vision_device, self.dtype).flatten(0, 1)).unflatten(0, (len(csm), -1))
        return snapshot.dam.to(self.device, self.dtype), csm.to(self.device, self.dtype)

    def _tokens(self, snapshot: TokenSnapshot) -> Tensor:
        return snapshot.tokens.to(self.device, self.dtype)

    def _grids(self, grid: Sequence[int]) -> tuple[MergedGrid, MergedGrid]:
        """Sizes in merged tokens of a slot of DAM and of CSM."""
        dam, csm = ([side // (self.preprocessor.merge * pool) for side in grid] for pool in (1, POOL))
        return MergedGrid(*dam), MergedGrid(*csm)

    @torch.inference_mode()
    def _embed(self, pieces: Sequence[Piece]) -> Tensor:
        """Input embeddings [length, width]; text tokens are zero-padded to the width of visual ones."""
        embed = self.network.get_input_embeddings()
        width = max(piece.tokens.shape[1] for piece in pieces if isinstance(piece, Video))
        parts = [
            piece.tokens
            if isinstance(piece, Video)
            else embed(torch.tensor(piece, dtype=torch.long, device=self.device))
            for piece in pieces
        ]
        return torch.cat([F.pad(part, (0, width - part.shape[1])) for part in parts])

    def _token(self, name: str) -> int:
        return int(self._prompt.tokenizer.convert_tokens_to_ids(name))


class VideoPromptedQwen2(VideoPrompted):
    """Qwen2-VL and Qwen2.5-VL: DAM is the first video, CSM the second one. Slots are `_interval` time ids apart."""

    def _interval(self, slot_s: float) -> float:
        """Time ids from one slot to the next."""
        return 1.0

    def _pieces(self, snapshot: MemorySnapshot) -> Iterator[Piece]:
        dam_grid, csm_grid = self._grids(snapshot.grid)
        interval = self._interval(snapshot.slot_s)
        if isinstance(snapshot, TokenSnapshot):
            times = (snapshot.dam_times.round() * interval).floor()
            yield Video(self._tokens(snapshot), times, dam_grid, snapshot.counts, snapshot.places)
            return
        dam, csm = self._merged(snapshot)
        if len(dam):
            yield Video(dam.flatten(0, 1), (snapshot.dam_times.round() * interval).floor(), dam_grid)
        if len(dam) and len(csm):
            yield from self._separator()
        if len(csm):
            yield Video(csm.flatten(0, 1), (snapshot.csm_times.round() * interval).floor(), csm_grid)

    def _separator(self) -> tuple[tuple[int, ...], ...]:
        return ((self._token(VISION_END), self._token(VISION_START)),)

    def _entry_tokens(self, snapshot: MemorySnapshot) -> tuple[int, ...]:
        if isinstance(snapshot, TokenSnapshot):
            return snapshot.counts
        dam_grid, csm_grid = (grid.rows * grid.columns for grid in self._grids(snapshot.grid))
        counts = [dam_grid] * len(snapshot.dam) + [csm_grid] * len(snapshot.csm)
        if len(snapshot.dam) and len(snapshot.csm):
            counts[len(snapshot.dam)] += 2  # tokens of the separator
        return tuple(counts)

    def _position_ids(self, pieces: Sequence[Piece], snapshot: MemorySnapshot) -> Tensor:
        if isinstance(snapshot, TokenSnapshot) or len(snapshot.csm):
            return super()._position_ids(pieces, snapshot)
        if not torch.equal(snapshot.dam_times.round(), torch.arange(len(snapshot.dam)).double()):
            return super()._position_ids(pieces, snapshot)
        return self._plain_ids(pieces, snapshot)

    def _plain_ids(self, pieces: Sequence[Piece], snapshot: MemorySnapshot) -> Tensor:
        """Ids of an ordinary video, computed by the installed transformers."""
        config = self.network.config
        video = [config.video_token_id]
        ids = torch.tensor(
            [[id for piece in pieces for id in (video * len(piece.tokens) if isinstance(piece, Video) else piece)]]
        )
        found: Any = self.network.model.get_rope_index(
            ids,
            mm_token_type_ids=(ids == config.video_token_id).int() * 2,
            video_grid_thw=torch.tensor([[len(snapshot.dam), *snapshot.grid]]),
            second_per_grid_ts=torch.tensor([snapshot.slot_s]),
        )
        return found[0][:, 0]
