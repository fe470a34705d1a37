"""A camera of the node: its subscription, whose QoS follows the publishers found, and the way of its pictures in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.node.callback_guard import never_raises
from flash_vstream_ros.node.image_header import checked_header
from flash_vstream_ros.node.image_qos import ImageQoS, incompatible, node_of
from flash_vstream_ros.ros import (
    Clock,
    ClockType,
    MutuallyExclusiveCallbackGroup,
    Node,
    QoSProfile,
    ReliabilityPolicy,
    SubscriptionEventCallbacks,
)
from flash_vstream_ros.ros.image_transport import DEFAULT_DECODING, TRANSPORTS, DecodingConfig
from flash_vstream_ros.ros.images import BadImage

LOOK_PERIOD_S = 0.25
OVERLAP_LOOKS = 4
QUIET_S = 30.0


def camera_topics(names: Sequence[str]) -> dict[str, str]:
    """The topic of each camera, relative, before any transport's suffix."""
    return {name: "image" if len(names) == 1 else f"{name}/image" for name in names}


def full_topic(node: Node, topic: str, transport: str) -> str:
    """The topic that images of a transport come on, after remapping."""
    return str(node.resolve_topic_name(topic)) + TRANSPORTS[transport].suffix


class Camera:
    """Subscribes on creation and offers a Frame for every usable image; `close` ends it for good.

    An image that cannot be shown is given to `reject(camera, reason, sentence)`. Neither is called after `close`
    has returned, except for a callback that was already running. Any number may follow each other on one topic.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        topic: str,
        *,
        offer: Callable[[Frame], None],
        reject: Callable[[str, str, str], None],
        transport: str = "raw",
        reliability: str = "auto",
        decoding: DecodingConfig = DEFAULT_DECODING,
    ) -> None:
        self.name = name
        self.topic = full_topic(node, topic, transport)
        self._node = node
        self._offer = offer
        self._reject = reject
        self._transport = TRANSPORTS[transport]
        self._decoder = self._transport.decoder(decoding, self._say)
        self._log = ThrottledLog(self._warn, QUIET_S)
        self._qos = ImageQoS.declared(node, self.topic, reliability, self._warn)
        self._lock = threading.Lock()  # of the subscriptions
        self._subscriptions: list[Any] = []
        self._overlap: set[tuple[int, int]] | None = None  # stamps of pictures whose twins are still to come
        self._looks_left = 0  # until the older of two subscriptions goes
        self._heard = False
        self._closed = False
        self._incompatible: tuple[str, ...] = ()
        self._group = MutuallyExclusiveCallbackGroup()
        self._asked = self._qos.profile(self._of_our_type(self._publishers()))
        self._subscribe()
        # Steady: simulated time may stand still while cameras come and go.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(LOOK_PERIOD_S, self._look, callback_group=self._group, clock=steady)
        self._say(f"listens to {self.topic}: {transport} images, {_called(self._asked)} delivery")
        self._say(f"decoder {self._decoder.choice.name}: {self._decoder.choice.reason}")

    @property
    def incompatible(self) -> tuple[str, ...]:
        """A sentence for each publisher on the topic that is not heard: node, topic and policy."""
        return self._incompatible

    @property
    def reliable(self) -> bool:
        """Whether reliable delivery is asked for at present."""
        return bool(self._asked.reliability == ReliabilityPolicy.RELIABLE)

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
        subscription = self._node.create_subscription(
            self._transport.message,
            self.topic,
            self._receive,
            self._asked,
            callback_group=self._group,
            # Publishers that do not fit are named here, where it is known whether they soon will.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )
        self._subscriptions.append(subscription)

    @never_raises
    def _receive(self, message: Any) -> None:
        stamp = message.header.stamp
        if self._closed or self._is_twin((stamp.sec, stamp.nanosec)):
            return
        try:
            stamp_ns, frame_id = checked_header(message.header)
            self._decoder.check(message)
        except BadImage as error:
            self._reject(self.name, error.reason, str(error))
            return
        if not self._heard:
            self._heard = True
            self._say(f"has its first image: {self._decoder.describe(message)}")
        self._offer(Frame(self.name, frame_id, stamp_ns, partial(self._decoder.to_rgb, message)))

    def _is_twin(self, stamp: tuple[int, int]) -> bool:
        """While two subscriptions overlap each picture comes twice; the second one is not a picture of its own."""
        if self._overlap is None:
            return False
        if stamp in self._overlap:
            self._overlap.remove(stamp)
            return True
        if len(self._subscriptions) > 1:
            self._overlap.add(stamp)
        else:
            self._overlap = None  # one subscription keeps the order: no twin follows a picture that is new
        return False

    @never_raises
    def _look(self) -> None:
        with self._lock:
            if not self._closed:
                self._adapt()

    def _adapt(self) -> None:
        """Ask for what the publishers found now can give, and note whom that does not hear."""
        publishers = self._publishers()
        if len(self._subscriptions) > 1:
            self._end_overlap()
        else:
            self._follow(self._of_our_type(publishers))
        known = self._incompatible
        self._incompatible = (
            *incompatible(publishers, self.topic, self._transport.type_name, self._asked),
            *self._other_transports(publishers),
        )
        for sentence in self._incompatible:
            if sentence not in known:
                self._log.report(sentence, sentence)

    def _follow(self, publishers: Sequence[Any]) -> None:
        wanted = self._qos.profile(publishers, self._asked)
        if wanted.reliability == self._asked.reliability:
            return
        self._asked = wanted
        self._overlap, self._looks_left = self._overlap or set(), OVERLAP_LOOKS
        self._subscribe()
        self._say(f"asks for {_called(wanted)} delivery on {self.topic} from now on, as its publishers offer it")

    def _end_overlap(self) -> None:
        """The old subscription goes when the new one has had time to be found."""
        self._looks_left -= 1
        if self._looks_left < 1:
            self._node.destroy_subscription(self._subscriptions.pop(0))

    def _publishers(self) -> list[Any]:
        return list(self._node.get_publishers_info_by_topic(self.topic))

    def _of_our_type(self, publishers: Sequence[Any]) -> list[Any]:
        return [publisher for publisher in publishers if publisher.topic_type == self._transport.type_name]

    def _other_transports(self, publishers: Sequence[Any]) -> list[str]:
        """Where nobody publishes on the topic: who does by another transport."""
        if publishers:
            return []
        suffix = self._transport.suffix
        if suffix and self.topic.endswith(2 * suffix):
            raw = self.topic.removesuffix(2 * suffix)
            return [
                f"{node_of(publisher)} on {raw}{suffix} is not heard: TOPIC: {self.topic} ends in {suffix} twice;"
                f" remap image to {raw}"
                for publisher in self._node.get_publishers_info_by_topic(raw + suffix)
            ]
        base = self.topic.removesuffix(suffix)
        return [
            f"{node_of(publisher)} on {base}{transport.suffix} is not heard: TRANSPORT: set image.transport to {name}"
            for name, transport in TRANSPORTS.items()
            if transport is not self._transport
            for publisher in self._node.get_publishers_info_by_topic(base + transport.suffix)
            if publisher.topic_type == transport.type_name
        ]

    def _say(self, sentence: str) -> None:
        self._node.get_logger().info(f"camera {self.name!r} {sentence}")

    def _warn(self, sentence: str) -> None:
        self._node.get_logger().warning(f"camera {self.name!r}: {sentence}")


def _called(asked: QoSProfile) -> str:
    return "reliable" if asked.reliability == ReliabilityPolicy.RELIABLE else "best effort"
