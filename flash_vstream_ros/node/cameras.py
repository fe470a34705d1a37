"""A camera of the node: a subscription whose QoS follows its publishers, and checks of each image."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.node.callback_guard import never_raises
from flash_vstream_ros.node.image_header import checked_header
from flash_vstream_ros.node.image_loss import ImageLoss, Lateness
from flash_vstream_ros.node.image_qos import ImageQoS, compatible, incompatible, node_of
from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.ros import (
    Clock,
    ClockType,
    ImageCallbackGroup,
    Node,
    QoSProfile,
    ReliabilityPolicy,
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
    middleware,
)
from flash_vstream_ros.ros.image_transport import DEFAULT_DECODING, TRANSPORTS, DecodingConfig
from flash_vstream_ros.ros.images import BadImage

DISCOVERY_PERIOD_S = 0.25  # between two checks of the publishers
OVERLAP_PERIODS = 4  # discovery periods after which a replaced subscription is removed
WARN_PERIOD_S = 30.0  # between two equal warnings


def camera_topics(names: Sequence[str]) -> dict[str, str]:
    """The relative topic of each camera, without the suffix of a transport."""
    return {name: "image" if len(names) == 1 else f"{name}/image" for name in names}


def full_topic(node: Node, topic: str, transport: str) -> str:
    """The topic of the images of a transport, after remapping."""
    return str(node.resolve_topic_name(topic)) + TRANSPORTS[transport].suffix


class FrameSink(Protocol):
    """Receiver of a camera's frames: the engine."""

    def offer(self, frame: Frame) -> None:
        """Accept a frame that passed the camera's checks."""

    def reject(self, camera: str, reason: str, sentence: str) -> None:
        """Count an image that failed the checks under `reason`, a short name; `sentence` explains it."""


class Camera:
    """Subscribes to a camera's images. Until `close`, it offers each to `sink` as a Frame, or rejects it with a reason.

    A callback that was running when `close` was called may still call the sink. After `close`, another Camera may
    subscribe to the same topic.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        topic: str,
        sink: FrameSink,
        *,
        transport: str = "raw",
        reliability: str = "auto",
        decoding: DecodingConfig = DEFAULT_DECODING,
    ) -> None:
        self.name = name
        self.topic = full_topic(node, topic, transport)
        self._node = node
        self._node_log = NodeLog(node)
        self._sink = sink
        self._transport = TRANSPORTS[transport]
        self._decoder = self._transport.decoder(decoding, self._info)
        self._log = ThrottledLog(self._warn, WARN_PERIOD_S)
        self._qos = ImageQoS.declared(node, self.topic, reliability, self._warn)
        self._lock = threading.Lock()  # guards the subscriptions
        self._subscriptions: list[Any] = []
        self._overlap: set[tuple[int, int]] | None = None  # stamps of images that one of two subscriptions received
        self._overlap_periods = 0  # until the older of two subscriptions is removed
        self._has_image = False
        self._closed = False
        self._incompatible: tuple[str, ...] = ()
        self._rmw = middleware.identifier()
        self._loss = ImageLoss(self._rmw, self.topic, middleware.counts_loss(self._rmw))
        self._loss_found = ""
        self._lateness = Lateness(DISCOVERY_PERIOD_S)
        self._group = ImageCallbackGroup()
        self._requested = self._qos.profile(self._of_our_type(self._publishers()))
        self._subscribe()
        # The steady clock runs even while simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(DISCOVERY_PERIOD_S, self._on_timer, callback_group=self._group, clock=steady)
        self._info(f"listens to {self.topic}: {transport} images, {_delivery(self._requested)} delivery")
        self._info(f"decoder {self._decoder.choice.name}: {self._decoder.choice.reason}")

    @property
    def incompatible(self) -> tuple[str, ...]:
        """A sentence for each publisher whose images are not received: node, topic and policy."""
        return self._incompatible

    @property
    def findings(self) -> tuple[str, ...]:
        """The sentences of `incompatible`, and one more if images are lost between camera and node."""
        return (*self._incompatible, *filter(None, [self._loss_found]))

    @property
    def reliable(self) -> bool:
        """Returns True if the subscription requests reliable delivery at present."""
        return bool(self._requested.reliability == ReliabilityPolicy.RELIABLE)

    def close(self) -> None:
        """Unsubscribe. A second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._node.destroy_timer(self._timer)
            while self._subscriptions:
                self._node.destroy_subscription(self._subscriptions.pop())

    def _subscribe(self) -> None:
        try:
            subscription = self._subscription(message_lost=self._on_lost)
        except UnsupportedEventTypeError:
            subscription = self._subscription()
        self._subscriptions.append(subscription)

    def _subscription(self, **events: Callable[[Any], None]) -> Any:
        return self._node.create_subscription(
            self._transport.message,
            self.topic,
            self._receive,
            self._requested,
            callback_group=self._group,
            # No default callback for incompatible QoS: `_adapt` changes the subscription or reports the publisher.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False, **events),
        )

    @never_raises
    def _receive(self, message: Any) -> None:
        stamp = message.header.stamp
        if self._closed or self._is_duplicate((stamp.sec, stamp.nanosec)):
            return
        self._loss.add_received(time.monotonic(), stamp.sec + stamp.nanosec * 1e-9)
        try:
            stamp_ns, frame_id = checked_header(message.header)
            self._decoder.check(message)
        except BadImage as error:
            self._sink.reject(self.name, error.reason, str(error))
            return
        if not self._has_image:
            self._has_image = True
            self._info(f"has its first image: {self._decoder.describe(message)}")
        self._sink.offer(Frame(self.name, frame_id, stamp_ns, partial(self._decoder.to_rgb, message)))

    @never_raises
    def _on_lost(self, event: Any) -> None:
        if len(self._subscriptions) == 1:  # two subscriptions would both count the same lost image
            self._loss.add_lost(event.total_count_change)

    def _is_duplicate(self, stamp: tuple[int, int]) -> bool:
        """Returns True for a duplicate: while two subscriptions overlap, each image arrives twice."""
        if self._overlap is None:
            return False
        if stamp in self._overlap:
            self._overlap.remove(stamp)
            return True
        if len(self._subscriptions) > 1:
            self._overlap.add(stamp)
        else:
            self._overlap = None  # a single subscription keeps the order, so duplicates have ended
        return False

    @never_raises
    def _on_timer(self) -> None:
        with self._lock:
            if not self._closed:
                self._adapt()

    def _adapt(self) -> None:
        """Request a QoS that the present publishers offer, and report those that stay incompatible."""
        publishers = self._publishers()
        if len(self._subscriptions) > 1:
            self._end_overlap()
        else:
            self._follow(self._of_our_type(publishers))
        known = self._incompatible
        self._incompatible = (
            *incompatible(publishers, self.topic, self._transport.type_name, self._requested),
            *self._other_transports(publishers),
        )
        for sentence in self._incompatible:
            if sentence not in known:
                self._log.report(sentence, sentence)
        self._find_loss(publishers)

    def _find_loss(self, publishers: Sequence[Any]) -> None:
        known, now_s = self._loss_found, time.monotonic()
        late_s = self._lateness.record(now_s)
        names = [node_of(publisher) for publisher in compatible(publishers, self._transport.type_name, self._requested)]
        self._loss_found = self._loss.finding(now_s, names, middleware.remedy(self._rmw), late_s)
        if self._loss_found and not known:
            self._log.report("loss", self._loss_found)

    def _follow(self, publishers: Sequence[Any]) -> None:
        """Subscribe again if the publishers require another reliability; the old subscription overlaps for a while."""
        wanted = self._qos.profile(publishers, self._requested)
        if wanted.reliability == self._requested.reliability:
            return
        self._requested = wanted
        self._overlap, self._overlap_periods = self._overlap or set(), OVERLAP_PERIODS
        self._subscribe()
        self._info(f"requests {_delivery(wanted)} delivery on {self.topic} from now on, as its publishers offer it")

    def _end_overlap(self) -> None:
        """Remove the old subscription once publishers had time to discover the new one."""
        self._overlap_periods -= 1
        if self._overlap_periods < 1:
            self._node.destroy_subscription(self._subscriptions.pop(0))

    def _publishers(self) -> list[Any]:
        return list(self._node.get_publishers_info_by_topic(self.topic))

    def _of_our_type(self, publishers: Sequence[Any]) -> list[Any]:
        return [publisher for publisher in publishers if publisher.topic_type == self._transport.type_name]

    def _other_transports(self, publishers: Sequence[Any]) -> list[str]:
        """If the topic has no publisher, a sentence for each publisher of another transport."""
        if publishers:
            return []
        suffix = self._transport.suffix
        if suffix and self.topic.endswith(2 * suffix):
            raw = self.topic.removesuffix(2 * suffix)
            return [
                f"{node_of(publisher)} on {raw}{suffix} is not received: TOPIC: {self.topic} ends in {suffix} twice;"
                f" remap image to {raw}"
                for publisher in self._node.get_publishers_info_by_topic(raw + suffix)
            ]
        base = self.topic.removesuffix(suffix)
        return [
            f"{node_of(publisher)} on {base}{transport.suffix} is not received: TRANSPORT:"
            f" set image.transport to {name}"
            for name, transport in TRANSPORTS.items()
            if transport is not self._transport
            for publisher in self._node.get_publishers_info_by_topic(base + transport.suffix)
            if publisher.topic_type == transport.type_name
        ]

    def _info(self, sentence: str) -> None:
        self._node_log.info(f"camera {self.name!r} {sentence}")

    def _warn(self, sentence: str) -> None:
        self._node_log.warning(f"camera {self.name!r}: {sentence}")


def _delivery(requested: QoSProfile) -> str:
    return "reliable" if requested.reliability == ReliabilityPolicy.RELIABLE else "best effort"
