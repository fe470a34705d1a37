"""`flash-vstream-ros search "red ball"`: find the moments that show it, in a running node or a memory in a file."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from flash_vstream_ros.engine.log_text import printable
from flash_vstream_ros.process import importing

from .argument_types import moments, search_text, text
from .ask import add_node_arguments, is_memory_missing
from .node import add_model_arguments
from .output_files import OutputError, output_image, write_output
from .places import pose_text
from .reply_output import covered_text, print_error, print_json, print_notes
from .request_limits import add_place_arguments, add_time_arguments, request_limits
from .times import BadTime, short_time_text, time_text

if TYPE_CHECKING:
    from flash_vstream_ros.client import AskClient

SHEET_COLUMNS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        type=search_text,
        nargs="?",
        help='what to look for, such as "red ball", or a whole question that ends with a question mark',
    )
    parser.add_argument(
        "--image", metavar="FILE", help="search for what looks like the image in FILE, instead of for a text"
    )
    parser.add_argument("--json", action="store_true", help="print the whole reply with the service's field names")
    parser.add_argument(
        "--top", type=moments, default=5, metavar="N", help="show the N best moments, at most 64 (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=output_image, metavar="FILE", help="write a contact sheet of the moments to FILE, a .jpg or .png"
    )
    parser.add_argument(
        "--camera", type=text, action="append", default=[], help="search this camera only; may be repeated"
    )
    add_time_arguments(parser, "ignore what was seen before this time", "ignore what was seen after this time")
    add_place_arguments(parser, "search only what was seen")
    parser.add_argument(
        "--archive", action="store_true", help="search the archived key frames of all days, not the memory"
    )
    parser.add_argument(
        "--memory",
        metavar="FILE",
        help="without a node: search the memory in FILE, written by remember or by a node (archive.path)",
    )
    add_model_arguments(parser)
    add_node_arguments(parser, "wait for the node to appear and to load its model [s] (default: %(default)g)")


def run(args: argparse.Namespace) -> int:
    if is_memory_missing(args):
        return 2
    if args.memory and args.archive:
        print("give either --memory or --archive: a file of a memory has no archived key frames", file=sys.stderr)
        return 2
    if bool(args.text) == bool(args.image):
        print("give either a text or --image FILE", file=sys.stderr)
        return 2
    reply = _search_file(args) if args.memory else _search_node(args)
    if reply is None:
        return 1
    _print(reply, args.json)
    if args.out and reply.error_code == reply.NONE:
        try:
            write_output(args.out, _sheet(reply, args.out.suffix.lower()))
        except OutputError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"wrote {args.out}", file=sys.stderr)
    return 0 if reply.error_code == reply.NONE else 1


def _search_node(args: argparse.Namespace) -> Any:
    """The node's reply; None after an error, which is printed."""
    with importing():
        from flash_vstream_ros.client import ClientError

        from .image_files import ImageFileError, read_as_jpeg
        from .node_client import node_client
    try:
        image = read_as_jpeg(args.image) if args.image else b""
        with node_client(args) as client:
            return _ask_node(client, args, image)
    except (ClientError, BadTime, ImageFileError) as error:
        print(error, file=sys.stderr)
        return None


def _ask_node(client: AskClient, args: argparse.Namespace, image: bytes) -> Any:
    limits = request_limits(args, client)
    return client.search_when_ready(
        args.text or "", args.wait, archive=args.archive, max_moments=args.top, image=image, **limits
    )


def _search_file(args: argparse.Namespace) -> Any:
    """The reply from a file; None after an error, which is printed."""
    with importing():
        from flash_vstream_ros.memory.memory_file import MemoryFileError
        from flash_vstream_ros.models.interface import ModelError
        from flash_vstream_ros.node.offline_parameters import BadParameters

        from .image_files import ImageFileError
        from .memory_file_answer import search_in_file
    try:
        return search_in_file(args)
    except (MemoryFileError, ModelError, BadParameters, BadTime, ImageFileError) as error:
        print(error, file=sys.stderr)
        return None


def _print(reply: Any, as_json: bool) -> None:
    from flash_vstream_ros.ros.stamps import seconds

    if as_json:
        print_json(reply)
        return
    for moment in reply.moments:
        at, since, until = (
            time_text(seconds(stamp)) for stamp in (moment.thumbnail.header.stamp, moment.since, moment.until)
        )
        where = f"  {pose_text(moment)}" if moment.pose_known else ""
        print(f"{moment.relevance:.3f}  {printable(moment.camera)}  {at}  (entry: {since} to {until}){where}")
    print_notes(reply)
    print_error(reply)
    if not reply.error_code:
        print(f"(searched {covered_text(reply)}; {seconds(reply.duration):.2f} s)", file=sys.stderr)


def _sheet(reply: Any, suffix: str) -> bytes:
    """The contact sheet of a reply's moments, best first, as an image file."""
    from flash_vstream_ros.engine.contact_sheet import KEY_FRAME, SYNOPSIS, Thumbnail, sheet_file
    from flash_vstream_ros.ros.stamps import seconds

    thumbnails = [
        Thumbnail(
            f"{moment.relevance:.2f} {short_time_text(seconds(moment.thumbnail.header.stamp))}",
            KEY_FRAME if moment.kind == moment.KEY_FRAME else SYNOPSIS,
            bytes(moment.thumbnail.data),
        )
        for moment in reply.moments
    ]
    return sheet_file(thumbnails, suffix, min(SHEET_COLUMNS, max(len(thumbnails), 1)))
