"""`flash-vstream-ros archive --path FOLDER`: list archived key frames by the hour, or export them as a bag."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flash_vstream_ros.engine.log_text import printable
from flash_vstream_ros.process import importing

from .argument_types import text
from .output_files import OutputError, log_to_stderr, output_file, output_image, write_output
from .request_limits import add_time_arguments, interval
from .times import BadTime, short_time_text, time_text

if TYPE_CHECKING:
    import sqlite3

    from flash_vstream_ros.memory.scope import Scope

SHEET_FRAMES = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--path", type=Path, required=True, metavar="FOLDER", help="archive.path of the node, which may be running"
    )
    add_time_arguments(parser, "only what was seen from this time on", "only what was seen up to this time")
    parser.add_argument(
        "--camera", type=text, action="append", default=[], help="this camera's key frames only; may be repeated"
    )
    parser.add_argument(
        "--sheet",
        type=output_image,
        metavar="FILE",
        help=f"draw a contact sheet of up to {SHEET_FRAMES} key frames, evenly spread, to FILE, a .jpg or .png",
    )
    parser.add_argument(
        "--export",
        type=_bag_file,
        metavar="FILE.mcap",
        help="write the key frames as a rosbag2 of sensor_msgs/CompressedImage, which replay and other tools read",
    )


def run(args: argparse.Namespace) -> int:
    with importing():
        from flash_vstream_ros.engine.archive.archive_folder import DATABASE
        from flash_vstream_ros.engine.archive.database import ArchiveError, newest_ns, reading
        from flash_vstream_ros.memory.scope import Scope
    try:
        with reading(args.path.expanduser() / DATABASE) as connection:
            since_s, until_s = interval(args, lambda: newest_ns(connection) / 1e9 or None)
            scope = Scope(tuple(args.camera), round(since_s * 1e9), round(until_s * 1e9))
            found = _export(connection, scope, args.export) if args.export else _list(connection, scope)
            if args.sheet and found:
                write_output(args.sheet, _sheet(connection, scope, args.sheet.suffix.lower()))
    except (ArchiveError, BadTime, OutputError) as error:
        print(error, file=sys.stderr)
        return 1
    if not found:
        print("no key frame matches", file=sys.stderr)
    return 0 if found else 1


def _bag_file(word: str) -> Path:
    if not word.endswith(".mcap"):
        raise argparse.ArgumentTypeError(f"{word} must end in .mcap: other tools recognise the format by it")
    return output_file(word)


def _list(connection: sqlite3.Connection, scope: Scope) -> int:
    from flash_vstream_ros.engine.archive.database import hours_of

    hours = hours_of(connection, scope)
    for hour in hours:
        begin, size = time_text(hour.begin_ns / 1e9), f"{hour.bytes / 1e6:.2f} MB"
        print(f"{begin}  {printable(hour.camera):<16} {hour.key_frames:>6} key frames {size:>12}")
    total = sum(hour.key_frames for hour in hours)
    if total:
        print(f"({total} key frames, {sum(hour.bytes for hour in hours) / 1e6:.2f} MB)")
    return total


def _sheet(connection: sqlite3.Connection, scope: Scope, suffix: str) -> bytes:
    from flash_vstream_ros.engine.archive.recall import key_frames
    from flash_vstream_ros.engine.contact_sheet import KEY_FRAME, Thumbnail, sheet_file

    frames, _ = key_frames(connection, scope, SHEET_FRAMES)
    thumbnails = [
        Thumbnail(f"{frame.novelty:.2f} {short_time_text(frame.stamp_ns / 1e9)}", KEY_FRAME, frame.jpeg)
        for frame in frames
    ]
    return sheet_file(thumbnails, suffix)


def _export(connection: sqlite3.Connection, scope: Scope, path: Path) -> int:
    from flash_vstream_ros.engine.archive.database import read_key_frames

    from .archive_export import write_bag

    counts = write_bag(path, read_key_frames(connection, scope))
    if counts.damaged:
        log_to_stderr(f"left out {counts.damaged} damaged key frames")
    if counts.written:
        print(f"{path}: {counts.written} key frames, topics {', '.join(counts.topics)}")
    return counts.written
