"""Methods that answer questions about a video: this project's engine with a memory policy, and controls.

All get the same sampled frames. The engine sees each frame once; the controls may look back at any earlier frame.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from flash_vstream_ros.engine.answering.question import Answer, ErrorCode, Question
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.ingest.faces import without_faces
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.offline import OfflineEngine
from flash_vstream_ros.instruments.batched_answers import batched_answers
from flash_vstream_ros.instruments.stopwatch import now
from flash_vstream_ros.memory.pose import MaybePose, Pose
from flash_vstream_ros.memory.slot import MemorySnapshot, empty_snapshot
from flash_vstream_ros.models.interface import ModelError, VisionLanguageModel
from flash_vstream_ros.models.llava.flash_vstream_llava import FlashVStreamLLaVA
from flash_vstream_ros.models.model_kind import without_label
from flash_vstream_ros.models.offline import (
    VideoMemoryConfig,
    build_video_memory,
    frame_limit,
    sample_frames,
    slots_of,
)
from flash_vstream_ros.models.qwen2_vl import Qwen2VL

from .method_names import LAST_4, NO_VISION, OURS, PUBLISHED, UNIFORM_64
from .sampled_video import SampledVideo

ONE_DAY_S = 86_400.0  # deadline of a question: none, in effect
LAST_FRAMES, UNIFORM_FRAMES = 4, 64  # frames of the controls


class Reply(NamedTuple):
    """An answer and what it took. Times in seconds."""

    text: str
    error: str = ""
    memory_tokens: int = 0
    memory_bytes: int = 0
    cached_tokens: int = 0
    first_token_s: float = 0.0
    duration_s: float = 0.0


class Method(Protocol):
    """Answers the questions about one video, in the order of their times."""

    def ask(self, frames: int, prompt: str, max_new_tokens: int) -> Reply:
        """Answer from the first `frames` sampled frames. Raises ModelError and ValueError."""
        ...

    def locate(self, frames: int, text: str) -> Reply:
        """Coordinates "x, y, z" [m] of where the first `frames` show best what a text describes; "": unknown."""
        ...

    def close(self) -> None: ...


class StreamingMethod:
    """The engine, with one memory for all questions about a video, and with its prefix cache."""

    def __init__(self, model: VisionLanguageModel, config: EngineConfig, video: SampledVideo) -> None:
        self._video, self._camera = video, config.cameras[0]
        self._engine = OfflineEngine(model, config, _warn)
        self._seen = 0

    def ask(self, frames: int, prompt: str, max_new_tokens: int) -> Reply:
        answer = self._answer(frames, Question(prompt, deadline_s=ONE_DAY_S, max_new_tokens=max_new_tokens))
        return self._reply(answer, without_label(answer.text))

    def locate(self, frames: int, text: str) -> Reply:
        answer = self._answer(frames, Question(text, deadline_s=ONE_DAY_S, moments=1))
        pose = answer.evidence[0].entry.pose if answer.evidence else None
        return self._reply(answer, ", ".join(map(str, pose.position)) if isinstance(pose, Pose) else "")

    def _answer(self, frames: int, question: Question) -> Answer:
        for index in range(self._seen, frames):
            decode, find_pose = partial(self._video.image, index), partial(_found, self._video.pose(index))
            self._engine.add(Frame(self._camera, "", self._video.stamp_ns(index), decode, find_pose=find_pose))
        self._seen = max(self._seen, frames)
        self._engine.finish()
        return self._engine.ask(question)

    def _reply(self, answer: Answer, text: str) -> Reply:
        failed = answer.error_code is not ErrorCode.NONE
        return Reply(
            text,
            error=f"{answer.error_code.name}: {answer.error_msg}" if failed else "",
            memory_tokens=answer.memory_tokens,
            memory_bytes=self._engine.memory_bytes,
            cached_tokens=answer.cached_tokens,
            first_token_s=answer.time_to_first_token_s,
            duration_s=answer.duration_s,
        )

    def close(self) -> None:
        self._engine.close()


class OfflineMethod:
    """Base of the controls: answers from a snapshot of the frames so far, which questions of the same time share."""

    def __init__(self, model: VisionLanguageModel, config: EngineConfig, video: SampledVideo) -> None:
        self.model, self.config, self.video = model, config, video
        self._newest: tuple[int, MemorySnapshot] | None = None  # number of frames, and their snapshot

    def ask(self, frames: int, prompt: str, max_new_tokens: int) -> Reply:
        self.model.instruction = self.config.instruction
        if self._newest is None or self._newest[0] != frames:
            self._newest = frames, self.snapshot(frames)
        return _answered(self.model, self._newest[1], prompt, max_new_tokens)

    def locate(self, frames: int, text: str) -> Reply:
        return Reply("")  # what a text describes is found by the engine's search only

    def snapshot(self, frames: int) -> MemorySnapshot:
        """The memory part of the prompt after `frames` sampled frames."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing needs to be closed."""

    def _images(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        images = self.video.images(indices)
        return without_faces(images) if self.config.blur_faces else images

    def _stamps(self, indices: Sequence[int]) -> list[int]:
        return [self.video.stamp_ns(index) for index in indices]


class Published(OfflineMethod):
    """Flash-VStream as released: k-means over the frames so far, at most as many as published, evenly spaced."""

    def snapshot(self, frames: int) -> MemorySnapshot:
        chosen = sample_frames(frames, frame_limit(self.model) or max(frames, 1)) if frames else []
        memory = self.config.memory
        own = VideoMemoryConfig.of(self.model)
        settings = replace(own, csm_slots=memory.csm_slots, dam_slots=memory.dam_slots)
        return build_video_memory(self.model, self._images(chosen), self._stamps(chosen), settings)


class DetailedFrames(OfflineMethod):
    """Base of the controls that show some frames in full detail, numbered as a video of that many frames."""

    def chosen(self, frames: int) -> Sequence[int]:
        """The frames that are shown, of the first `frames`."""
        raise NotImplementedError

    def snapshot(self, frames: int) -> MemorySnapshot:
        chosen = self.chosen(frames)
        if isinstance(self.model, FlashVStreamLLaVA):
            raise ModelError(f"{self.model.name} answers from STAR memory only: this control needs a Qwen model")
        if not chosen:
            raise ValueError("there is no frame before the question")
        slots = list(slots_of(self.model, self._images(chosen), self._stamps(chosen)))
        return MemorySnapshot(
            dam=torch.stack([slot.detail for slot in slots]),
            dam_times=torch.arange(len(slots), dtype=torch.float64),
            csm=slots[0].low.new_zeros(0, *slots[0].low.shape),
            csm_times=torch.zeros(0, dtype=torch.float64),
            grid=slots[0].grid,
            entries=tuple(slot.entry() for slot in slots),
            slots_seen=len(slots),
            text_slots=len(slots),
            newest_ns=slots[-1].last_ns,
            slot_s=self.config.slot_period_ns * 1e-9,
        )


class LastFrames(DetailedFrames):
    """The last frames, and nothing else (the control of SimpleStream, arXiv 2604.02317)."""

    def chosen(self, frames: int) -> Sequence[int]:
        return _paired(list(range(max(0, frames - LAST_FRAMES), frames)))


class UniformFrames(DetailedFrames):
    """Evenly spaced frames of the stream so far: the base model with a video."""

    def chosen(self, frames: int) -> Sequence[int]:
        return sample_frames(frames, UNIFORM_FRAMES) if frames else []


class NoVision(OfflineMethod):
    """The question alone."""

    def ask(self, frames: int, prompt: str, max_new_tokens: int) -> Reply:
        if not isinstance(self.model, Qwen2VL):
            raise ModelError(f"{self.model.name} answers from images only: no_vision needs a Qwen model")
        self.model.instruction = self.config.instruction
        began = now(self.model.device)
        (text,) = batched_answers(self.model, empty_snapshot(), [prompt], max_new_tokens)
        return Reply(text, duration_s=now(self.model.device) - began)


def method_of(name: str, model: VisionLanguageModel, config: EngineConfig, video: SampledVideo) -> Method:
    """The method with this name, one of METHODS, for one video. Raises ModelError."""
    if name in CONTROL_CLASSES:
        return CONTROL_CLASSES[name](model, config, video)
    return StreamingMethod(model, replace(config, policy=config.policy if name == OURS else name), video)


CONTROL_CLASSES: dict[str, type[OfflineMethod]] = {
    PUBLISHED: Published,
    UNIFORM_64: UniformFrames,
    LAST_4: LastFrames,
    NO_VISION: NoVision,
}


def _found(pose: MaybePose) -> Future[MaybePose]:
    future: Future[MaybePose] = Future()
    future.set_result(pose)
    return future


def _warn(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _answered(model: VisionLanguageModel, snapshot: MemorySnapshot, prompt: str, max_new_tokens: int) -> Reply:
    began = now(model.device)
    first_s, pieces = 0.0, []
    for token in model.answer(snapshot, prompt, max_new_tokens):
        first_s = first_s or now(model.device) - began
        pieces.append(token.text)
    tensors: tuple[Any, ...] = (snapshot.dam, snapshot.csm)
    return Reply(
        "".join(pieces).strip(),
        memory_tokens=model.tokens(snapshot),
        memory_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        first_token_s=first_s,
        duration_s=now(model.device) - began,
    )


def _paired(indices: list[int]) -> list[int]:
    """The indices in pairs: an odd last one is repeated, as in the release."""
    return [*indices, *indices[-1:]] if len(indices) % 2 else indices
