"""Publishes scene_summary: the model describes what happened since its previous summary. Reports contain it too."""

from __future__ import annotations

import threading
from collections.abc import Callable

from flash_vstream_ros.engine.answering.question import ErrorCode, Question
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.engine.status import slots_since
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.node import conversions
from flash_vstream_ros.node.callback_guard import never_raises
from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.node.periodic_timer import PeriodicTimer
from flash_vstream_ros.node.reports import Reports
from flash_vstream_ros.node.settings import Settings
from flash_vstream_ros.ros import DurabilityPolicy, Node, QoSProfile, ReliabilityPolicy
from flash_vstream_ros.ros.interfaces import SceneSummary

TOPIC = "scene_summary"
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
WARN_PERIOD_S = 60.0


class SummaryPublisher:
    """Asks the engine for a summary every `summary.period_s` seconds, unless nothing is new or a question waits."""

    def __init__(self, node: Node, engine: Callable[[], Engine], settings: Settings, reports: Reports) -> None:
        self._engine = engine
        self._settings = settings
        self._reports = reports
        self._log = ThrottledLog(NodeLog(node).warning, WARN_PERIOD_S)
        self._lock = threading.Lock()  # so that no summary is published after it was withdrawn
        self._publisher = node.create_publisher(SceneSummary, TOPIC, LATCHED)
        self._summarised = engine().status()  # when the newest summary was made
        self._timer = PeriodicTimer(node, self._on_timer, settings.summary_period_s)
        self._timer.cancel()

    def start(self) -> None:
        """Publish a summary every period, first after a whole period."""
        self._timer.reset()

    def stop(self) -> None:
        self._timer.cancel()

    def restart(self) -> None:
        """Start anew with the present engine, without the slots of the previous one."""
        self._summarised = self._engine().status()

    def apply(self, settings: Settings) -> None:
        """Continue with these settings."""
        self._settings = settings
        self._timer.set_period(settings.summary_period_s)

    def withdraw(self) -> None:
        """Replace the latched summary by an empty one, since it may describe what was just forgotten."""
        with self._lock:
            self._publisher.publish(SceneSummary())

    @never_raises
    def _on_timer(self) -> None:
        self._publish()
        self._reports.roll_up()

    def _publish(self) -> None:
        engine, settings = self._engine(), self._settings
        now = engine.status()
        new = slots_since(self._summarised, now)
        if new is None or not engine.idle:
            return
        generation = engine.summaries.generation
        scope = Scope(since_ns=new.since_ns, until_ns=new.until_ns)
        question = Question(settings.summary_prompt, scope, max_new_tokens=settings.summary_max_new_tokens)
        answer = engine.ask(question).answer()
        if answer.error_code is not ErrorCode.NONE:
            if engine.state is State.READY:  # else the node was deactivated meanwhile
                self._log.report("summary", f"no summary this time: {answer.error_code.name}: {answer.error_msg}")
            return
        with self._lock:
            if engine.status().memory.revision == now.memory.revision:
                self._summarised = now
                self._publisher.publish(conversions.summary_message(answer, new))
                self._reports.add(answer, new, generation)
