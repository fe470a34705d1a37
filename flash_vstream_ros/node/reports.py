"""Reports: keeps the scene summaries, summarises them by hours and days, and serves them as ~/report."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from flash_vstream_ros.engine.answering.question import Answer, ErrorCode, Question
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.reports.kept_summaries import RollUp, gaps
from flash_vstream_ros.engine.reports.questions import frames_and_novelty, roll_up_question
from flash_vstream_ros.engine.reports.summary import Level, Summary, summary_of
from flash_vstream_ros.engine.status import NewSlots
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.scope import BadScope, Scope, check_scope
from flash_vstream_ros.memory.spans import Interval
from flash_vstream_ros.node import conversions
from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.node.requests import REQUEST_QOS, interval_of
from flash_vstream_ros.node.settings import Settings
from flash_vstream_ros.ros import MutuallyExclusiveCallbackGroup, Node
from flash_vstream_ros.ros.interfaces import Report

MAX_GAPS = 4  # parts of a report that are summarised on demand, the newest ones
SHORTEST_GAP_SLOTS = 2
# After these errors a roll-up is tried again later; other errors are final.
TRANSIENT = (ErrorCode.NOT_READY, ErrorCode.BUSY, ErrorCode.TIMEOUT, ErrorCode.CANCELLED)


class Reports:
    """Adds to the summaries that the engine keeps. `add` and `roll_up` are called by the publisher of summaries."""

    def __init__(self, node: Node, engine: Callable[[], Engine], settings: Callable[[], Settings]) -> None:
        self._engine = engine
        self._settings = settings
        self._log = ThrottledLog(NodeLog(node).warning)
        node.create_service(
            Report,
            "~/report",
            self._on_report,
            qos_profile=REQUEST_QOS,
            callback_group=MutuallyExclusiveCallbackGroup(),
        )

    def add(self, answer: Answer, new: NewSlots, generation: int) -> None:
        """Keep a scene summary of the slots in `new`, unless something was forgotten since `generation`."""
        self._engine().summaries.add(summary_of(answer, Level.PERIOD, new.frames, new.novelty), generation)

    def roll_up(self) -> None:
        """Summarise the hours and days that have ended, as long as no question waits."""
        engine = self._engine()
        while engine.idle and (due := engine.summaries.due(engine.status().memory.newest_ns)) is not None:
            if not self._roll_up(engine, due):
                return

    def _roll_up(self, engine: Engine, due: RollUp) -> bool:
        """Summarise the parts of `due`. Returns False if this has to be tried again later."""
        settings, generation = self._settings(), engine.summaries.generation
        question = roll_up_question(
            due, settings.report_prompt, settings.report_max_new_tokens, settings.engine.max_question_chars
        )
        answer = engine.ask(question).answer()
        if answer.error_code in TRANSIENT:
            return False
        if answer.error_code is ErrorCode.NONE:
            engine.summaries.add(summary_of(answer, due.level, *frames_and_novelty(due.parts)), generation)
        else:
            self._log.report("roll-up", f"the last {due.level.name.lower()} has no summary: {_sentence(answer)}")
        engine.summaries.tried(due)
        return True

    def _on_report(self, request: Report.Request, response: Report.Response) -> Report.Response:
        try:
            self._report(request, response)
        except BadScope as error:
            response.error_code, response.error_msg = int(ErrorCode.INVALID_REQUEST), str(error)
        except Exception as error:
            self._log.report("report", f"a report failed: {traceback.format_exc()}")
            response.error_code = int(ErrorCode.INTERNAL)
            response.error_msg = f"{type(error).__name__}: {error}"
        return response

    def _report(self, request: Report.Request, response: Report.Response) -> None:
        scope = Scope((), *interval_of(request))
        check_scope(scope, ())
        sections = list(self._engine().summaries.report(scope.interval))
        for answer in self._on_demand(scope, sections):
            if answer.error_code is ErrorCode.NONE:
                sections.append(summary_of(answer, Level.PERIOD, 0, 0.0))
            elif answer.error_code is not ErrorCode.NO_FRAMES:
                response.missing.append(_sentence(answer))
                if answer.error_code is ErrorCode.NOT_READY:
                    response.error_code, response.error_msg = int(answer.error_code), answer.error_msg
        sections.sort(key=lambda each: each.since_ns)
        response.sections = [conversions.section_message(each, pictures=request.pictures) for each in sections]

    def _on_demand(self, scope: Scope, sections: Sequence[Summary]) -> list[Answer]:
        """Answers about the newest parts of the memory that `sections` do not cover."""
        settings, memory = self._settings(), self._engine().status().memory
        if not memory.entries:
            return []
        interval = Interval(max(scope.since_ns, memory.first_ns), min(scope.until_ns or memory.last_ns, memory.last_ns))
        shortest_ns = SHORTEST_GAP_SLOTS * settings.engine.slot_period_ns
        return [
            self._engine()
            .ask(
                Question(
                    settings.summary_prompt,
                    Scope(since_ns=gap.since_ns, until_ns=gap.until_ns),
                    max_new_tokens=settings.summary_max_new_tokens,
                )
            )
            .answer()
            for gap in gaps(interval, sections, shortest_ns)[-MAX_GAPS:]
        ]


def _sentence(answer: Answer) -> str:
    return f"{answer.error_code.name}: {answer.error_msg}"
