"""`flash-vstream-ros memory ...`: list and control the memory of a running node through its services."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from flash_vstream_ros.engine.log_text import printable
from flash_vstream_ros.process import importing

from .argument_types import text
from .ask import add_node_arguments
from .reply_output import print_error, print_json
from .request_limits import add_place_arguments, add_time_arguments, request_limits
from .times import BadTime, time_text

if TYPE_CHECKING:
    from flash_vstream_ros.client import AskClient, Limits

TRIGGERS = {
    "pause": "drop further frames; questions are still answered",
    "resume": "encode frames again",
    "reset": "forget everything",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list the memory's entries, one per line")
    listing.add_argument("--json", action="store_true", help="print the whole reply with the service's field names")
    forget = actions.add_parser(
        "forget", help="forget what was seen in an interval or by a camera; exit status 1 if nothing matched"
    )
    for action, verb in ((listing, "list"), (forget, "forget")):
        action.add_argument(
            "--camera", type=text, action="append", default=[], help=f"{verb} this camera's frames; may be repeated"
        )
        add_time_arguments(action, f"{verb} what was seen from this time on", f"{verb} what was seen up to this time")
        add_place_arguments(action, f"{verb} only what was seen")
    triggers = [actions.add_parser(name, help=summary) for name, summary in TRIGGERS.items()]
    for action in (listing, forget, *triggers):
        add_node_arguments(action, "wait for the node to appear [s] (default: %(default)g)")


def run(args: argparse.Namespace) -> int:
    with importing():
        from flash_vstream_ros.client import ClientError

        from .node_client import node_client

    actions = {"list": _list, "forget": _forget}
    try:
        with node_client(args) as client:
            return actions.get(args.action, _trigger)(client, args)
    except (ClientError, BadTime) as error:
        print(error, file=sys.stderr)
        return 1


def _trigger(client: AskClient, args: argparse.Namespace) -> int:
    from flash_vstream_ros.ros.interfaces import Trigger

    reply = client.call(Trigger, f"{args.node}/{args.action}", Trigger.Request(), args.wait)
    print(printable(reply.message), file=sys.stdout if reply.success else sys.stderr)
    return 0 if reply.success else 1


def _list(client: AskClient, args: argparse.Namespace) -> int:
    limits = request_limits(args, client)
    reply = client.list_memory(args.wait, **limits)
    if args.json:
        print_json(reply)
    elif reply.error_code:
        print_error(reply)
    else:
        _print_entries(reply.entries)
        if not reply.entries:
            print(_nothing_matches(client, args.wait, limits), file=sys.stderr)
    return 0 if reply.error_code == reply.NONE else 1


def _forget(client: AskClient, args: argparse.Namespace) -> int:
    limits = request_limits(args, client)
    reply = client.forget(args.wait, **limits)
    if reply.error_code:
        print_error(reply)
        return 1
    if not (reply.slots or reply.key_frames):
        print(f"forgot nothing: {_nothing_matches(client, args.wait, limits)}", file=sys.stderr)
        return 1
    archived = f" and {reply.key_frames} archived key frames" if reply.key_frames else ""
    rebuilt = f"; {reply.clusters_rebuilt} clusters were rebuilt without them" if reply.clusters_rebuilt else ""
    print(f"forgot {reply.slots} slots{archived} {_interval_text(limits)}{rebuilt}")
    return 0


def _interval_text(limits: Limits) -> str:
    since, until = limits["since_s"], limits["until_s"]
    start = time_text(since) if since else "the beginning"
    return f"from {start} to {time_text(until) if until else 'now'}"


def _nothing_matches(client: AskClient, wait_s: float, limits: Limits) -> str:
    """The sentence for an empty result: it names the searched interval, and the interval that the memory covers."""
    from flash_vstream_ros.ros.stamps import seconds

    entries = client.list_memory(wait_s).entries
    if not entries:
        return "the memory is empty"
    oldest, newest = min(seconds(entry.since) for entry in entries), max(seconds(entry.until) for entry in entries)
    cameras = f" of {', '.join(limits['cameras'])}" if limits["cameras"] else ""
    place = "" if "near" not in limits else f" near {limits['near'][0]:g},{limits['near'][1]:g}"
    return (
        f"nothing{cameras}{place} {_interval_text(limits)} is in the memory, which covers "
        f"{time_text(oldest)} to {time_text(newest)} (stamps {oldest:.1f} to {newest:.1f} s)"
    )


def _print_entries(entries: Any) -> None:
    from flash_vstream_ros.ros.stamps import seconds

    for entry in entries:
        kind = "key frame" if entry.kind == entry.KEY_FRAME else "synopsis "
        span = f"{time_text(seconds(entry.since))} to {time_text(seconds(entry.until))}"
        print(f"{kind}  {printable(entry.camera)}  {span}  {entry.weight:.0f} slots")
    print(f"({len(entries)} entries)")
