"""`flash-vstream-ros clip VIDEO "..."`: answer a question about a whole video offline, as the published systems do."""

from __future__ import annotations

import argparse
import json
import sys

from flash_vstream_ros.models.names import PUBLISHED_MODEL, is_demo_model
from flash_vstream_ros.process import importing

from .argument_types import DEVICE_HELP, MODEL_HELP, count, count_or_zero, positive, question, text
from .output_files import log_to_stderr

# Copies of constants of memory/ and models/: those import torch, which `--help` must not wait for.
TEMPORAL_METHODS = ("kmeans_ordered", "fast_kmeans_ordered", "torchpca_kmeans_ordered", "sample")
SPATIAL_METHODS = ("klarge_retrieve", "klarge_retrieve_cos", "nearest", "sample")
ATTENTION = ("auto", "flash_attention_2", "sdpa", "eager")
DTYPES = ("auto", "float32", "float16", "bfloat16")

PUBLISHED_FPS = 1.0
DEMO_MODEL_FPS = 0.5  # as in its training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", help="a video, an image, a folder of images, a bag, or demo")
    parser.add_argument("question", type=question, help="the question, in plain language")
    parser.add_argument("--model", default=PUBLISHED_MODEL, help=MODEL_HELP)
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--dtype", default="auto", choices=DTYPES, help="data type of the weights (default: auto)")
    parser.add_argument("--attention", default="auto", choices=ATTENTION, help="attention kernel (default: auto)")
    parser.add_argument(
        "--max-pixels", type=count, help="largest area of a frame [pixels], Qwen only (default: the model's)"
    )
    parser.add_argument("--fps", type=positive, help="frames used per second of video (default: the model's, mostly 1)")
    parser.add_argument("--bag-topic", type=text, default="", help="image topic of a bag that has several")
    parser.add_argument(
        "--max-frames",
        type=count_or_zero,
        help="most frames used, evenly spaced; 0: all (default: 240; STAR memory and the demo's model: all)",
    )
    parser.add_argument("--synopsis-slots", type=count, help="synopsis clusters, CSM (default: the model's, or 60)")
    parser.add_argument("--key-frame-slots", type=count, help="key frames, DAM (default: the model's, or 30)")
    parser.add_argument(
        "--temporal-method",
        choices=TEMPORAL_METHODS,
        help="method of CSM; the release also names merge, drop, kmeans, pca_kmeans_ordered, dbscan, gmm and "
        "attention, which fail there (default: the model's, or kmeans_ordered)",
    )
    parser.add_argument(
        "--spatial-method",
        choices=SPATIAL_METHODS,
        help="method of DAM (default: the model's, or klarge_retrieve)",
    )
    parser.add_argument(
        "--pca-dim", type=count, help="dimensions for torchpca_kmeans_ordered (default: the model's, or 32)"
    )
    parser.add_argument(
        "--rule",
        choices=("paper", "released"),
        default="paper",
        help="paper: as the papers describe; released: as the released code, which differs from them in STAR memory's "
        "retrieved frames, klarge_retrieve_cos and torchpca_kmeans_ordered (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the initial clusters (default: %(default)s)")
    parser.add_argument(
        "--instruction",
        type=text,
        help="instruction prepended to the question (default: Qwen: the node's; LLaVA: none)",
    )
    parser.add_argument(
        "--answer-start", type=text, default="", help='start of the answer, such as "Best option: ("; the rest follows'
    )
    parser.add_argument(
        "--max-new-tokens", type=count, default=128, help="longest answer [tokens] (default: %(default)s)"
    )
    parser.add_argument(
        "--blur-faces",
        action="store_true",
        help="cover faces before the model gets a frame, as the node's parameter privacy.blur_faces does",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON: the answer, and the frames, memory and tokens used"
    )


def run(args: argparse.Namespace) -> int:
    with importing():
        from .sources import SourceError, open_source
        from .sources.demo import DemoSource
    try:
        source = open_source(args.video, bag_topic=args.bag_topic, log=log_to_stderr)
        args.fps = args.fps or (DEMO_MODEL_FPS if is_demo_model(args.model) else PUBLISHED_FPS)
        if isinstance(source, DemoSource):  # the demo renders every frame, so render only those that are used
            source = open_source(args.video, fps=args.fps)
    except SourceError as error:  # reported before the model is imported, which takes seconds
        print(error, file=sys.stderr)
        return 1
    with importing():
        from flash_vstream_ros.engine.ingest.faces import FaceDetectionFailed, FacesUnavailable
        from flash_vstream_ros.models.interface import ModelError

        from .video_answer import answer_video
    try:
        result = answer_video(source, args)
    except (SourceError, FaceDetectionFailed, FacesUnavailable, ModelError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result, indent=2, ensure_ascii=False) if args.json else result["answer"])
    return 0
