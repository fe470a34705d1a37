"""`flash-vstream-ros replay FILE`: publish recorded frames as a camera would."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from flash_vstream_ros.process import INTERRUPTED, importing

from .argument_types import duration, number_or_zero, text
from .output_files import STDOUT, OutputError, log_to_stderr, output_file_or_stdout, write_output

# A copy of the constant of ros/images.py: that loads a ROS runtime, which `--help` must not wait for.
PUBLISHED_ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8", "mono8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a video, an image, a folder of images, a bag, or demo / demo:SEED")
    parser.add_argument("--topic", type=text, default="image", help="publish on this topic (default: %(default)s)")
    parser.add_argument("--bag-topic", type=text, default="", help="image topic of a bag that has several")
    parser.add_argument(
        "--rate",
        type=number_or_zero,
        default=1.0,
        help="speed; 1: real time; 0: as fast as subscribers acknowledge, at most 100 frames a second. Stamps keep the "
        "source's times at any rate; a node that is slower drops frames (default: %(default)g)",
    )
    parser.add_argument(
        "--fps",
        type=number_or_zero,
        default=0.0,
        help="frames per second of the source; 0: the video's own, or 10 for images and the demo (default: 0)",
    )
    parser.add_argument("--loop", action="store_true", help="start again at the end; stamps go on increasing")
    starts = parser.add_mutually_exclusive_group()
    starts.add_argument(
        "--start-now",
        action="store_true",
        help="stamp the first frame with the current time (default; not for bags)",
    )
    starts.add_argument("--start-at", type=duration, metavar="SECONDS", help="stamp of the first frame [s]")
    starts.add_argument(
        "--stamps-from-zero", dest="start_at", action="store_const", const=0.0, help="the same as --start-at 0"
    )
    parser.add_argument(
        "--encoding", default="rgb8", choices=PUBLISHED_ENCODINGS, help="encoding of the images (default: %(default)s)"
    )
    parser.add_argument(
        "--frame-id", type=text, default="", help="frame_id of the headers (default: the bag's, or camera)"
    )
    parser.add_argument("--wait", type=duration, default=10.0, help="wait for a subscriber [s] (default: %(default)g)")
    parser.add_argument(
        "--json", type=output_file_or_stdout, metavar="FILE", help="write the counts and stamps to FILE; -: print them"
    )


def run(args: argparse.Namespace) -> int:
    with importing():
        from .camera_publisher import publish
        from .sources import SourceError, open_source
    out = sys.stderr if args.json == STDOUT else sys.stdout
    try:
        source = open_source(args.file, bag_topic=args.bag_topic, fps=args.fps, log=log_to_stderr)
    except SourceError as error:
        print(error, file=sys.stderr)
        return 1
    sent = publish(args, source, out)
    print(sent, file=out, flush=True)
    figures = json.dumps(asdict(sent), indent=2) + "\n"
    if args.json == STDOUT:
        sys.stdout.write(figures)
    elif args.json:
        try:
            write_output(args.json, figures)
        except OutputError as error:
            print(error, file=sys.stderr)
            return 1
    if sent.error:
        print(sent.error, file=sys.stderr)
        return 1
    return INTERRUPTED if sent.interrupted else 0
