"""`flash-vstream-ros clip VIDEO "..."`: a question about a whole clip, answered offline as the published systems do."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from flash_vstream_ros.cli.sources import SECOND, FrameSource, SourceError, SourceFrame, open_source
from flash_vstream_ros.models.names import PUBLISHED_MODEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from flash_vstream_ros.memory.video_compression import SPATIAL_METHODS, TEMPORAL_METHODS
    from flash_vstream_ros.models.load import ATTENTION, DTYPES
    from flash_vstream_ros.models.preprocess import MAX_PIXELS

    parser.add_argument("video", help="a video, an image, a folder of images, a bag, or demo")
    parser.add_argument("question", help="in plain language")
    parser.add_argument("--model", default=PUBLISHED_MODEL, help="hub id or folder (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto: CUDA when there is one; cpu, cuda:N (default: auto)")
    parser.add_argument("--dtype", default="auto", choices=("auto", *DTYPES), help="(default: %(default)s)")
    parser.add_argument("--attention", default="auto", choices=ATTENTION, help="(default: %(default)s)")
    parser.add_argument(
        "--max-pixels", type=int, default=MAX_PIXELS, help="largest area of a frame, Qwen only (default: %(default)s)"
    )
    parser.add_argument("--fps", type=_positive, default=1.0, help="frames taken of a second (default: %(default)s)")
    parser.add_argument("--bag-topic", default="", help="image topic of a bag that has several")
    parser.add_argument(
        "--max-frames", type=int, help="evenly spaced ones of more frames; 0: all (default: 240; STAR memory: all)"
    )
    parser.add_argument("--csm-slots", type=int, help="clusters of CSM (default: as the checkpoint says, or 60)")
    parser.add_argument("--dam-slots", type=int, help="key slots of DAM (default: as the checkpoint says, or 30)")
    parser.add_argument(
        "--temporal-method",
        choices=TEMPORAL_METHODS,
        help="of CSM; the release names merge, drop, kmeans, pca_kmeans_ordered, dbscan, gmm and attention too, "
        "which fail there (default: as the checkpoint says, or kmeans_ordered)",
    )
    parser.add_argument(
        "--spatial-method",
        choices=SPATIAL_METHODS,
        help="of DAM (default: as the checkpoint says, or klarge_retrieve)",
    )
    parser.add_argument(
        "--pca-dim", type=int, help="of torchpca_kmeans_ordered (default: as the checkpoint says, or 32)"
    )
    parser.add_argument(
        "--rule",
        choices=("paper", "released"),
        default="paper",
        help="released: as the released code does where it differs from its paper, in STAR memory's retrieved frames, "
        "klarge_retrieve_cos and torchpca_kmeans_ordered (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the initial clusters (default: %(default)s)")
    parser.add_argument("--instruction", help="put before the question (default: Qwen: the node's; LLaVA: none)")
    parser.add_argument("--answer-start", default="", help='what the answer begins with, such as "Best option: ("')
    parser.add_argument("--max-new-tokens", type=int, default=128, help="longest answer (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print how the answer was made as well")


def run(args: argparse.Namespace) -> int:
    from flash_vstream_ros.models.interface import ModelError
    from flash_vstream_ros.models.llava.flash_vstream_llava import FlashVStreamLLaVA
    from flash_vstream_ros.models.load import load_model

    try:
        source = open_source(args.video, bag_topic=args.bag_topic, log=lambda line: print(line, file=sys.stderr))
        model: Any = load_model(
            args.model, args.device, args.dtype, max_pixels=args.max_pixels, attention=args.attention
        )
        if args.instruction is not None or isinstance(model, FlashVStreamLLaVA):
            model.instruction = args.instruction or ""
        model.answer_start = args.answer_start
        result = answered(model, source, args)
    except (SourceError, ModelError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result, indent=2) if args.json else result["answer"])
    return 0


def answered(model: Any, source: FrameSource, args: argparse.Namespace) -> dict[str, Any]:
    """The answer, and what it was made from."""
    from flash_vstream_ros.models.offline import build_video_memory, frame_limit, sample_frames

    settings = settings_of(model, args)
    # Frames are decoded twice: which of them are taken depends on how many there are, and they need not all be held.
    stamps = [frame.stamp_ns for frame in at_rate(source, args.fps)]
    most = frame_limit(model) if args.max_frames is None else args.max_frames
    chosen = sample_frames(len(stamps), most or len(stamps)) if stamps else []
    if not frame_limit(model) and len(set(chosen)) < len(chosen):
        chosen.pop()  # STAR memory takes single frames
    frames = picked(at_rate(source, args.fps), chosen)
    snapshot = build_video_memory(model, frames, [stamps[index] for index in chosen], settings)
    tokens = list(model.answer(snapshot, args.question, args.max_new_tokens))
    return {
        "model": model.name,
        "frames_seen": len(stamps),
        "frames_taken": len(chosen),
        "memory_entries": len(snapshot.entries),
        "memory_tokens": model.tokens(snapshot),
        "answer_tokens": [token.id for token in tokens],
        "answer": model.kind.label + "".join(token.text for token in tokens).strip(),
    }


def settings_of(model: Any, args: argparse.Namespace) -> Any:
    """What the checkpoint says, and over it what the command line says."""
    from flash_vstream_ros.models.offline import VideoMemoryConfig

    own = VideoMemoryConfig.of(model)
    given = {"temporal": args.temporal_method, "spatial": args.spatial_method, "pca_dim": args.pca_dim}
    methods = replace(own.methods, rule=args.rule, **{k: v for k, v in given.items() if v is not None})
    sizes = {name: getattr(args, name) for name in ("csm_slots", "dam_slots") if getattr(args, name) is not None}
    if min(sizes.values(), default=1) < 1:
        raise ValueError("--csm-slots and --dam-slots have to be at least 1")
    return replace(own, methods=methods, seed=args.seed, **sizes)


def at_rate(source: FrameSource, fps: float) -> Iterator[SourceFrame]:
    """About `fps` frames a second: every n-th one as published, or by their stamps if they are not evenly spaced."""
    if source.constant_fps is not None:
        yield from islice(source, 0, None, max(1, round(source.constant_fps / fps)))
        return
    due: float | None = None
    for frame in source:
        if due is None or frame.stamp_ns >= due:
            yield frame
            due = max(frame.stamp_ns, due or 0) + SECOND / fps


def picked(frames: Iterator[SourceFrame], chosen: Sequence[int]) -> Iterator[np.ndarray]:
    """Images of the frames with these ascending numbers; a number that comes twice gives its image twice."""
    times = Counter(chosen)
    for number, frame in enumerate(frames):
        for _ in range(times[number]):
            yield frame.rgb


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return value
