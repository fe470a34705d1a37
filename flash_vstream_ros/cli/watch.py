"""`flash-vstream-ros watch "a person is in view"`: add a watch to a running node and print its events."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from flash_vstream_ros.engine.log_text import printable
from flash_vstream_ros.process import importing

from .argument_types import duration, number_or_zero, search_text, text
from .ask import add_node_arguments
from .places import pose_text
from .reply_output import MODEL_NOTES, print_error, print_json
from .times import time_text

if TYPE_CHECKING:
    from flash_vstream_ros.client import AskClient

SPIN_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        type=search_text,
        nargs="?",
        help='a statement such as "a person is in view", or a yes/no question that ends with a question mark',
    )
    parser.add_argument("--list", action="store_true", help="list the watches of the node")
    parser.add_argument("--remove", type=text, metavar="ID", help="remove a watch")
    parser.add_argument("--id", type=text, default="", help="id of the new watch (default: the node assigns one)")
    parser.add_argument("--keep", action="store_true", help="leave the watch in the node when this command ends")
    parser.add_argument(
        "--camera", type=text, action="append", default=[], help="watch this camera only; may be repeated"
    )
    parser.add_argument(
        "--period", type=duration, default=0.0, metavar="SECONDS", help="time between two checks (default: 1) [s]"
    )
    parser.add_argument(
        "--hold",
        type=duration,
        default=0.0,
        metavar="SECONDS",
        help="how long it must be true to begin (default: 0) [s]",
    )
    parser.add_argument(
        "--release",
        type=duration,
        default=0.0,
        metavar="SECONDS",
        help="how long it must be untrue to end (default: 3) [s]",
    )
    parser.add_argument(
        "--cooldown",
        type=duration,
        default=0.0,
        metavar="SECONDS",
        help="time after an end in which it does not begin again (default: 0) [s]",
    )
    parser.add_argument(
        "--on", type=number_or_zero, default=0.0, metavar="P", help="probability at which it begins (default: 0.7)"
    )
    parser.add_argument(
        "--off", type=number_or_zero, default=0.0, metavar="P", help="probability below which it ends (default: 0.3)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one event per line")
    add_node_arguments(parser, "wait for the node to appear [s] (default: %(default)g)")


def run(args: argparse.Namespace) -> int:
    if bool(args.text) + args.list + bool(args.remove) != 1:
        print("give a text to watch for, --list, or --remove ID", file=sys.stderr)
        return 2
    with importing():
        from flash_vstream_ros.client import ClientError

        from .node_client import node_client
    try:
        with node_client(args) as client:
            if args.list:
                return _list(client, args)
            return _remove(client, args, args.remove) if args.remove else _watch(client, args)
    except ClientError as error:
        print(error, file=sys.stderr)
        return 1


def _watch(client: AskClient, args: argparse.Namespace) -> int:
    """Add the watch, and print its events until Ctrl-C."""
    from flash_vstream_ros.client import EVENTS_DEPTH
    from flash_vstream_ros.ros.interfaces import Event, Watch
    from flash_vstream_ros.ros.stamps import duration_message

    events: list[Any] = []
    client.node.create_subscription(Event, f"{args.node}/events", events.append, EVENTS_DEPTH)
    watch = Watch(
        watch_id=args.id,
        text=args.text,
        cameras=args.camera,
        period=duration_message(args.period),
        hold=duration_message(args.hold),
        release=duration_message(args.release),
        cooldown=duration_message(args.cooldown),
        on=args.on,
        off=args.off,
    )
    reply = client.add_watch(args.wait, watch)
    if reply.error_code:
        print_error(reply)
        return 1
    print(f"watch {printable(reply.watch_id)}; Ctrl-C ends it", file=sys.stderr, flush=True)
    noted = False
    try:
        while True:
            client.spin(SPIN_S)
            while events:
                event = events.pop(0)
                if event.watch_id == reply.watch_id:
                    if not noted and (note := MODEL_NOTES.get(event.model_kind)):
                        print(note, file=sys.stderr, flush=True)
                    noted = True
                    _print_event(event, args.json)
    finally:
        if not args.keep:
            _remove(client, args, reply.watch_id)


def _print_event(event: Any, as_json: bool) -> None:
    from flash_vstream_ros.ros.interfaces import to_dict
    from flash_vstream_ros.ros.stamps import seconds

    if as_json:
        print(json.dumps(to_dict(event, binary=False), ensure_ascii=False), flush=True)
        return
    kind = "began" if event.kind == event.BEGAN else "ended"
    why = printable(event.reason) if event.reason else f"{event.probability:.2f}  {printable(event.camera)}"
    where = "".join(f"  {pose_text(entry)}" for entry in event.evidence if entry.pose_known)
    print(f"{kind}  {time_text(seconds(event.header.stamp))}  {why}{where}", flush=True)


def _remove(client: AskClient, args: argparse.Namespace, watch_id: str) -> int:
    reply = client.remove_watch(args.wait, watch_id)
    print_error(reply)
    return 1 if reply.error_code else 0


def _list(client: AskClient, args: argparse.Namespace) -> int:
    reply = client.list_watches(args.wait)
    if args.json:
        print_json(reply)
    elif reply.error_code:
        print_error(reply)
    else:
        for status in reply.watches:
            _print_status(status)
        print(f"({len(reply.watches)} watches, {100 * reply.device_share:.1f} % of the device)")
    return 1 if reply.error_code else 0


def _print_status(status: Any) -> None:
    from flash_vstream_ros.ros.stamps import seconds

    state = "active " if status.active else "waiting"
    probability = f"{status.probability:.2f}" if status.checks else "   -"
    watch = status.watch
    missed = f", {status.missed} missed" if status.missed else ""
    print(
        f"{state}  {probability}  {printable(watch.watch_id)}  {printable(watch.text)}  "
        f"(every {seconds(watch.period):g} s, {status.checks} checks{missed})"
    )
    if status.problem:
        print(f"    {printable(status.problem)}")
