"""Publishes the frames of a source as a camera would, at their times and with increasing stamps."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from flash_vstream_ros.progress import progress
from flash_vstream_ros.ros.images import from_rgb
from flash_vstream_ros.ros.stamps import LATEST_NS

from .sources import SECOND, FrameSource, SourceError, SourceFrame

if TYPE_CHECKING:
    from flash_vstream_ros.ros import Node

DEPTH = 10  # frames kept for subscribers that have not acknowledged them
UNPACED_HZ = 100.0  # most frames per second at --rate 0
ACKNOWLEDGE_S = 2.0
SETTLE_S = 0.3  # time for more subscribers to appear after the first
SLICE_S = 0.1  # longest sleep between two checks for Ctrl-C


@dataclass
class Sent:
    """Counts, stamps and delays of published frames. Stamps are message time, in seconds and in nanoseconds."""

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
    behind_s: float = 0.0  # longest delay of a frame after it was due
    interrupted: bool = False
    error: str = ""  # why the source could not be read to its end

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
            text += f"; up to {self.behind_s:.1f} s late: this machine is too slow for this rate, lower --rate"
        return text + ("; interrupted" if self.interrupted else "")


def restamped(source: Iterable[SourceFrame], start_ns: int | None, loop: bool) -> Iterator[SourceFrame]:
    """Frames of the source, shifted so that the first stamp is `start_ns` (None: unchanged). Loops have no gap."""
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
    """Delays each frame until it is due: its time in the source, scaled by the rate, has passed."""

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

    def wait_until_due(self, stamp_ns: int) -> float:
        """Wait until the frame is due. Returns its delay [s]."""
        if self._origin is None:
            self._origin = stamp_ns, self.now()
        if self.rate > 0:
            due = self._origin[1] + (stamp_ns - self._origin[0]) / SECOND / self.rate
        else:
            due = self._last + 1 / UNPACED_HZ
        while (remaining := due - self.now()) > 0 and self.alive():
            self.sleep(min(remaining, SLICE_S))
        self._last = self.now()
        return max(self._last - due, 0.0) if self.rate > 0 else 0.0


def publish(args: argparse.Namespace, source: FrameSource, out: TextIO) -> Sent:
    """Publish the source until its end or Ctrl-C; messages for the user go to `out`."""
    from flash_vstream_ros import ros
    from flash_vstream_ros.ros.middleware import use_shipped_profile

    use_shipped_profile()
    sent = Sent(args.topic, source.title)
    ros.init(args=["replay", *args.ros_args])
    node = None
    try:
        node = ros.Node("replay")
        _publish_frames(node, args, source, sent, out)
    except KeyboardInterrupt:
        sent.interrupted = True
    except SourceError as error:
        sent.error = str(error)
    except Exception:
        if ros.ok():
            raise
        sent.interrupted = True  # a signal interrupts rclpy at any point
    finally:
        sent.skipped = source.skipped
        if node is not None:
            node.destroy_node()
        if ros.ok():
            ros.shutdown()
    return sent


def _publish_frames(node: Node, args: argparse.Namespace, source: FrameSource, sent: Sent, out: TextIO) -> None:
    """Publish each frame when it is due, and count it in `sent`. Raises SourceError."""
    from flash_vstream_ros import ros
    from flash_vstream_ros.ros.interfaces import Image

    qos = ros.QoSProfile(depth=DEPTH, history=ros.HistoryPolicy.KEEP_LAST, reliability=ros.ReliabilityPolicy.RELIABLE)
    publisher = node.create_publisher(Image, args.topic, qos)
    _wait_for_subscriber(publisher, args.topic, args.wait, ros.ok, out)
    start_ns = _start_ns(args, source, node.get_clock().now().nanoseconds)
    frame_id = args.frame_id or source.frame_id or "camera"
    pacer = Pacer(args.rate, ros.ok)
    with progress(source.title, None if args.loop else source.frames) as display:
        for stamp_ns, rgb in restamped(source, start_ns, args.loop):
            if not 0 <= stamp_ns <= LATEST_NS:
                raise SourceError(f"stamp {stamp_ns / SECOND:g} s is outside the range of ROS: use --start-at 0")
            message = from_rgb(rgb, stamp_ns, frame_id, Image, args.encoding)
            sent.behind_s = max(sent.behind_s, pacer.wait_until_due(stamp_ns))
            if not ros.ok():
                sent.interrupted = True
                break
            publisher.publish(message)
            sent.add(stamp_ns, time.monotonic())
            sent.subscribers = max(sent.subscribers, publisher.get_subscription_count())
            if args.rate == 0 and sent.sent % DEPTH == 0:
                _wait_for_acknowledgement(publisher)  # not for every frame, since an acknowledgement takes 0.1 s
            display.update(sent.sent)
    _wait_for_acknowledgement(publisher)


def _start_ns(args: argparse.Namespace, source: FrameSource, now_ns: int) -> int | None:
    """The stamp of the first published frame; None: its stamp in the recording."""
    if args.start_at is not None:
        return round(args.start_at * SECOND)
    return now_ns if args.start_now or not source.own_stamps else None


def _wait_for_subscriber(publisher: Any, topic: str, seconds: float, alive: Callable[[], bool], out: Any) -> None:
    end = time.monotonic() + seconds
    announced = False
    while publisher.get_subscription_count() == 0 and alive():
        if time.monotonic() >= end:
            if seconds > 0:
                print(f"no subscriber on {topic} after {seconds:g} s: publishing anyway", file=out, flush=True)
            return
        if not announced:
            print(f"waiting up to {seconds:g} s for a subscriber on {topic}", file=out, flush=True)
            announced = True
        time.sleep(0.02)
    time.sleep(SETTLE_S)


def _wait_for_acknowledgement(publisher: Any) -> None:
    """Wait until reliable subscribers have received all frames, so that none is overwritten or lost at exit."""
    from flash_vstream_ros.ros import Duration

    publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))
