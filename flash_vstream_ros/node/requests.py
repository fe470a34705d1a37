"""Requests of clients: checks them, and applies the operator's limits, before the engine gets them."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

import numpy as np

from flash_vstream_ros.engine.answering.question import Question
from flash_vstream_ros.engine.log_text import one_line
from flash_vstream_ros.memory.scope import BadScope, Scope
from flash_vstream_ros.memory.spans import Interval
from flash_vstream_ros.node.poses.pose_config import PoseConfig
from flash_vstream_ros.ros import HistoryPolicy, QoSProfile
from flash_vstream_ros.ros.compressed_images import compressed_to_rgb
from flash_vstream_ros.ros.images import BadImage
from flash_vstream_ros.ros.interfaces import AskScene, CompressedImage, Forget, ListMemory, Report, Search
from flash_vstream_ros.ros.stamps import SECOND_NS, BadStamp, duration_ns, stamp_ns

EVERY_QUESTION = "*"  # on ~/cancel
# A bounded queue would lose requests of a burst, unnoticed by node and client.
REQUEST_QOS = QoSProfile(history=HistoryPolicy.KEEP_ALL)
MAX_CAMERAS, MAX_CAMERA_CHARS = 256, 64  # in a request
DEFAULT_MOMENTS, MAX_MOMENTS = 5, 64  # of a search
DEFAULT_POSES = PoseConfig()
_ID = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")


class BadRequest(ValueError):
    """A request that is refused as INVALID_REQUEST; the message says why."""


@dataclass(frozen=True)
class QuestionLimits:
    """Longest deadline [s] and answer [tokens] that a client can ask for."""

    deadline_s: float
    answer_tokens: int


def new_question_id() -> str:
    """An id that no other question has."""
    return uuid.uuid4().hex[:16]


def request_id(chosen: str, field: str) -> str:
    """The id `chosen` by the client in `field`, or a new one if it is empty. Raises BadRequest if it is malformed."""
    if not chosen:
        return new_question_id()
    if not _ID.fullmatch(chosen):
        raise BadRequest(f"{field} {one_line(chosen)!r} must be 1 to 64 letters, digits or _.:/-")
    return chosen


def question_of(
    request: AskScene.Request, question_id: str, limits: QuestionLimits, pose: PoseConfig = DEFAULT_POSES
) -> tuple[Question, tuple[str, ...]]:
    """The question of a request, reduced to `limits`, and a sentence for each reduction.

    Raises BadRequest or BadScope.
    """
    deadline_s, adjustments = _deadline(request, limits)
    tokens = int(request.max_new_tokens)
    if tokens > limits.answer_tokens:
        adjustments += (f"max_new_tokens reduced from {tokens} to question.max_answer_tokens = {limits.answer_tokens}",)
        tokens = limits.answer_tokens
    return Question(request.question, scope_of(request, pose), deadline_s, tokens, question_id), adjustments


def search_of(
    request: Search.Request, search_id: str, limits: QuestionLimits, pose: PoseConfig = DEFAULT_POSES
) -> tuple[Question, tuple[str, ...]]:
    """The search of a request, reduced to `limits`, and a sentence for each reduction.

    Raises BadRequest or BadScope.
    """
    deadline_s, adjustments = _deadline(request, limits)
    moments = int(request.max_moments) or DEFAULT_MOMENTS
    if moments > MAX_MOMENTS:
        adjustments += (f"max_moments reduced from {moments} to {MAX_MOMENTS}",)
        moments = MAX_MOMENTS
    image = _image(request.image) if len(request.image.data) else None
    scope = scope_of(request, pose)
    search = Question(
        request.text, scope, deadline_s, id=search_id, moments=moments, archived=bool(request.archive), image=image
    )
    return search, adjustments


def _image(message: CompressedImage) -> np.ndarray:
    """The image of a search, [height, width, 3] uint8 RGB. Raises BadRequest."""
    try:
        return compressed_to_rgb(message)
    except BadImage as error:
        raise BadRequest(f"image: {error}") from error


def _deadline(request: AskScene.Request | Search.Request, limits: QuestionLimits) -> tuple[float, tuple[str, ...]]:
    """The deadline of a request [s], reduced to `limits`, and a sentence if it was reduced. Raises BadRequest."""
    try:
        deadline_s = duration_ns(request.deadline) / SECOND_NS
    except BadStamp as error:
        raise BadRequest(f"deadline: {error}") from error
    if deadline_s <= limits.deadline_s:
        return deadline_s, ()
    reduced = f"deadline reduced from {deadline_s:.10g} s to question.max_deadline_s = {limits.deadline_s:.10g} s"
    return limits.deadline_s, (reduced,)


def scope_of(
    request: AskScene.Request | Search.Request | Forget.Request | ListMemory.Request, pose: PoseConfig = DEFAULT_POSES
) -> Scope:
    """The cameras, stamps and place of a request. Raises BadScope if a stamp or a camera's name is invalid."""
    cameras = tuple(request.cameras)
    if len(cameras) > MAX_CAMERAS or max(map(len, cameras), default=0) > MAX_CAMERA_CHARS:
        raise BadScope(f"cameras must be at most {MAX_CAMERAS} names of at most {MAX_CAMERA_CHARS} characters")
    if not all(map(str.isprintable, cameras)):
        raise BadScope("cameras contains a control character")
    near = pose.circle(request.near.x, request.near.y, request.radius) if request.radius else None
    return Scope(cameras, *interval_of(request), near)


def interval_of(request: AskScene.Request | Forget.Request | ListMemory.Request | Report.Request) -> Interval:
    """The stamps of a request. Raises BadScope if one is out of range."""
    try:
        return Interval(stamp_ns(request.since), stamp_ns(request.until))
    except BadStamp as error:
        raise BadScope(f"since or until: {error}") from error
