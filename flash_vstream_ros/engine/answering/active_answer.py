"""The answer being generated: its view of the memory, its text so far, and the reply that this gives."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.confidence import Calibration, geometric_mean
from flash_vstream_ros.models.model_kind import without_label

from .evidence_ranking import ranked_by_attention
from .prefiller import PreparedAnswer
from .question import Answer, ErrorCode, Evidence, Question
from .recollection import Recollection
from .request import Request


@dataclass
class ActiveAnswer:
    """The answer being generated, on its own view of the memory."""

    request: Request
    prepared: PreparedAnswer
    draft: Answer
    pieces: list[str]
    prefill_tokens: int  # not prefilled when the answer started
    recollection: Recollection | None = None  # that has the memory in the prompt; None: the live memory
    second_look_tokens: int = 0  # visual tokens that a second look may add; 0: no second look, or it is done
    probabilities: list[float] = field(default_factory=list)  # of the tokens so far
    started: float = field(default_factory=time.monotonic)

    def answer(self, code: ErrorCode, message: str, calibration: Calibration) -> Answer:
        """The reply as it stands now."""
        text, probabilities = "".join(self.pieces).rstrip(), self.probabilities
        complete = code is ErrorCode.NONE and bool(probabilities)
        return replace(
            self.draft,
            error_code=code,
            error_msg=message,
            text=text,
            token_probability=geometric_mean(probabilities),
            confidence=calibration.confidence(probabilities, without_label(text)) if complete else 0.0,
            calibrated=complete and calibration.fitted,
        )

    @property
    def question(self) -> Question:
        return self.request.question

    def may_use(self, scope: Scope) -> bool:
        """Returns True if the answer may use anything in `scope`."""
        if self.question.archived and self.recollection is not None and self.recollection.may_use(scope):
            return True  # other looks
        return bool(scope.select(self.prepared.snapshot.entries))

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The entries in the prompt, ranked by the attention on them."""
        ranked = ranked_by_attention(self.prepared.snapshot.entries, self.prepared.generation.attention)
        return tuple(Evidence(entry, share) for entry, share in ranked)


def with_memory(answer: Answer, prepared: PreparedAnswer) -> Answer:
    """`answer`, with its description of the memory in the prompt filled in."""
    snapshot = prepared.snapshot
    return replace(
        answer,
        cameras=snapshot.cameras,
        covered_since_ns=snapshot.first_ns,
        covered_until_ns=snapshot.last_ns,
        frame_id=max(snapshot.entries, key=lambda entry: entry.last_ns).frame_id,
        memory_tokens=prepared.memory_tokens,
        cached_tokens=prepared.cached_tokens,
        lag_slots=prepared.lag_slots,
    )
