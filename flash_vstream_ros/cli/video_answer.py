"""Samples the frames of a whole video, builds the model's memory of them, and answers a question from it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from flash_vstream_ros.engine.ingest.faces import check_face_detector, without_faces
from flash_vstream_ros.memory import FlashMemory
from flash_vstream_ros.models.household_settings import LOADING, MEMORY, THREADS
from flash_vstream_ros.models.llava.flash_vstream_llava import FlashVStreamLLaVA
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.model_kind import ModelKind
from flash_vstream_ros.models.names import is_demo_model
from flash_vstream_ros.models.offline import VideoMemoryConfig, build_video_memory, frame_limit, sample_frames, slots_of
from flash_vstream_ros.process import set_torch_threads
from flash_vstream_ros.progress import tracked

from .sources import SECOND, FrameSource, SourceFrame

COMPRESSION_OPTIONS = ("temporal_method", "spatial_method", "pca_dim")


def answer_video(source: FrameSource, args: argparse.Namespace) -> dict[str, Any]:
    """The answer, with the numbers of frames, entries and tokens that were used.

    Raises FaceDetectionFailed, FacesUnavailable, ModelError, SourceError and ValueError.
    """
    if args.blur_faces:
        check_face_detector()
    model = _model(args)
    demo = model.kind is ModelKind.DEMO
    # Frames are decoded twice: their number determines which ones are used, and all of them may not fit in memory.
    frames = tracked(at_rate(source, args.fps), "decode frames", _expected(source, args.fps))
    stamps = [frame.stamp_ns for frame in frames]
    most = (0 if demo else frame_limit(model)) if args.max_frames is None else args.max_frames
    chosen = sample_frames(len(stamps), most or len(stamps)) if stamps else []
    if isinstance(model, FlashVStreamLLaVA) and len(set(chosen)) < len(chosen):
        chosen.pop()  # STAR memory takes single frames
    if not chosen:
        raise ValueError(f"{source.title} has no frames")
    images = tracked(picked(at_rate(source, args.fps), chosen), "encode frames", len(chosen))
    if args.blur_faces:
        images = without_faces(images)
    used = [stamps[index] for index in chosen]
    snapshot = (
        _streamed(model, images, used, args)
        if demo
        else build_video_memory(model, images, used, settings_of(model, args))
    )
    tokens = list(model.answer(snapshot, args.question, args.max_new_tokens))
    answer = "".join(token.text for token in tokens).strip()
    return {
        "model": model.name,
        "model_kind": model.kind.name.lower(),
        "frames_seen": len(stamps),
        "frames_taken": len(chosen),
        "memory_entries": len(snapshot.entries),
        "memory_tokens": model.tokens(snapshot),
        "answer_tokens": [token.id for token in tokens],
        "answer": model.kind.label + answer,
        "confidence": model.calibration.confidence([token.probability for token in tokens], answer),
        "calibrated": model.calibration.fitted,
    }


def _model(args: argparse.Namespace) -> Any:
    options: dict[str, Any] = {}
    if is_demo_model(args.model):
        options |= LOADING
        set_torch_threads(THREADS)
    if args.max_pixels is not None:
        options["max_pixels"] = args.max_pixels
    model: Any = load_model(args.model, args.device, args.dtype, attention=args.attention, **options)
    if args.instruction is not None or isinstance(model, FlashVStreamLLaVA):
        model.instruction = args.instruction or ""
    model.answer_start = args.answer_start
    return model


def _streamed(model: Any, images: Iterator[np.ndarray], stamps_ns: Sequence[int], args: argparse.Namespace) -> Any:
    """The memory of the demo's model, filled slot by slot as in its training."""
    given = [f"--{name.replace('_', '-')}" for name in COMPRESSION_OPTIONS if getattr(args, name) is not None]
    if given:
        raise ValueError(f"the memory of {model.name} is filled slot by slot, without {' and '.join(given)}: omit them")
    memory = FlashMemory(replace(MEMORY, **_sizes(args)))
    for slot in slots_of(model, images, stamps_ns):
        memory.insert(slot)
    return memory.snapshot()


def settings_of(model: Any, args: argparse.Namespace) -> VideoMemoryConfig:
    """The checkpoint's settings of its memory, overridden by those of the command line."""
    own = VideoMemoryConfig.of(model)
    given = {"temporal": args.temporal_method, "spatial": args.spatial_method, "pca_dim": args.pca_dim}
    methods = replace(own.methods, rule=args.rule, **{k: v for k, v in given.items() if v is not None})
    return replace(own, methods=methods, seed=args.seed, **_sizes(args))


def _sizes(args: argparse.Namespace) -> dict[str, Any]:
    sizes = {"csm_slots": args.synopsis_slots, "dam_slots": args.key_frame_slots}
    return {name: slots for name, slots in sizes.items() if slots is not None}


def at_rate(source: FrameSource, fps: float) -> Iterator[SourceFrame]:
    """About `fps` frames per second: every n-th frame as the published systems do; uneven ones by their stamps."""
    if source.constant_fps is not None:
        yield from islice(source, 0, None, _every(source.constant_fps, fps))
        return
    due: float | None = None
    for frame in source:
        if due is None or frame.stamp_ns >= due:
            yield frame
            due = max(frame.stamp_ns, due or 0) + SECOND / fps


def _every(constant_fps: float, fps: float) -> int:
    return max(1, round(constant_fps / fps))


def _expected(source: FrameSource, fps: float) -> int | None:
    if source.constant_fps is None or source.frames is None:
        return None
    return -(-source.frames // _every(source.constant_fps, fps))


def picked(frames: Iterator[SourceFrame], chosen: Sequence[int]) -> Iterator[np.ndarray]:
    """The images [height, width, 3] of the frames with these ascending numbers. A repeated number repeats its image."""
    times = Counter(chosen)
    for number, frame in enumerate(frames):
        for _ in range(times[number]):
            yield frame.rgb
