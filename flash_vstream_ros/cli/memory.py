"""`flash-vstream-ros memory ...`: what a running node remembers, and what it should not, through its services."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from .ask import clock

TRIGGERS = {
    "pause": "take in no more frames; questions are still answered",
    "resume": "take in frames again",
    "reset": "forget everything",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="what the memory holds, one line an entry")
    listing.add_argument("--json", action="store_true", help="print the whole reply with the service's field names")
    forget = actions.add_parser("forget", help="forget what was seen in an interval of stamps, or by a camera")
    for action in (listing, forget):
        action.add_argument("--camera", action="append", default=[], help="of this camera only; may be repeated")
        action.add_argument("--since", type=float, default=0.0, help="from this stamp on [s]")
        action.add_argument("--until", type=float, default=0.0, help="up to this stamp [s]")
    triggers = [actions.add_parser(name, help=summary) for name, summary in TRIGGERS.items()]
    for action in (listing, forget, *triggers):
        action.add_argument("--node", default="flash_vstream", help="name of the node (default: %(default)s)")
        action.add_argument("--wait", type=float, default=10.0, help="wait for the node [s]")


def run(args: argparse.Namespace) -> int:
    from flash_vstream_ros.client import AskClient, NoService

    with AskClient("ask_scene", args.ros_args) as client:
        try:
            return _trigger(client, args) if args.action in TRIGGERS else _list_or_forget(client, args)
        except (NoService, TimeoutError) as error:
            print(error, file=sys.stderr)
            return 1


def _trigger(client: Any, args: argparse.Namespace) -> int:
    from flash_vstream_ros.ros.interfaces import Trigger

    reply = client.call(Trigger, f"{args.node}/{args.action}", Trigger.Request(), args.wait)
    print(reply.message, file=sys.stdout if reply.success else sys.stderr)
    return 0 if reply.success else 1


def _list_or_forget(client: Any, args: argparse.Namespace) -> int:
    from flash_vstream_ros.ros.interfaces import Forget, ListMemory
    from flash_vstream_ros.ros.stamps import stamp_at

    kind, name = (ListMemory, "list_memory") if args.action == "list" else (Forget, "forget")
    request = kind.Request(cameras=args.camera, since=stamp_at(args.since), until=stamp_at(args.until))
    reply = client.call(kind, f"{args.node}/{name}", request, args.wait)
    if args.action == "list" and args.json:
        print(json.dumps(client.to_dict(reply), indent=2, ensure_ascii=False))
    elif reply.error_code:
        print(f"error {reply.error_code}: {reply.error_msg}", file=sys.stderr)
    elif args.action == "list":
        _print_entries(reply.entries)
    else:
        rebuilt = f"; {reply.clusters_rebuilt} clusters are left in part" if reply.clusters_rebuilt else ""
        print(f"forgot {reply.slots} slots{rebuilt}")
    return 0 if reply.error_code == reply.NONE else 1


def _print_entries(entries: Any) -> None:
    from flash_vstream_ros.ros.stamps import seconds

    for entry in entries:
        kind = "key frame" if entry.kind == entry.KEY_FRAME else "synopsis "
        span = f"{clock(seconds(entry.since))} to {clock(seconds(entry.until))}"
        print(f"{kind}  {entry.camera}  {span}  {entry.weight:.0f} slots")
    print(f"({len(entries)} entries)")
