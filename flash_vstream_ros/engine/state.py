"""States of the engine, and the refusal of questions in each state but READY."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """The constants of msg/MemoryStatus.msg, with the same names and numbers."""

    LOADING = 0
    READY = 1
    FAILED = 2
    UNCONFIGURED = 3
    INACTIVE = 4
    FINALIZED = 5


NOT_READY = {
    State.LOADING: "the model is still loading; ask again when ~/status says READY",
    State.FAILED: "the node cannot answer: {failure}",
    State.UNCONFIGURED: "the node is not configured: it has no model yet",
    State.INACTIVE: "the node is not active; its memory is kept",
    State.FINALIZED: "the node was shut down; start it again",
}
