"""The service ~/search: finds the moments in the memory that show what a text describes, or look like an image."""

from __future__ import annotations

from collections.abc import Callable

from flash_vstream_ros.engine.answering.question import Answer, ErrorCode
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.scope import BadScope
from flash_vstream_ros.node.callback_guard import never_raises
from flash_vstream_ros.node.conversions import fill_search_response
from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.node.question_services import INTERNAL_ERROR
from flash_vstream_ros.node.requests import REQUEST_QOS, BadRequest, request_id, search_of
from flash_vstream_ros.node.settings import Settings
from flash_vstream_ros.ros import Node, ReentrantCallbackGroup
from flash_vstream_ros.ros.interfaces import Search


class SearchService:
    """Passes searches to the engine's request queue and returns moments. Each caller waits on an executor thread."""

    def __init__(self, node: Node, engine: Callable[[], Engine], settings: Callable[[], Settings]) -> None:
        self._engine = engine
        self._settings = settings
        self._log = ThrottledLog(NodeLog(node).error)
        node.create_service(
            Search, "~/search", self._on_search, qos_profile=REQUEST_QOS, callback_group=ReentrantCallbackGroup()
        )

    def _on_search(self, request: Search.Request, response: Search.Response) -> Search.Response:
        return self._reply_to(request, response) or fill_search_response(Search.Response(), INTERNAL_ERROR)

    @never_raises
    def _reply_to(self, request: Search.Request, response: Search.Response) -> Search.Response:
        try:
            response.search_id = request_id(str(request.search_id), "search_id")
            settings = self._settings()
            limits, search_id = settings.question_limits, str(response.search_id)
            search, adjustments = search_of(request, search_id, limits, settings.pose)
        except (BadRequest, BadScope) as error:
            return fill_search_response(response, Answer(ErrorCode.INVALID_REQUEST, str(error)))
        response.adjustments = list(adjustments)
        return fill_search_response(response, self._engine().ask(search).answer())
