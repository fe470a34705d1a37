"""`flash-vstream-ros report`: what a running node saw in an interval, as Markdown with pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from flash_vstream_ros.engine.log_text import printable
from flash_vstream_ros.process import importing

from .argument_types import text
from .ask import add_node_arguments
from .output_files import OutputError, output_file, output_folder, write_output
from .reply_output import print_error, print_json
from .request_limits import add_time_arguments, interval
from .times import BadTime, time_text

MARKUP = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>#|!"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_time_arguments(parser, "report what was seen from this time on", "report what was seen up to this time")
    parser.add_argument(
        "--out",
        type=output_file,
        metavar="FILE.md",
        help="write the report to FILE.md, and its pictures into the folder FILE_pictures (default: print the report, "
        "without pictures)",
    )
    parser.add_argument("--json", action="store_true", help="print the whole reply with the service's field names")
    parser.add_argument("--service", type=text, default="ask_scene", help="name of the service (default: %(default)s)")
    add_node_arguments(parser, "wait for the node to appear [s] (default: %(default)g)")


def run(args: argparse.Namespace) -> int:
    with importing():
        from flash_vstream_ros.client import ClientError

        from .node_client import node_client

    try:
        with node_client(args, args.service) as client:
            since, until = interval(args, lambda: client.newest_stamp_s(args.wait))
            reply = client.report(args.wait, since, until, pictures=bool(args.out))
    except (ClientError, BadTime) as error:
        print(error, file=sys.stderr)
        return 1
    if args.json:
        print_json(reply)
    elif args.out:
        return _write(reply, args.out)
    elif reply.sections:
        print(markdown(reply.sections, []))
    _print_problems(reply)
    return 0 if reply.error_code == reply.NONE else 1


def _write(reply: Any, path: Path) -> int:
    _print_problems(reply)
    if not reply.sections:
        return 1
    try:
        folder = output_folder(str(path.with_name(f"{path.stem}_pictures")))
        files = []
        for number, section in enumerate(reply.sections):
            names = [f"{folder.name}/{number:04d}_{index}.jpg" for index in range(len(section.pictures))]
            for name, picture in zip(names, section.pictures, strict=True):
                write_output(path.parent / name, bytes(picture.data))
            files.append(names)
        write_output(path, markdown(reply.sections, files) + "\n")
    except (OutputError, argparse.ArgumentTypeError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path}: {len(reply.sections)} sections, {sum(map(len, files))} pictures")
    return 0 if reply.error_code == reply.NONE else 1


def markdown(sections: Any, pictures: list[list[str]]) -> str:
    """A report as Markdown. `pictures` has the files of each section's pictures; it is empty if none were written."""
    from flash_vstream_ros.ros.stamps import seconds

    parts = [
        f"# {time_text(seconds(sections[0].since))} to {time_text(seconds(sections[-1].until))}",
        *(_section(section, files) for section, files in zip(sections, pictures or [[]] * len(sections), strict=True)),
    ]
    return "\n\n".join(parts)


def _section(section: Any, files: list[str]) -> str:
    from flash_vstream_ros.ros.stamps import seconds

    cameras = ", ".join(map(_escaped, section.cameras))
    counted = f", {section.frames} frames, novelty {section.novelty:.2f}" if section.frames else ""
    lines = [
        f"## {time_text(seconds(section.since))} to {time_text(seconds(section.until))}",
        _escaped(section.text),
        *([f"({cameras}{counted})"] if cameras else []),
    ]
    if files:
        images = zip(files, section.pictures, strict=True)
        lines.append(" ".join(f"![{time_text(seconds(picture.header.stamp))}]({name})" for name, picture in images))
    return "\n\n".join(lines)


def _escaped(words: str) -> str:
    """Escape text of a model or a peer, so that it has no effect as Markdown, as HTML or on a terminal."""
    return printable(" ".join(words.split())).translate(MARKUP)


def _print_problems(reply: Any) -> None:
    print_error(reply)
    if not (reply.error_code or reply.sections):
        print("nothing to report: nothing was seen in this interval, or it is no longer remembered", file=sys.stderr)
    for sentence in reply.missing:
        print(f"a part is missing: {printable(sentence)}", file=sys.stderr)
