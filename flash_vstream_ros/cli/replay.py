"""`flash-vstream-ros replay FILE`: publish recorded frames as a camera would."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flash_vstream_ros.cli.sources import SECOND, FrameSource, SourceError, SourceFrame, open_source
from flash_vstream_ros.ros.images import PUBLISHED_ENCODINGS, from_rgb
from flash_vstream_ros.ros.stamps import LATEST_NS

DEPTH = 10  # frames kept for subscribers that have not acknowledged them
UNPACED_HZ = 100.0  # ceiling at --rate 0
ACKNOWLEDGE_S = 2.0
SETTLE_S = 0.3  # for further subscribers, once the first is found
SLICE_S = 0.1  # longest sleep between two looks at Ctrl-C
PLAIN_EVERY_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a video, an image, a folder of images, a bag, or demo / demo:SEED")
    parser.add_argument("--topic", default="image", help="publish on this topic (default: %(default)s)")
    parser.add_argument("--bag-topic", default="", help="image topic of the bag, if it holds several")
    parser.add_argument(
        "--rate",
        type=float,
        default=1.0,
        help=f"speed, 1: real time; 0: as fast as subscribers acknowledge, at most {UNPACED_HZ:g} frames a second. "
        "Stamps keep clip time at any rate; a node slower than this drops frames",
    )
    parser.add_argument(
        "--fps", type=float, default=0.0, help="frames a second of clip time (default: the video's, or 10)"
    )
    parser.add_argument("--loop", action="store_true", help="start again at the end; stamps go on increasing")
    starts = parser.add_mutually_exclusive_group()
    starts.add_argument("--start-now", action="store_true", help="first stamp: the present (default, except for bags)")
    starts.add_argument("--start-at", type=float, metavar="SECONDS", help="first stamp")
    starts.add_argument(
        "--stamps-from-zero", dest="start_at", action="store_const", const=0.0, help="the same as --start-at 0"
    )
    parser.add_argument("--encoding", default="rgb8", choices=PUBLISHED_ENCODINGS, help="(default: %(default)s)")
    parser.add_argument("--frame-id", default="", help="frame_id of the headers (default: the bag's, or camera)")
    parser.add_argument("--wait", type=float, default=10.0, help="wait for a subscriber [s] (default: %(default)g)")
    parser.add_argument("--json", metavar="FILE", help="write the counts and stamps to FILE; -: standard output")


@dataclass
class Sent:
    """What was published; stamps in seconds of message time, exact ones in nanoseconds."""

    topic: str
    source: str
    sent: int = 0
    skipped: int = 0
    subscribers: int = 0
    first_stamp_ns: int = 0
    last_stamp_ns: int = 0
    first_stamp: float = 0.0
    last_stamp: float = 0.0
    wall_s: float = 0.0
    behind_s: float = 0.0  # longest time that a frame was sent after it was due
    interrupted: bool = False
    error: str = ""  # why the source broke off

    def add(self, stamp_ns: int, now_s: float) -> None:
        if not self.sent:
            self.first_stamp_ns, self.first_stamp = stamp_ns, stamp_ns / SECOND
            self._began_s = now_s
        self.sent += 1
        self.wall_s = now_s - self._began_s
        self.last_stamp_ns, self.last_stamp = stamp_ns, stamp_ns / SECOND

    def __str__(self) -> str:
        text = f"sent {self.sent} frames on {self.topic}"
        if self.sent:
            text += f", stamps {self.first_stamp:.3f} s to {self.last_stamp:.3f} s, in {self.wall_s:.1f} s"
        if self.skipped:
            text += f"; {self.skipped} frames could not be decoded"
        if self.behind_s > 0.5:
            text += f"; up to {self.behind_s:.1f} s behind: this machine is too slow for this rate"
        return text + ("; interrupted" if self.interrupted else "")


def restamped(source: Iterable[SourceFrame], start_ns: int | None, loop: bool) -> Iterator[SourceFrame]:
    """Frames of the source with the first stamp moved to `start_ns` (None: kept); loops follow without a gap."""
    shift = 0
    following = start_ns
    while True:
        stamps: list[int] = []  # first, last
        count = 0
        for frame in source:
            if not stamps:
                shift = 0 if following is None else following - frame.stamp_ns
                stamps = [frame.stamp_ns]
            stamps[1:] = [frame.stamp_ns]
            count += 1
            yield SourceFrame(frame.stamp_ns + shift, frame.rgb)
        if not loop or not stamps:
            return
        interval = (stamps[1] - stamps[0]) // (count - 1) if count > 1 else SECOND // 10
        following = stamps[1] + shift + max(interval, 1)


class Pacer:
    """Holds every frame back until its clip time, scaled by the rate, has passed on the wall clock."""

    def __init__(
        self,
        rate: float,
        alive: Callable[[], bool],
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rate, self.alive, self.now, self.sleep = rate, alive, now, sleep
        self._origin: tuple[int, float] | None = None  # stamp and wall time of the first frame
        self._last = -1.0

    def hold(self, stamp_ns: int) -> float:
        """Wait until the frame is due. Returns by how much it is late [s]."""
        if self._origin is None:
            self._origin = stamp_ns, self.now()
        if self.rate > 0:
            due = self._origin[1] + (stamp_ns - self._origin[0]) / SECOND / self.rate
        else:
            due = self._last + 1 / UNPACED_HZ
        while (left := due - self.now()) > 0 and self.alive():
            self.sleep(min(left, SLICE_S))
        self._last = self.now()
        return max(self._last - due, 0.0) if self.rate > 0 else 0.0


def run(args: argparse.Namespace) -> int:
    if not args.rate >= 0 or (args.start_at is not None and not args.start_at >= 0):
        print("--rate and --start-at must not be negative", file=sys.stderr)
        return 2
    try:
        source = open_source(args.file, bag_topic=args.bag_topic, fps=args.fps, log=_warn)
    except SourceError as error:
        print(error, file=sys.stderr)
        return 1
    sent = _publish(args, source)
    out = sys.stderr if args.json == "-" else sys.stdout
    print(sent, file=out, flush=True)
    if args.json:
        text = json.dumps(asdict(sent), indent=2) + "\n"
        if args.json == "-":
            sys.stdout.write(text)
        else:
            Path(args.json).write_text(text, encoding="utf-8")
    if sent.error:
        print(sent.error, file=sys.stderr)
        return 1
    return 130 if sent.interrupted else 0


def _warn(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _publish(args: argparse.Namespace, source: FrameSource) -> Sent:
    from flash_vstream_ros import ros
    from flash_vstream_ros.ros.interfaces import Image
    from flash_vstream_ros.ros.middleware import use_shipped_profile

    use_shipped_profile()
    out = sys.stderr if args.json == "-" else sys.stdout
    sent = Sent(args.topic, source.title)
    ros.init(args=["replay", *args.ros_args])
    node = ros.Node("replay")
    try:
        qos = ros.QoSProfile(
            depth=DEPTH, history=ros.HistoryPolicy.KEEP_LAST, reliability=ros.ReliabilityPolicy.RELIABLE
        )
        publisher = node.create_publisher(Image, args.topic, qos)
        _wait_for_subscriber(publisher, args.topic, args.wait, ros.ok, out)
        start_ns = None if source.own_stamps else node.get_clock().now().nanoseconds
        if args.start_now:
            start_ns = node.get_clock().now().nanoseconds
        elif args.start_at is not None:
            start_ns = round(args.start_at * SECOND)
        frame_id = args.frame_id or source.frame_id or "camera"
        pacer = Pacer(args.rate, ros.ok)
        with _progress(source, None if args.loop else source.frames, out) as advance:
            for stamp_ns, rgb in restamped(source, start_ns, args.loop):
                if not 0 <= stamp_ns <= LATEST_NS:
                    raise SourceError(f"stamp {stamp_ns / SECOND:g} s is outside the range of ROS: use --start-at 0")
                message = from_rgb(rgb, stamp_ns, frame_id, Image, args.encoding)
                sent.behind_s = max(sent.behind_s, pacer.hold(stamp_ns))
                if not ros.ok():
                    sent.interrupted = True
                    break
                publisher.publish(message)
                sent.add(stamp_ns, time.monotonic())
                sent.subscribers = max(sent.subscribers, publisher.get_subscription_count())
                if args.rate == 0 and sent.sent % DEPTH == 0:
                    _acknowledged(publisher)  # an acknowledgement takes a tenth of a second: not for every frame
                advance(sent)
        _acknowledged(publisher)
    except KeyboardInterrupt:
        sent.interrupted = True
    except SourceError as error:
        sent.error = str(error)
    except Exception:
        if ros.ok():
            raise
        sent.interrupted = True  # rclpy raises from whatever a signal finds it in
    finally:
        sent.skipped = source.skipped
        node.destroy_node()
        if ros.ok():
            ros.shutdown()
    return sent


def _wait_for_subscriber(publisher: Any, topic: str, seconds: float, alive: Callable[[], bool], out: Any) -> None:
    end = time.monotonic() + seconds
    told = False
    while publisher.get_subscription_count() == 0 and alive():
        if time.monotonic() >= end:
            if seconds > 0:
                print(f"nobody listens on {topic} after {seconds:g} s: sending anyway", file=out, flush=True)
            return
        if not told:
            print(f"waiting up to {seconds:g} s for a subscriber on {topic}", file=out, flush=True)
            told = True
        time.sleep(0.02)
    time.sleep(SETTLE_S)


def _acknowledged(publisher: Any) -> None:
    """Wait until reliable subscribers hold every frame sent, so that none is overwritten or lost at exit."""
    from flash_vstream_ros.ros import Duration

    publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))


@contextmanager
def _progress(source: FrameSource, total: int | None, out: Any) -> Iterator[Callable[[Sent], None]]:
    """A bar on a terminal, a line every few seconds elsewhere."""
    if out.isatty():
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        except ImportError:
            pass
        else:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            with Progress(*columns, console=Console(file=out)) as bar:
                task = bar.add_task(source.title, total=total)
                yield lambda sent: bar.update(task, completed=sent.sent)
            return
    last = time.monotonic()

    def line(sent: Sent) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_EVERY_S:
            last = time.monotonic()
            print(f"{sent.sent}/{total or '?'} frames, stamp {sent.last_stamp:.1f} s", file=out, flush=True)

    yield line
