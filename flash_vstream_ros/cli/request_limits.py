"""The options that limit a request to cameras, an interval and a circle."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .argument_types import point, positive
from .times import FORMS, NO_LIMIT, BadTime, time_point

if TYPE_CHECKING:
    from flash_vstream_ros.client import AskClient, Limits

RADIUS_M = 2.0


def add_time_arguments(parser: argparse.ArgumentParser, since: str, until: str) -> None:
    """Add `--since` and `--until`."""
    for name, meaning in (("--since", since), ("--until", until)):
        parser.add_argument(
            name, type=time_point, default=NO_LIMIT, metavar="TIME", help=f"{meaning}: {FORMS}; 0: no limit"
        )


def add_place_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--near` and `--radius`."""
    parser.add_argument(
        "--near", type=point, metavar="X,Y", help=f"{what} within --radius of this point in pose.fixed_frame [m]"
    )
    parser.add_argument(
        "--radius", type=positive, default=RADIUS_M, metavar="R", help="of --near [m] (default: %(default)g)"
    )


def interval(args: argparse.Namespace, newest_stamp_s: Callable[[], float | None]) -> tuple[float, float]:
    """The stamps of --since and --until [s]. Raises BadTime, and what `newest_stamp_s` raises."""

    def newest_s() -> float:
        newest = newest_stamp_s()
        if newest is None:
            raise BadTime("the memory is empty, so no time is relative to its newest frame; give seconds or a date")
        return newest

    return args.since.stamp(newest_s), args.until.stamp(newest_s)


def limits_of(
    client: AskClient,
    wait_s: float,
    cameras: Sequence[str],
    since: str,
    until: str,
    near: tuple[float, float] | None = None,
    radius: float = RADIUS_M,
) -> Limits:
    """The limits of a request that has no options; empty times, and no `near`: no limit. `near` and `radius` in metres.

    Raises ArgumentTypeError, BadTime and ClientError.
    """
    args = argparse.Namespace(
        camera=cameras,
        since=time_point(since or "0"),
        until=time_point(until or "0"),
        near=near,
        radius=radius,
        wait=wait_s,
    )
    return request_limits(args, client)


def request_limits(args: argparse.Namespace, client: AskClient) -> Limits:
    """What --camera, --since, --until, --near and --radius limit a request to. Raises BadTime and ClientError."""
    since_s, until_s = interval(args, lambda: client.newest_stamp_s(args.wait))
    limits: Limits = {"cameras": args.camera, "since_s": since_s, "until_s": until_s}
    return {**limits, "near": args.near, "radius": args.radius} if args.near else limits
