"""Converts panics of Rust libraries to errors: pyo3 raises a BaseException, which `except Exception` does not catch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .interface import ModelError

PANIC = "PanicException"  # name of pyo3's class, which cannot be imported


@contextmanager
def panics_as_model_errors(what: str) -> Iterator[None]:
    """Convert a panic in a `with` block to a ModelError with the subject `what`."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise ModelError(f"{what} failed ({str(error)[:200]}): download the model again.") from error
