"""`flash-vstream-ros ask "..."`: one question to a running node, through its service."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import datetime, timezone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", help="in plain language")
    parser.add_argument("--json", action="store_true", help="print the whole reply with the service's field names")
    parser.add_argument("--stream", action="store_true", help="print the answer piece by piece as it is made")
    parser.add_argument("--camera", action="append", default=[], help="answer from this camera only; may be repeated")
    parser.add_argument("--since", type=float, default=0.0, help="ignore what was seen before this stamp [s]")
    parser.add_argument("--until", type=float, default=0.0, help="ignore what was seen after this stamp [s]")
    parser.add_argument("--deadline", type=float, default=0.0, help="time for the answer [s]; 0: the node's default")
    parser.add_argument("--max-new-tokens", type=int, default=0, help="longest answer; 0: the node's default")
    parser.add_argument("--service", default="ask_scene", help="name of the service (default: %(default)s)")
    parser.add_argument("--node", default="flash_vstream", help="name of the node, for --stream (default: %(default)s)")
    parser.add_argument("--wait", type=float, default=10.0, help="wait for the node and its model [s]")


def run(args: argparse.Namespace) -> int:
    from flash_vstream_ros.client import AskClient, NoService

    if not 0 <= args.max_new_tokens <= 65535:
        print("--max-new-tokens must lie between 0 and 65535", file=sys.stderr)
        return 2
    with AskClient(args.service, args.ros_args, stream_of=args.node if args.stream else None) as client:
        if args.stream and not args.json:
            client.on_piece = lambda piece: print(piece, end="", flush=True)
        request = client.request(
            args.question,
            cameras=args.camera,
            since_s=args.since,
            until_s=args.until,
            deadline_s=args.deadline,
            max_new_tokens=args.max_new_tokens,
            stream=args.stream,
        )
        try:
            reply = client.ask_when_ready(request, args.wait)
        except (NoService, TimeoutError) as error:
            print(error, file=sys.stderr)
            return 1
        if args.json:
            print(json.dumps(client.to_dict(reply), indent=2, ensure_ascii=False))
        else:
            _print_reply(reply, answered_already=args.stream)
        return 0 if reply.error_code == reply.NONE else 1


def _print_reply(reply, answered_already: bool) -> None:  # type: ignore[no-untyped-def]
    from flash_vstream_ros.ros.stamps import seconds

    if reply.answer:
        print("" if answered_already else reply.answer)
    if reply.error_code:
        print(f"error {reply.error_code}: {reply.error_msg}", file=sys.stderr)
    if reply.memory_tokens:
        covered = f"{clock(seconds(reply.covered_since))} to {clock(seconds(reply.covered_until))}"
        first_token, whole = seconds(reply.time_to_first_token), seconds(reply.duration)
        warm = ", warm" if reply.cached_tokens else ""
        print(
            f"(seen {covered}, {reply.memory_tokens} memory tokens{warm}, token probability "
            f"{reply.token_probability:.2f},"
            f" first token {first_token:.2f} s, {whole:.2f} s in all)"
        )


def clock(seconds: float) -> str:
    """A stamp near the present as UTC clock time, else as plain seconds: simulated time starts at zero."""
    if abs(seconds - time.time()) < 10 * 365 * 86400:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{seconds:.1f} s"
