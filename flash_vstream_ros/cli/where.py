"""`flash-vstream-ros where "red ball"`: the pose at which a thing was seen best."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from flash_vstream_ros.engine.log_text import printable
from flash_vstream_ros.process import importing

from .argument_types import search_text, text
from .ask import add_node_arguments
from .places import pose_text
from .reply_output import print_error, print_notes
from .request_limits import add_place_arguments, add_time_arguments, request_limits
from .times import BadTime, time_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        type=search_text,
        help='what to look for, such as "red ball", or a question that ends with a question mark',
    )
    parser.add_argument("--json", action="store_true", help="print the best moment with its pose as JSON")
    parser.add_argument(
        "--camera", type=text, action="append", default=[], help="search this camera only; may be repeated"
    )
    parser.add_argument(
        "--archive", action="store_true", help="search the archived key frames of all days, not the memory"
    )
    add_time_arguments(parser, "ignore what was seen before this time", "ignore what was seen after this time")
    add_place_arguments(parser, "search only what was seen")
    add_node_arguments(parser, "wait for the node to appear and to load its model [s] (default: %(default)g)")


def run(args: argparse.Namespace) -> int:
    with importing():
        from flash_vstream_ros.client import MOMENTS, ClientError, place_in

        from .node_client import node_client
    try:
        with node_client(args) as client:
            limits = request_limits(args, client)
            reply = client.search_when_ready(args.text, args.wait, archive=args.archive, max_moments=MOMENTS, **limits)
            present = client.present_map(args.wait) if reply.moments else None
    except (ClientError, BadTime) as error:
        print(error, file=sys.stderr)
        return 1
    print_notes(reply)
    print_error(reply)
    if present is None:
        return 1
    place = place_in(present, reply.moments)
    if not place.is_best:
        print("the best moment has no pose in the present map; this is the next best one", file=sys.stderr)
    _print_moment(place.moment, args.json)
    if place.why_unknown:
        print(place.why_unknown, file=sys.stderr)
    return 1 if place.why_unknown else 0


def _print_moment(moment: Any, as_json: bool) -> None:
    from flash_vstream_ros.ros.interfaces import to_dict
    from flash_vstream_ros.ros.stamps import seconds

    if as_json:
        print(json.dumps(to_dict(moment, binary=False), indent=2, ensure_ascii=False))
    else:
        at = time_text(seconds(moment.thumbnail.header.stamp))
        print(f"{pose_text(moment)}  (seen by {printable(moment.camera)}, {at}; relevance {moment.relevance:.3f})")
