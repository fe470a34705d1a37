"""Panics of Rust libraries as errors: pyo3 raises them as a BaseException, which `except Exception` lets pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .interface import ModelError

PANIC = "PanicException"  # a class that cannot be imported


@contextmanager
def panics_as_model_errors(what: str) -> Iterator[None]:
    """Raise a panic in the code inside as a ModelError with `what` as its subject."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise ModelError(f"{what} failed ({str(error)[:200]}): download the model again.") from error
