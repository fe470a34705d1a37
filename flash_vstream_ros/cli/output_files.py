"""Output files of commands. They are checked before the work begins, so that a long run does not fail at its end."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentTypeError
from pathlib import Path

TRIAL_BYTES = 65536
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
STDOUT = Path("-")


class OutputError(RuntimeError):
    """An output file could not be written; the message says why."""


def output_file(word: str) -> Path:
    """Type of a command-line argument: a file that can be written. An existing file is not changed."""
    path = Path(word).expanduser()
    try:
        _try_writing(path)
    except OSError as error:
        raise ArgumentTypeError(f"cannot write {path}: {_reason(error)}; name a file in another folder") from error
    return path


def output_file_or_stdout(word: str) -> Path:
    """Type of a command-line argument: a file that can be written, or `-` for the standard output."""
    return STDOUT if word == "-" else output_file(word)


def output_image(word: str) -> Path:
    """Type of a command-line argument: an image file that can be written."""
    if not word.lower().endswith(IMAGE_SUFFIXES):
        raise ArgumentTypeError(f"{word} must end with {', '.join(IMAGE_SUFFIXES)}")
    return output_file(word)


def output_folder(word: str) -> Path:
    """Type of a command-line argument: a folder that can be written to. It is created if needed."""
    path = Path(word).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        _try_writing(path / f".trial-{os.getpid()}")
    except OSError as error:
        raise ArgumentTypeError(f"cannot write into the folder {path}: {_reason(error)}; name another") from error
    return path


def log_to_stderr(sentence: str) -> None:
    """Print a message about the work, apart from the command's output."""
    print(sentence, file=sys.stderr, flush=True)


def write_output(path: Path, content: str | bytes) -> None:
    """Write a whole file. Raises OutputError."""
    try:
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {_reason(error)}; the file is incomplete") from error


def _try_writing(path: Path) -> None:
    """Raise OSError if a file cannot be written. A new file is filled and removed again, since the disk may be full."""
    if path.exists():
        with path.open("r+b" if path.is_file() else "ab"):
            return
    with path.open("xb") as file:
        try:
            file.write(bytes(TRIAL_BYTES))
            file.flush()
        finally:
            path.unlink()


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
