"""Publishes /diagnostics as diagnostic_updater does, for rqt_robot_monitor and diagnostic_aggregator.

diagnostic_updater itself needs rclpy, and would be another dependency. It publishes an array of statuses named
"node: task" on the absolute topic /diagnostics; this module does the same on either runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flash_vstream_ros.engine.status import Status
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.node import conversions
from flash_vstream_ros.node.callback_guard import never_raises
from flash_vstream_ros.node.cameras import camera_topics, full_topic
from flash_vstream_ros.node.diagnostics import (
    History,
    Observation,
    Report,
    camera_report,
    memory_report,
    model_report,
    unwatched_report,
    watches_report,
)
from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.node.periodic_timer import PeriodicTimer
from flash_vstream_ros.node.settings import Settings
from flash_vstream_ros.ros import Clock, ClockType, Node
from flash_vstream_ros.ros.interfaces import DiagnosticArray
from flash_vstream_ros.ros.stamps import stamp_message

TOPIC = "/diagnostics"


class DiagnosticsPublisher:
    """Publishes every `diagnostics.period_s` by a steady clock, since simulated time may stand still.

    `status` returns None if there is no engine. `camera_findings` returns, for each camera, sentences about
    incompatible publishers and lost images. `other_reports` returns reports besides those about the engine.
    """

    def __init__(
        self,
        node: Node,
        status: Callable[[], Status | None],
        settings: Settings,
        camera_findings: Callable[[], Mapping[str, Sequence[str]]] = dict,
        other_reports: Callable[[], Sequence[Report]] = list,
    ) -> None:
        self._node = node
        self._status = status
        self._settings = settings
        self._camera_findings = camera_findings
        self._other_reports = other_reports
        self._log = ThrottledLog(NodeLog(node).error)
        self._history = History()
        self._publisher = node.create_publisher(DiagnosticArray, TOPIC, 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = PeriodicTimer(node, self._publish, settings.diagnostics_period_s, steady)

    def apply(self, settings: Settings) -> None:
        """Continue with these settings."""
        self._settings = settings
        self._timer.set_period(settings.diagnostics_period_s)

    @never_raises
    def _publish(self) -> None:
        now = self._node.get_clock().now()
        self._publisher.publish(
            conversions.diagnostics_message(
                self._reports(now.nanoseconds),
                stamp_message(now.nanoseconds),
                self._node.get_name(),
                self._node.get_fully_qualified_name(),
            )
        )

    def _reports(self, now_ns: int) -> list[Report]:
        status, model = self._status(), self._settings.model["name"]
        if status is None:
            self._history = History()
            cameras = [unwatched_report(name, topic) for name, topic in self._topics().items()]
            return [*cameras, model_report(None, model, now_ns), memory_report(None)]
        self._history.add(Observation(now_ns, status))
        findings, period_s = self._camera_findings(), 1 / self._settings.engine.sample_fps
        cameras = [
            camera_report(view, status.state)
            for name, topic in self._topics().items()
            if (view := self._history.camera(name, topic, period_s, findings.get(name, ()))) is not None
        ]
        watches = [watches_report(status.watches)] if status.watches.watches else []
        return [*cameras, model_report(status, model, now_ns), memory_report(status), *watches, *self._other_reports()]

    def _topics(self) -> dict[str, str]:
        """The full topic of each camera, by name."""
        topics, transport = camera_topics(self._settings.engine.cameras), self._settings.image_transport
        return {name: full_topic(self._node, topic, transport) for name, topic in topics.items()}
