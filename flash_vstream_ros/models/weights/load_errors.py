"""Error messages of loading, and a switch for the log lines of transformers."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flash_vstream_ros.models.interface import ModelError


def first_line(error: BaseException) -> str:
    """First line of an error's message (two lines if the first ends in a colon), or its type if it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:300]


def name_list(names: Iterable[str], limit: int = 5) -> str:
    """The first `limit` names in alphabetical order, and the number of further ones."""
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more


def check_weight_names(
    what: str,
    title: str,
    missing: Collection[str] = (),
    unknown: Collection[str] = (),
    misshapen: Collection[tuple[Any, ...]] = (),
) -> None:
    """Raise ModelError if weights are missing, unknown or misshapen; its message names them.

    `what` is the subject of the message, `title` the model. `misshapen` has (name, found shape, expected shape).
    """
    for how, names in (
        ("lack", missing),
        (f"contain names unknown to {title}:", unknown),
        ("have other shapes than config.json says:", [_shapes(*key) for key in misshapen]),
    ):
        if names:
            raise ModelError(f"{what} {how} {name_list(names)}. Download the model again.")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the log of transformers in a `with` block. Progress bars are kept on a terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _shapes(name: str, found: Any = None, expected: Any = None) -> str:
    return f"{name} {tuple(found)} instead of {tuple(expected)}" if found is not None else name
