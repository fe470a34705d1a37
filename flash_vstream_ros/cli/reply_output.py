"""Prints parts of replies that several commands have in common: JSON, errors, and notes about the answer."""

from __future__ import annotations

import json
import sys
from typing import Any

from flash_vstream_ros.engine.log_text import printable
from flash_vstream_ros.models.model_kind import ModelKind

from .times import time_text

MODEL_NOTES: dict[int, str] = {
    ModelKind.DEMO: "demo model: trained on the demo's simulator only; its answers about real images are meaningless",
    ModelKind.UNTRAINED: "untrained model: random weights; its answers are meaningless",
}


def print_json(reply: Any) -> None:
    """Print a reply as JSON with the service's field names, without images."""
    from flash_vstream_ros.ros.interfaces import to_dict

    print(json.dumps(to_dict(reply, binary=False), indent=2, ensure_ascii=False))


def covered_text(reply: Any) -> str:
    """The interval of the frames that a reply is based on."""
    from flash_vstream_ros.ros.stamps import seconds

    return f"{time_text(seconds(reply.covered_since))} to {time_text(seconds(reply.covered_until))}"


def print_error(reply: Any) -> None:
    """Print the error of a reply, if it has one, on standard error."""
    if reply.error_code:
        print(f"error {reply.error_code}: {printable(reply.error_msg)}", file=sys.stderr)


def print_notes(reply: Any) -> None:
    """Print what a demo or untrained model means for the reply, and the reply's adjustments, on standard error."""
    if note := MODEL_NOTES.get(reply.model_kind):
        print(note, file=sys.stderr)
    for adjustment in reply.adjustments:
        print(printable(adjustment), file=sys.stderr)
